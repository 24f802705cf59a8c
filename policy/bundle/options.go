package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/policy/kritis"
)

// KritisWords are the words of [KritisOptions].
func KritisWords() []string {
	return []string{
		"authorities=any", "policies=all", "pool-patterns", "default-deny", "allow-unscanned", "allow-unspecified", "kritis-images", "scan-project=PROJECT",
	}
}

// KritisOptions reads what objects of Kritis are to mean, in words:
//
//	authorities=any       one authority of a GenericAttestationPolicy is enough, as in v0.2.x
//	policies=all          every GenericAttestationPolicy of a namespace must be satisfied
//	pool-patterns         then a pattern of one counts for all of them
//	default-deny          nothing runs in a namespace without a policy
//	allow-unscanned       an image that was never scanned passes
//	allow-unspecified     a vulnerability without a severity passes
//	kritis-images         Kritis' own images run everywhere
//	scan-project=PROJECT  scans in this project count; may be given several times
func KritisOptions(words []string) (kritis.Options, error) {
	var o kritis.Options
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case key == "scan-project" && value != "":
			o.ScanProjects = append(o.ScanProjects, value)
		case word == "authorities=any":
			o.Authorities = kritis.AnyAuthority
		case word == "authorities=all":
			o.Authorities = kritis.AllAuthorities
		case word == "policies=all":
			o.Policies = kritis.AllPolicies
		case word == "policies=any":
			o.Policies = kritis.AnyPolicy
		case word == "pool-patterns":
			o.PoolPatterns = true
		case word == "default-deny":
			o.DefaultDeny = true
		case word == "allow-unscanned":
			o.AllowUnscanned = true
		case word == "allow-unspecified":
			o.AllowUnspecified = true
		case word == "kritis-images":
			o.KritisImages = true
		default:
			return o, fmt.Errorf("option of Kritis %.50q: want one of %s", word, strings.Join(slices.Sorted(slices.Values(KritisWords())), ", "))
		}
	}
	return o, nil
}
