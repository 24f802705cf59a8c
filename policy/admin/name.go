package admin

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// PolicyName returns the name of a project's policy.
func PolicyName(project string) string { return "projects/" + project + "/policy" }

// A place is what a document's name says.
type place struct {
	kind *kind
	// project is the id, "" for a system policy.
	project string
	// parent is the name of what the document is filed under, and id its own.
	parent, id string
}

const (
	maxAttestorID = 128
	maxPolicyID   = 63
)

// placeOf parses the name of a document.
func placeOf(name string) (place, error) {
	parts := strings.Split(name, "/")
	for _, p := range parts {
		if p == "" {
			return place{}, badName(name)
		}
	}
	switch {
	case len(parts) == 3 && parts[0] == "projects" && parts[2] == "policy":
		return projectPlace(name, place{kind: policyKind, project: parts[1], parent: "projects/" + parts[1]})
	case len(parts) == 4 && parts[0] == "projects" && parts[2] == "attestors":
		return projectPlace(name, place{kind: attestorKind, project: parts[1], parent: "projects/" + parts[1], id: parts[3]})
	case len(parts) == 6 && parts[0] == "projects" && parts[2] == "platforms" && parts[4] == "policies":
		parent := strings.Join(parts[:4], "/")
		if err := checkPlatform(parent); err != nil {
			return place{}, err
		}
		return projectPlace(name, place{kind: platformKind, project: parts[1], parent: parent, id: parts[5]})
	case len(parts) == 3 && parts[0] == "locations" && parts[2] == "policy":
		if !isPlainID(parts[1], maxPolicyID) {
			return place{}, metadata.Errorf(metadata.InvalidArgument, "location %q is none; write %q or a region", clip(parts[1]), "global")
		}
		return place{kind: systemKind, parent: "locations/" + parts[1]}, nil
	}
	return place{}, badName(name)
}

func projectPlace(name string, p place) (place, error) {
	if _, err := metadata.ParseParent("projects/" + p.project); err != nil {
		return place{}, badName(name)
	}
	return p, nil
}

func badName(name string) error {
	return metadata.Errorf(metadata.InvalidArgument, "%q is no name of a policy or an attestor; those have the forms projects/*/policy, projects/*/attestors/*, projects/*/platforms/*/policies/* and locations/*/policy", clip(name))
}

// of parses the name of a document of one kind.
func (k *kind) of(name string) (place, error) {
	p, err := placeOf(name)
	if err == nil && p.kind != k {
		err = metadata.Errorf(metadata.InvalidArgument, "%q does not have the form %s", clip(name), k.form)
	}
	return p, err
}

// projectOf parses the name of a project.
func projectOf(parent string) (id string, err error) {
	p, err := metadata.ParseParent(parent)
	if err == nil && p.Location != "" {
		err = metadata.Errorf(metadata.InvalidArgument, `parent must have the form "projects/[PROJECT_ID]", got %q`, clip(parent))
	}
	return p.Project, err
}

// platformOf parses "projects/P/platforms/L".
func platformOf(parent string) (project string, err error) {
	parts := strings.Split(parent, "/")
	if len(parts) != 4 || parts[0] != "projects" || parts[2] != "platforms" {
		return "", metadata.Errorf(metadata.InvalidArgument, "parent %q does not have the form projects/*/platforms/*", clip(parent))
	}
	if _, err := projectOf("projects/" + parts[1]); err != nil {
		return "", err
	}
	return parts[1], checkPlatform(parent)
}

// checkPlatform takes the platforms that the API has.
func checkPlatform(parent string) error {
	switch platform := parent[strings.LastIndexByte(parent, '/')+1:]; platform {
	case "gke", "cloudRun":
		return nil
	default:
		return metadata.Errorf(metadata.InvalidArgument, "platform %q is none; the platforms are gke and cloudRun", clip(platform))
	}
}

// checkAttestorID checks the id of a new attestor. Google documents no grammar;
// this is what names of other resources there share, and fits into a URL as it is.
func checkAttestorID(id string) error {
	switch {
	case id == "":
		return metadata.Errorf(metadata.InvalidArgument, "attestorId must be specified")
	case !isPlainID(id, maxAttestorID):
		return metadata.Errorf(metadata.InvalidArgument, "attestorId %q: want letters, digits, \"-\", \"_\" and \".\", at most %d, and a letter or digit first", clip(id), maxAttestorID)
	}
	return nil
}

// checkPolicyID checks the id of a new platform policy.
func checkPolicyID(id string) error {
	switch {
	case id == "":
		return metadata.Errorf(metadata.InvalidArgument, "policyId must be specified")
	case !isPlainID(id, maxPolicyID):
		return metadata.Errorf(metadata.InvalidArgument, "policyId %q: want letters, digits, \"-\", \"_\" and \".\", at most %d, and a letter or digit first", clip(id), maxPolicyID)
	}
	return nil
}

func isPlainID(id string, most int) bool {
	if id == "" || len(id) > most {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return true
}

// invalid returns the errors among diagnostics as one InvalidArgument, nil if
// there are none.
func invalid(what string, diags document.Diagnostics) error {
	var p metadata.Problems
	for _, d := range diags {
		if d.Severity == document.Error {
			p.Add("line %d: %s", d.Line, d.Message)
		}
	}
	return p.Err(what + " is invalid")
}

// clip shortens text from outside before it goes into an error.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
