package identity_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func TestConfigurationThatIsRefused(t *testing.T) {
	t.Parallel()
	rules := func(r ...identity.Rule) identity.Config { return identity.Config{MTLS: true, Rules: r} }
	viewer := []string{"viewer"}
	for name, tc := range map[string]struct {
		cfg  identity.Config
		want string
	}{
		"a method without rules":     {identity.Config{MTLS: true}, "add rules"},
		"rules without a method":     {identity.Config{Rules: everybody}, "no way to tell callers"},
		"a burst without a rate":     {identity.Config{Burst: 5}, "requestsPerSecond"},
		"a negative rate":            {identity.Config{RequestsPerSecond: -1}, "requestsPerSecond -1"},
		"a rate near nothing":        {identity.Config{RequestsPerSecond: 1e-9}, "requestsPerSecond"},
		"a negative burst":           {identity.Config{RequestsPerSecond: 1, Burst: -1}, "burst -1"},
		"no caller":                  {rules(identity.Rule{Project: "p", Roles: viewer}), "no caller"},
		"no project":                 {rules(identity.Rule{Caller: "c", Roles: viewer}), "no project"},
		"no roles":                   {rules(identity.Rule{Caller: "c", Project: "p"}), "gives nothing"},
		"an unknown role":            {rules(identity.Rule{Caller: "c", Project: "p", Roles: []string{"owner"}}), `no role "owner"`},
		"a permission for a role":    {rules(identity.Rule{Caller: "c", Project: "p", Roles: []string{"notes.get"}}), "under permissions"},
		"an unknown permission":      {rules(identity.Rule{Caller: "c", Project: "p", Permissions: []metadata.Permission{"notes.own"}}), `no permission "notes.own"`},
		"a part of a name":           {rules(identity.Rule{Caller: "ci-*", Project: "p", Roles: viewer}), "part of a name"},
		"a part of a project":        {rules(identity.Rule{Caller: "c", Project: "p*", Roles: viewer}), "project's id"},
		"a project's full name":      {rules(identity.Rule{Caller: "c", Project: "projects/p", Roles: viewer}), "project's id"},
		"the server's own name":      {rules(identity.Rule{Caller: identity.ReservedCaller, Project: "p", Roles: viewer}), "the server's own"},
		"a note of any project":      {rules(identity.Rule{Caller: "c", Project: "*", Note: "n", Roles: []string{"notes.attacher"}}), "name its project"},
		"a note's full name":         {rules(identity.Rule{Caller: "c", Project: "p", Note: "projects/p/notes/n", Roles: []string{"notes.attacher"}}), "id of a note"},
		"a note and occurrences":     {rules(identity.Rule{Caller: "c", Project: "p", Note: "n", Roles: []string{"occurrences.editor"}}), "nothing on a note"},
		"a note and its creation":    {rules(identity.Rule{Caller: "c", Project: "p", Note: "n", Permissions: []metadata.Permission{metadata.NotesCreate}}), "not about one note"},
		"the second of two rules":    {rules(everybody[0], identity.Rule{Caller: "c", Project: "p"}), "identity rule 2"},
		"a tokens file that is gone": {identity.Config{BearerTokensFile: "/nonexistent", Rules: everybody}, "reading bearer tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := identity.Open(tc.cfg, identity.Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	hash := hashOf(goodToken)
	ok := quickHash(t, "x")
	for name, tc := range map[string]struct{ tokens, users, want string }{
		"no tokens":              {tokens: "# nobody\n\n", want: "nobody in it"},
		"an empty file":          {users: " ", want: "line 1"},
		"a token in clear":       {tokens: "ci:" + goodToken, want: "never the token itself"},
		"a token without a name": {tokens: hash, want: "line 1: want NAME:HASH"},
		"an empty name":          {tokens: ":" + hash, want: "no name"},
		"a name with a space":    {tokens: "c i:" + hash, want: "white space"},
		"a name not of UTF-8":    {tokens: "\xff:" + hash, want: "UTF-8"},
		"everybody":              {tokens: "*:" + hash, want: "stands for all"},
		"the server's own":       {users: identity.ReservedCaller + ":" + ok, want: "the server's own"},
		"a truncated hash":       {tokens: "ci:" + hash[:63], want: "64 hexadecimal digits"},
		"a hash too long":        {tokens: "ci:" + hash + "0", want: "64 hexadecimal digits"},
		"no hash":                {tokens: "ci:", want: "64 hexadecimal digits"},
		"many hashes":            {tokens: "ci:1,2,3,4,5", want: "more than 4"},
		"a name twice":           {tokens: "ci:" + hash + "\nci:" + hashOf("b"), want: `line 2: "ci" is there already, in line 1`},
		"a token of two":         {tokens: "ci:" + hash + "\nada:" + hash, want: `that of "ci" too`},
		"a user twice":           {users: "a:" + ok + "\na:" + ok, want: "is there already"},
		"a password in clear":    {users: "ada:hunter2", want: "never the password itself"},
		"crypt":                  {users: "ada:rl.3StKT.4T8M", want: "want a bcrypt hash"},
		"apr1":                   {users: "ada:$apr1$0nSkpI6c$8e0z0mEsqkBAbs5wTTbxO/", want: "want a bcrypt hash"},
		"a truncated bcrypt":     {users: "ada:" + ok[:59], want: "want a bcrypt hash"},
		"a bcrypt of seconds":    {users: "ada:" + strings.Replace(ok, "$04$", "$31$", 1), want: "cost 31"},
		"a cost below":           {users: "ada:" + strings.Replace(ok, "$04$", "$03$", 1), want: "want a bcrypt hash"},
		"not of its alphabet":    {users: "ada:" + ok[:59] + "!", want: "want a bcrypt hash"},
		"no form at all":         {users: "ada", want: "want USER:BCRYPT"},
		"a huge file":            {tokens: strings.Repeat("#", 2<<20), want: "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := identity.Config{Rules: everybody}
			if tc.tokens != "" {
				cfg.BearerTokensFile = write(t, "tokens", tc.tokens)
			} else {
				cfg.BasicUsersFile = write(t, "users", tc.users)
			}
			_, err := identity.Open(cfg, identity.Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
			if err != nil && (strings.Contains(err.Error(), goodToken) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestLinesForTheFiles(t *testing.T) {
	t.Parallel()
	secret := identity.NewToken()
	line, err := identity.TokenLine("ci@shop", secret)
	if err != nil {
		t.Fatal(err)
	}
	userLine, err := identity.PasswordLine("ada", "pässword")
	if err != nil {
		t.Fatal(err)
	}
	who := open(t, identity.Config{BearerTokensFile: write(t, "t", line), BasicUsersFile: write(t, "u", userLine), Rules: everybody}, identity.Options{})
	for authorization, want := range map[string]string{"Bearer " + secret: "ci@shop", basic("ada", "pässword"): "ada"} {
		if caller, err := who.Identify(request(authorization)); err != nil || caller.Name != want {
			t.Errorf("%q, %v; want %q", caller.Name, err, want)
		}
	}
	if other := identity.NewToken(); other == secret || len(other) < 40 {
		t.Errorf("token %q after %q", other, secret)
	}
	for _, bad := range [][2]string{{"", secret}, {"#ci", secret}, {"c i", secret}, {"ci", "short"}, {"ci", ""}, {"ci", "has a space in the middle of it"}} {
		if line, err := identity.TokenLine(bad[0], bad[1]); err == nil {
			t.Errorf("token of %q: %s", bad[0], line)
		}
	}
	for _, bad := range [][2]string{{"", "x"}, {"a:b", "x"}, {"#a", "x"}, {"a", ""}, {"a", "x\n"}, {"a", strings.Repeat("x", 73)}} {
		if line, err := identity.PasswordLine(bad[0], bad[1]); err == nil {
			t.Errorf("password of %q: %s", bad[0], line)
		}
	}
}

// TestSecretsAreComparedInConstantTime reads the source, since no test can tell
// by the clock.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{"bearer.go": "subtle.ConstantTimeCompare", "basic.go": "bcrypt.CompareHashAndPassword"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		ast.Inspect(tree, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := call.X.(*ast.Ident); ok {
					found = found || pkg.Name+"."+call.Sel.Name == want
				}
			}
			return true
		})
		if !found {
			t.Errorf("%s does not call %s", file, want)
		}
	}
}
