package metadatatest

import (
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/iam/apiv1/iampb"
	containeranalysis "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"

	projects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1/project"
)

// find lists all pages of what a filter selects.
func (a *api) find(parent, filter string) []*grafeas.Occurrence {
	a.Helper()
	var all []*grafeas.Occurrence
	req := &grafeas.ListOccurrencesRequest{Parent: parent, Filter: filter, PageSize: 2}
	for {
		page, err := a.ListOccurrences(a.ctx, req)
		all = append(all, ok(a, page, err).GetOccurrences()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return all
		}
		if len(all) > 1000 {
			a.Fatal("the pages do not end")
		}
	}
}

// fillClients stores what the filters of known clients look for: two images,
// with two attestations, a scan and two findings each.
func (a *api) fillClients() (images [2]string) {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	a.note("projects/goog-analysis", "PACKAGE_VULNERABILITY", &grafeas.Note{Type: discoveryType()})
	for _, id := range []string{"CVE-1", "CVE-2"} {
		a.note("projects/goog-vulnz", id, &grafeas.Note{Type: vulnerabilityType()})
	}
	for i := range images {
		images[i] = fmt.Sprintf("https://r.example/app%d@%s%d", i, apiDigest[:len(apiDigest)-1], i)
		for n := range 2 {
			a.occurrence(apiProject, apiAttestation(images[i], fmt.Sprint(n)))
		}
		a.occurrence(apiProject, apiScan(images[i]))
		a.occurrence(apiProject, apiFinding(images[i], "CVE-1", grafeas.Severity_HIGH, true))
		a.occurrence(apiProject, apiFinding(images[i], "CVE-2", grafeas.Severity_LOW, false))
	}
	return images
}

func (a *api) filters() {
	images := a.fillClients()
	x, y := images[0], images[1]
	for _, test := range []struct {
		filter string
		want   int
	}{
		{"", 10},
		// Voucher in Google's mode.
		{`resourceUrl="` + x + `" AND kind="ATTESTATION"`, 2},
		{`resourceUrl="` + x + `" AND kind="VULNERABILITY"`, 2},
		{`resourceUrl="` + x + `" AND kind="DISCOVERY" AND noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`, 1},
		// Kritis in its two modes, with the old kind names.
		{`resource_url="` + x + `" AND kind="ATTESTATION"`, 2},
		{`resource_url="` + x + `" AND kind="ATTESTATION_AUTHORITY"`, 2},
		{`resourceUrl="` + x + `" AND kind="PACKAGE_VULNERABILITY"`, 2},
		{`resourceUrl="` + x + `" AND noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`, 1},
		// Tekton Chains.
		{`resourceUrl="` + x + `" OR resourceUrl="` + y + `"`, 10},
		// gcloud: URLs with and without their scheme, prefixes, and kinds.
		{`((kind = "BUILD") OR (kind = "IMAGE") OR (kind = "DISCOVERY") OR (kind = "SBOM_REFERENCE")) AND ((resource_url = "` + x + `") OR (resource_url = "` + x[len("https://"):] + `"))`, 1},
		{`(kind="VULNERABILITY") AND (has_prefix(resource_url,"https://r.example/app0") OR has_prefix(resource_url,"r.example/app0"))`, 2},
		{`(resource_url = "` + x + `") OR (has_prefix(resource_url,"https://r.example/app1"))`, 10},
		// The rest of the language.
		{`has_suffix(resourceUrl, "` + x[strings.Index(x, "sha256:"):] + `")`, 5},
		{`hasSuffix(resourceUrl, "0")`, 5},
		{`hasPrefix(resourceUrl, "https://r.example/")`, 10},
		{`noteName="projects/provider/notes/n"`, 4},
		{`has_prefix(noteId, "CVE-")`, 4},
		{`noteProjectId="goog-vulnz"`, 4},
		{`noteId="CVE-1"`, 2},
		{`NOT kind="ATTESTATION"`, 6},
		{`-kind="ATTESTATION" AND NOT kind="DISCOVERY"`, 4},
		{`kind="BUILD" OR kind="VULNERABILITY" AND noteId="CVE-1"`, 2},
		{`vulnerability.effective_severity="HIGH"`, 2},
		{`vulnerability.effectiveSeverity=LOW AND resourceUrl="` + x + `"`, 1},
		{`vulnerability.packageIssue.affectedPackage="openssl"`, 4},
		{`discovery.analysisStatus="FINISHED_SUCCESS"`, 2},
		{`createTime>"2020-01-01T00:00:00Z"`, 10},
		{`createTime<"2020-01-01T00:00:00Z"`, 0},
		{`updateTime>="2020-01-01T00:00:00Z" AND kind="DISCOVERY"`, 2},
	} {
		if got := len(a.find(apiProject, test.filter)); got != test.want {
			a.Errorf("%s: %d occurrences, want %d", test.filter, got, test.want)
		}
	}
	page, err := a.ListNoteOccurrences(a.ctx, &grafeas.ListNoteOccurrencesRequest{Name: apiNote, Filter: `resourceUrl="` + x + `"`})
	if got := len(ok(a, page, err).GetOccurrences()); got != 2 {
		a.Errorf("%d occurrences of the note, want 2", got)
	}
	for filter, want := range map[string]int{
		"": 2, `kind="VULNERABILITY"`: 2, `noteId="CVE-1"`: 1, `has_prefix(name, "projects/goog-vulnz/notes/CVE-2")`: 1, `kind="BUILD"`: 0,
		`createTime>"2020-01-01T00:00:00Z"`: 2, `vulnerability.details.affectedPackage="openssl"`: 2,
	} {
		notes, err := a.ListNotes(a.ctx, &grafeas.ListNotesRequest{Parent: "projects/goog-vulnz", Filter: filter})
		if got := len(ok(a, notes, err).GetNotes()); got != want {
			a.Errorf("%s: %d notes, want %d", filter, got, want)
		}
	}
}

