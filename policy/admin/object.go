package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

const (
	// MaxObjectChanges bounds the changes of one [Service.ApplyObjects].
	MaxObjectChanges = 500
	// MaxObjects bounds the objects that are filed in a project, of all its clusters:
	// each gate has them all in memory.
	MaxObjects = 10_000
)

// A ClusterObject is an object of a Kubernetes cluster as it is filed.
type ClusterObject struct {
	// Document is the name that it is filed under, projects/P/clusterObjects/ID, and
	// Revision counts its versions, those from before a deletion included.
	Document string
	Revision uint64
	// Cluster is the one that it is of, LOCATION.NAME, or "" where clusters have no names.
	Cluster string
	objects.Meta
	// Object is the object, JSON, as [objects.Strip] returns it.
	Object []byte
}

// An ObjectChange files an object, or, if Object is empty, takes away what Delete names.
type ObjectChange struct {
	// Object is JSON, with what an API server says of it.
	Object []byte
	Delete objects.Ref
	// UID, if it is not empty, is that of the object to take away; another one of the
	// name stays.
	UID string
	// Revision, if it is not nil, is the one that must be filed: 0 if none may be.
	Revision *uint64
}

// An AppliedObject says what became of a change.
type AppliedObject struct {
	Document string
	Revision uint64
	// Written is false if all was so already.
	Written bool
}

// filed is the content of the document of an object.
type filed struct {
	Cluster string         `json:"cluster,omitempty"`
	Object  jsontext.Value `json:"object"`
}

// objectsOf is how the names of the objects of a project's clusters begin.
func objectsOf(project string) string { return "projects/" + project + "/clusterObjects/" }

// objectName is the name that an object is filed under. It is made from which object it
// is, so that one that is made anew has the history of the one before.
func objectName(project, cluster string, r objects.Ref) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{cluster, r.APIVersion, r.Kind, r.Namespace, r.Name}, "\x00")))
	return objectsOf(project) + hex.EncodeToString(sum[:16])
}

// objectOf reads an object that was filed.
func objectOf(d *metadata.Document) (ClusterObject, error) {
	o := ClusterObject{Document: d.Name, Revision: d.Revision}
	var f filed
	if err := json.Unmarshal(d.Content, &f); err != nil {
		return o, metadata.Errorf(metadata.Internal, "reading the stored %q: %w", d.Name, err)
	}
	var err error
	if o.Meta, o.Object, err = objects.Strip(f.Object); err != nil {
		return o, metadata.Errorf(metadata.Internal, "reading the stored %q: %w", d.Name, err)
	}
	o.Cluster = f.Cluster
	return o, nil
}

// ApplyObjects files objects of a cluster under a project, "projects/P", and takes
// others away: all of the changes, or none. What is filed already is not written again,
// and what is not there need not be taken away. A version that is older than the one
// filed, and one that was not to be replaced, is ABORTED.
//
// An object is filed even if it cannot be enforced: that is found, and told, where it is
// compiled.
func (s *Service) ApplyObjects(ctx context.Context, caller metadata.Caller, parent, cluster string, changes []ObjectChange) ([]AppliedObject, error) {
	return metadata.Do(ctx, s.svc, caller, "ApplyClusterObjects", parent, func(c *metadata.Call) ([]AppliedObject, error) {
		project, err := s.mayObjects(ctx, c, metadata.ClusterObjectsUpdate, parent)
		if err != nil {
			return nil, err
		}
		if err := checkClusterName(cluster); err != nil {
			return nil, err
		}
		if len(changes) > MaxObjectChanges {
			return nil, metadata.Errorf(metadata.InvalidArgument, "%d changes, at most %d are allowed at once", len(changes), MaxObjectChanges)
		}
		next, err := readChanges(project, cluster, changes)
		if err != nil {
			return nil, err
		}
		var stale error // not to be tried again
		applied, err := metadata.UntilUnchanged(ctx, c, parent+"/clusterObjects", func() ([]AppliedObject, error) {
			applied, err := s.applyObjects(ctx, c, project, next)
			if e := (staleError{}); errors.As(err, &e) {
				stale, err = e.error, nil
			}
			return applied, err
		})
		if err == nil {
			err = stale
		}
		return applied, err
	})
}

