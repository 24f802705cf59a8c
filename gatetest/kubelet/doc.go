// Package kubelet runs the pods of one namespace of a real control plane, for tests, as
// processes of this machine: what a container would see of its image, arguments,
// environment and volumes, the process sees, in a root folder and as a user of its own.
// Secrets and ConfigMaps that change are changed there, tokens are those of the pod's
// service account, probes decide about readiness, and a pod that is deleted has its grace
// period. Services of the namespace pass connections on to the pods that are ready.
//
// What is not as in a cluster: each pod has an address of its own on loopback, and
// 0.0.0.0 in what it is configured with is that address; names of Services are in
// /etc/hosts; every image is one program of the caller's.
//
// It is for Linux: only there has a process a root folder and a user of its own that easily.
package kubelet
