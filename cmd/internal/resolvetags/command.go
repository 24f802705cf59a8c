// Package resolvetags is the command that pins the images of manifests: gatehouse
// resolve-tags, and kubectl resolve-tags as a plugin of its own.
package resolvetags

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/tags"
	"github.com/gatehouse-dev/gatehouse/tags/manifest"
)

// The ways in which the command ends when there is nothing more to say.
var (
	// ErrUnpinned is the answer of --check: there are images without a digest, and they
	// have been named.
	ErrUnpinned = errors.New("images have no digest")
	// ErrRefused is that something is wrong with manifests, which has been told.
	ErrRefused = errors.New("manifests are refused")
)

const (
	userAgent = "gatehouse-resolve-tags"

	// defaultParallel is how many tags are asked for at a time.
	defaultParallel = 16
	// defaultTimeout is what one tag has.
	defaultTimeout = 30 * time.Second
	// maxParallel bounds what one may ask of a registry.
	maxParallel = 256

	textOutput, jsonOutput = "text", "json"
)

// The variables by which kubectl 1.11 and older gave a plugin its flags.
const (
	envFilename = "KUBECTL_PLUGINS_LOCAL_FLAG_FILENAME"
	envApply    = "KUBECTL_PLUGINS_LOCAL_FLAG_APPLY"
	envCaller   = "KUBECTL_PLUGINS_CALLER"
)

// options are what the command is told.
type options struct {
	files, kustomize []string
	recursive        bool
	apply, inPlace   bool
	diff, check      bool
	output           string
	platform         string
	style            tags.Style
	resources        string
	parallel         int
	timeout          time.Duration
	quiet            bool
	kubectlArgs      []string
	kubectl          string
	stdin            io.Reader
	stdout, stderr   io.Writer
	transport        http.RoundTripper // of URLs; nil is the default
	source           func(*options) (tags.Source, error)
}

// Command returns the command; name is how it is called, such as "kubectl resolve-tags".
func Command(name string) *cobra.Command {
	o := &options{source: registries}
	c := &cobra.Command{
		Use:   "resolve-tags -f FILE...",
		Short: "Pin the images of manifests to what their tags mean now",
		Long: `Print Kubernetes manifests with every image pinned to the digest that its tag means
now: registry.example/shop/web:1.4 becomes registry.example/shop/web:1.4@sha256:….
Nothing else changes, byte for byte.

A manifest is a file, a folder, a URL, or - for standard input; JSON or YAML. Images are
found by kind: pods, workloads, Jobs and CronJobs, Lists, image volumes, and the custom
resources that --resources tells of. Registries are asked with the credentials of docker
login. If anything is wrong, nothing is printed, written or applied.

Arguments after -- are given to kubectl apply.

Exit status: 0; with --check 1 if an image has no digest; 2 error.`,
		Example: strings.ReplaceAll(`  NAME -f deploy.yaml | kubectl apply -f -
  NAME -f manifests/ --in-place
  NAME -f manifests/ -R --check
  NAME -k overlays/prod --apply -- --server-side`, "NAME", name),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := c.Flags()
	f.StringSliceVarP(&o.files, "filename", "f", nil, "manifest: file, folder, URL, or - for standard input")
	f.StringSliceVarP(&o.kustomize, "kustomize", "k", nil, "folder that kubectl kustomize makes the manifests of")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "look into the folders below a folder, too")
	f.BoolVarP(&o.apply, "apply", "a", false, "give the outcome to kubectl apply, argument by argument, and stop at the first that fails")
	f.BoolVarP(&o.inPlace, "in-place", "i", false, "write the files")
	f.BoolVar(&o.diff, "diff", false, "print what would change as a unified diff")
	f.BoolVar(&o.check, "check", false, "only name the images that have no digest; asks no registry")
	f.StringVarP(&o.output, "output", "o", textOutput, "text, or json: what each image is and becomes, in place of the manifests")
	f.StringVar(&o.platform, "platform", "", "pin the image for this platform, such as linux/arm64, and not the index for all")
	f.BoolVar(&o.style.DropTag, "drop-tag", false, "write NAME@DIGEST and not NAME:TAG@DIGEST")
	f.BoolVar(&o.style.Update, "update", false, "resolve the tags of NAME:TAG@DIGEST anew, too")
	f.StringVar(&o.resources, "resources", "", "configuration of Gatehouse, whose admission.resources says where custom resources have images")
	f.IntVar(&o.parallel, "parallel", defaultParallel, "tags that are asked for at the same time")
	f.DurationVar(&o.timeout, "timeout", defaultTimeout, "how long to wait for one tag")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress and no notes on standard error")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json") // fails only for a flag that is not there
	_ = c.MarkFlagFilename("resources", "yaml", "yml")
	_ = c.MarkFlagDirname("kustomize")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{textOutput, jsonOutput}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 && c.ArgsLenAtDash() != 0 {
			return fmt.Errorf("%q is no flag: manifests are given with --filename %s", args[0], args[0])
		}
		o.kubectlArgs = args
		o.stdin, o.stdout, o.stderr = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
		o.environment()
		return o.run(c.Context())
	}
	return c
}

