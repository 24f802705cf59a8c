package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour

	// renewBefore is how long before its end the serving certificate is replaced.
	renewBefore = 30 * 24 * time.Hour

	// clockSkew allows for API servers whose clock is behind.
	clockSkew = time.Hour
)

// A devCA issues the serving certificate of a server that was given none. Its
// key and certificate are made once and kept in the data folder.
type devCA struct {
	certPath string
	cert     *x509.Certificate
	key      crypto.Signer
	hosts    []string
	now      func() time.Time

	mu   sync.Mutex
	leaf *tls.Certificate
}

// openDevCA reads the CA in dir, or makes one.
func openDevCA(dir string, hosts []string, now func() time.Time) (*devCA, error) {
	ca := &devCA{certPath: filepath.Join(dir, "ca.pem"), hosts: hosts, now: now}
	keyPath := filepath.Join(dir, "ca-key.pem")
	certPEM, err := os.ReadFile(ca.certPath)
	if errors.Is(err, fs.ErrNotExist) {
		if err := ca.create(dir, keyPath); err != nil {
			return nil, fmt.Errorf("making the development CA: %w", err)
		}
		return ca, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the development CA: %w", err)
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("reading the development CA: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the development CA in %s: %w", dir, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading the development CA in %s: its key cannot sign", dir)
	}
	ca.cert, ca.key = pair.Leaf, signer
	if !now().Before(ca.cert.NotAfter) {
		return nil, fmt.Errorf("the development CA %s ended on %s: remove it and its key, restart, and give the new one to the API server", ca.certPath, ca.cert.NotAfter.Format(time.DateOnly))
	}
	return ca, nil
}

func (ca *devCA) create(dir, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := ca.now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Gatehouse development CA"},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := signCertificate(template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	ca.key = key
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// The key first: a certificate without its key would look like a whole CA.
	if err := writeFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return writeFile(ca.certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// certificate returns a serving certificate that is good for a while.
func (ca *devCA) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	now := ca.now()
	if ca.leaf != nil && now.Before(ca.leaf.Leaf.NotAfter.Add(-renewBefore)) {
		return ca.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issuing a serving certificate: %w", err)
	}
	end := now.Add(leafLife)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "gatehouse"},
		NotBefore: now.Add(-clockSkew), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range ca.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if !slices.Contains(template.DNSNames, h) {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := signCertificate(template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("issuing a serving certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issuing a serving certificate: %w", err)
	}
	ca.leaf = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return ca.leaf, nil
}

func signCertificate(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, parent, public, key)
}

// writeFile writes a file whole or not at all, durably.
func writeFile(path string, data []byte, perm os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(perm), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