func (a *api) badFilters() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	for filter, position := range map[string]int{
		`foo="x"`:                                 1,
		`kind="BUILD" AND nope="x"`:               18,
		`kind="NO_SUCH_KIND"`:                     6,
		`kind="BUILD" kind="IMAGE"`:               0,
		`resourceUrl=https://r.example/app`:       0,
		`kind='BUILD'`:                            0,
		`kind=="BUILD"`:                           0,
		`"BUILD"`:                                 1,
		`no_such_function(kind, "x")`:             1,
		`filters_are_yet_to_be_implemented`:       1,
		`createTime>"yesterday"`:                  12,
		`(kind="BUILD"`:                           0,
		`kind="BUILD" and kind="IMAGE"`:           0,
		"kind=\"\x01":                             0,
		strings.Repeat("(", 1000):                 0,
		strings.Repeat(`kind="BUILD" OR `, 10000): 0,
	} {
		want := "filter"
		if position > 0 {
			want = fmt.Sprintf("position %d:", position)
		}
		_, err := a.ListOccurrences(a.ctx, &grafeas.ListOccurrencesRequest{Parent: apiProject, Filter: filter})
		a.want(err, codes.InvalidArgument, want)
		_, err = a.ListNoteOccurrences(a.ctx, &grafeas.ListNoteOccurrencesRequest{Name: apiNote, Filter: filter})
		a.want(err, codes.InvalidArgument, want)
		_, err = a.companion.GetVulnerabilityOccurrencesSummary(a.ctx, &containeranalysis.GetVulnerabilityOccurrencesSummaryRequest{Parent: apiProject, Filter: filter})
		a.want(err, codes.InvalidArgument, want)
	}
}

