package server

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/internal/clusterca"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// CertificatesConfig is what the controller does for the certificates of an installation.
type CertificatesConfig struct {
	// Issuer is who issues them: "own" is a CA that is kept in a Secret, "cert-manager"
	// that, and "none" (default) somebody who looks after the webhook configurations too.
	Issuer string `yaml:"issuer"`
	// Namespace is where the Secrets are. Default: that of the lease.
	Namespace string `yaml:"namespace"`
	// Name is what the names of all objects begin with. Default "gatehouse".
	Name string `yaml:"name"`
	// Hosts are more names and addresses for the certificates, beside those of the
	// Services and of the webhook configurations.
	Hosts CertificateHosts `yaml:"hosts"`
}

// CertificateHosts are names and addresses for each certificate.
type CertificateHosts struct {
	Gate   []string `yaml:"gate"`
	Server []string `yaml:"server"`
	Mutate []string `yaml:"mutate"`
}

const noIssuer = "none"

func defaultCertificates() CertificatesConfig {
	return CertificatesConfig{Issuer: noIssuer, Name: "gatehouse"}
}

func (c CertificatesConfig) validate() error {
	switch c.Issuer {
	case noIssuer, string(clusterca.Own), string(clusterca.CertManager):
	default:
		return fmt.Errorf("controller.certificates.issuer %q: want %s, %s or %s", c.Issuer, clusterca.Own, clusterca.CertManager, noIssuer)
	}
	if c.Name == "" {
		return fmt.Errorf("controller.certificates.name is empty: want what the names of the objects begin with, such as %q", defaultCertificates().Name)
	}
	return nil
}

// certificatesTask keeps the certificates; there is none if somebody else does.
func (p *parts) certificatesTask(client *kube.Client) ([]task, error) {
	c := p.cfg.Controller.Certificates
	if c.Issuer == noIssuer {
		return nil, nil
	}
	if c.Namespace == "" {
		c.Namespace = p.cfg.Controller.Lease.Namespace
	}
	keeper := clusterca.New(clusterca.Options{
		Client: client, Namespace: c.Namespace, Name: c.Name, Issuer: clusterca.Issuer(c.Issuer), Logger: p.logger,
		Hosts: map[clusterca.Part][]string{clusterca.Gate: c.Hosts.Gate, clusterca.Server: c.Hosts.Server, clusterca.Mutate: c.Hosts.Mutate},
	})
	if err := p.registry.Register(newClusterCertificates(keeper)); err != nil {
		return nil, err
	}
	return []task{{"certificates", keeper.Run}}, nil
}

// clusterCertificates are the metrics of the certificates in the cluster.
type clusterCertificates struct {
	keeper               *clusterca.Keeper
	expiry, roots, armed *prometheus.Desc
}

func newClusterCertificates(keeper *clusterca.Keeper) clusterCertificates {
	return clusterCertificates{
		keeper: keeper,
		expiry: prometheus.NewDesc("gatehouse_cluster_certificate_expiry_timestamp_seconds",
			"When a certificate that the controller issues ends, as a Unix time; ca is the root that issues.", []string{"certificate"}, nil),
		roots: prometheus.NewDesc("gatehouse_cluster_ca_roots", "Roots that clients are to trust.", nil, nil),
		armed: prometheus.NewDesc("gatehouse_webhook_armed",
			"1 if a webhook configuration has the webhooks that it should, with the roots that verify the gate.", []string{"configuration"}, nil),
	}
}

// Describe is of [prometheus.Collector].
func (c clusterCertificates) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.expiry, c.roots, c.armed} {
		to <- d
	}
}

// Collect is of [prometheus.Collector].
func (c clusterCertificates) Collect(to chan<- prometheus.Metric) {
	s := c.keeper.Status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if s.Roots > 0 {
		gauge(c.expiry, float64(s.Root.Unix()), "ca")
		gauge(c.roots, float64(s.Roots))
	}
	for part, end := range s.Certificates {
		if !end.IsZero() {
			gauge(c.expiry, float64(end.Unix()), string(part))
		}
	}
	for name, armed := range s.Armed {
		value := 0.0
		if armed {
			value = 1
		}
		gauge(c.armed, value, name)
	}
}
