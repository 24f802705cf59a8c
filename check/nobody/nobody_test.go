package nobody_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/nobody"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

var (
	amd64 = resolve.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = resolve.Platform{OS: "linux", Architecture: "arm64"}
)

// registry holds one image with these users.
type registry struct {
	check.Registry
	users  map[resolve.Platform]string
	err    error
	wanted []resolve.Platform
}

func (r *registry) Configs(_ context.Context, _ image.Reference, wanted ...resolve.Platform) ([]resolve.Config, error) {
	r.wanted = wanted
	var configs []resolve.Config
	for p, user := range r.users {
		configs = append(configs, resolve.Config{Platform: p, User: user})
	}
	return configs, r.err
}

func run(t *testing.T, r *registry, s nobody.Settings) (check.Result, error) {
	t.Helper()
	return nobody.New(s).Run(t.Context(), &check.Input{Registry: r})
}

func TestB6_RootInEverySpellingFails(t *testing.T) {
	t.Parallel()
	for _, user := range []string{
		"", "root", "0", "00", "000", "+0", "-0", "0:0", "0:1000", "00:1000", "0:root", "0:staff", "root:", "root:root", "root:1000",
		":", ":1000", " root", "0 ", " 0:0", "-1", "4294967296", "4294967296:1000", "2147483648", "99999999999999999999999",
	} {
		got, err := run(t, &registry{users: map[resolve.Platform]string{amd64: user}}, nobody.Settings{})
		if err != nil || got.Passed() {
			t.Errorf("user %q: got %+v, %v; want a failure", user, got, err)
			continue
		}
		want := fmt.Sprintf("its user is %q", user)
		if user == "" {
			want = "its user is not set"
		}
		if !strings.Contains(got.Reason(), want) || !strings.Contains(got.Reason(), "linux/amd64") {
			t.Errorf("user %q: reason = %q, want %q and the platform in it", user, got.Reason(), want)
		}
	}
}

func TestOtherUsersPass(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"1", "1000", "1000:0", "1000:root", "nobody", "app:app", "65534", "2147483647", "root1", "0x0", "ROOT", "010"} {
		got, err := run(t, &registry{users: map[resolve.Platform]string{amd64: user}}, nobody.Settings{})
		if err != nil || !got.Passed() {
			t.Errorf("user %q: got %+v, %v; want it to pass", user, got, err)
		}
	}
}

func TestEveryPlatformMustPass(t *testing.T) {
	t.Parallel()
	got, err := run(t, &registry{users: map[resolve.Platform]string{amd64: "1000", arm64: "0"}}, nobody.Settings{})
	if err != nil || got.Passed() || !strings.Contains(got.Reason(), "linux/arm64") {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestPlatformsOfTheSettingsAreAskedFor(t *testing.T) {
	t.Parallel()
	r := &registry{users: map[resolve.Platform]string{amd64: "1000"}}
	if _, err := run(t, r, nobody.Settings{Platforms: []resolve.Platform{amd64}}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.wanted, []resolve.Platform{amd64}) {
		t.Fatalf("asked for %v", r.wanted)
	}
}

func TestAnImageThatCannotBeReadDoesNotPass(t *testing.T) {
	t.Parallel()
	for about, r := range map[string]*registry{
		"B4: an error":      {err: resolve.ErrNotFound, users: map[resolve.Platform]string{amd64: "1000"}},
		"no configurations": {},
	} {
		got, err := run(t, r, nobody.Settings{})
		if err == nil || got.Passed() || (r.err != nil && !errors.Is(err, r.err)) {
			t.Errorf("%s: got %+v, %v", about, got, err)
		}
	}
}

func TestNumericRefusesNames(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]bool{"1000": true, "1000:app": true, "app": false, "nobody:1000": false, "0x0": false, "root": false} {
		got, err := run(t, &registry{users: map[resolve.Platform]string{amd64: user}}, nobody.Settings{Numeric: true})
		if err != nil || got.Passed() != want {
			t.Errorf("user %q: got %+v, %v", user, got, err)
		}
	}
}

func TestAdministratorsOfWindows(t *testing.T) {
	t.Parallel()
	windows := resolve.Platform{OS: "windows", Architecture: "amd64"}
	for user, want := range map[string]bool{
		"ContainerUser": true, "app": true, `ORG\svc`: true,
		"": false, "ContainerAdministrator": false, "containeradministrator": false, "Administrator": false, `NT AUTHORITY\SYSTEM`: false, `.\Administrator`: false,
	} {
		got, err := run(t, &registry{users: map[resolve.Platform]string{windows: user}}, nobody.Settings{Numeric: true})
		if err != nil || got.Passed() != want {
			t.Errorf("user %q: got %+v, %v", user, got, err)
		}
	}
}
