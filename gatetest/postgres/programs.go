package postgres

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// programs are the paths of those that are run.
type programs struct{ initdb, postgres string }

// debianFolders are where Debian keeps the programs of each version, none of
// which is in PATH.
const debianFolders = "/usr/lib/postgresql/*/bin"

// findPrograms looks in PATH and then for the newest of Debian's versions.
func findPrograms() (programs, error) {
	folders, err := filepath.Glob(debianFolders)
	if err != nil {
		return programs{}, err
	}
	version := func(folder string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder))) // 0 for what is no version
		return n
	}
	slices.SortFunc(folders, func(a, b string) int { return version(b) - version(a) })
	for _, folder := range append([]string{""}, folders...) {
		initdb, err := exec.LookPath(filepath.Join(folder, "initdb"))
		if err != nil {
			continue
		}
		server, err := exec.LookPath(filepath.Join(folder, "postgres"))
		if err == nil {
			return programs{initdb: initdb, postgres: server}, nil
		}
	}
	return programs{}, errors.New("initdb and postgres are neither in PATH nor in " + debianFolders + "; install postgresql")
}
