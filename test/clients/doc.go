// Package clients has no code but tests: programs that speak Grafeas, unchanged,
// against gatehouse as it is run. Google's own client libraries are linked in, and
// for programs that are not libraries there is what they send, field by field.
//
// It is a module of its own because Google's stubs of v1beta1 and the product's
// have the same proto package, which no process can hold twice.
package clients
