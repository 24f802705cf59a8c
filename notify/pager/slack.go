package pager

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/slack-go/slack"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// Slack is a channel of Slack, by an incoming webhook.
type Slack struct {
	// WebhookURLFile has the webhook's URL, which is a secret.
	WebhookURLFile string `yaml:"webhookURLFile"`
	HTTP           `yaml:",inline"`
}

const (
	// What Slack takes of a header and of a section, in characters.
	maxSlackHeader  = 150
	maxSlackSection = 3000
	maxSlackLinks   = 10
)

func (s *Slack) validate() error { return required("webhookURLFile", s.WebhookURLFile) }

func (s *Slack) open() (notify.Receiver, error) {
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	_, err = secretURL(s.WebhookURLFile, s.InsecureHTTP)
	return &slackChannel{*s, client}, err
}

// secretURL reads a URL that is a secret.
func secretURL(file string, insecure bool) (string, error) {
	u, err := secretFile(file).read()
	if err != nil {
		return "", err
	}
	return u, checkURL(fmt.Sprintf("the URL in %s", file), u, insecure)
}

type slackChannel struct {
	Slack
	http *http.Client
}

// Send posts a page to the channel.
func (s *slackChannel) Send(ctx context.Context, p notify.Page) error {
	url, err := secretURL(s.WebhookURLFile, s.InsecureHTTP)
	if err != nil {
		return err
	}
	return exchange(ctx, url, func(ctx context.Context) error {
		return slack.PostWebhookCustomHTTPContext(ctx, url, s.http, slackMessage(p))
	})
}

// slackMessage has all that strangers wrote in plain_text, where nothing is markup. The
// text beside the blocks is for notifications, and is escaped as Slack demands.
func slackMessage(p notify.Page) *slack.WebhookMessage {
	plain := func(s string, limit int) *slack.TextBlockObject {
		return slack.NewTextBlockObject(slack.PlainTextType, clip(s, limit), false, false)
	}
	blocks := []slack.Block{slack.NewHeaderBlock(plain(subject(p), maxSlackHeader))}
	body := lines(p)
	if len(p.Messages) == 1 && len(p.Messages[0].Title) > maxSlackHeader/2 {
		body = append([]string{p.Messages[0].Title}, body...) // the header may have cut it
	}
	if len(body) > 0 {
		blocks = append(blocks, slack.NewSectionBlock(plain(strings.Join(body, "\n"), maxSlackSection), nil, nil))
	}
	var to []string
	for _, l := range links(p, maxSlackLinks) { // whose URLs have no < > |
		to = append(to, "<"+l.URL+"|"+slackEscape(l.Text)+">")
	}
	if len(to) > 0 {
		blocks = append(blocks, slack.NewContextBlock("", slack.NewTextBlockObject(slack.MarkdownType, strings.Join(to, " · "), false, true)))
	}
	no := false
	return &slack.WebhookMessage{
		Text: slackEscape(subject(p)), Parse: "none", Blocks: &slack.Blocks{BlockSet: blocks}, UnfurlLinks: &no, UnfurlMedia: &no,
	}
}

// slackEscape makes a text of mrkdwn have no links and mentions.
func slackEscape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "¦", "*", "∗", "_", "＿", "~", "∼", "`", "'").Replace(s)
}
