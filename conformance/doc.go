// Package conformance tries the known ways around a Kubernetes image gate, from
// outside, on any gate: it sends AdmissionReviews to a webhook as an API server
// does, over HTTPS, and judges the answers. It creates nothing in a cluster and
// needs none.
//
// What it tries are the classes B1 to B24 ([Classes]); each [Case] says what is
// sent, what must hold, what an attacker gains where it does not hold, and where
// that was seen. [Run] runs them and returns a [Report].
//
// A gate has to know one image that it admits and one that it denies; a [Profile]
// names them, and says what else can be expected of the gate. A case for which the
// profile says too little is skipped with the reason, and never passed. If the good
// image is not admitted or the bad one not denied, nothing would be proven, and the
// run ends with [ErrBaseline].
//
// Gates that ask registries are tried with a hostile one ([StartRegistry]), which
// gives two answers, moves tags, stalls, never ends, redirects, and watches for
// credentials that are not meant for it.
package conformance
