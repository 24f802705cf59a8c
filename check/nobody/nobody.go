// Package nobody is the check that an image does not run as root.
//
// It reads the user in the image's configuration, for every platform that the
// image has unless the settings name some, and fails when that is root in any
// spelling that a container runtime takes for it: no user at all, "root", and
// every number that is 0 or that a runtime could wrap around to 0, each with or
// without a group. It cannot see what a name means in the image's own
// /etc/passwd: an image that calls UID 0 by another name passes. Give users by
// number where that matters, and let the cluster insist on runAsNonRoot.
package nobody

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// Name is the name of the check.
const Name = "nobody"

// Settings are what the check is made from.
type Settings struct {
	// Platforms are those of an index that are looked at; none means all.
	Platforms []resolve.Platform
}

// New returns the check.
func New(s Settings) check.Check {
	return check.Check{Name: Name, Doc: doc(), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		configs, err := in.Registry.Configs(ctx, in.Image, s.Platforms...)
		if err != nil {
			return check.Result{}, err
		}
		if len(configs) == 0 {
			return check.Result{}, errors.New("the registry gave no configuration of the image")
		}
		for _, c := range configs {
			if why := rootness(c.User); why != "" {
				return check.Fail("image runs as root on %s: its user %s; set USER to a number above 0 in its Dockerfile", c.Platform, why), nil
			}
		}
		return check.Pass(), nil
	}}
}

func doc() check.Doc {
	return check.Doc{
		Title:  "The image does not run as root",
		Proves: "Fails when the user in the image's configuration is root in any spelling: none, root, 0, 00, +0, with or without a group, and numbers that overflow. All platforms of a multi-platform image must pass. Names in the image's own /etc/passwd are not looked up.",
		Needs:  []string{"registry"},
		Settings: []check.Setting{
			{Key: "gatehouse.platforms", Text: "the platforms that are looked at", Default: "all that the image has"},
		},
	}
}

// rootness returns why a USER is root to a container runtime, or "".
func rootness(user string) string {
	name, _, _ := strings.Cut(user, ":")
	name = strings.TrimSpace(name)
	quoted := "is " + strconv.Quote(clip(user))
	switch {
	case user == "":
		return "is not set"
	case name == "" || name == "root":
		return quoted
	case strings.Trim(strings.TrimLeft(name, "+-"), "0123456789") != "":
		return "" // a name
	}
	uid, err := strconv.Atoi(name)
	switch {
	case err == nil && uid == 0:
		return quoted
	case err != nil || uid < 0 || uid > math.MaxInt32:
		// Runtimes have wrapped such numbers around to 0 (CVE-2024-40635).
		return quoted + ", which is not a user number that runtimes agree on"
	}
	return ""
}

func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
