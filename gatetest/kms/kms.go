// Package kms is Google's Cloud KMS on loopback, as far as signing needs it: a
// server that speaks gRPC (google.cloud.kms.v1), with real keys in memory, for tests
// and demonstrations.
//
//	service := kms.New(t)
//	key := service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
//	client, err := signer.DialGoogle(ctx, signer.GoogleOptions{Endpoint: service.Endpoint()})
//
// It computes and checks the checksums that the protocol has. [Service.Intercept]
// changes or withholds answers, so that a test can show what becomes of them.
package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"path"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A Hook sees each answer before it is sent, and may change it, wait, or answer with
// an error. method is "AsymmetricSign", "GetPublicKey" and so on.
type Hook func(ctx context.Context, method string, answer any) error

// A Service is a running server.
type Service struct {
	kmspb.UnimplementedKeyManagementServiceServer

	addr string

	mu    sync.Mutex
	keys  map[string]*key // by the name of the version
	hook  Hook
	calls map[string]int
}

type key struct {
	algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm
	private   crypto.Signer
	state     kmspb.CryptoKeyVersion_CryptoKeyVersionState
}

// New starts a server on a free port that ends with the test.
func New(t testing.TB) *Service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding loopback does not block
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{addr: ln.Addr().String(), keys: map[string]*key{}, calls: map[string]int{}}
	server := grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving Cloud KMS: %v", err)
		}
	})
	return s
}

// Endpoint is where the server is, in the form that clients of ours take.
func (s *Service) Endpoint() string { return "http://" + s.addr }

// Intercept sets the hook; nil is none.
func (s *Service) Intercept(h Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = h
}

// Calls returns how often a method was called.
func (s *Service) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *Service) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	s.mu.Lock()
	s.calls[method]++
	hook := s.hook
	s.mu.Unlock()
	answer, err := handle(ctx, req)
	if err == nil && hook != nil {
		err = hook(ctx, method, answer)
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// AddKey makes a key and returns the name of its one version.
func (s *Service) AddKey(t testing.TB, algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) (version string) {
	t.Helper()
	private, err := generate(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version = fmt.Sprintf("projects/test/locations/global/keyRings/ring/cryptoKeys/key%d/cryptoKeyVersions/1", len(s.keys)+1)
	s.keys[version] = &key{algorithm, private, kmspb.CryptoKeyVersion_ENABLED}
	return version
}

// Disable disables a version of a key.
func (s *Service) Disable(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[version].state = kmspb.CryptoKeyVersion_DISABLED
}

func generate(algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) (crypto.Signer, error) {
	switch word := algorithm.String(); {
	case strings.HasPrefix(word, "EC_SIGN_P256"):
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case strings.HasPrefix(word, "EC_SIGN_P384"):
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case word == "EC_SIGN_ED25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case strings.Contains(word, "_2048_"):
		return rsa.GenerateKey(rand.Reader, 2048)
	case strings.Contains(word, "_3072_"):
		return rsa.GenerateKey(rand.Reader, 3072)
	case strings.Contains(word, "_4096_"):
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("this server has no keys for %s", algorithm)
}

func (s *Service) find(version string) (key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[version]
	if !ok {
		return key{}, status.Errorf(codes.NotFound, "CryptoKeyVersion %s not found.", version)
	}
	return *k, nil
}

// usable is find for a key that is in use.
func (s *Service) usable(version string) (key, error) {
	k, err := s.find(version)
	if err == nil && k.state != kmspb.CryptoKeyVersion_ENABLED {
		return key{}, status.Errorf(codes.FailedPrecondition, "%s is not enabled, current state is: %s.", version, k.state)
	}
	return k, err
}

// GetCryptoKey implements the service.
func (s *Service) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	if _, err := s.find(r.GetName() + "/cryptoKeyVersions/1"); err != nil {
		return nil, err
	}
	return &kmspb.CryptoKey{Name: r.GetName(), Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}, nil
}

// GetCryptoKeyVersion implements the service.
func (s *Service) GetCryptoKeyVersion(_ context.Context, r *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	k, err := s.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return &kmspb.CryptoKeyVersion{Name: r.GetName(), Algorithm: k.algorithm, State: k.state}, nil
}

// GetPublicKey implements the service.
func (s *Service) GetPublicKey(_ context.Context, r *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	k, err := s.usable(r.GetName())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return &kmspb.PublicKey{Name: r.GetName(), Algorithm: k.algorithm, Pem: string(text), PemCrc32C: wrapperspb.Int64(Checksum(text))}, nil
}

// AsymmetricSign implements the service.
func (s *Service) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	k, err := s.usable(r.GetName())
	if err != nil {
		return nil, err
	}
	digest, hash := digestOf(r)
	if want := hashOf(k.algorithm); hash == 0 || hash != want || len(digest) != want.Size() {
		return nil, status.Errorf(codes.InvalidArgument, "%s needs a digest of %s.", k.algorithm, want)
	}
	answer := &kmspb.AsymmetricSignResponse{Name: r.GetName()}
	if sum := r.GetDigestCrc32C(); sum != nil {
		if sum.GetValue() != Checksum(digest) {
			return nil, status.Error(codes.InvalidArgument, "The checksum in field digest_crc32c did not match the data in field digest.")
		}
		answer.VerifiedDigestCrc32C = true
	}
	opts := crypto.SignerOpts(hash)
	if strings.Contains(k.algorithm.String(), "_PSS_") {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	if answer.Signature, err = k.private.Sign(rand.Reader, digest, opts); err != nil {
		return nil, err
	}
	answer.SignatureCrc32C = wrapperspb.Int64(Checksum(answer.GetSignature()))
	return answer, nil
}

func digestOf(r *kmspb.AsymmetricSignRequest) ([]byte, crypto.Hash) {
	switch d := r.GetDigest().GetDigest().(type) {
	case *kmspb.Digest_Sha256:
		return d.Sha256, crypto.SHA256
	case *kmspb.Digest_Sha384:
		return d.Sha384, crypto.SHA384
	case *kmspb.Digest_Sha512:
		return d.Sha512, crypto.SHA512
	}
	return nil, 0
}

func hashOf(algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) crypto.Hash {
	switch word := algorithm.String(); {
	case strings.HasSuffix(word, "SHA384"):
		return crypto.SHA384
	case strings.HasSuffix(word, "SHA512"):
		return crypto.SHA512
	}
	return crypto.SHA256
}

// Checksum is the CRC32C that the protocol has of what it carries.
func Checksum(b []byte) int64 {
	return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}
