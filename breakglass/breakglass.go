// Package breakglass makes emergencies easy and never quiet: who may override a denial
// ([Warden]), for how long ([Grant]), and what became of it ([Incidents]).
//
// A pod that policy denies is let in when it, or the template it is made from, carries
// a marker and the Warden has no objection. That is decided from memory, but for the
// one question to the API server that [RBAC] needs. What was overridden is in the audit
// log, on disk, before it is answered; incidents are made from that log afterwards, so
// that nothing here can hold up a pod, and nothing that happened can be missing.
package breakglass

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxUsername and the like bound what is kept of a user.
	maxUsername = 512
	maxGroups   = 100
	maxExtra    = 20
	// maxHops is how far the person behind a controller may be: a pod, a Job, a CronJob,
	// and whatever an operator has made that from.
	maxHops = 6
)

// A User is who asked the API server, as that says.
type User struct {
	Name   string              `json:"name"`
	UID    string              `json:"uid,omitempty"`
	Groups []string            `json:"groups,omitempty"`
	Extra  map[string][]string `json:"extra,omitempty"`
}

// Bounded returns the user as far as it is kept. A user with more groups than that is
// asked about with those that are left, and so may less.
func (u User) Bounded() User {
	u.Name = cut(u.Name, maxUsername)
	u.UID = cut(u.UID, maxUsername)
	u.Groups = u.Groups[:min(len(u.Groups), maxGroups)]
	if len(u.Extra) > maxExtra {
		u.Extra = nil
	}
	return u
}

// A Workload is what pods belong to, such as Deployment/web: the outermost that is known.
type Workload struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String returns KIND/NAME.
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// ParseWorkload parses KIND/NAME.
func ParseWorkload(s string) (Workload, error) {
	kind, name, ok := strings.Cut(s, "/")
	if !ok || kind == "" || name == "" || strings.Contains(name, "/") || len(s) > maxUsername {
		return Workload{}, fmt.Errorf("workload %q: want KIND/NAME, such as Deployment/web", cut(s, 100))
	}
	return Workload{kind, name}, nil
}

// An Owner is the controller that an object says it belongs to. It is believed only of
// what a controller has written.
type Owner struct {
	Workload
	UID string `json:"uid"`
}

// A Request is an object with a marker.
type Request struct {
	Cluster, Namespace string
	// Object is the object itself; its name is how it begins, and generated, if the object
	// has none yet.
	Object Workload
	UID    string
	// Owner is what the object says; zero for none.
	Owner Owner
	// TemplateHash is set when the object has the label that Deployments give their replica
	// sets, with this value at the end of the name of its owner.
	TemplateHash string
	User         User
	// Marker is what asks, Reason and Ticket why.
	Marker, Reason, Ticket string
	// Denied are the images that policy does not allow, and Images all.
	Denied, Images []string
}

// A Ruling says whether glass may be broken.
type Ruling struct {
	// Allowed is false in the zero Ruling.
	Allowed bool
	// Permit says by what it may: "open", "rbac", "rbac (not asked)", or "grant NAME".
	Permit string
	// Refused says why not, and what to do.
	Refused string
}

// An Object is one with a marker that was let in: who wrote it, so that the person
// behind the pods that come of it is known. It is kept by its UID.
type Object struct {
	UID       string   `json:"uid"`
	Cluster   string   `json:"cluster,omitempty"`
	Namespace string   `json:"namespace"`
	Workload  Workload `json:"workload"`
	Owner     Owner    `json:"owner,omitzero"`
	Writer    User     `json:"writer"`
	// Images are those that he wrote, as [ImageKey] makes them.
	Images []string `json:"images"`
}

// ObjectOf returns what is kept of a request.
func ObjectOf(r *Request) Object {
	o := Object{UID: cut(r.UID, maxUsername), Cluster: r.Cluster, Namespace: r.Namespace, Workload: r.Object, Owner: r.Owner, Writer: r.User.Bounded()}
	for _, text := range r.Images {
		if k := ImageKey(text); !slices.Contains(o.Images, k) {
			o.Images = append(o.Images, k)
		}
	}
	return o
}

// ImageKey is a short name for the text of an image.
func ImageKey(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

// Wrote reports whether the images are among those of the object. A tag that was pinned
// on the way is the tag that was written.
func (o *Object) Wrote(images []string) bool {
	for _, text := range images {
		tag, _, _ := strings.Cut(text, "@")
		if !slices.Contains(o.Images, ImageKey(text)) && !slices.Contains(o.Images, ImageKey(tag)) {
			return false
		}
	}
	return true
}

// cut shortens text from outside.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
