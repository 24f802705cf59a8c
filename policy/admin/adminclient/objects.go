package adminclient

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxChanges and maxChangesBytes bound one request: what the server takes at once.
	maxChanges      = 500
	maxChangesBytes = 3 << 20
)

// A ClusterObject is an object of a cluster as the store has it.
type ClusterObject struct {
	// Document is the name that it is filed under, and Revision its version there.
	Document string `json:"document"`
	Revision uint64 `json:"revision"`
	// Cluster is LOCATION.NAME, or "".
	Cluster string `json:"cluster"`
	// Object is JSON: apiVersion, kind, metadata (name, namespace, uid, generation,
	// creationTimestamp) and spec.
	Object jsontext.Value `json:"object"`
}

// An ObjectRef names an object.
type ObjectRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// An ObjectChange files Object, or takes away what Delete names: one of them is set.
type ObjectChange struct {
	// Object is the object as the API server gives it, JSON. Its status, labels,
	// annotations and managed fields are not kept.
	Object jsontext.Value `json:"object,omitzero"`
	Delete *ObjectRef     `json:"delete,omitzero"`
	// UID, if it is set, lets only the object that has it be taken away.
	UID string `json:"uid,omitempty"`
	// Revision, if it is set, is the one that must be in the store, 0 if none may be;
	// otherwise the refusal is ABORTED.
	Revision *uint64 `json:"revision,omitzero"`
}

// An AppliedObject says what became of a change.
type AppliedObject struct {
	Document string `json:"document"`
	Revision uint64 `json:"revision"`
	// Written is false if the store had it so already.
	Written bool `json:"written"`
}

// ApplyObjects files objects of a cluster under a project, "projects/P", and takes
// others away. It may be repeated: what is so already is not written again. The
// changes are one transaction, or, if they are more than 500 or 3 MiB, one for each
// part of them, in their order; what is returned with an error is what those before it
// did. An older generation of what is filed is refused with ABORTED.
func (c *Client) ApplyObjects(ctx context.Context, project, cluster string, changes []ObjectChange) ([]AppliedObject, error) {
	var done []AppliedObject
	for len(changes) > 0 {
		n := part(changes)
		body, err := json.Marshal(map[string]any{"cluster": cluster, "changes": changes[:n]})
		if err != nil {
			return done, err
		}
		raw, err := c.call(ctx, http.MethodPost, project+"/clusterObjects:apply", nil, body)
		if err != nil {
			return done, err
		}
		var answer struct {
			Applied []AppliedObject `json:"applied"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return done, malformed(err)
		}
		done, changes = append(done, answer.Applied...), changes[n:]
	}
	return done, nil
}

// part returns how many of the changes fit into a request, at least one.
func part(changes []ObjectChange) int {
	size := 0
	for i := range changes {
		if i == maxChanges {
			return i
		}
		if size += len(changes[i].Object) + 1024; size > maxChangesBytes && i > 0 {
			return i
		}
	}
	return len(changes)
}

// ClusterObjects returns the objects that the store has of a cluster in a project.
func (c *Client) ClusterObjects(ctx context.Context, project, cluster string) ([]ClusterObject, error) {
	raw, err := c.List(ctx, project+"/clusterObjects", "clusterObjects")
	if err != nil {
		return nil, err
	}
	all := make([]ClusterObject, 0, len(raw))
	for _, text := range raw {
		var o ClusterObject
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, malformed(err)
		}
		if o.Cluster == cluster {
			all = append(all, o)
		}
	}
	return all, nil
}
