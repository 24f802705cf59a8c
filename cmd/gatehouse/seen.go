package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/cmd/internal/terminal"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/suggest"
)

// maxManifests bounds a text of manifests: 'kubectl get pods -A -o json' of ten
// thousand pods has 100 MB.
const maxManifests = 512 << 20

// seenInput says where what runs is told from, and what is known of it.
type seenInput struct {
	resources              string
	fromCluster            bool
	kubeconfig             string
	contexts               []string
	data, since            string
	attestors, occurrences []string
	system                 string
	service                serviceFlags
	useService             bool
	place                  admission.Place
	at                     string
}

func (in *seenInput) bind(c *cobra.Command) {
	in.service.bind(c)
	f := c.Flags()
	service := f.Lookup("metadata")
	service.DefValue, service.Usage = "", "take attestations (and without --attestors, attestors) from this service: HOST:PORT or URL"
	f.StringVar(&in.resources, "resources", "", "file that says where custom resources have images: a gatehouse.yaml, or its list admission.resources")
	f.BoolVar(&in.fromCluster, "from-cluster", false, "read pods and workloads of a cluster; --kubeconfig and --context imply it")
	f.StringVar(&in.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default as for kubectl)")
	f.StringSliceVar(&in.contexts, "context", nil, "contexts of the kubeconfig, a cluster each (default its current one)")
	f.StringVar(&in.data, "data", "", "read decisions that were recorded in this data folder of a server")
	f.StringVar(&in.since, "since", "", "with --data: only since then: a duration (24h) or a time (RFC 3339)")
	f.StringSliceVar(&in.attestors, "attestors", nil, "attestors files")
	f.StringSliceVar(&in.occurrences, "occurrences", nil, "occurrences files")
	f.StringVar(&in.system, "system-policy", "", "system policy file in place of the built-in one")
	f.StringVar(&in.place.Cluster, "cluster", "", "cluster to decide for, LOCATION.NAME")
	f.StringVar(&in.place.TrustDomain, "istio-trust-domain", "", "trust domain of the cluster's mesh, for rules that name Istio identities")
	f.StringVar(&in.at, "time", "", "decide as at this time, such as 2026-11-30T12:00:00Z (default now)")
	for _, name := range []string{"attestors", "occurrences", "system-policy", "resources"} {
		_ = c.MarkFlagFilename(name, "yaml", "yml", "json") // fails only for a flag that is not there
	}
}

// world reads everything. args are manifests.
func (in *seenInput) world(c *cobra.Command, args []string) (suggest.World, error) {
	w := suggest.World{Seen: &suggest.Seen{}}
	in.fromCluster = in.fromCluster || in.kubeconfig != "" || len(in.contexts) > 0
	in.useService = c.Flags().Changed("metadata")
	switch {
	case len(args) == 0 && !in.fromCluster && in.data == "":
		return w, errors.New("what runs? give manifests (files, folders, or - for standard input), --from-cluster, or --data DIR for recorded decisions")
	case in.since != "" && in.data == "":
		return w, errors.New("--since is about recorded decisions; give --data DIR, too")
	case len(in.occurrences) > 0 && len(in.attestors) == 0 && !in.useService:
		return w, errors.New("whose attestations count? give --attestors FILE with --occurrences")
	}
	var err error
	if w.Now, err = (&policyInput{at: in.at}).now(); err != nil {
		return w, err
	}
	if in.place.Cluster != "" {
		if err := binauthz.CheckCluster(in.place.Cluster); err != nil {
			return w, fmt.Errorf("--cluster %q: %w", in.place.Cluster, err)
		}
	}
	if err := in.see(c, args, w.Seen); err != nil {
		return w, err
	}
	if in.system != "" {
		data, err := readInput(c, in.system)
		if err != nil {
			return w, err
		}
		system, found := binauthz.ParsePolicy(in.system, data)
		if err := report(c, found); err != nil {
			return w, err
		}
		w.System = system
	}
	return w, in.known(c, &w)
}

// see gathers what runs.
func (in *seenInput) see(c *cobra.Command, args []string, seen *suggest.Seen) error {
	custom, err := in.customResources(c)
	if err != nil {
		return err
	}
	r := sightReader{command: c, place: in.place, custom: custom, seen: seen, unknown: map[string]int{}}
	for _, arg := range args {
		if err := r.manifests(arg); err != nil {
			return err
		}
	}
	contexts := in.contexts
	if in.fromCluster && len(contexts) == 0 {
		contexts = []string{""} // the current one
	}
	for _, name := range contexts {
		if err := r.cluster(in.kubeconfig, name); err != nil {
			return err
		}
	}
	if in.data != "" {
		since, err := parseSince(in.since, time.Now())
		if err != nil {
			return err
		}
		if err := r.records(in.data, since); err != nil {
			return err
		}
	}
	for _, what := range slices.Sorted(maps.Keys(r.unknown)) {
		r.warn("%s of %s may bring images that are not known: say where they are with --resources FILE", counted(r.unknown[what], "object", "objects"), what)
	}
	if len(seen.Images()) == 0 {
		return fmt.Errorf("no image was found in %s", r.where())
	}
	return nil
}