// mayObjects asks for a permission on a project, and returns its id.
func (s *Service) mayObjects(ctx context.Context, c *metadata.Call, p metadata.Permission, parent string) (project string, err error) {
	if project, err = projectOf(parent); err != nil {
		return "", err
	}
	if err := c.Need(ctx, p, parent); err != nil {
		return "", err
	}
	return project, c.Project(ctx, project)
}

func checkClusterName(cluster string) error {
	if cluster == "" {
		return nil
	}
	if _, err := names.ClusterScope(cluster); err != nil {
		return metadata.Errorf(metadata.InvalidArgument, "cluster %q: %w", clip(cluster), err)
	}
	return nil
}

// An objectWrite is a change that has been read.
type objectWrite struct {
	name string
	meta objects.Meta
	// content is empty if the object goes.
	content  []byte
	uid      string
	revision *uint64
}

func readChanges(project, cluster string, changes []ObjectChange) ([]objectWrite, error) {
	var problems metadata.Problems
	seen := map[string]bool{}
	next := make([]objectWrite, 0, len(changes))
	for i, change := range changes {
		w := objectWrite{uid: change.UID, revision: change.Revision, meta: objects.Meta{Ref: change.Delete}}
		var err error
		if len(change.Object) == 0 {
			err = change.Delete.Check()
		} else {
			var object []byte
			if w.meta, object, err = objects.Strip(change.Object); err == nil {
				w.content, err = json.Marshal(filed{cluster, object}, json.Deterministic(true))
			}
		}
		if err != nil {
			problems.Add("changes[%d]: %v", i, err)
			continue
		}
		w.name = objectName(project, cluster, w.meta.Ref)
		if seen[w.name] {
			problems.Add("changes[%d]: %s is changed twice", i, w.meta.Ref)
		}
		seen[w.name] = true
		next = append(next, w)
	}
	return next, problems.Err("changes are invalid")
}

// A staleError is about a change that came too late, and is not to be tried again.
type staleError struct{ error }

func (s *Service) applyObjects(ctx context.Context, c *metadata.Call, project string, next []objectWrite) ([]AppliedObject, error) {
	applied := make([]AppliedObject, len(next))
	var writes []metadata.Mutation
	created := 0
	for i, w := range next {
		now, err := c.Store().Document(ctx, w.name, 0)
		if metadata.KindOf(err) == metadata.NotFound {
			now, err = &metadata.Document{Name: w.name}, nil
		}
		if err != nil {
			return nil, err
		}
		applied[i] = AppliedObject{Document: w.name, Revision: now.Revision}
		write, err := w.against(now)
		if err != nil {
			return nil, err
		}
		if !write {
			continue
		}
		if now.Deleted() {
			created++
		}
		applied[i].Revision, applied[i].Written = now.Revision+1, true
		writes = append(writes, metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Document: metadata.Document{
			Name: w.name, Content: w.content, Revision: now.Revision + 1, Author: c.Caller().Name, Time: later(c.Now(), now.Time),
			Comment: w.comment(),
		}}})
	}
	if len(writes) == 0 {
		return applied, nil
	}
	if created > 0 {
		if err := roomFor(ctx, c, project, created); err != nil {
			return nil, err
		}
	}
	return applied, c.Store().Apply(ctx, writes...)
}

// comment says in the history which object it is, and which generation.
func (w objectWrite) comment() string {
	if len(w.content) == 0 {
		return w.meta.String() + " is gone"
	}
	return fmt.Sprintf("%s, generation %d", w.meta.Ref, w.meta.Generation)
}

// against reports whether a change is to be written over what is filed.
func (w objectWrite) against(now *metadata.Document) (bool, error) {
	if w.revision != nil {
		there := now.Revision
		if now.Deleted() {
			there = 0
		}
		if there != *w.revision {
			return false, staleError{metadata.Errorf(metadata.Aborted, "%s has revision %d, and not %d", w.meta.Ref, there, *w.revision)}
		}
	}
	if now.Deleted() {
		return len(w.content) > 0, nil
	}
	if string(w.content) == string(now.Content) {
		return false, nil
	}
	had, err := objectOf(now)
	switch {
	case err != nil:
		return true, nil //nolint:nilerr // it cannot be read, and what replaces it can
	case len(w.content) == 0:
		return w.uid == "" || w.uid == had.UID, nil
	case had.UID == w.meta.UID && had.Generation > w.meta.Generation:
		return false, staleError{metadata.Errorf(metadata.Aborted, "%s is filed with generation %d, and this is %d", w.meta.Ref, had.Generation, w.meta.Generation)}
	}
	return true, nil
}

