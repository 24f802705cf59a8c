// Package install puts Gatehouse into a Kubernetes cluster, and takes it out again.
//
// What is applied is the Helm chart in deploy/chart: [Render] gives the same objects as
// helm template, without Helm. [Cluster.Install] looks first at everything that could stop
// it, and then applies them in an order in which no half of it can do harm: the webhook
// configurations come last and are without webhooks until the controller has had an answer
// of a gate. [Cluster.Uninstall] goes the other way, and asks nothing of a gate.
package install
