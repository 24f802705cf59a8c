// Package cel is the checks cel_<name>: that an expression in CEL, which the
// configuration gives, is true of an image.
//
// An expression sees these variables; what is not known is not there, and to ask for it
// is an error, which fails the image: has(config.created) asks.
//
//	image            reference, name, registry, path, tag and digest, as text
//	config           of one platform: manifest, platform (os, architecture, variant), user,
//	                 env and labels and annotations (maps), entrypoint, cmd, workingDir, ports,
//	                 layers, and created (a timestamp)
//	builds           records of how it was built: form, builder, project, source (url, commit),
//	                 materials (uri, digest), keyId, and started, finished and recorded
//	scans            scans for vulnerabilities: note, status, error, and at
//	vulnerabilities  what they found: id, note, severity, cvss, fixable, and packages (name, version,
//	                 fixedVersion)
//	now              the time of the check
//
// It must hold for every platform. Package policy/platform/constraint bounds its text, its
// nesting, and what it may cost.
package cel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/scans"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/platform/constraint"
)

// Prefix is what the names of the checks begin with.
const Prefix = "cel_"

// maxVulnerabilities bounds those that an expression is shown.
const maxVulnerabilities = 10_000

// Settings are what a check is made from.
type Settings struct {
	// Name is that of the check without its prefix.
	Name string
	// Expression is the text in CEL, which must be true or false.
	Expression string
	// Message says what to do when it is false. It may be empty.
	Message string
	// Platforms are those of an index that are looked at; none means all.
	Platforms []resolve.Platform
	// Records and Scans read what there is.
	Records builds.Reader
	Scans   scans.Reader
	// Now is the clock; nil is [time.Now].
	Now func() time.Time
}

