package controlplane

import "fmt"

func (c *ControlPlane) etcdFlags(client, peer int) []string {
	return []string{
		"--data-dir=" + c.path("etcd"),
		fmt.Sprintf("--client-port=%d", client),
		fmt.Sprintf("--peer-port=%d", peer),
		"--unsafe-no-fsync",
	}
}

func (c *ControlPlane) apiServerFlags(port, etcd int, opts Options) []string {
	flags := []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcd),
		fmt.Sprintf("--secure-port=%d", port),
		"--permit-port-sharing", // with the reservation of the port
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--cert-dir=" + c.path("apiserver-generated"),
		"--tls-cert-file=" + c.path("apiserver.crt"),
		"--tls-private-key-file=" + c.path("apiserver.key"),
		"--client-ca-file=" + c.path("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("serviceaccount.pub"),
		"--service-account-signing-key-file=" + c.path("serviceaccount.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=Node,RBAC",
		"--audit-policy-file=" + c.path("audit.yaml"),
		"--audit-log-path=" + c.path("audit.log"),
	}
	if opts.AdmissionOnly {
		flags = append(flags, "--disable-admission-plugins=ServiceAccount")
	}
	return append(flags, opts.APIServerFlags...)
}

// clientFlags are those of the programs that are clients of the API server and
// need not listen themselves.
func (c *ControlPlane) clientFlags(name string) []string {
	kubeconfig := c.path(name + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		// The defaults protect a shared API server and slow a test down.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

func (c *ControlPlane) controllerManagerFlags() []string {
	return append(c.clientFlags("controller-manager"),
		"--service-account-private-key-file="+c.path("serviceaccount.key"),
		"--root-ca-file="+c.path("ca.crt"),
		"--use-service-account-credentials",
	)
}
