package binauthz

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// maxBridge bounds allowIfLastAllowedWithin: an outage of a month is none that a
// gate should get over by itself.
const maxBridge = 31 * 24 * time.Hour

// onUnavailable reads the field that Gatehouse adds to rules:
//
//	onUnavailable: deny
//	onUnavailable: warn
//	onUnavailable: {allowIfLastAllowedWithin: 24h}
func (r *reporter) onUnavailable(f document.Fields) policy.OnUnavailable {
	const within = "allowIfLastAllowedWithin"
	n := f.Values["onUnavailable"]
	switch {
	case n == nil:
		return policy.OnUnavailable{}
	case n.Kind == yaml.ScalarNode:
		word, _ := r.Enum(f, "onUnavailable", []string{"", "deny", "warn"})
		if word == 0 && n.Value == "" {
			r.Errorf(n.Line, "onUnavailable is empty; write deny, warn, or %s: and a duration", within)
		}
		return policy.OnUnavailable{Warn: word == 2}
	}
	inner, ok := r.Fields(n, "onUnavailable", within)
	if !ok {
		return policy.OnUnavailable{}
	}
	text := r.Text(inner, within)
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxBridge {
		r.Errorf(n.Line, "onUnavailable: %s: %.50q is not a duration such as 24h, more than nothing and at most %v", within, text, maxBridge)
		return policy.OnUnavailable{}
	}
	return policy.OnUnavailable{LastAllowedWithin: d}
}
