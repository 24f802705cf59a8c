package audit

import "encoding/json"

// A BreakGlass tells of a request with a break-glass marker what its decision does not.
type BreakGlass struct {
	// Needed says that policy did not allow the request and nothing else let it in.
	Needed bool `json:"needed"`
	// Permit is by what glass was broken, such as "open", and Refused why it was not.
	Permit  string `json:"permit,omitempty"`
	Refused string `json:"refused,omitempty"`
	// By is the person: who asked, or who wrote what a controller acts for; "" if nobody
	// is known.
	By string `json:"by,omitempty"`
	// Kind and Name are of the outermost workload that is known.
	Kind   string `json:"kind,omitempty"`
	Name   string `json:"name,omitempty"`
	Ticket string `json:"ticket,omitempty"`
	// ServiceAccount is whom the pod runs as.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Object is what package breakglass keeps of what was written.
	Object json.RawMessage `json:"object,omitempty"`
}