// roomFor returns nil if so many more objects may be filed.
func roomFor(ctx context.Context, c *metadata.Call, project string, more int) error {
	q := metadata.DocumentQuery{Prefix: objectsOf(project), Limit: metadata.MaxPageSize}
	for n := more; ; {
		rows, further, err := c.Store().Documents(ctx, q)
		if err != nil {
			return err
		}
		if n += len(rows); n > MaxObjects {
			return metadata.Errorf(metadata.ResourceExhausted, "the clusters of project %q have more than %d objects of policy", project, MaxObjects)
		}
		if !further || len(rows) == 0 {
			return nil
		}
		q.After = rows[len(rows)-1].Name
	}
}

// An ObjectPage is one page of objects. There are more if NextPageToken is not empty.
type ObjectPage struct {
	Objects       []ClusterObject
	NextPageToken string
}

// ListObjects returns a page of the objects that are filed in a project, "projects/P",
// of all its clusters, in the order of their documents.
func (s *Service) ListObjects(ctx context.Context, caller metadata.Caller, parent string, pageSize int32, pageToken string) (ObjectPage, error) {
	return metadata.Do(ctx, s.svc, caller, "ListClusterObjects", parent, func(c *metadata.Call) (ObjectPage, error) {
		project, err := s.mayObjects(ctx, c, metadata.ClusterObjectsList, parent)
		if err != nil {
			return ObjectPage{}, err
		}
		l := metadata.List{Method: "ListClusterObjects", Parent: parent, PageSize: pageSize, PageToken: pageToken}
		size, after, err := c.Page(l)
		if err != nil {
			return ObjectPage{}, err
		}
		rows, more, err := c.Store().Documents(ctx, metadata.DocumentQuery{Prefix: objectsOf(project), After: after, Limit: size})
		if err != nil {
			return ObjectPage{}, err
		}
		var page ObjectPage
		for _, d := range rows {
			o, err := objectOf(d)
			if err != nil {
				return ObjectPage{}, err
			}
			page.Objects = append(page.Objects, o)
		}
		if more {
			page.NextPageToken = c.NextPageToken(l, rows[len(rows)-1].Name)
		}
		return page, nil
	})
}

// An ObjectReader reads the objects of a cluster for a gate, and keeps what it has read
// of those that do not change. The zero ObjectReader is ready to use, by one goroutine at
// a time.
type ObjectReader struct {
	// read has, by the content of documents, nil for those of other clusters.
	read map[[sha256.Size]byte]*objects.Object
}

// Read returns the objects that are filed in a project of a cluster, "" of the one where
// clusters have no names. It needs nobody's permission: it is for the gate in the same
// process. One that cannot be read at all is an error: it is not known what it demands.
func (r *ObjectReader) Read(ctx context.Context, source Source, project, cluster string) ([]*objects.Object, error) {
	var list []*objects.Object
	now := make(map[[sha256.Size]byte]*objects.Object, len(r.read))
	_, err := source.Documents(ctx, objectsOf(project), func(d *metadata.Document) error {
		sum := sha256.Sum256(d.Content)
		o, known := r.read[sum]
		if !known {
			var err error
			if o, err = readObject(d, cluster); err != nil {
				return err
			}
		}
		if now[sum] = o; o != nil {
			list = append(list, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.read = now
	return list, nil
}

// readObject reads a document, nil if it is of another cluster.
func readObject(d *metadata.Document, cluster string) (*objects.Object, error) {
	var f filed
	if err := json.Unmarshal(d.Content, &f); err != nil {
		return nil, fmt.Errorf("reading the stored %q: %w", d.Name, err)
	}
	if f.Cluster != cluster {
		return nil, nil
	}
	o, err := objects.Parse(f.Object)
	if err != nil {
		return nil, fmt.Errorf("reading the stored %q: %w", d.Name, err)
	}
	return o, nil
}
