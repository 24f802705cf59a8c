package pager

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// Opsgenie is Opsgenie, by its Alert API, which Jira Service Management speaks too.
// Atlassian ends Opsgenie on April 5, 2027.
type Opsgenie struct {
	// APIKeyFile has the key of an API integration.
	APIKeyFile string `yaml:"apiKeyFile"`
	// URL is what /v2/alerts is added to. Default https://api.opsgenie.com; in the EU
	// https://api.eu.opsgenie.com, and for Jira Service Management
	// https://api.atlassian.com/jsm/ops/integration.
	URL  string `yaml:"url"`
	HTTP `yaml:",inline"`
}

const (
	defaultOpsgenie = "https://api.opsgenie.com"
	// What the API takes, in characters.
	maxMessage = 130
	maxNote    = 25_000
	maxDetails = 8000
)

func (g *Opsgenie) validate() error {
	if err := required("apiKeyFile", g.APIKeyFile); err != nil || g.URL == "" {
		return err
	}
	return checkURL("url", g.URL, g.InsecureHTTP)
}

func (g *Opsgenie) open() (notify.Receiver, error) {
	client, err := g.client()
	if err != nil {
		return nil, err
	}
	if _, err := secretFile(g.APIKeyFile).read(); err != nil {
		return nil, err
	}
	r := &opsgenie{*g, client}
	if r.URL == "" {
		r.URL = defaultOpsgenie
	}
	return r, nil
}

type opsgenie struct {
	Opsgenie
	http *http.Client
}

type opsgenieAlert struct {
	Message  string            `json:"message"`
	Alias    string            `json:"alias"`
	Priority string            `json:"priority"`
	Source   string            `json:"source"`
	Entity   string            `json:"entity,omitempty"`
	Tags     []string          `json:"tags"`
	Details  map[string]string `json:"details"`
}

type opsgenieNote struct {
	Source string `json:"source"`
	Note   string `json:"note"`
}

// Send makes one alert of what calls, under the page's key if that is several, and
// acknowledges and closes the others.
func (g *opsgenie) Send(ctx context.Context, p notify.Page) error {
	key, err := secretFile(g.APIKeyFile).read()
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {"GenieKey " + key}}
	alerts := strings.TrimSuffix(g.URL, "/") + "/v2/alerts"
	if call, alias, ok := called(p); ok {
		if err := post(ctx, g.http, alerts, header, key, newOpsgenieAlert(call, alias)); err != nil {
			return err
		}
	}
	for _, m := range p.Messages {
		action := "close"
		switch {
		case m.Kind == notify.Acknowledged:
			action = "acknowledge"
		case !m.Kind.Ends():
			continue
		}
		at := alerts + "/" + url.PathEscape(m.Key) + "/" + action + "?identifierType=alias"
		if err := post(ctx, g.http, at, header, key, opsgenieNote{"gatehouse", clip(inert(m.Title), maxNote)}); err != nil {
			return err
		}
	}
	return nil
}

func newOpsgenieAlert(p notify.Page, alias string) opsgenieAlert {
	a := opsgenieAlert{
		Message: clip(inert(subject(p)), maxMessage), Alias: alias, Priority: priority(p.Severity()), Source: "gatehouse",
		Tags: []string{"gatehouse"}, Details: map[string]string{},
	}
	room := maxDetails
	add := func(name, value string) {
		name, value = inert(name), clip(inert(value), maxDetail)
		if room -= len(name) + len(value); room >= 0 {
			a.Details[name] = value
		}
	}
	for _, l := range links(p, 1) {
		add("link", l.URL)
	}
	if len(p.Messages) == 1 {
		a.Entity = p.Messages[0].Key
		add("title", p.Messages[0].Title)
		for _, f := range facts(p.Messages[0]) {
			add(f.Name, f.Value)
		}
		return a
	}
	for i, line := range summary(p) {
		add(lineName(i), line)
	}
	return a
}

func priority(s notify.Severity) string {
	switch s {
	case notify.Error:
		return "P2"
	case notify.Warning:
		return "P3"
	case notify.Info:
		return "P5"
	default:
		return "P1"
	}
}
