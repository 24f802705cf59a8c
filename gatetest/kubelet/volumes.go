//go:build linux

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	// dataLink is the link by whose change all files of a volume change at once.
	dataLink = "..data"
	// everyoneReads is for what is in root folders of one user.
	everyoneReads = 0o755
)

var errNotYet = errors.New("not there yet")

// files returns the files of a volume by their names, or nil of one that is a folder.
func (p *pod) files(ctx context.Context, v volume) (map[string][]byte, error) {
	switch {
	case v.Secret != nil:
		return p.data(ctx, "secrets", v.Secret.SecretName, v.Secret.selection)
	case v.ConfigMap != nil:
		return p.data(ctx, "configmaps", v.ConfigMap.Name, v.ConfigMap.selection)
	case v.Projected != nil:
		all := map[string][]byte{}
		for _, s := range v.Projected.Sources {
			some, err := p.source(ctx, s)
			if err != nil {
				return nil, err
			}
			maps.Copy(all, some)
		}
		return all, nil
	case v.EmptyDir != nil, v.PersistentVolumeClaim != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("volume %q is of a kind that is not known", v.Name)
}

func (p *pod) source(ctx context.Context, s source) (map[string][]byte, error) {
	switch {
	case s.Secret != nil:
		return p.data(ctx, "secrets", s.Secret.Name, s.Secret.selection)
	case s.ConfigMap != nil:
		return p.data(ctx, "configmaps", s.ConfigMap.Name, s.ConfigMap.selection)
	case s.ServiceAccountToken != nil:
		token, err := p.token(ctx, s.ServiceAccountToken.Audience, s.ServiceAccountToken.ExpirationSeconds)
		return map[string][]byte{s.ServiceAccountToken.Path: []byte(token)}, err
	case s.DownwardAPI != nil:
		all := map[string][]byte{}
		for _, item := range s.DownwardAPI.Items {
			if item.FieldRef.FieldPath != "metadata.namespace" {
				return nil, fmt.Errorf("the field %q is not known", item.FieldRef.FieldPath)
			}
			all[item.Path] = []byte(p.namespace)
		}
		return all, nil
	}
	return nil, errors.New("a source of a volume is of a kind that is not known")
}

// data returns the chosen keys of a Secret or ConfigMap.
func (p *pod) data(ctx context.Context, kind, name string, s selection) (map[string][]byte, error) {
	all := map[string][]byte{}
	var err error
	if kind == "secrets" {
		var o struct{ Data map[string][]byte }
		err = p.client.Get(ctx, &o, nil, "api", "v1", "namespaces", p.namespace, kind, name)
		maps.Copy(all, o.Data)
	} else {
		var o struct{ Data map[string]string }
		err = p.client.Get(ctx, &o, nil, "api", "v1", "namespaces", p.namespace, kind, name)
		for key, text := range o.Data {
			all[key] = []byte(strings.ReplaceAll(text, "0.0.0.0:", p.ip+":"))
		}
	}
	if kube.NotFound(err) {
		if s.Optional {
			return nil, nil
		}
		return nil, fmt.Errorf("%s %q: %w", kind, name, errNotYet)
	}
	if err != nil || len(s.Items) == 0 {
		return all, err
	}
	chosen := map[string][]byte{}
	for _, item := range s.Items {
		content, ok := all[item.Key]
		if !ok && !s.Optional {
			return nil, fmt.Errorf("%s %q has no %q: %w", kind, name, item.Key, errNotYet)
		}
		if ok {
			chosen[item.Path] = content
		}
	}
	return chosen, nil
}

// token returns a token of the pod's service account for an audience, which lasts for as
// long as tests do: it is asked for once.
func (p *pod) token(ctx context.Context, audience string, seconds int) (string, error) {
	if token := p.tokens[audience]; token != "" {
		return token, nil
	}
	spec := object{"expirationSeconds": seconds, "boundObjectRef": object{"apiVersion": "v1", "kind": "Pod", "name": p.name, "uid": p.uid}}
	if audience != "" {
		spec["audiences"] = []string{audience}
	}
	var answer struct{ Status struct{ Token string } }
	account := p.manifest.Load().Spec.ServiceAccountName
	err := p.client.Create(ctx, object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}, &answer,
		"api", "v1", "namespaces", p.namespace, "serviceaccounts", account, "token")
	if err != nil {
		return "", err
	}
	p.tokens[audience] = answer.Status.Token
	return answer.Status.Token, nil
}

