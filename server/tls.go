package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// maxPEM bounds a file of certificates or of a key.
const maxPEM = 1 << 20

// A certificate is a serving certificate from files. It is read again when they
// change, so that whoever renews it need not restart the server.
type certificate struct {
	what, certFile, keyFile string
	logger                  *slog.Logger

	pair atomic.Pointer[tls.Certificate]
	sum  [sha256.Size]byte // of what was last looked at
}

func openCertificate(what, certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{what: what, certFile: certFile, keyFile: keyFile, logger: logger}
	_, err := c.read()
	return c, err
}

// get is for [tls.Config].
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// read puts the files in force, and reports whether they are new. The two change
// one after the other, and do not fit for a moment.
func (c *certificate) read() (changed bool, err error) {
	certPEM, err := bounded.ReadFile(c.certFile, maxPEM)
	if err != nil {
		return false, fmt.Errorf("reading the %s: %w", c.what, err)
	}
	keyPEM, err := bounded.ReadFile(c.keyFile, maxPEM)
	if err != nil {
		return false, fmt.Errorf("reading the key of the %s: %w", c.what, err)
	}
	sums := sha256.Sum256(certPEM)
	keySum := sha256.Sum256(keyPEM)
	sum := sha256.Sum256(append(sums[:], keySum[:]...))
	if sum == c.sum {
		return false, nil
	}
	c.sum = sum
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return true, fmt.Errorf("reading the %s from %s and %s: %w", c.what, c.certFile, c.keyFile, err)
	}
	c.pair.Store(&pair)
	return true, nil
}

// Run watches the files until ctx ends.
func (c *certificate) Run(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var last string // error, said once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := c.read()
		switch {
		case err != nil && err.Error() != last:
			last = err.Error()
			c.logger.Error("the changed certificate is not used, the last good one stays in force", "error", err)
		case err == nil && changed:
			last = ""
			c.logger.Info("the changed certificate is in force", "certificate", c.certFile, "until", c.pair.Load().Leaf.NotAfter)
		}
	}
}

// metadataTLS returns the TLS of the metadata listener, nil if it has none, and
// the certificate to watch.
func metadataTLS(cfg Config, logger *slog.Logger) (*tls.Config, *certificate, error) {
	t := cfg.Metadata.TLS
	if t.CertFile == "" {
		return nil, nil, nil // Validate has seen that nothing else is set
	}
	cert, err := openCertificate("certificate of the metadata API", t.CertFile, t.KeyFile, logger)
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	if t.ClientCAFile == "" {
		return config, cert, nil
	}
	if config.ClientCAs, err = readCAs(t.ClientCAFile); err != nil {
		return nil, nil, err
	}
	// A resumed session would carry a verdict on a certificate from before.
	config.SessionTicketsDisabled = true
	config.ClientAuth = tls.RequireAndVerifyClientCert
	if cfg.Identity.Secrets() {
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, cert, nil
}

// readCAs reads a file of certificates that client certificates are issued by.
func readCAs(path string) (*x509.CertPool, error) {
	rest, err := bounded.ReadFile(path, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of client certificates: %w", err)
	}
	pool, found := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("reading the CA of client certificates from %s: there is a %s in it: want certificates only", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the CA of client certificates from %s: certificate %d: %w", path, found+1, err)
		}
		pool.AddCert(cert)
		found++
	}
	if found == 0 {
		return nil, fmt.Errorf("reading the CA of client certificates from %s: there is no PEM certificate in it, so nobody could connect: give the CA's certificate (-----BEGIN CERTIFICATE-----)", path)
	}
	return pool, nil
}

// validateTLS refuses TLS that is configured by half: it would serve in the clear,
// or nobody.
func (c *Config) validateTLS() error {
	t, mtls := c.Metadata.TLS, c.Identity.MTLS
	var errs []error
	bad := func(text string) { errs = append(errs, errors.New(text)) }
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		bad("metadata.tls has certFile and no keyFile: give keyFile, the private key of that certificate")
	case t.KeyFile != "" && t.CertFile == "":
		bad("metadata.tls has keyFile and no certFile: give certFile, the certificate of that key")
	case t.ClientCAFile != "" && t.CertFile == "":
		bad("metadata.tls has clientCAFile and no certificate, and would serve in the clear: give certFile and keyFile")
	}
	switch {
	case mtls && t.ClientCAFile == "":
		bad("identity.mtls needs metadata.tls.clientCAFile, the CA that client certificates are verified against")
	case !mtls && t.ClientCAFile != "":
		bad("metadata.tls.clientCAFile verifies client certificates and nobody asks whose they are: set identity.mtls: true, or remove it")
	}
	return errors.Join(errs...)
}
