package pager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// Alertmanager is a cluster of Alertmanagers, by their API v2. Each gets every alert, as
// they expect; one that takes it is enough.
type Alertmanager struct {
	// URLs are where they listen, such as http://127.0.0.1:9093.
	URLs []string `yaml:"urls"`
	HTTP `yaml:",inline"`
	// HoldFor is how long an alert lasts that nobody resolves: it is sent once, and
	// again when something about it changes. Default 24h.
	HoldFor time.Duration `yaml:"holdFor"`
	// TokenFile has a bearer token, or Username and PasswordFile say who sends.
	TokenFile    string `yaml:"tokenFile"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`
}

const (
	defaultHoldFor = 24 * time.Hour
	// brief is how long the alert of a test lasts, and that of what is over already.
	brief      = 5 * time.Minute
	alertsPath = "/api/v2/alerts"
)

func (a *Alertmanager) validate() error {
	var errs []error
	if len(a.URLs) == 0 {
		errs = append(errs, errors.New("want urls"))
	}
	for i, u := range a.URLs {
		errs = append(errs, checkURL(fmt.Sprintf("urls[%d]", i), u, a.InsecureHTTP))
	}
	if a.TokenFile != "" && a.Username != "" || (a.Username == "") != (a.PasswordFile == "") {
		errs = append(errs, errors.New("want tokenFile, or username and passwordFile, or none of them"))
	}
	if a.HoldFor < 0 {
		errs = append(errs, errors.New("holdFor: want more than 0"))
	}
	return errors.Join(errs...)
}

func (a *Alertmanager) open() (notify.Receiver, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	r := &alertmanager{*a, client}
	if r.HoldFor == 0 {
		r.HoldFor = defaultHoldFor
	}
	_, _, err = r.authorization()
	return r, err
}

type alertmanager struct {
	Alertmanager
	http *http.Client
}

// An alert is a postableAlert of the API.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Send posts the alerts of a page to all.
func (a *alertmanager) Send(ctx context.Context, p notify.Page) error {
	header, secret, err := a.authorization()
	if err != nil {
		return err
	}
	alerts := a.alerts(p, time.Now())
	results := make(chan error, len(a.URLs))
	for _, base := range a.URLs {
		go func() {
			results <- post(ctx, a.http, strings.TrimSuffix(base, "/")+alertsPath, header, secret, alerts)
		}()
	}
	taken := false
	var errs []error
	for range a.URLs {
		err := <-results
		taken = taken || err == nil
		errs = append(errs, err)
	}
	if taken {
		return nil
	}
	if len(a.URLs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func (a *alertmanager) authorization() (header http.Header, secret string, err error) {
	switch {
	case a.TokenFile != "":
		if secret, err = secretFile(a.TokenFile).read(); err != nil {
			return nil, "", err
		}
		return http.Header{"Authorization": {"Bearer " + secret}}, secret, nil
	case a.Username != "":
		if secret, err = secretFile(a.PasswordFile).read(); err != nil {
			return nil, "", err
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(a.Username, secret)
		return r.Header, secret, nil
	}
	return nil, "", nil
}

// alerts are the page's. Alertmanager tells alerts apart by all their labels, and people
// route by severity: so when a severity changes, or the matter is over, the alert of
// each other severity is over too. One that never began is told to nobody, which is why
// what began and ended in one page lasts a little.
func (a *alertmanager) alerts(p notify.Page, now time.Time) []alert {
	var all []alert
	began := map[string]notify.Severity{}
	for _, m := range p.Messages {
		if m.Kind.Calls() {
			began[m.Key] = m.Severity
		}
		for _, severity := range notify.Severities() {
			ends := now
			switch {
			case !m.Kind.Ends() && severity == m.Severity:
				ends = a.endOf(m, now)
			case m.Kind.Ends() && severity == began[m.Key]:
				ends = now.Add(brief)
			}
			next := newAlert(m, severity, ends)
			all = slices.DeleteFunc(all, func(earlier alert) bool { // the last word counts
				return earlier.Labels["key"] == m.Key && earlier.Labels["severity"] == string(severity)
			})
			all = append(all, next)
		}
	}
	if p.Dropped > 0 {
		all = append(all, newAlert(notify.Message{Kind: notify.Opened, Key: "outbox", Title: lost(p), Time: now}, notify.Error, now.Add(a.HoldFor)))
	}
	return all
}

func (a *alertmanager) endOf(m notify.Message, now time.Time) time.Time {
	if m.Kind == notify.Test {
		return now.Add(brief)
	}
	return now.Add(a.HoldFor)
}

func newAlert(m notify.Message, severity notify.Severity, ends time.Time) alert {
	a := alert{
		Labels:      map[string]string{"alertname": alertName(m), "severity": string(severity), "key": m.Key},
		Annotations: map[string]string{"summary": inert(m.Title), "status": verb(m.Kind), "count": fmt.Sprint(m.Count)},
		StartsAt:    m.Time, EndsAt: ends,
	}
	if a.StartsAt.After(ends) { // which is refused
		a.StartsAt = ends
	}
	for _, l := range m.Labels {
		a.Labels[l.Name] = inert(l.Value)
	}
	var lines []string
	for _, f := range m.Fields {
		lines = append(lines, inert(f.Name+": "+f.Value))
	}
	if len(lines) > 0 {
		a.Annotations["description"] = strings.Join(lines, "\n")
	}
	if len(m.Links) > 0 {
		a.GeneratorURL = m.Links[0].URL
	}
	return a
}

// alertName is the same for all messages of a key.
func alertName(m notify.Message) string {
	switch {
	case m.Kind == notify.Test:
		return "GatehouseTest"
	case strings.HasPrefix(m.Key, "pager/"):
		return "GatehousePagerFailed"
	default:
		return "GatehouseIncident"
	}
}
