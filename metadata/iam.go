package metadata

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/protobuf/proto"
)

// Bounds on an access policy; the members are Google's bound.
const (
	maxPolicyBytes   = 64 << 10
	maxPolicyMembers = 1500
	maxTestedAtOnce  = 100 // permissions
)

// permissionService begins the names of permissions as Google writes them.
const permissionService = "containeranalysis."

// Members of bindings that are not single callers.
const (
	allUsers              = "allUsers"
	allAuthenticatedUsers = "allAuthenticatedUsers"
)

// GetIamPolicy returns the access policy of a note, an occurrence, the policy of a
// project or an attestor. One that was never set is empty.
func (s *Service) GetIamPolicy(ctx context.Context, caller Caller, resource string) (*iampb.Policy, error) {
	return do(ctx, s, caller, "GetIamPolicy", resource, func(c *call) (*iampb.Policy, error) {
		stored, err := c.policy(ctx, resource, false)
		if err != nil {
			return nil, err
		}
		return decodePolicy(stored)
	})
}

// SetIamPolicy replaces the access policy of what [Service.GetIamPolicy] reads it
// of. What it grants is granted beside what the [Authorizer] allows; it takes nothing away. An
// etag that is not that of the policy in force is Aborted, and without one the
// last writer wins.
func (s *Service) SetIamPolicy(ctx context.Context, caller Caller, resource string, policy *iampb.Policy) (*iampb.Policy, error) {
	return do(ctx, s, caller, "SetIamPolicy", resource, func(c *call) (*iampb.Policy, error) {
		var stale error // not to be tried again
		set, err := untilUnchanged(ctx, s, resource, func() (*iampb.Policy, error) {
			was, err := c.policy(ctx, resource, true)
			if err != nil {
				return nil, err
			}
			if etag := policy.GetEtag(); len(etag) > 0 && !bytes.Equal(etag, etagOf(was)) {
				stale = Changed(resource)
				return nil, nil
			}
			to, err := encodePolicy(policy)
			if err != nil {
				return nil, err
			}
			if !bytes.Equal(was, to) {
				if err := c.store().Apply(ctx, Mutation{SetPolicy: &PolicyChange{Resource: resource, Was: was, To: to, Implied: guardedBy(resource).implied}}); err != nil {
					return nil, err
				}
			}
			return decodePolicy(to)
		})
		if err == nil {
			err = stale
		}
		return set, err
	})
}

// TestIamPermissions returns those of the permissions, as Google writes them, that
// the caller has on a resource that has access policies. It asks for no permission itself, and
// does not tell whether the resource exists.
func (s *Service) TestIamPermissions(ctx context.Context, caller Caller, resource string, permissions []string) ([]string, error) {
	return do(ctx, s, caller, "TestIamPermissions", resource, func(*call) ([]string, error) {
		if guardedBy(resource).kind == unguarded {
			return nil, badPolicyResource(resource)
		}
		if len(permissions) > maxTestedAtOnce {
			return nil, Errorf(InvalidArgument, "%d permissions to test, at most %d are allowed", len(permissions), maxTestedAtOnce)
		}
		var have []string
		for _, name := range permissions {
			p := Permission(strings.TrimPrefix(name, permissionService))
			if !slices.Contains(Permissions, p) {
				return nil, Errorf(InvalidArgument, "there is no permission %q; they are written like %q", clip(name), permissionService+string(NotesAttachOccurrence))
			}
			switch err := s.authorize(ctx, caller, p, resource); {
			case err == nil:
				have = append(have, name)
			case KindOf(err) != PermissionDenied:
				return nil, err
			}
		}
		return have, nil
	})
}

// policy returns the stored policy of a resource that the caller names, if he may
// read it, or set it.
func (c *call) policy(ctx context.Context, resource string, set bool) ([]byte, error) {
	g := guardedBy(resource)
	permission := g.get
	if set {
		permission = g.set
	}
	var err error
	switch g.kind {
	case unguarded:
		return nil, badPolicyResource(resource)
	case guardedOccurrence:
		_, err = c.occurrence(ctx, permission, resource)
	default:
		if err = c.need(ctx, permission, resource); err == nil {
			err = c.exists(ctx, g, resource)
		}
	}
	if err != nil {
		return nil, err
	}
	return c.store().Policy(ctx, resource)
}

// exists returns nil if there is the resource.
func (c *call) exists(ctx context.Context, g guard, resource string) error {
	if g.kind == guardedNote {
		note, err := ParseNoteName(resource)
		if err == nil {
			_, err = c.store().Note(ctx, note)
		}
		return err
	}
	if g.implied {
		project, _, _ := cutParent(resource)
		found, err := c.store().Project(ctx, project.Project)
		if err == nil && !found {
			err = ProjectMissing(project.Project)
		}
		return err
	}
	d, err := c.store().Document(ctx, resource, 0)
	if err == nil && d.Deleted() {
		err = DocumentMissing(resource)
	}
	return err
}

// The kinds of resources that have access policies.
const (
	unguarded = iota
	guardedNote
	guardedOccurrence
	guardedDocument
)

