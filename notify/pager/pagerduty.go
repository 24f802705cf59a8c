package pager

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/PagerDuty/go-pagerduty"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// PagerDuty is a service of PagerDuty, by the Events API v2.
type PagerDuty struct {
	// RoutingKeyFile has the integration key.
	RoutingKeyFile string `yaml:"routingKeyFile"`
	// URL is where events go. Default https://events.pagerduty.com;
	// https://events.eu.pagerduty.com in the EU.
	URL  string `yaml:"url"`
	HTTP `yaml:",inline"`
}

const (
	defaultPagerDuty = "https://events.pagerduty.com"
	// maxSummary and maxDetail are what PagerDuty shows of a summary and keeps of a
	// detail, in characters; an event may have 512 kB.
	maxSummary = 1024
	maxDetail  = 4096
)

func (d *PagerDuty) validate() error {
	if err := required("routingKeyFile", d.RoutingKeyFile); err != nil || d.URL == "" {
		return err
	}
	return checkURL("url", d.URL, d.InsecureHTTP)
}

func (d *PagerDuty) open() (notify.Receiver, error) {
	client, err := d.client()
	if err != nil {
		return nil, err
	}
	if _, err := secretFile(d.RoutingKeyFile).read(); err != nil {
		return nil, err
	}
	r := &pagerDuty{*d, client}
	if r.URL == "" {
		r.URL = defaultPagerDuty
	}
	return r, nil
}

type pagerDuty struct {
	PagerDuty
	http *http.Client
}

// Send makes one alert of what calls, with the page's key if that is several, and
// acknowledges and resolves the others.
func (d *pagerDuty) Send(ctx context.Context, p notify.Page) error {
	key, err := secretFile(d.RoutingKeyFile).read()
	if err != nil {
		return err
	}
	client := pagerduty.NewClient("", pagerduty.WithV2EventsAPIEndpoint(strings.TrimSuffix(d.URL, "/")))
	client.HTTPClient = d.http
	for _, e := range events(p) {
		e.RoutingKey = key
		if err := exchange(ctx, key, func(ctx context.Context) error {
			_, err := client.ManageEventWithContext(ctx, &e)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func events(p notify.Page) []pagerduty.V2Event {
	var all []pagerduty.V2Event
	if call, key, ok := called(p); ok {
		all = append(all, trigger(call, key))
	}
	for _, m := range p.Messages {
		action := "resolve"
		switch {
		case m.Kind == notify.Acknowledged:
			action = "acknowledge"
		case !m.Kind.Ends():
			continue
		}
		all = append(all, pagerduty.V2Event{Action: action, DedupKey: m.Key})
	}
	return all
}

// called is what of a page somebody has to come for, and the key of its alert.
func called(p notify.Page) (call notify.Page, key string, ok bool) {
	call = notify.Page{Key: p.Key, Messages: p.Calling(), Dropped: p.Dropped}
	switch {
	case len(call.Messages) == 1:
		return call, call.Messages[0].Key, true
	case len(call.Messages) == 0 && p.Dropped > 0:
		return call, "outbox", true
	}
	return call, p.Key, len(call.Messages) > 1
}

func trigger(p notify.Page, key string) pagerduty.V2Event {
	details := map[string]string{}
	payload := &pagerduty.V2Payload{
		Summary: clip(inert(subject(p)), maxSummary), Source: "gatehouse", Severity: string(p.Severity()), Details: details,
	}
	if len(p.Messages) == 1 {
		m := p.Messages[0]
		payload.Timestamp, payload.Class = m.Time.Format(time.RFC3339), string(m.Kind)
		for _, f := range facts(m) {
			details[inert(f.Name)] = inert(f.Value)
		}
	} else {
		for i, line := range summary(p) {
			details[lineName(i)] = clip(inert(line), maxDetail)
		}
	}
	e := pagerduty.V2Event{Action: "trigger", DedupKey: key, Client: "Gatehouse", Payload: payload}
	for _, l := range links(p, maxListed) {
		e.Links = append(e.Links, map[string]string{"href": l.URL, "text": inert(l.Text)})
	}
	return e
}

// lineName keeps lines in their order where names are sorted.
func lineName(i int) string { return "line " + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)) }