func (a *api) paging() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	var names []string
	for i := range 7 {
		o := a.occurrence(apiProject, apiAttestation(apiImage, fmt.Sprint(i)))
		names = append(names, o.GetName())
		a.occurrence("projects/q", apiAttestation(apiImage, fmt.Sprint(i)))
	}
	slices.Reverse(names)
	req := &grafeas.ListOccurrencesRequest{Parent: apiProject, PageSize: 3}
	var seen []string
	var tokens []string
	for {
		page, err := a.ListOccurrences(a.ctx, req)
		for _, o := range ok(a, page, err).GetOccurrences() {
			seen = append(seen, o.GetName())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
		tokens = append(tokens, req.PageToken)
	}
	diff(a, names, seen)
	if len(tokens) != 2 {
		a.Fatalf("%d tokens, want 2", len(tokens))
	}
	for what, bad := range map[string]*grafeas.ListOccurrencesRequest{
		"another parent":         {Parent: "projects/q", PageToken: tokens[0]},
		"another filter":         {Parent: apiProject, Filter: `kind="ATTESTATION"`, PageToken: tokens[0]},
		"an offset":              {Parent: apiProject, PageToken: "1000000"},
		"a negative offset":      {Parent: apiProject, PageToken: "-1"},
		"a changed token":        {Parent: apiProject, PageToken: "A" + tokens[0][1:]},
		"a negative page size":   {Parent: apiProject, PageSize: -1},
		"a page size above 1000": {Parent: apiProject, PageSize: 1001},
	} {
		if bad.PageToken == "A"+tokens[0][1:] && tokens[0][0] == 'A' {
			bad.PageToken = "B" + tokens[0][1:]
		}
		_, err := a.ListOccurrences(a.ctx, bad)
		if err == nil {
			a.Errorf("%s was accepted", what)
		}
		a.want(err, codes.InvalidArgument)
	}
	_, err := a.ListNotes(a.ctx, &grafeas.ListNotesRequest{Parent: apiProject, PageToken: tokens[0]})
	a.want(err, codes.InvalidArgument)
	_, err = a.ListNoteOccurrences(a.ctx, &grafeas.ListNoteOccurrencesRequest{Name: apiNote, PageToken: tokens[0]})
	a.want(err, codes.InvalidArgument)
}

func (a *api) isolation() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	for _, parent := range []string{apiProject, "projects/p1", "projects/p/locations/eu"} {
		a.note(parent, "mine", &grafeas.Note{Type: attestationType()})
		o := a.occurrence(parent, apiAttestation(apiImage, "1"))
		id := o.GetName()[strings.LastIndexByte(o.GetName(), '/'):]
		for _, other := range []string{"projects/p2", "projects/p1/locations/eu"} {
			_, err := a.GetOccurrence(a.ctx, &grafeas.GetOccurrenceRequest{Name: other + "/occurrences" + id})
			a.want(err, codes.NotFound)
			_, err = a.DeleteOccurrence(a.ctx, &grafeas.DeleteOccurrenceRequest{Name: other + "/occurrences" + id})
			a.want(err, codes.NotFound)
			_, err = a.UpdateOccurrence(a.ctx, &grafeas.UpdateOccurrenceRequest{Name: other + "/occurrences" + id, Occurrence: &grafeas.Occurrence{}})
			a.want(err, codes.NotFound)
		}
	}
	for _, parent := range []string{apiProject, "projects/p1", "projects/p/locations/eu"} {
		for _, o := range a.find(parent, "") {
			if !strings.HasPrefix(o.GetName(), parent+"/occurrences/") {
				a.Errorf("%s lists %s", parent, o.GetName())
			}
		}
		notes, err := a.ListNotes(a.ctx, &grafeas.ListNotesRequest{Parent: parent})
		if list := ok(a, notes, err).GetNotes(); len(list) != 1 || list[0].GetName() != parent+"/notes/mine" {
			a.Errorf("%s lists the notes %v", parent, list)
		}
	}
	// A note's occurrences are those of all projects.
	page, err := a.ListNoteOccurrences(a.ctx, &grafeas.ListNoteOccurrencesRequest{Name: apiNote})
	if got := len(ok(a, page, err).GetOccurrences()); got != 3 {
		a.Errorf("%d occurrences of the note in all projects, want 3", got)
	}
}

