package org_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
	"github.com/gatehouse-dev/gatehouse/check/org"
)

type host struct {
	hosts.Host
	owner hosts.Owner
	err   error
}

func (h host) Owner(context.Context, builds.Repository) (hosts.Owner, error) { return h.owner, h.err }

func run(t *testing.T, url string, of hosts.Host, list ...*grafeas.Occurrence) (check.Result, error) {
	t.Helper()
	o, err := hosts.ParseURL("us", url)
	if err != nil {
		t.Fatal(err)
	}
	o.Of = of
	c, err := org.New(o, builds.Reader{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "is_us" {
		t.Errorf("it is called %q", c.Name)
	}
	return checktest.Run(t, c, &checktest.Metadata{List: list}, nil)
}

func TestOrg(t *testing.T) {
	t.Parallel()
	const ours = "https://github.com/my-org"
	from := func(url string) []*grafeas.Occurrence {
		return []*grafeas.Occurrence{checktest.Build(url, checktest.Commit)}
	}
	organization := host{owner: hosts.Owner{Path: "My-Org", Organization: true}}
	for about, row := range map[string]struct {
		url  string
		of   host
		list []*grafeas.Occurrence
		want string // part of the reason; "" means that it passes
	}{
		"ours":                        {ours, organization, from("https://github.com/my-org/app"), ""},
		"ours, by another URL":        {ours, organization, from("git@github.com:My-Org/app.git"), ""},
		"another's":                   {ours, host{owner: hosts.Owner{Path: "my-org-evil", Organization: true}}, from("https://github.com/my-org-evil/app"), `belongs to "my-org-evil" and not to "my-org"`},
		"given away":                  {ours, host{owner: hosts.Owner{Path: "eve", Organization: true}}, from("https://github.com/my-org/app"), `belongs to "eve"`},
		"a person's":                  {ours, host{owner: hosts.Owner{Path: "my-org"}}, from("https://github.com/my-org/app"), "is a person and no organisation"},
		"another host's":              {ours, organization, from("https://git.example/my-org/app"), "which is not on github.com"},
		"a host that looks like it":   {ours, organization, from("https://github.com.evil.example/my-org/app"), "which is not on github.com"},
		"a group within":              {"https://gitlab.com/my-org", host{owner: hosts.Owner{Path: "my-org/team", Organization: true}}, from("https://gitlab.com/my-org/team/app"), ""},
		"a group beside":              {"https://gitlab.com/my-org/team", host{owner: hosts.Owner{Path: "my-org/teams", Organization: true}}, from("https://gitlab.com/my-org/teams/app"), "belongs to"},
		"a host alone":                {"https://github.com", organization, from("https://github.com/my-org/app"), "names the host github.com and no organisation"},
		"no build":                    {ours, organization, nil, "no build metadata associated with this image"},
		"no source":                   {ours, organization, from(""), "does not tell which one repository was built"},
		"no repository":               {ours, organization, from("file:///x"), "source repository"},
		"what the host does not show": {ours, host{err: hosts.Explain("github.com", "x", hosts.ErrNotFound)}, from("https://github.com/my-org/app"), "not found, or not to be seen"},
		"B1: two builds, one of ours": {ours, organization, append(from("https://git.example/x/y"), from("https://github.com/my-org/app")...), ""},
	} {
		got, err := run(t, row.url, row.of, row.list...)
		if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
			t.Errorf("%s: got %+v, %v; want %q", about, got, err, row.want)
		}
	}
}

func TestAnErrorIsNotAPass(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	if got, err := run(t, "https://github.com/my-org", host{err: down}, checktest.Build("https://github.com/my-org/app", checktest.Commit)); !errors.Is(err, down) || got.Passed() {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := run(t, "https://github.com/my-org", nil, checktest.Build("https://github.com/my-org/app", checktest.Commit)); err == nil || !strings.Contains(err.Error(), "no repository client configured") {
		t.Errorf("without a host: %v", err)
	}
	if _, err := org.New(hosts.Organization{Alias: "A B"}, builds.Reader{}); err == nil {
		t.Error("an alias that names no check: no error")
	}
}
