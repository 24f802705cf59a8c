package pager

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// Webhook is any HTTP server: a page is a CloudEvent (1.0, structured JSON), signed as
// Standard Webhooks says.
type Webhook struct {
	// URL, or URLFile if it is a secret.
	URL     string `yaml:"url"`
	URLFile string `yaml:"urlFile"`
	HTTP    `yaml:",inline"`
	// SecretFile has the secret of the signature: whsec_ and base64, or base64 alone.
	SecretFile string `yaml:"secretFile"`
	// Source is the source of the events. Default "/gatehouse".
	Source string `yaml:"source"`
}

const (
	defaultSource = "/gatehouse"
	eventType     = "dev.gatehouse.page.v1"
)

func (w *Webhook) validate() error {
	if err := required("secretFile", w.SecretFile); err != nil {
		return err
	}
	if (w.URL == "") == (w.URLFile == "") {
		return required("either url or urlFile", "")
	}
	if w.URL != "" {
		return checkURL("url", w.URL, w.InsecureHTTP)
	}
	return nil
}

func (w *Webhook) open() (notify.Receiver, error) {
	client, err := w.client()
	if err != nil {
		return nil, err
	}
	r := &webhook{*w, client}
	if r.Source == "" {
		r.Source = defaultSource
	}
	if _, err := r.at(); err != nil {
		return nil, err
	}
	_, err = r.signer()
	return r, err
}

type webhook struct {
	Webhook
	http *http.Client
}

func (w *webhook) at() (string, error) {
	if w.URLFile == "" {
		return w.URL, nil
	}
	return secretURL(w.URLFile, w.InsecureHTTP)
}

func (w *webhook) signer() (*standardwebhooks.Webhook, error) {
	secret, err := secretFile(w.SecretFile).read()
	if err != nil {
		return nil, err
	}
	return standardwebhooks.NewWebhook(secret)
}

// A cloudEvent is the JSON format of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion     string      `json:"specversion"`
	ID              string      `json:"id"`
	Source          string      `json:"source"`
	Type            string      `json:"type"`
	Subject         string      `json:"subject"`
	Time            time.Time   `json:"time"`
	DataContentType string      `json:"datacontenttype"`
	Data            notify.Page `json:"data"`
}

// Send posts a page. Its id is the same when the same comes again.
func (w *webhook) Send(ctx context.Context, p notify.Page) error {
	url, err := w.at()
	if err != nil {
		return err
	}
	signer, err := w.signer()
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	event := cloudEvent{
		SpecVersion: "1.0", ID: p.ID(), Source: w.Source, Type: eventType, Subject: p.Key, Time: now,
		DataContentType: "application/json", Data: p,
	}
	if len(p.Messages) == 1 {
		event.Subject = p.Messages[0].Key
	}
	body, err := json.Marshal(event)
	if err != nil {
		return &notify.FinalError{Err: err}
	}
	signature, err := signer.Sign(event.ID, now, body)
	if err != nil {
		return &notify.FinalError{Err: err}
	}
	header := http.Header{"Content-Type": {"application/cloudevents+json; charset=UTF-8"}}
	header.Set(standardwebhooks.HeaderWebhookID, event.ID)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	secret := ""
	if w.URLFile != "" {
		secret = url
	}
	return postText(ctx, w.http, url, header, secret, body)
}
