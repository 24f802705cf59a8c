package ownca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"slices"
	"time"
)

// beginning is when every certificate begins. That a key is used before it was made
// harms nobody, and a clock that was ahead for a while harms nobody either so.
func beginning() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

func newRoot(end time.Time) (*root, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	// Roots have different names, so that clients need not try them in turn.
	template := rootTemplate(pkix.Name{CommonName: "Gatehouse CA " + hex.EncodeToString(serial.Bytes()[:4])}, end)
	template.SerialNumber = serial
	cert, err := sign(template, template, key.Public(), key)
	return &root{cert: cert, key: key}, err
}

func rootTemplate(name pkix.Name, end time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: name, NotBefore: beginning(), NotAfter: end,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		// No limit to the length of a path: roots sign the ones after them.
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
	}
}

// crossSign returns a certificate of a root by the one before it, with the end of that.
func crossSign(of, by *root) (*x509.Certificate, error) {
	template := rootTemplate(of.cert.Subject, by.cert.NotAfter)
	template.SubjectKeyId = of.cert.SubjectKeyId
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return sign(template, by.cert, of.cert.PublicKey, by.key)
}

// leafEnd is the end of a serving certificate. A clock that is behind would make it one
// that has ended for everybody else; the root tells what time it is at the least.
func leafEnd(issuer *root, now time.Time, life time.Duration) time.Time {
	if now.Before(issuer.published) {
		now = issuer.published
	}
	end := now.Add(life).Truncate(time.Second) // as a certificate has it
	if end.After(issuer.cert.NotAfter) {
		end = issuer.cert.NotAfter
	}
	return end.UTC()
}

// issue makes a serving certificate with a key of its own.
func issue(by *root, chain [][]byte, hosts []string, end time.Time) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "gatehouse"},
		NotBefore:    beginning(), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if !slices.Contains(template.DNSNames, h) {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	leaf, err := sign(template, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: append([][]byte{leaf.Raw}, chain...), PrivateKey: key, Leaf: leaf}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newSerial returns a number of 126 bits that is never short.
func newSerial() (*big.Int, error) {
	top := new(big.Int).Lsh(big.NewInt(1), 126)
	n, err := rand.Int(rand.Reader, top)
	if err != nil {
		return nil, err
	}
	return n.Add(n, top), nil
}
