//go:build race

package clients

// buildFlags builds the product with the race detector if the tests have it, so
// that it watches over real clients too, and uses what other tests have compiled.
var buildFlags = []string{"-race"}
