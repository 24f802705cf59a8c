package server

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// watchCertificates has all certificates renewed, or followed.
func (p *parts) watchCertificates(running context.Context, group *errgroup.Group) {
	for _, c := range p.certificates {
		group.Go(func() error { return c.Run(running) })
	}
	if p.ownCA != nil {
		group.Go(func() error { return p.ownCA.Run(running) })
	}
}

// registerCertificates registers when they end.
func (p *parts) registerCertificates() error {
	var errs []error
	ends := func(of string, when func() time.Time) {
		errs = append(errs, p.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "gatehouse_certificate_expiry_timestamp_seconds",
			Help:        "When a certificate in use ends, as a Unix time: the one that a listener serves (admission, metadata), that the gate shows to the metadata service (feed), or that the server's own CA issues by (ca).",
			ConstLabels: prometheus.Labels{"certificate": of},
		}, func() float64 { return float64(when().Unix()) })))
	}
	for _, c := range p.certificates {
		ends(string(c.use), func() time.Time { return c.pair.Load().Leaf.NotAfter })
	}
	if ca := p.ownCA; ca != nil {
		ends(string(admissionCertificate), func() time.Time { leaf, _ := ca.Ends(); return leaf })
		ends("ca", func() time.Time { _, root := ca.Ends(); return root })
		errs = append(errs, p.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_ca_roots",
			Help: "Certificates in ca.crt, which API servers are to be given: 2 while the server's own CA replaces its root.",
		}, func() float64 { return float64(ca.Roots()) })))
	}
	return errors.Join(errs...)
}