// environment takes what kubectl 1.11 and older say.
func (o *options) environment() {
	if name := os.Getenv(envFilename); name != "" {
		o.files = []string{name}
	}
	if os.Getenv(envApply) != "" {
		o.apply = true
	}
	o.kubectl = os.Getenv(envCaller)
	if o.kubectl == "" {
		o.kubectl = "kubectl"
	}
}

// validate refuses what does not go together.
func (o *options) validate() error {
	given := func(flags map[string]bool) []string {
		var names []string
		for name, is := range flags {
			if is {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	ways := given(map[string]bool{"--apply": o.apply, "--in-place": o.inPlace, "--check": o.check, "--diff": o.diff})
	switch {
	case len(o.files)+len(o.kustomize) == 0:
		return errors.New("Please specify a path to resolve using --filename") //nolint:staticcheck // the words of kritis' plugin
	case len(ways) > 1 && !slices.Equal(ways, []string{"--check", "--diff"}):
		return fmt.Errorf("%s: give one of them", strings.Join(ways, " and "))
	case o.output != textOutput && o.output != jsonOutput:
		return fmt.Errorf("--output %q: want text or json", o.output)
	case o.output == jsonOutput && (o.apply || o.diff):
		return errors.New("--output json prints what was done, and --apply and --diff print something else; give one of them")
	case len(o.kubectlArgs) > 0 && !o.apply:
		return errors.New("arguments after -- are for kubectl apply; give --apply")
	case o.parallel < 1 || o.parallel > maxParallel:
		return fmt.Errorf("--parallel %d: want 1 to %d", o.parallel, maxParallel)
	case o.timeout <= 0:
		return fmt.Errorf("--timeout %s: want a time, such as 30s", o.timeout)
	}
	return nil
}

// registries returns the source that asks registries, by the usual credentials.
func registries(o *options) (tags.Source, error) {
	session, err := resolve.New(resolve.WithUserAgent(userAgent)).Session()
	if err != nil || o.platform == "" {
		return session, err
	}
	p, err := resolve.ParsePlatform(o.platform)
	if err != nil {
		return nil, fmt.Errorf("--platform: %w", err)
	}
	return platform{session, p}, nil
}

// inputs finds all manifests, in the order of the arguments: files first, as kubectl does.
func (o *options) inputs(ctx context.Context, from *opener) ([]input, error) {
	var all []input
	for i, arg := range o.files {
		list, err := from.files(ctx, arg, i)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	for i, dir := range o.kustomize {
		list, err := from.kustomized(ctx, dir, len(o.files)+i)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if o.inPlace {
		for _, in := range all {
			if !in.isFile {
				return nil, fmt.Errorf("--in-place: %s cannot be written", in.name)
			}
		}
	}
	return all, nil
}

func (o *options) run(ctx context.Context) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	kinds, err := o.kinds()
	if err != nil {
		return err
	}
	source, err := o.source(o)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: o.transport}
	from := &opener{stdin: o.stdin, stderr: o.stderr, kubectl: o.kubectl, recursive: o.recursive, client: client}
	defer func() { err = errors.Join(err, from.Close()) }()
	inputs, err := o.inputs(ctx, from)
	if err != nil {
		return err
	}
	r := &run{options: o, kinds: kinds, from: from, inputs: inputs}
	return r.run(ctx, source)
}

func (o *options) kinds() (*manifest.Kinds, error) {
	if o.resources == "" {
		return manifest.NewKinds(nil)
	}
	list, err := readResources(o.resources)
	if err != nil {
		return nil, err
	}
	kinds, err := manifest.NewKinds(list)
	if err != nil {
		return nil, fmt.Errorf("%s: admission.%w", o.resources, err)
	}
	return kinds, nil
}