func (a *api) projectLife() {
	create := func(name string) error {
		_, err := a.projectClient.CreateProject(a.ctx, &projects.CreateProjectRequest{Project: &projects.Project{Name: name}})
		return err
	}
	for _, name := range []string{"projects/b", "projects/a", "projects/c"} {
		a.want(create(name), codes.OK)
	}
	a.want(create("projects/a"), codes.AlreadyExists)
	for _, bad := range []string{"", "a", "projects/", "projects/a/b", "projects/a/locations/b"} {
		a.want(create(bad), codes.InvalidArgument)
	}
	_, err := a.projectClient.CreateProject(a.ctx, &projects.CreateProjectRequest{})
	a.want(err, codes.InvalidArgument)
	got, err := a.projectClient.GetProject(a.ctx, &projects.GetProjectRequest{Name: "projects/a"})
	diff(a, &projects.Project{Name: "projects/a"}, ok(a, got, err))
	_, err = a.projectClient.GetProject(a.ctx, &projects.GetProjectRequest{Name: "projects/missing"})
	a.want(err, codes.NotFound)
	var names []string
	req := &projects.ListProjectsRequest{PageSize: 2}
	for {
		page, err := a.projectClient.ListProjects(a.ctx, req)
		for _, p := range ok(a, page, err).GetProjects() {
			names = append(names, p.GetName())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	diff(a, []string{"projects/a", "projects/b", "projects/c"}, names)
	for _, bad := range []*projects.ListProjectsRequest{{PageSize: -1}, {PageSize: 1001}, {PageToken: "100"}, {Filter: "x"}} {
		_, err := a.projectClient.ListProjects(a.ctx, bad)
		a.want(err, codes.InvalidArgument)
	}
	_, err = a.projectClient.DeleteProject(a.ctx, &projects.DeleteProjectRequest{Name: "projects/a"})
	a.want(err, codes.OK)
	_, err = a.projectClient.DeleteProject(a.ctx, &projects.DeleteProjectRequest{Name: "projects/a"})
	a.want(err, codes.NotFound)
	// Notes need no project.
	a.note("projects/never-created", "n", &grafeas.Note{Type: attestationType()})
}

func (a *api) policies() {
	a.note("projects/provider", "n", &grafeas.Note{Type: attestationType()})
	o := a.occurrence(apiProject, apiAttestation(apiImage, "1"))
	binding := func(role string, members ...string) *iampb.Policy {
		return &iampb.Policy{Bindings: []*iampb.Binding{{Role: role, Members: members}}}
	}
	set := func(resource string, p *iampb.Policy) (*iampb.Policy, error) {
		return a.companion.SetIamPolicy(a.ctx, &iampb.SetIamPolicyRequest{Resource: resource, Policy: p})
	}
	for _, resource := range []string{apiNote, o.GetName()} {
		empty, err := a.companion.GetIamPolicy(a.ctx, &iampb.GetIamPolicyRequest{Resource: resource})
		if ok(a, empty, err); len(empty.GetBindings()) != 0 || len(empty.GetEtag()) == 0 {
			a.Errorf("a policy never set is %v", empty)
		}
		p := binding("roles/containeranalysis.notes.attacher", "user:ci@shop.example", "serviceAccount:bot")
		p.Etag = empty.GetEtag()
		first, err := set(resource, p)
		ok(a, first, err)
		_, err = set(resource, p)
		a.want(err, codes.Aborted, "read it again")
		read, err := a.companion.GetIamPolicy(a.ctx, &iampb.GetIamPolicyRequest{Resource: resource})
		diff(a, first, ok(a, read, err))
		p.Etag, p.Bindings = nil, nil
		cleared, err := set(resource, p)
		diff(a, empty.GetEtag(), ok(a, cleared, err).GetEtag())
	}
	for text, p := range map[string]*iampb.Policy{
		"there is no role":   binding("roles/owner", "user:x"),
		"members is":         binding("notes.viewer"),
		"is not supported":   binding("notes.viewer", "group:x"),
		"condition":          {Bindings: []*iampb.Binding{{Role: "notes.viewer", Members: []string{"allUsers"}, Condition: conditionAlways()}}},
		"version 3":          {Version: 3},
		"must be specified":  nil,
		"2000 members":       binding("notes.viewer", slices.Repeat([]string{"user:x"}, 2000)...),
		"audit_configs are ": {AuditConfigs: []*iampb.AuditConfig{{Service: "x"}}},
	} {
		_, err := set(apiNote, p)
		a.want(err, codes.InvalidArgument, text)
	}
	_, err := set("projects/provider/notes/missing", binding("notes.viewer", "allUsers"))
	a.want(err, codes.NotFound)
	_, err = set("projects/p", binding("notes.viewer", "allUsers"))
	a.want(err, codes.InvalidArgument)
	asked := []string{"containeranalysis.notes.attachOccurrence", "containeranalysis.notes.get"}
	have, err := a.companion.TestIamPermissions(a.ctx, &iampb.TestIamPermissionsRequest{Resource: apiNote, Permissions: asked})
	diff(a, asked, ok(a, have, err).GetPermissions())
	_, err = a.companion.TestIamPermissions(a.ctx, &iampb.TestIamPermissionsRequest{Resource: apiNote, Permissions: []string{"notes.fly"}})
	a.want(err, codes.InvalidArgument, "notes.fly")
}

func (a *api) vulnerabilities() {
	images := a.fillClients()
	a.occurrence(apiProject, apiFinding(images[0], "CVE-1", grafeas.Severity_HIGH, false))
	type row struct {
		uri            string
		severity       grafeas.Severity
		fixable, total int64
	}
	count := func(parent, filter string) []row {
		a.Helper()
		got, err := a.companion.GetVulnerabilityOccurrencesSummary(a.ctx, &containeranalysis.GetVulnerabilityOccurrencesSummaryRequest{Parent: parent, Filter: filter})
		var rows []row
		for _, c := range ok(a, got, err).GetCounts() {
			rows = append(rows, row{c.GetResourceUri(), c.GetSeverity(), c.GetFixableCount(), c.GetTotalCount()})
		}
		return rows
	}
	x, y := images[0], images[1]
	ofX := []row{{x, 0, 1, 3}, {x, grafeas.Severity_LOW, 0, 1}, {x, grafeas.Severity_HIGH, 1, 2}}
	ofY := []row{{y, 0, 1, 2}, {y, grafeas.Severity_LOW, 0, 1}, {y, grafeas.Severity_HIGH, 1, 1}}
	same := func(filter string, want []row) {
		a.Helper()
		if got := count(apiProject, filter); !slices.Equal(got, want) {
			a.Errorf("%s: counts %v, want %v", filter, got, want)
		}
	}
	same("", slices.Concat(ofX, ofY))
	same(`resourceUrl="`+x+`"`, ofX)
	same(`kind="VULNERABILITY" AND resourceUrl="`+y+`"`, ofY)
	same(`resourceUrl="`+x+`" OR resourceUrl="`+y+`"`, slices.Concat(ofX, ofY))
	same(`has_prefix(resourceUrl, "https://r.example/app1")`, ofY)
	same(`vulnerability.effectiveSeverity="LOW" AND resourceUrl="`+x+`"`, []row{{x, 0, 0, 1}, {x, grafeas.Severity_LOW, 0, 1}})
	same(`noteId="CVE-1"`, []row{{x, 0, 1, 2}, {x, grafeas.Severity_HIGH, 1, 2}, {y, 0, 1, 1}, {y, grafeas.Severity_HIGH, 1, 1}})
	same(`kind="ATTESTATION"`, nil)
	if rows := count("projects/p1", ""); len(rows) != 0 {
		a.Errorf("another project has counts %v", rows)
	}
}
