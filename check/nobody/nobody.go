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
	"fmt"
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
	// Numeric fails images whose user is a name, which only the image's own /etc/passwd
	// gives a meaning.
	Numeric bool
}

// New returns the check.
func New(s Settings) check.Check {
	return check.Check{Name: Name, Doc: Doc(), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		configs, err := in.Registry.Configs(ctx, in.Image, s.Platforms...)
		if err != nil {
			return check.Result{}, err
		}
		if len(configs) == 0 {
			return check.Result{}, errors.New("the registry gave no configuration of the image")
		}
		var evidence []string
		for _, c := range configs {
			if why := s.rootness(c); why != "" {
				return check.Fail("image runs as root on %s: its user %s; set USER to a number above 0 in its Dockerfile", c.Platform, why), nil
			}
			evidence = append(evidence, fmt.Sprintf("on %s its user is %q", c.Platform, clip(c.User)))
		}
		return check.Pass(evidence...), nil
	}}
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "The image does not run as root",
		Proves: "The user in the image's configuration, for every platform, is not root in any spelling: not none, root, 0, 00 or +0, with or without a group, not a number that overflows, nor on Windows an administrator. Names in the image's own /etc/passwd are not looked up: an image that calls user 0 by another name passes, unless gatehouse.nobody.numeric is set.",
		Needs:  []string{"the registry"},
		Settings: []check.Setting{
			{Key: "gatehouse.nobody.numeric", Text: "fail images whose user is a name and not a number, except on Windows", Default: "false"},
			{Key: "gatehouse.platforms", Text: "the platforms that are looked at", Default: "all that the image has"},
		},
		Fixes: []check.Fix{
			{Failure: "image runs as root on P", Do: "set USER to a number above 0 in the Dockerfile, such as USER 65532, and build again"},
			{Failure: "no image for the platform", Do: "build it for the platform, or take that out of gatehouse.platforms"},
		},
	}
}

// rootness returns why a user is root to a container runtime, or is not known not to be,
// or "".
func (s Settings) rootness(c resolve.Config) string {
	if strings.EqualFold(c.Platform.OS, "windows") {
		return windowsRootness(c.User)
	}
	name, _, _ := strings.Cut(c.User, ":")
	name = strings.TrimSpace(name)
	quoted := "is " + strconv.Quote(clip(c.User))
	switch {
	case c.User == "":
		return "is not set"
	case name == "" || name == "root":
		return quoted
	case strings.Trim(strings.TrimLeft(name, "+-"), "0123456789") != "":
		if s.Numeric {
			return quoted + ", a name, which anything can stand behind"
		}
		return ""
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

// windowsRootness returns why a user is an administrator of a Windows container, or "".
// Without one most base images have ContainerAdministrator.
func windowsRootness(user string) string {
	name := user[strings.LastIndexByte(user, '\\')+1:]
	if user == "" {
		return "is not set"
	}
	for _, admin := range []string{"ContainerAdministrator", "Administrator", "SYSTEM", "LocalSystem"} {
		if strings.EqualFold(strings.TrimSpace(name), admin) {
			return "is " + strconv.Quote(clip(user))
		}
	}
	return ""
}

func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
