package install

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/deploy/chart"
)

// DefaultName is that of an installation, and of its namespace, if no other is given.
const DefaultName = "gatehouse"

// Options say what is installed, and as what.
type Options struct {
	// Name begins the names of all objects, and Namespace is where those are that have one.
	Name, Namespace string
	// Values are laid over the chart's defaults.
	Values Values
}

// An Object is an object of Kubernetes' API, as JSON has it.
type Object map[string]any

// Kind returns the kind of an object, "" if it has none.
func (o Object) Kind() string { return text(o, "kind") }

// Name returns the name of an object.
func (o Object) Name() string { return text(o.metadata(), "name") }

// Namespace returns the namespace of an object, "" if it has none.
func (o Object) Namespace() string { return text(o.metadata(), "namespace") }

// String is how an object is called in messages: KIND/NAME.
func (o Object) String() string { return o.Kind() + "/" + o.Name() }

func (o Object) metadata() map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

func (o Object) annotation(name string) string {
	all, _ := o.metadata()["annotations"].(map[string]any)
	return text(all, name)
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// Defaults returns the values of the chart.
func Defaults() (Values, error) {
	text, err := fs.ReadFile(chart.Files(), "values.yaml")
	if err != nil {
		return nil, err
	}
	return ParseValues(text)
}

// A rendering is a chart with values.
type rendering struct {
	scope     scope
	templates func(name string) (string, error)
	names     []string
}

func (o Options) render(files fs.FS) (*rendering, error) {
	r := &rendering{scope: scope{Release: release{o.Name, o.Namespace}, Files: chartFiles{}}}
	if err := o.checkNames(); err != nil {
		return nil, err
	}
	if err := readInto(files, "Chart.yaml", &r.scope.Chart); err != nil {
		return nil, err
	}
	var err error
	if r.scope.Values, err = o.values(files); err != nil {
		return nil, err
	}
	if err := r.readFiles(files); err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	all, names, err := parseTemplates(files)
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	r.names = names
	r.templates = func(name string) (string, error) { return execute(all, name, r.scope) }
	return r, nil
}

// checkNames keeps what is put into names within what Kubernetes takes, with the room that
// the longest of them needs.
func (o Options) checkNames() error {
	const longest = 63 - len("-controller-config")
	for what, name := range map[string]string{"name": o.Name, "namespace": o.Namespace} {
		ok := name != "" && len(name) <= longest && strings.Trim(name, "-") == name
		for _, c := range name {
			ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
		}
		if !ok {
			return fmt.Errorf("%s %q: want at most %d of a-z, 0-9 and -", what, name, longest)
		}
	}
	return nil
}

// values lays those that were given over the chart's, and holds all to the schema.
func (o Options) values(files fs.FS) (Values, error) {
	defaults, settings := Values{}, schema{}
	if err := readInto(files, "values.yaml", &defaults); err != nil {
		return nil, err
	}
	if err := readInto(files, "values.schema.json", &settings); err != nil {
		return nil, err
	}
	given, err := o.Values.clone()
	if err != nil {
		return nil, err
	}
	merged := Values(overlay(defaults, given, true))
	if err := settings.check(map[string]any(merged), false); err != nil {
		return nil, fmt.Errorf("values that the chart does not take:\n%w", err)
	}
	return merged, nil
}

func readInto(files fs.FS, name string, into any) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("reading the chart: %w", err)
	}
	if a, ok := into.(*about); ok { // of which there is more than is used
		var m map[string]any
		if err := unmarshal(text, &m); err != nil {
			return fmt.Errorf("reading %s of the chart: %w", name, err)
		}
		a.Name, _ = m["name"].(string)
		a.Version, _ = m["version"].(string)
		a.AppVersion, _ = m["appVersion"].(string)
		return nil
	}
	if err := unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s of the chart: %w", name, err)
	}
	return nil
}

func (r *rendering) readFiles(files fs.FS) error {
	return fs.WalkDir(files, "files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		r.scope.Files[name], err = fs.ReadFile(files, name)
		return err
	})
}

// Render returns the objects of an installation, in the order in which they are applied,
// but for the namespace.
func Render(o Options) ([]Object, error) { return renderFrom(chart.Files(), o) }

func renderFrom(files fs.FS, o Options) ([]Object, error) {
	r, err := o.render(files)
	if err != nil {
		return nil, err
	}
	var objects []Object
	for _, name := range r.names {
		if base := path.Base(name); strings.HasPrefix(base, "_") || !strings.HasSuffix(base, ".yaml") {
			continue
		}
		text, err := r.templates(name)
		if err != nil {
			return nil, fmt.Errorf("rendering the chart: %w", err)
		}
		found, err := parseObjects(text)
		if err != nil {
			return nil, fmt.Errorf("rendering the chart: %s: %w", name, err)
		}
		objects = append(objects, found...)
	}
	for _, object := range objects {
		if _, err := kindOfObject(object); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name(), b.Name()))
	})
	return objects, nil
}

// parseObjects reads a stream of YAML documents. A document begins at a line ---, as Helm
// has it.
func parseObjects(stream string) ([]Object, error) {
	var objects []Object
	for document := range strings.SplitSeq("\n"+stream, "\n---") {
		var o Object
		if err := unmarshal([]byte(document+"\n"), &o); err != nil {
			return nil, err
		}
		if o != nil {
			objects = append(objects, o)
		}
	}
	return objects, nil
}

// YAML writes objects as a stream of documents.
func YAML(objects []Object) ([]byte, error) {
	var stream []byte
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", o, err)
		}
		stream = append(append(stream, "---\n"...), text...)
	}
	return stream, nil
}

// Notes says what there is to do after an installation.
func Notes(o Options) (string, error) {
	r, err := o.render(chart.Files())
	if err != nil {
		return "", err
	}
	return r.templates("templates/NOTES.txt")
}
