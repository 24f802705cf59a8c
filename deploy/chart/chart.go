// Package chart holds the Helm chart of Gatehouse, the one source of what is applied to a
// cluster: helm renders it, and so does package install.
package chart

import (
	"embed"
	"io/fs"
)

//go:embed all:gatehouse
var files embed.FS

// Files returns the folder of the chart, in which Chart.yaml is.
func Files() fs.FS {
	folder, err := fs.Sub(files, "gatehouse")
	if err != nil {
		panic(err) // "gatehouse" is a valid path
	}
	return folder
}