// customResources reads where custom resources have their images.
func (in *seenInput) customResources(c *cobra.Command) (admission.Resources, error) {
	if in.resources == "" {
		return admission.Resources{}, nil
	}
	data, err := readInput(c, in.resources)
	if err != nil {
		return admission.Resources{}, err
	}
	fail := func(err error) (admission.Resources, error) {
		return admission.Resources{}, fmt.Errorf("reading resources in %s: %w", in.resources, err)
	}
	var whole struct {
		Admission struct {
			Resources yaml.Node `yaml:"resources"`
		} `yaml:"admission"`
		Resources yaml.Node `yaml:"resources"`
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return fail(err)
	}
	list := &root
	if len(root.Content) == 1 && root.Content[0].Kind == yaml.MappingNode {
		if err := root.Decode(&whole); err != nil {
			return fail(err)
		}
		if list = &whole.Admission.Resources; list.Kind == 0 {
			list = &whole.Resources
		}
	}
	text, err := yaml.Marshal(list)
	if err != nil {
		return fail(err)
	}
	var resources []admission.Resource
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	if err := dec.Decode(&resources); err != nil {
		return fail(err)
	}
	if len(resources) == 0 {
		return fail(errors.New("there are none: want a list admission.resources, or resources, or a list alone"))
	}
	custom, err := admission.NewResources(resources)
	if err != nil {
		return fail(err)
	}
	return custom, nil
}

// known reads what is known of the images: who attests, and what is attested.
func (in *seenInput) known(c *cobra.Command, w *suggest.World) error {
	files, err := readFiles(c, in.attestors)
	if err != nil {
		return err
	}
	for _, f := range files {
		list, found := binauthz.ParseAttestors(f.Name, f.Data)
		if err := report(c, found); err != nil {
			return err
		}
		w.Attestors = append(w.Attestors, list...)
	}
	var all []filed
	for _, name := range in.occurrences {
		list, err := readOccurrences(c, name)
		if err != nil {
			return err
		}
		all = append(all, list...)
	}
	if in.useService {
		list, err := in.ask(c, w)
		if err != nil {
			return err
		}
		all = append(all, list...)
	}
	w.Evidence = len(in.occurrences) > 0 || in.useService
	var uses []decide.ImageUse
	for _, text := range w.Seen.Images() {
		uses = append(uses, decide.ImageUse{Text: text})
	}
	w.Facts = index.FromOccurrences(c.Context(), occurrencesOf(all), index.Trust(binauthz.KeysByNote(w.Attestors)), admission.References(uses))
	return c.Context().Err()
}

// ask takes attestors, if none were given, and what is filed under their notes from a
// service.
func (in *seenInput) ask(c *cobra.Command, w *suggest.World) ([]filed, error) {
	client, ctx, cancel, err := in.service.connect(c.Context())
	if err != nil {
		return nil, err
	}
	defer cancel()
	if len(w.Attestors) == 0 {
		project := "projects/" + in.service.project
		list, err := client.List(ctx, project+"/attestors", "attestors")
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("the service keeps no attestors in %s; give --attestors FILE, such as DATA/attestor/attestors.json", project)
		}
		for _, text := range list {
			attestors, found := binauthz.ParseAttestors(project+"/attestors", text)
			if err := report(c, found); err != nil {
				return nil, err
			}
			w.Attestors = append(w.Attestors, attestors...)
		}
	}
	var all []filed
	for _, note := range slices.Sorted(maps.Keys(binauthz.KeysByNote(w.Attestors))) {
		list, err := client.List(ctx, note+"/occurrences", "occurrences")
		if adminclient.StatusOf(err) == "NOT_FOUND" {
			continue // nobody has attested yet
		}
		if err != nil {
			return nil, err
		}
		for _, text := range list {
			some, found := parseOccurrences(note, text)
			if err := report(c, found); err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
	}
	return all, nil
}

// sightReader reads what runs from wherever it is told.
type sightReader struct {
	command *cobra.Command
	place   admission.Place
	custom  admission.Resources
	seen    *suggest.Seen
	unknown map[string]int
	sources []string
}

func (r *sightReader) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(r.command.ErrOrStderr(), "gatehouse: warning: %s\n", printable(fmt.Sprintf(format, args...))) // what is said otherwise would fail as well
}

func (r *sightReader) where() string { return strings.Join(r.sources, ", ") }

