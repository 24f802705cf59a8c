//go:build !race

package clients

var buildFlags []string
