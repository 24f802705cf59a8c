package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
)

// policyInput is what policy is read from, without a server.
type policyInput struct {
	policies, attestors, builders, occurrences []string
	system, project                            string
	kritis                                     []string
	matchRepository, platformDryRun            bool
	place                                      admission.Place
	at                                         string
}

// bind adds its flags to a command.
func (in *policyInput) bind(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVarP(&in.policies, "policy", "p", nil, "policy files of any dialect; all must allow (required)")
	f.StringSliceVar(&in.attestors, "attestors", nil, "attestors files")
	f.StringSliceVar(&in.builders, "builders", nil, "builders files, whose provenance platform policies may trust")
	f.StringSliceVar(&in.kritis, "kritis", nil, "what objects of Kritis mean: "+strings.Join(bundle.KritisWords(), ", "))
	f.BoolVar(&in.matchRepository, "match-repository", false, "demand of attestations that they name the repository of the image, as Kritis does")
	f.BoolVar(&in.platformDryRun, "platform-dry-run", false, "take platform policies for dry runs")
	f.StringSliceVar(&in.occurrences, "occurrences", nil, "occurrences files")
	f.StringVar(&in.system, "system-policy", "", "system policy file in place of the built-in one")
	f.StringVar(&in.project, "project", "default", "project whose policy it is")
	f.StringVar(&in.place.Cluster, "cluster", "", "cluster to decide for, LOCATION.NAME")
	f.StringVar(&in.place.TrustDomain, "istio-trust-domain", "", "trust domain of the cluster's mesh, for rules that name Istio identities")
	f.StringVar(&in.at, "time", "", "decide as at this time, such as 2026-11-30T12:00:00Z (default now)")
	for _, name := range []string{"policy", "attestors", "builders", "occurrences", "system-policy"} {
		_ = c.MarkFlagFilename(name, "yaml", "yml", "json") // fails only for a flag that is not there
	}
}

func (in *policyInput) now() (time.Time, error) {
	if in.at == "" {
		return time.Now().UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, in.at)
	if err != nil {
		return time.Time{}, fmt.Errorf("--time %q: want a time such as 2026-11-30T12:00:00Z", in.at)
	}
	return t.UTC(), nil
}

// sources reads the files.
func (in *policyInput) sources(c *cobra.Command) (bundle.Sources, error) {
	s := bundle.Sources{Project: in.project, MatchRepository: in.matchRepository, PlatformDryRun: in.platformDryRun}
	if len(in.policies) == 0 {
		return s, errors.New("which policy? give --policy FILE")
	}
	var err error
	if s.Now, err = in.now(); err != nil {
		return s, err
	}
	s.Mesh = in.place.TrustDomain != ""
	if s.Kritis, err = bundle.KritisOptions(in.kritis); err != nil {
		return s, fmt.Errorf("--kritis: %w", err)
	}
	if s.Policies, err = readFiles(c, in.policies); err != nil {
		return s, err
	}
	if s.Attestors, err = readFiles(c, in.attestors); err != nil {
		return s, err
	}
	if s.Builders, err = readFiles(c, in.builders); err != nil {
		return s, err
	}
	if in.system != "" {
		system, err := readFiles(c, []string{in.system})
		if err != nil {
			return s, err
		}
		s.System = &system[0]
	}
	return s, nil
}

func readFiles(c *cobra.Command, names []string) ([]bundle.File, error) {
	var files []bundle.File
	for _, name := range names {
		data, err := readInput(c, name)
		if err != nil {
			return nil, err
		}
		files = append(files, bundle.File{Name: name, Data: data})
	}
	return files, nil
}

// load reads and compiles the policies. What there is to say about them goes to
// standard error.
func (in *policyInput) load(c *cobra.Command) (*bundle.Bundle, error) {
	s, err := in.sources(c)
	if err != nil {
		return nil, err
	}
	loaded, found := bundle.Load(s)
	if err := report(c, found); err != nil {
		return nil, err
	}
	return loaded, in.checkPlace(c, loaded.Set)
}

// checkPlace refuses rules that depend on what was not said. Cluster rules are
// the exception: leaving out --cluster asks what holds in any other cluster.
func (in *policyInput) checkPlace(c *cobra.Command, rules policy.Set) error {
	if in.place.Cluster != "" {
		if err := binauthz.CheckCluster(in.place.Cluster); err != nil {
			return fmt.Errorf("--cluster %q: %w", in.place.Cluster, err)
		}
	} else if cluster, _ := rules.Needs(); cluster {
		_, err := fmt.Fprintln(c.ErrOrStderr(), "gatehouse: warning: the policy has clusterAdmissionRules; without --cluster LOCATION.NAME none of them applies")
		if err != nil {
			return err
		}
		return in.place.CheckMesh(rules)
	}
	return in.place.Check(rules)
}

// facts returns what the occurrences say about the images of a request. That they
// say nothing of one, or that nobody who is trusted attests, goes to standard error:
// a decision tells of what is filed for its images and attestors only.
func (in *policyInput) facts(c *cobra.Command, loaded *bundle.Bundle, request decide.Request) (evidence.Facts, error) {
	var all []filed
	for _, name := range in.occurrences {
		list, err := readOccurrences(c, name)
		if err != nil {
			return evidence.Facts{}, err
		}
		all = append(all, list...)
	}
	refs := admission.References(request.Images)
	if len(in.occurrences) > 0 {
		if err := report(c, unheard(all, loaded.Keys, refs, in.occurrences[0])); err != nil {
			return evidence.Facts{}, err
		}
	}
	return index.FromOccurrences(c.Context(), occurrencesOf(all), loaded.Keys, refs), nil
}

// decide decides on a request by what is in the files.
func (in *policyInput) decide(c *cobra.Command, request decide.Request) (*bundle.Bundle, decide.Decision, error) {
	now, err := in.now()
	if err != nil {
		return nil, decide.Decision{}, err
	}
	loaded, err := in.load(c)
	if err != nil {
		return nil, decide.Decision{}, err
	}
	facts, err := in.facts(c, loaded, request)
	if err != nil {
		return nil, decide.Decision{}, err
	}
	return loaded, decide.Decide(request, loaded.Set, facts, now), nil
}

func readRequest(c *cobra.Command, file string, place admission.Place) (decide.Request, error) {
	data, err := readInput(c, file)
	if err != nil {
		return decide.Request{}, err
	}
	r, err := admission.ReadRequest(data, place)
	if err != nil {
		return decide.Request{}, fmt.Errorf("reading %s: %w", file, err)
	}
	return r, nil
}

// requestFor makes a request for images alone.
func requestFor(images []string, namespace, account string, place admission.Place) decide.Request {
	r := decide.Request{Cluster: place.Cluster, Namespace: namespace, ServiceAccount: account}
	if place.TrustDomain != "" {
		if account == "" {
			account = "default"
		}
		r.IstioIdentity = place.TrustDomain + "/ns/" + namespace + "/sa/" + account
	}
	for i, text := range images {
		r.Images = append(r.Images, decide.ImageUse{Container: fmt.Sprintf("image-%d", i), Type: decide.Container, Text: text})
	}
	return r
}
