package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/kritis"
)

// policyImport is what objects of Kritis are imported from, and to where.
type policyImport struct {
	options     kritis.ImportOptions
	authorities string
	directory   string
}

func policyImportCommand() *cobra.Command {
	var in policyImport
	c := &cobra.Command{
		Use:   "import FILE...",
		Short: "Turn the policies of Kritis into policies of Binary Authorization",
		Long: `Turn the objects of Kritis, as 'kubectl get -o yaml' writes them, into a policy of
Binary Authorization with its attestors and, for what that cannot say, a platform
policy. A pod must be allowed by both. Other objects in the files are left out.

Prints what becomes of everything, a line FILE:LINE: kept|changed|dropped: WHAT for
each thing. Where the meaning cannot be kept, more is denied; a line that says "allows
more" is an exception and wants a look. With --output-dir the policies are written to
policy.yaml, attestors.yaml and platform-policy.yaml there; no file is overwritten.
--output json has them beside the report.

The objects can also be enforced as they are, which changes less.

Exit status: 0 everything means what it did, 1 imported with changes, 2 error.`,
		Example: `  kubectl get imagesecuritypolicies,genericattestationpolicies,attestationauthorities -A -o yaml > kritis.yaml
  gatehouse policy import kritis.yaml --project my-project --output-dir policies`,
		Args: cobra.MinimumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&in.options.Project, "project", "default", "project that gets the policies")
	f.StringVar(&in.directory, "output-dir", "", "directory to write the policies to")
	f.StringVar(&in.authorities, "authorities", "all", "how many authorities of a GenericAttestationPolicy must attest: all, or any as in Kritis v0.2.x")
	f.StringSliceVar(&in.options.ScanProjects, "scan-projects", nil, "projects whose scans count (default kritis)")
	f.BoolVar(&in.options.DefaultDeny, "default-deny", false, "admit nothing in namespaces without policies")
	_ = c.RegisterFlagCompletionFunc("authorities", cobra.FixedCompletions([]string{"all", "any"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	_ = c.MarkFlagDirname("output-dir")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		imported, err := in.run(c, args)
		if err != nil {
			return err
		}
		if in.directory != "" {
			if err := writeImported(in.directory, imported); err != nil {
				return err
			}
		}
		if err := printImported(c, *output, imported); err != nil {
			return err
		}
		if imported.Changed() {
			return errNo
		}
		return nil
	}
	return c
}

func (in *policyImport) run(c *cobra.Command, files []string) (*kritis.Imported, error) {
	switch in.authorities {
	case "all":
	case "any":
		in.options.Authorities = kritis.AnyAuthority
	default:
		return nil, fmt.Errorf("--authorities %q: want all or any", in.authorities)
	}
	var list []*kritis.Objects
	erred := false
	for _, name := range files {
		data, err := readInput(c, name)
		if err != nil {
			return nil, err
		}
		objects, found := kritis.Parse(name, data)
		if err := report(c, found); errors.Is(err, errFound) {
			erred = true // tell of the other files too
		} else if err != nil {
			return nil, err
		}
		list = append(list, objects)
	}
	if erred {
		return nil, errFound
	}
	objects, found := kritis.Merge(list...)
	if err := report(c, found); err != nil {
		return nil, err
	}
	imported, found := objects.Import(in.options)
	return imported, report(c, found)
}

// importedFile is a text and the name of its file.
type importedFile struct {
	name string
	text []byte
}

func filesOf(i *kritis.Imported) []importedFile {
	files := []importedFile{{"policy.yaml", i.Policy}, {"attestors.yaml", i.Attestors}, {"platform-policy.yaml", i.Platform}}
	return slices.DeleteFunc(files, func(f importedFile) bool { return f.text == nil })
}

// writeImported writes all texts, or none if one of the files is there already.
func writeImported(directory string, imported *kritis.Imported) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	files := filesOf(imported)
	for _, name := range []string{"policy.yaml", "attestors.yaml", "platform-policy.yaml"} {
		path := filepath.Join(directory, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already; take it away or name another directory", path)
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, file := range files {
		if err := createFile(filepath.Join(directory, file.name), file.text); err != nil {
			return err
		}
	}
	return nil
}

func createFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func printImported(c *cobra.Command, output format, imported *kritis.Imported) error {
	if output == formatJSON {
		return printJSON(c.OutOrStdout(), struct {
			Policy         string          `json:"policy"`
			Attestors      string          `json:"attestors"`
			PlatformPolicy string          `json:"platformPolicy,omitempty"`
			Report         []kritis.Change `json:"report"`
		}{string(imported.Policy), string(imported.Attestors), string(imported.Platform), imported.Report})
	}
	for _, change := range imported.Report {
		if _, err := fmt.Fprintln(c.OutOrStdout(), change); err != nil {
			return err
		}
	}
	return nil
}