type checker struct {
	Settings
	expression *constraint.Expression
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	compiler, err := constraint.NewCompilerOf(map[string]constraint.Type{
		"image": constraint.Object, "config": constraint.Object, "builds": constraint.Objects,
		"scans": constraint.Objects, "vulnerabilities": constraint.Objects, "now": constraint.Moment,
	})
	if err != nil {
		return check.Check{}, err
	}
	c := &checker{Settings: s}
	if c.expression, err = compiler.Compile(s.Expression); err != nil {
		return check.Check{}, fmt.Errorf("expression: %w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	made := check.Check{Name: Prefix + s.Name, Doc: Doc(s.Name), Run: c.run}
	made.Doc.Title += ": " + builds.Clip(strings.Join(strings.Fields(s.Expression), " "))
	return made, made.Validate()
}

// Doc is what the check of this name says about itself.
func Doc(name string) check.Doc {
	key := "gatehouse.cel." + name
	return check.Doc{
		Title:  "An expression is true of the image",
		Proves: "The expression in CEL is true, for every platform of the image. It sees image, config (of one platform), builds, scans, vulnerabilities and now. What it asks for and is not there, and what costs too much, fails the image.",
		Needs:  []string{"the registry, if the expression names config", "BUILD, DISCOVERY and VULNERABILITY occurrences, as far as the expression names builds, scans and vulnerabilities"},
		Settings: []check.Setting{
			{Key: key + ".expression", Text: "the expression, such as config.user == \"65532\" && \"team\" in config.labels"},
			{Key: key + ".message", Text: "what to do when it is false", Default: "none"},
			{Key: "gatehouse.platforms", Text: "the platforms that are looked at", Default: "all that the image has"},
			builds.KeysSetting(),
		},
		Fixes: []check.Fix{
			{Failure: "the expression is false", Do: "do what its message says"},
			{Failure: "no such key: K", Do: "the image has no K: give it one, or ask for it with has() in the expression"},
			{Failure: "cost limit exceeded", Do: "ask for less: whoever wrote the expression has to"},
		},
	}
}

func (c *checker) run(ctx context.Context, in *check.Input) (check.Result, error) {
	variables, err := c.common(ctx, in)
	if err != nil {
		return check.Result{}, err
	}
	if !c.expression.Uses("config") {
		variables["config"] = map[string]any{}
		return c.evaluate(ctx, variables, "")
	}
	configs, err := in.Registry.Configs(ctx, in.Image, c.Platforms...)
	if err != nil {
		return check.Result{}, err
	}
	if len(configs) == 0 {
		return check.Result{}, errors.New("the registry gave no configuration of the image")
	}
	var last check.Result
	for _, config := range configs {
		variables["config"] = configOf(config)
		if last, err = c.evaluate(ctx, variables, " on "+config.Platform.String()); err != nil || !last.Passed() {
			return last, err
		}
	}
	return last, nil
}

func (c *checker) evaluate(ctx context.Context, variables map[string]any, where string) (check.Result, error) {
	holds, err := c.expression.HoldsFor(ctx, variables)
	switch {
	case err != nil && ctx.Err() != nil:
		return check.Result{}, fmt.Errorf("evaluating the expression: %w", ctx.Err())
	case err != nil:
		return check.Fail("the expression cannot be evaluated%s: %v%s", where, err, c.advice()), nil
	case !holds:
		return check.Fail("the expression is false%s: %s%s", where, builds.Clip(c.Expression), c.advice()), nil
	}
	return check.Pass("true: " + builds.Clip(c.Expression)), nil
}

func (c *checker) advice() string {
	if c.Message == "" {
		return ""
	}
	return "; " + builds.Clip(c.Message)
}

// common makes the variables that are the same for all platforms. Those that the
// expression does not name are empty.
func (c *checker) common(ctx context.Context, in *check.Input) (map[string]any, error) {
	ref := in.Image
	variables := map[string]any{
		"image": map[string]any{
			"reference": ref.String(), "name": ref.Name(), "registry": ref.Registry(), "path": ref.Path(), "tag": string(ref.Tag()), "digest": ref.Digest().String(),
		},
		"builds": []any{}, "scans": []any{}, "vulnerabilities": []any{}, "now": c.Now(),
	}
	for name, load := range map[string]func(context.Context, *check.Input) ([]any, error){
		"builds": c.builds, "scans": c.scans, "vulnerabilities": vulnerabilities,
	} {
		if !c.expression.Uses(name) {
			continue
		}
		list, err := load(ctx, in)
		if err != nil {
			return nil, err
		}
		variables[name] = list
	}
	return variables, nil
}

func (c *checker) builds(ctx context.Context, in *check.Input) ([]any, error) {
	found, err := c.Records.Read(ctx, in)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, b := range found.Builds {
		materials := []any{}
		for _, m := range b.Materials {
			materials = append(materials, map[string]any{"uri": m.URI, "digest": m.Digest.String()})
		}
		o := map[string]any{
			"form": b.Form, "builder": b.Builder, "project": b.Project, "keyId": b.KeyID, "materials": materials,
			"source": map[string]any{"url": b.Source.URL, "commit": b.Source.Commit},
		}
		set(o, "started", b.Started)
		set(o, "finished", b.Finished)
		set(o, "recorded", b.Recorded)
		list = append(list, o)
	}
	return list, nil
}

func (c *checker) scans(ctx context.Context, in *check.Input) ([]any, error) {
	state, err := c.Scans.Read(ctx, in)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, s := range state.Scans {
		o := map[string]any{"note": s.Note, "status": s.Status.String(), "error": s.Error}
		set(o, "at", s.At)
		list = append(list, o)
	}
	return list, nil
}

func vulnerabilities(ctx context.Context, in *check.Input) ([]any, error) {
	found, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_VULNERABILITY)
	if err != nil {
		return nil, err
	}
	if len(found) > maxVulnerabilities {
		return nil, fmt.Errorf("%q has %d vulnerabilities, more than the %d that an expression is shown", in.Image, len(found), maxVulnerabilities)
	}
	list := []any{}
	for _, f := range found {
		v := f.GetVulnerability()
		severity := v.GetEffectiveSeverity()
		if severity == grafeas.Severity_SEVERITY_UNSPECIFIED {
			severity = v.GetSeverity()
		}
		packages := []any{}
		for _, p := range v.GetPackageIssue() {
			packages = append(packages, map[string]any{
				"name": p.GetAffectedPackage(), "version": p.GetAffectedVersion().GetFullName(), "fixedVersion": p.GetFixedVersion().GetFullName(),
			})
		}
		note := f.GetNoteName()
		list = append(list, map[string]any{
			"id": note[strings.LastIndexByte(note, '/')+1:], "note": note, "severity": severity.String(), "cvss": float64(v.GetCvssScore()),
			"fixable": metadata.Fixable(v), "packages": packages,
		})
	}
	return list, nil
}

func configOf(c resolve.Config) map[string]any {
	env := map[string]any{}
	for _, e := range c.Env {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	o := map[string]any{
		"manifest": c.Manifest.String(), "user": c.User, "env": env, "workingDir": c.WorkingDir,
		"platform":   map[string]any{"os": c.Platform.OS, "architecture": c.Platform.Architecture, "variant": c.Platform.Variant},
		"entrypoint": texts(c.Entrypoint), "cmd": texts(c.Cmd), "ports": texts(c.Ports), "layers": texts(c.Layers),
		"labels": words(c.Labels), "annotations": words(c.Annotations),
	}
	set(o, "created", c.Created)
	return o
}

func set(o map[string]any, key string, t time.Time) {
	if !t.IsZero() {
		o[key] = t
	}
}

func texts(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

func words(m map[string]string) map[string]any {
	all := make(map[string]any, len(m))
	for k, v := range m {
		all[k] = v
	}
	return all
}
