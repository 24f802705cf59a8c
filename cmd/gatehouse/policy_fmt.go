package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

func policyFmtCommand() *cobra.Command {
	var write, check bool
	c := &cobra.Command{
		Use:   "fmt [--write|--check] FILE...",
		Short: "Bring policies and attestors into one form",
		Long: `Print policies and attestors in one form: keys in alphabetical order, as gcloud
exports them, two spaces to a level. Comments stay with what they stand at. JSON
stays JSON. A file that is not valid is refused and left alone.

Exit status: 0; with --check 1 if a file would change; 2 error.`,
		Example: `  gatehouse policy fmt --write policy.yaml`,
		Args:    cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "write the files instead of printing them")
	c.Flags().BoolVar(&check, "check", false, "only name the files that would change")
	c.RunE = func(c *cobra.Command, args []string) error {
		if write && check {
			return errors.New("--write changes files and --check does not; give one of them")
		}
		changed := false
		for _, name := range args {
			differs, err := formatFile(c, name, write, check)
			if err != nil {
				return err
			}
			changed = changed || differs
		}
		if check && changed {
			return errNo
		}
		return nil
	}
	return c
}

func formatFile(c *cobra.Command, name string, write, check bool) (differs bool, err error) {
	if name == "-" && write {
		return false, errors.New("standard input cannot be written")
	}
	data, err := readInput(c, name)
	if err != nil {
		return false, err
	}
	if found := bundle.Lint([]bundle.File{{Name: name, Data: data}}, time.Now()); found.HasErrors() {
		return false, report(c, found)
	}
	formatted, err := document.Format(data)
	if err != nil {
		return false, fmt.Errorf("formatting %s: %w", name, err)
	}
	differs = !bytes.Equal(data, formatted)
	switch {
	case check && differs:
		_, err = fmt.Fprintln(c.OutOrStdout(), name)
	case check, write && !differs:
	case write:
		err = replaceFile(name, formatted)
	default:
		_, err = c.OutOrStdout().Write(formatted)
	}
	return differs, err
}

// replaceFile writes beside the file and renames, so that a crash leaves the one or
// the other whole.
func replaceFile(name string, data []byte) (err error) {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".gatehouse-fmt-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