// A guard is what reads and sets the access policy of a resource. The zero guard
// is that of one that has none.
type guard struct {
	kind     int
	get, set Permission
	// implied says that the resource is there as soon as its project is.
	implied bool
}

// guardedBy returns the guard of a resource by its name.
func guardedBy(name string) guard {
	if _, err := ParseNoteName(name); err == nil {
		return guard{kind: guardedNote, get: NotesGetIamPolicy, set: NotesSetIamPolicy}
	}
	if _, err := parseOccurrenceForm(name); err == nil {
		return guard{kind: guardedOccurrence, get: OccurrencesGetIamPolicy, set: OccurrencesSetIamPolicy}
	}
	parent, rest, ok := cutParent(name)
	if !ok || parent.Location != "" {
		return guard{}
	}
	if rest == "policy" {
		return guard{kind: guardedDocument, get: PolicyGetIamPolicy, set: PolicySetIamPolicy, implied: true}
	}
	if id, found := strings.CutPrefix(rest, "attestors/"); found && validSegment(id) {
		return guard{kind: guardedDocument, get: AttestorsGetIamPolicy, set: AttestorsSetIamPolicy}
	}
	return guard{}
}

func badPolicyResource(resource string) error {
	return Errorf(InvalidArgument, "resource %q is no note, no occurrence, no policy of a project and no attestor, which have access policies", clip(resource))
}

// granted reports whether the access policy of the resource gives the caller the
// permission.
func (s *Service) granted(ctx context.Context, caller Caller, permission Permission, resource string) (bool, error) {
	if guardedBy(resource).kind == unguarded {
		return false, nil
	}
	stored, err := s.store.Policy(ctx, resource)
	if err != nil || stored == nil {
		return false, err
	}
	policy, err := decodePolicy(stored)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(policy.GetBindings(), func(b *iampb.Binding) bool {
		permissions, _ := PermissionsOf(b.GetRole())
		return slices.Contains(permissions, permission) &&
			slices.ContainsFunc(b.GetMembers(), func(m string) bool { return isMember(caller, m) })
	}), nil
}

func isMember(caller Caller, member string) bool {
	switch member {
	case allUsers:
		return true
	case allAuthenticatedUsers:
		return caller.Name != ""
	}
	_, name, _ := strings.Cut(member, ":")
	return name != "" && name == caller.Name
}

// encodePolicy checks a policy and returns what is stored, nil for an empty one.
func encodePolicy(policy *iampb.Policy) ([]byte, error) {
	if policy == nil {
		return nil, Errorf(InvalidArgument, "a policy must be specified")
	}
	var p problems
	if v := policy.GetVersion(); v != 0 && v != 1 {
		p.add("version %d is not supported; use 1", v)
	}
	if len(policy.GetAuditConfigs()) > 0 {
		p.add("audit_configs are not supported: every call is recorded")
	}
	if len(policy.ProtoReflect().GetUnknown()) > 0 {
		p.add("the policy has fields that are not known here")
	}
	members := 0
	for i, b := range policy.GetBindings() {
		if _, ok := PermissionsOf(b.GetRole()); !ok {
			p.add("bindings[%d].role: there is no role %q; the roles are %s", i, clip(b.GetRole()), strings.Join(Roles(), ", "))
		}
		if b.GetCondition() != nil {
			p.add("bindings[%d].condition is not supported", i)
		}
		p.require(len(b.GetMembers()) > 0, "bindings[%d].members", i)
		for j, m := range b.GetMembers() {
			if !validMember(m) {
				p.add("bindings[%d].members[%d]: %q is not supported; use user:NAME, serviceAccount:NAME, %s or %s", i, j, clip(m), allAuthenticatedUsers, allUsers)
			}
		}
		members += len(b.GetMembers())
	}
	if members > maxPolicyMembers {
		p.add("%d members, at most %d are allowed", members, maxPolicyMembers)
	}
	if err := p.err("policy is invalid"); err != nil {
		return nil, err
	}
	if len(policy.GetBindings()) == 0 {
		return nil, nil
	}
	kept := &iampb.Policy{Version: 1, Bindings: policy.GetBindings()}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(kept)
	if err != nil {
		return nil, Errorf(InvalidArgument, "encoding the policy: %w", err)
	}
	if len(raw) > maxPolicyBytes {
		return nil, Errorf(InvalidArgument, "policy has %d bytes, a maximum of %d is allowed", len(raw), maxPolicyBytes)
	}
	return raw, nil
}

func validMember(m string) bool {
	if m == allUsers || m == allAuthenticatedUsers {
		return true
	}
	sort, name, found := strings.Cut(m, ":")
	return found && name != "" && (sort == "user" || sort == "serviceAccount")
}

func decodePolicy(stored []byte) (*iampb.Policy, error) {
	policy := &iampb.Policy{}
	if err := proto.Unmarshal(stored, policy); err != nil {
		return nil, Errorf(Internal, "decoding a stored access policy: %w", err)
	}
	policy.Etag = etagOf(stored)
	return policy, nil
}

// etagOf tells stored policies apart.
func etagOf(stored []byte) []byte {
	sum := sha256.Sum256(stored)
	return sum[:8]
}