// manifests reads a file, a folder, or standard input.
func (r *sightReader) manifests(arg string) error {
	r.sources = append(r.sources, arg)
	paths, folder, err := suitePaths(arg)
	if err != nil {
		return err
	}
	if folder && len(paths) == 0 {
		return fmt.Errorf("%s has no file .yaml, .yml or .json", arg)
	}
	for _, path := range paths {
		data, err := readUpTo(r.command, path, maxManifests)
		if err != nil {
			return err
		}
		name := path
		if path == "-" {
			name = "standard input"
		}
		found, err := r.add(name, data)
		if err != nil {
			return fmt.Errorf("%w\n(if it is a template, render it first: helm template . | %s -)", err, r.command.CommandPath())
		}
		if n := found.Passed[""]; n > 0 && !folder {
			r.warn("%s: %s no object of Kubernetes", name, counted(n, "document is", "documents are"))
		}
	}
	return nil
}

func (r *sightReader) add(name string, data []byte) (admission.Manifests, error) {
	found, err := admission.ReadManifests(data, r.place, r.custom)
	if err != nil {
		return found, fmt.Errorf("reading %s: %w", name, err)
	}
	for _, o := range found.Objects {
		where := fmt.Sprintf("%s %s/%s in %s", o.Kind, o.Namespace, o.Name, name)
		if o.Line > 0 {
			where = fmt.Sprintf("%s %s/%s at %s:%d", o.Kind, o.Namespace, o.Name, name, o.Line)
		}
		for _, q := range o.Requests {
			r.seen.Add(q, where)
		}
	}
	for what, n := range found.Unknown {
		r.unknown[what] += n
	}
	return found, nil
}

// lists are what is read of a cluster. Whatever is not pods is there to run again:
// what a CronJob will start, and what a roll-out can be undone to.
func lists() []string {
	return []string{
		"api/v1/pods", "apis/apps/v1/deployments", "apis/apps/v1/replicasets", "apis/apps/v1/statefulsets", "apis/apps/v1/daemonsets",
		"apis/batch/v1/jobs", "apis/batch/v1/cronjobs", "api/v1/replicationcontrollers",
	}
}

func (r *sightReader) cluster(kubeconfig, name string) error {
	client, err := kube.Open(kube.Options{Kubeconfig: kubeconfig, Context: name})
	if err != nil {
		return fmt.Errorf("%w; say which cluster with --kubeconfig FILE or --context NAME", err)
	}
	r.sources = append(r.sources, strings.TrimSpace("the cluster "+name))
	meter := terminal.NewMeter(r.command.ErrOrStderr(), false)
	defer meter.End()
	objects := int64(0)
	for i, path := range lists() {
		err := client.List(r.command.Context(), func(page []byte) error {
			found, err := r.add(path, page)
			objects += int64(len(found.Objects))
			meter.Show(objects, "%d objects of the cluster", objects)
			return err
		}, strings.Split(path, "/")...)
		refused := new(kube.Error)
		if i > 0 && errors.As(err, &refused) && (refused.Code == http.StatusForbidden || refused.Code == http.StatusNotFound) {
			meter.End()
			r.warn("listing %s: %v; they are left out", path, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", path, err)
		}
	}
	return nil
}

// records reads recorded decisions. What was let in, other than by breaking glass, ran;
// images that were denied when their pod was not let in serve as examples.
func (r *sightReader) records(data string, since time.Time) error {
	r.sources = append(r.sources, "the decisions in "+data)
	shortened := 0
	err := audit.Query(filepath.Join(data, "audit"), audit.Filter{Since: since}, func(rec audit.Record) error {
		d := rec.Decision
		if d == nil || rec.DryRun { // nothing has come of it
			return nil
		}
		if rec.Truncated {
			shortened++
		}
		ran := d.Allowed && !slices.Contains(d.Overrides(), decide.BreakGlass)
		q := decide.Request{Cluster: rec.Cluster, Namespace: rec.Namespace}
		if r.place.Cluster != "" {
			q.Cluster = r.place.Cluster
		}
		for i := range d.Images {
			img := &d.Images[i]
			switch {
			case ran:
				q.Images = append(q.Images, decide.ImageUse{Container: img.Container, Type: img.Type, Text: img.Image})
			case img.Verdict != decide.ALLOW:
				r.seen.Deny(img.Image)
			}
		}
		r.seen.Add(q, fmt.Sprintf("%s %s/%s in record %s", rec.Resource, rec.Namespace, rec.Name, rec.ID))
		return nil
	})
	if shortened > 0 {
		r.warn("%s of %s shortened when they were written; some of their images are missing", counted(shortened, "record", "records"), data)
	}
	return err
}

// printLeft tells what is not let in.
func printLeft(c *cobra.Command, left []suggest.Left) error {
	for i, l := range left {
		if i == maxUnheard {
			_, err := fmt.Fprintf(c.ErrOrStderr(), "  and %d more\n", len(left)-i)
			return err
		}
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "  %.300s (%.300s): %.500s\n", printable(l.Image), printable(l.Where), printable(l.Why)); err != nil {
			return err
		}
	}
	return nil
}

// rawPolicy returns a policy as the REST API has it.
func rawPolicy(text []byte) (json.RawMessage, error) {
	p, found := binauthz.ParsePolicy("policy", text)
	if p == nil {
		return nil, found.Err()
	}
	return p.EncodeJSON()
}
