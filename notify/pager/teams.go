package pager

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	goteamsnotify "github.com/atc0005/go-teams-notify/v2"
	"github.com/atc0005/go-teams-notify/v2/adaptivecard"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// Teams is a channel of Microsoft Teams, by the URL of a workflow ("when a Teams webhook
// request is received").
type Teams struct {
	// WebhookURLFile has the workflow's URL, which is a secret.
	WebhookURLFile string `yaml:"webhookURLFile"`
	HTTP           `yaml:",inline"`
}

const (
	// maxCard keeps a card below the 28 kB that Teams takes: strangers must not be able
	// to write one that is refused. maxFact leaves others a share of it. In bytes of
	// JSON, and of a text before it is escaped.
	maxCard       = 18_000
	maxFact       = 400
	maxTeamsLinks = 4
)

func (t *Teams) validate() error { return required("webhookURLFile", t.WebhookURLFile) }

func (t *Teams) open() (notify.Receiver, error) {
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	_, err = secretURL(t.WebhookURLFile, t.InsecureHTTP)
	return &teamsChannel{*t, client}, err
}

type teamsChannel struct {
	Teams
	http *http.Client
}

// Send posts a page to the channel.
func (t *teamsChannel) Send(ctx context.Context, p notify.Page) error {
	url, err := secretURL(t.WebhookURLFile, t.InsecureHTTP)
	if err != nil {
		return err
	}
	card, err := teamsCard(p)
	if err != nil {
		return &notify.FinalError{Err: err, Content: true}
	}
	client := goteamsnotify.NewTeamsClient().SetHTTPClient(t.http).SkipWebhookURLValidationOnSend(true) // it was checked
	return exchange(ctx, url, func(ctx context.Context) error { return client.SendWithContext(ctx, url, card) })
}

func teamsCard(p notify.Page) (*adaptivecard.Message, error) {
	card := adaptivecard.NewCard()
	card.SetFullWidth()
	left := room(maxCard)
	title := adaptivecard.NewTitleTextBlock(left.escape(subject(p)), true)
	title.Color = teamsColor(p.Severity())
	elements := []adaptivecard.Element{title}
	if len(p.Messages) == 1 {
		set := adaptivecard.NewFactSet()
		for _, f := range facts(p.Messages[0]) {
			if err := set.AddFact(adaptivecard.Fact{Title: left.escape(f.Name), Value: left.escape(f.Value)}); err != nil {
				return nil, err
			}
		}
		elements = append(elements, adaptivecard.Element(set))
		if p.Dropped > 0 {
			elements = append(elements, adaptivecard.NewTextBlock(left.escape(lost(p)), true))
		}
	} else {
		for _, line := range summary(p) {
			elements = append(elements, adaptivecard.NewTextBlock(left.escape(line), true))
		}
	}
	if err := card.AddElement(false, elements...); err != nil {
		return nil, err
	}
	for _, l := range links(p, maxTeamsLinks) {
		open, err := adaptivecard.NewActionOpenURL(l.URL, l.Text) // a button's title is plain text
		if err != nil {
			return nil, err
		}
		if err := card.AddAction(false, open); err != nil {
			return nil, err
		}
	}
	return adaptivecard.NewMessageFromCard(card)
}

// room is what a card has left.
type room int

// escape makes a text fit.
func (r *room) escape(s string) string {
	for limit := maxFact; ; limit /= 2 {
		const none = "…"
		if limit < len(none) {
			return none
		}
		escaped := teamsEscape(clip(s, limit))
		text, err := json.Marshal(escaped)
		if err == nil && len(text) <= int(*r) {
			*r -= room(len(text))
			return escaped
		}
	}
}

func teamsColor(s notify.Severity) string {
	switch s {
	case notify.Info:
		return adaptivecard.ColorDefault
	case notify.Warning:
		return adaptivecard.ColorWarning
	default:
		return adaptivecard.ColorAttention
	}
}

// teamsEscape makes a text mean itself in the Markdown of cards. Angle brackets are
// replaced besides: a client that shows HTML would not mind a backslash. A URL is broken
// so that it is not made a link.
func teamsEscape(s string) string {
	s = strings.ReplaceAll(inert(s), "://", ":\u200b//")
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_[]()#+!~|&{}", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
