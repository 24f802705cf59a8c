package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// maxPolicy bounds a policy or attestors file.
const maxPolicy = 8 << 20

// policyFiles are the paths of what policy is made from, and what the texts leave open.
type policyFiles struct {
	policies, attestors, builders, hintSigners []string
	system                                     string
	kritis                                     []string
	matchRepository                            bool
	platformDryRun                             bool
	// objects says that objects of the cluster count.
	objects bool
	// own are the attestors that this server's development attestor signs for, for
	// when no attestors are given. Stored ones of the same name win over them.
	own string
}

// content is what the files have in them.
type content struct {
	bundle.Sources
	sum [sha256.Size]byte
}

// policyFiles returns the files that a configuration names, with those of the
// development attestor.
func (c *Config) policyFiles(own string) policyFiles {
	a := c.Admission
	if len(a.AttestorsFiles) > 0 {
		own = ""
	}
	return policyFiles{
		policies: a.PolicyFiles, attestors: a.AttestorsFiles, builders: a.BuildersFiles, hintSigners: a.HintSignersFiles, system: a.SystemPolicyFile,
		kritis: a.Kritis, matchRepository: a.MatchRepository, platformDryRun: a.PlatformDryRun, objects: a.ClusterObjects, own: own,
	}
}

// read reads the files, and from the store what no file is given for.
func (p *policies) read(ctx context.Context) (content, error) {
	c, err := p.readFiles()
	if err == nil && p.store != nil {
		c.Sources, err = p.withStored(ctx, c.Sources)
	}
	if err != nil {
		return content{}, err
	}
	c.sum = sumOf(c.Sources)
	return c, nil
}

// withStored returns the texts of files with those of the store. They are parsed to
// find out what they need of it, and so that is not done anew each time that somebody
// looks whether they have changed.
func (p *policies) withStored(ctx context.Context, files bundle.Sources) (bundle.Sources, error) {
	if sum := sumOf(files); p.stored == nil || p.storedFor != sum {
		needs := admin.Needs{Files: files.Policies}
		var own []*objects.Object
		if p.files.objects {
			var err error
			if own, err = p.objects.Read(ctx, p.store, p.project, p.place.Cluster); err != nil {
				return files, fmt.Errorf("reading the objects of the cluster: %w", err)
			}
			needs.Attestors, needs.Uploads = objects.Refers(own)
		}
		read, err := admin.ReadFor(ctx, p.store, p.project, needs)
		if err != nil {
			return files, fmt.Errorf("reading the stored policy: %w", err)
		}
		stored := read.Sources
		stored.Objects = own
		stored.Attestors = append(withoutNamesakes(files.Attestors, stored.Attestors), stored.Attestors...)
		p.stored, p.storedFor, p.storedSeq = &stored, sum, read.Seq
	}
	files.Objects = p.stored.Objects // beside files, too: all must allow
	if len(p.files.policies) == 0 {
		files.Policies = p.stored.Policies
	}
	if p.files.system == "" {
		files.System = p.stored.System
	}
	if len(p.files.attestors) == 0 {
		files.Attestors = p.stored.Attestors
	}
	return files, nil
}

// withoutNamesakes returns the attestors of files that have not the name of a
// stored one.
func withoutNamesakes(files, stored []bundle.File) []bundle.File {
	taken := map[string]bool{}
	for _, f := range stored {
		list, _ := binauthz.ParseAttestors(f.Name, f.Data)
		for _, a := range list {
			taken[a.Name] = true
		}
	}
	var kept []bundle.File
	for _, f := range files {
		list, _ := binauthz.ParseAttestors(f.Name, f.Data)
		if !slices.ContainsFunc(list, func(a binauthz.Attestor) bool { return taken[a.Name] }) {
			kept = append(kept, f) // one that is broken too, to be complained of
			continue
		}
		for _, a := range list {
			if text, err := a.EncodeJSON(); err == nil && !taken[a.Name] {
				kept = append(kept, bundle.File{Name: f.Name, Data: text})
			}
		}
	}
	return kept
}

func (p *policies) readFiles() (content, error) {
	c := content{Sources: bundle.Sources{Project: p.project, MatchRepository: p.files.matchRepository, PlatformDryRun: p.files.platformDryRun, Mesh: p.place.TrustDomain != ""}}
	attestors := p.files.attestors
	if p.files.own != "" {
		attestors = []string{p.files.own}
	}
	var err error
	if c.Kritis, err = bundle.KritisOptions(p.files.kritis); err != nil {
		return content{}, err
	}
	if c.Policies, err = readAll("policy", p.files.policies); err != nil {
		return content{}, err
	}
	if c.Attestors, err = readAll("attestors", attestors); err != nil {
		return content{}, err
	}
	if c.Builders, err = readAll("builders", p.files.builders); err != nil {
		return content{}, err
	}
	if c.HintSigners, err = readAll("signers of rollout hints", p.files.hintSigners); err != nil {
		return content{}, err
	}
	if p.files.system != "" {
		system, err := readAll("system policy", []string{p.files.system})
		if err != nil {
			return content{}, err
		}
		c.System = &system[0]
	}
	return c, nil
}

func readAll(what string, paths []string) ([]bundle.File, error) {
	var files []bundle.File
	for _, path := range paths {
		data, err := bounded.ReadFile(path, maxPolicy)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", what, err)
		}
		files = append(files, bundle.File{Name: path, Data: data})
	}
	return files, nil
}

// sumOf tells texts apart.
func sumOf(s bundle.Sources) [sha256.Size]byte {
	h := sha256.New()
	for _, list := range [][]bundle.File{s.Policies, s.Attestors, s.Builders, s.HintSigners, {systemOf(s)}} {
		_, _ = fmt.Fprintf(h, "%d\n", len(list)) // a hash never fails
		for _, f := range list {
			_, _ = fmt.Fprintf(h, "%q\n", f.Name)
			sum := sha256.Sum256(f.Data)
			_, _ = h.Write(sum[:])
		}
	}
	for _, o := range s.Objects {
		sum := o.Sum()
		_, _ = h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func systemOf(s bundle.Sources) bundle.File {
	if s.System == nil {
		return bundle.File{}
	}
	return *s.System
}