// mount brings the volumes of the container up to date.
func (p *pod) mount(ctx context.Context) error {
	spec := &p.manifest.Load().Spec
	for _, m := range spec.Containers[0].VolumeMounts {
		i := slices.IndexFunc(spec.Volumes, func(v volume) bool { return v.Name == m.Name })
		if i < 0 {
			return fmt.Errorf("there is no volume %q", m.Name)
		}
		v, at := spec.Volumes[i], filepath.Join(p.root, m.MountPath)
		files, err := p.files(ctx, v)
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		switch {
		case v.PersistentVolumeClaim != nil:
			err = p.borrow(v.PersistentVolumeClaim.ClaimName, at)
		case v.EmptyDir != nil:
			err = p.folder(at)
		default:
			err = p.write(at, files)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// folder makes a folder that the container may write to.
func (p *pod) folder(path string) error {
	if err := os.MkdirAll(path, everyoneReads); err != nil {
		return err
	}
	security := p.manifest.Load().Spec.SecurityContext
	return os.Chown(path, int(security.RunAsUser), int(security.RunAsGroup))
}

// borrow moves the folder of a claim into the root folder of the pod.
func (p *pod) borrow(claim, at string) error {
	if p.borrowed[at] != "" {
		return nil
	}
	p.mu.Lock()
	uid := p.claims[claim]
	folder := p.claimFolder(uid)
	free := uid != "" && !p.lent[folder]
	if free {
		p.lent[folder] = true
	}
	p.mu.Unlock()
	if !free {
		return fmt.Errorf("claim %q: %w", claim, errNotYet)
	}
	p.borrowed[at] = folder
	if err := p.folder(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(at), everyoneReads); err != nil {
		return err
	}
	return os.Rename(folder, at)
}

// giveBack has the folders of claims outlive the pod.
func (p *pod) giveBack() error {
	for at, folder := range p.borrowed {
		if err := os.Rename(at, folder); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.lent, folder)
		p.mu.Unlock()
	}
	clear(p.borrowed)
	return nil
}

// write makes these the files of a folder, all of them at once.
func (p *pod) write(at string, files map[string][]byte) error {
	if p.written[at] != nil && maps.EqualFunc(files, p.written[at], slices.Equal) {
		return nil
	}
	fresh := fmt.Sprintf("..%d", time.Now().UnixNano())
	if err := os.MkdirAll(filepath.Join(at, fresh), everyoneReads); err != nil {
		return err
	}
	for name, content := range files {
		if filepath.Base(name) != name {
			return fmt.Errorf("the path %q has folders", name)
		}
		if err := os.WriteFile(filepath.Join(at, fresh, name), content, 0o644); err != nil {
			return err
		}
	}
	before, _ := os.Readlink(filepath.Join(at, dataLink)) // "" the first time
	next := filepath.Join(at, "..next")
	if err := os.Symlink(fresh, next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(at, dataLink)); err != nil {
		return err
	}
	if before != "" {
		if err := os.RemoveAll(filepath.Join(at, before)); err != nil {
			return err
		}
	}
	for name := range files {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(at, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	p.written[at] = files
	if p.written[at] == nil {
		p.written[at] = map[string][]byte{}
	}
	return nil
}

// Where a container finds its program, as ko lays it out, and its names.
const (
	programPath = "/ko-app/gatehouse"
	hostsPath   = "/etc/hosts"
)

// image lays out the root folder.
func (p *pod) image() error {
	// Whatever the umask: another user than ours has to get in.
	if err := os.MkdirAll(p.root, everyoneReads); err != nil {
		return err
	}
	if err := os.Chmod(p.root, everyoneReads); err != nil {
		return err
	}
	return place(p.program, filepath.Join(p.root, programPath))
}

// place puts a file somewhere else: as another name of the same if that can be.
func place(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), everyoneReads); err != nil {
		return err
	}
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, everyoneReads)
}

// names writes /etc/hosts.
func (p *pod) names() error {
	path := filepath.Join(p.root, hostsPath)
	if err := os.MkdirAll(filepath.Dir(path), everyoneReads); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(p.hosts()), 0o644)
}
