// Package controlplane starts a real Kubernetes control plane on loopback, for
// tests and demonstrations: etcd, kube-apiserver and kube-controller-manager as
// child processes, and kubectl to talk to them. Nothing has to be installed but
// Go, nothing is shared between control planes, and any number of them may run
// at once, in one process or in many.
//
// A test that needs one says
//
//	cp := controlplane.New(t, controlplane.Options{})
//	out, stderr, err := cp.Kubectl(t.Context(), strings.NewReader(manifest), "apply", "-f", "-")
//
// and other programs use [Start] and [ControlPlane.Stop]. [Options.AdmissionOnly]
// leaves the controller manager out: pods can be created and admission runs, in
// half the time, but a Deployment makes no pods.
//
// There is no kubelet: pods stay Pending. With [Options.Scheduler], package kwok adds nodes on which they
// are told to run, and package kubelet runs those of a namespace as processes.
//
// The Kubernetes programs are one binary, built from the module test/kube into
// the user's cache directory the first time that it is needed. With cold Go
// caches this takes 6 minutes on two idle cores, 3.2 GB of memory and 4 GB of
// disk; afterwards it is there at once. Because go test ends a package's tests
// after 10 minutes, build it first:
//
//	go run ./gatetest/controlplane/prebuild
//
// The cache may be deleted at any time.
//
// The child processes listen on ports that are reserved before they start, and
// end with the process that started them, however that ends (on Linux by the
// kernel's parent death signal).
//
// The package speaks JSON over HTTPS and imports no Kubernetes package, so that
// it adds nothing to the module graph of its users.
package controlplane
