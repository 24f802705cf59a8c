package server

import (
	"bytes"
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

// A certificateUse is what a certificate is for, in the words of metrics.
type certificateUse string

const (
	admissionCertificate certificateUse = "admission"
	metadataCertificate  certificateUse = "metadata"
	feedCertificate      certificateUse = "feed"
	kritisCertificate    certificateUse = "kritis"
)

func (u certificateUse) String() string {
	switch u {
	case metadataCertificate:
		return "certificate of the metadata API"
	case feedCertificate:
		return "client certificate of the gate"
	case kritisCertificate:
		return "certificate of the signer of Kritis"
	}
	return "serving certificate"
}

// A certificate is one from files. It is read again when they change, so that whoever
// renews it need not restart the server.
type certificate struct {
	use               certificateUse
	certFile, keyFile string
	logger            *slog.Logger
	now               func() time.Time

	pair     atomic.Pointer[tls.Certificate]
	sum      [sha256.Size]byte // of the files in force
	settling [sha256.Size]byte // of the files at the last look
	warned   time.Time
}

func openCertificate(use certificateUse, certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{use: use, certFile: certFile, keyFile: keyFile, logger: logger, now: time.Now}
	_, err := c.read()
	return c, err
}

// get is for [tls.Config].
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// read puts the files in force, and reports whether they are new. Whoever writes them may
// be at it: the two change one after the other, and for a moment one may be half there.
// So they count when they are the same at two looks, fit, and are not cut.
func (c *certificate) read() (changed bool, err error) {
	certPEM, err := bounded.ReadFile(c.certFile, maxPEM)
	if err != nil {
		return false, fmt.Errorf("reading the %s: %w", c.use, err)
	}
	keyPEM, err := bounded.ReadFile(c.keyFile, maxPEM)
	if err != nil {
		return false, fmt.Errorf("reading the key of the %s: %w", c.use, err)
	}
	sums := sha256.Sum256(certPEM)
	keySum := sha256.Sum256(keyPEM)
	sum := sha256.Sum256(append(sums[:], keySum[:]...))
	settled := sum == c.settling
	c.settling = sum
	inForce := c.pair.Load()
	if inForce != nil && (sum == c.sum || !settled) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err == nil {
		err = whole(certPEM)
	}
	if err == nil && inForce != nil {
		err = notWorse(pair.Leaf, inForce.Leaf, c.now())
	}
	if err != nil {
		return false, fmt.Errorf("reading the %s from %s and %s: %w", c.use, c.certFile, c.keyFile, err)
	}
	c.sum = sum
	c.pair.Store(&pair)
	return true, nil
}

// whole refuses a chain that is cut within a certificate. The parser passes over what
// does not end, and clients would miss what leads to their root.
func whole(certPEM []byte) error {
	rest := certPEM
	for block, after := pem.Decode(rest); block != nil; block, after = pem.Decode(rest) {
		rest = after
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return errors.New("the last certificate is cut off")
	}
	return nil
}

// notWorse refuses a certificate that is of no use now, in place of one that is.
func notWorse(next, inForce *x509.Certificate, now time.Time) error {
	good := func(c *x509.Certificate) bool { return !now.Before(c.NotBefore) && now.Before(c.NotAfter) }
	if good(next) || !good(inForce) {
		return nil
	}
	return fmt.Errorf("it is good from %s until %s, and not now; the one in force is good until %s",
		next.NotBefore.Format(time.RFC3339), next.NotAfter.Format(time.RFC3339), inForce.NotAfter.Format(time.RFC3339))
}

// Run watches the files until ctx ends.
func (c *certificate) Run(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := "" // error, said once
	for {
		c.warn()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := c.read()
		if changed {
			c.warned = time.Time{}
			c.logger.Info("the changed certificate is in force", "certificate", c.certFile, "until", c.pair.Load().Leaf.NotAfter)
		}
		if err == nil {
			last = ""
		} else if err.Error() != last {
			last = err.Error()
			c.logger.Error("the changed certificate is not used, the last good one stays in force", "error", err)
		}
	}
}

const (
	// A certificate ought to have been replaced so long before its end, or when a sixth of
	// its life is left; whoever does that does it when a third is left, as a rule.
	warnBefore, warnShare = 14 * 24 * time.Hour, 6
	warnEvery             = 24 * time.Hour
)

// warn tells each day that a certificate is about to end, or has.
func (c *certificate) warn() {
	leaf, now := c.pair.Load().Leaf, c.now()
	left := leaf.NotAfter.Sub(now)
	if left >= min(warnBefore, leaf.NotAfter.Sub(leaf.NotBefore)/warnShare) || now.Sub(c.warned).Abs() < warnEvery {
		return
	}
	c.warned = now
	c.logger.Warn("the "+c.use.String()+" ends soon, or has ended: replace it", "certificate", c.certFile, "end", leaf.NotAfter, "left", left.Round(time.Minute))
}

// metadataTLS returns the TLS of the metadata listener, nil if it has none, and
// the certificate to watch.
func metadataTLS(cfg Config, logger *slog.Logger) (*tls.Config, *certificate, error) {
	t := cfg.Metadata.TLS
	if t.CertFile == "" {
		return nil, nil, nil // Validate has seen that nothing else is set
	}
	cert, err := openCertificate(metadataCertificate, t.CertFile, t.KeyFile, logger)
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
