package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"
	"unicode"

	gcpkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"google.golang.org/api/option"
	gtransport "google.golang.org/api/transport/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// DefaultTimeout is how long Cloud KMS may take for one signature. It answers
	// in some hundred milliseconds, and its client tries again when it is busy.
	DefaultTimeout = 30 * time.Second

	// googleKeyID begins the id of a key of Cloud KMS; its name follows.
	googleKeyID = "//cloudkms.googleapis.com/v1/"
	// googleReference begins the name as sigstore writes it.
	googleReference = gcp.ReferenceScheme
	googleEndpoint  = "cloudkms.googleapis.com:443"

	// maxName bounds the name of a key version; Google's stay below 400.
	maxName = 1000
	// maxMessage bounds what is told of an error of the service.
	maxMessage = 300
)

// GoogleOptions are how to reach Cloud KMS. The zero GoogleOptions are Google's
// endpoint and the application default credentials.
type GoogleOptions struct {
	// Endpoint is HOST:PORT of a regional or private endpoint, with TLS, or
	// http://HOST:PORT of a server on this machine, which is sent no credentials.
	// "" is Google's.
	Endpoint string
	// CredentialsFile is used in place of the application default credentials.
	CredentialsFile string
	// Timeout is how long the service may take; 0 means [DefaultTimeout].
	Timeout time.Duration
}

// Google is a connection to Cloud KMS, for any number of keys. It is safe for
// concurrent use.
type Google struct {
	conn    *grpc.ClientConn
	client  kmspb.KeyManagementServiceClient
	timeout time.Duration
}

// DialGoogle returns a connection, which is made at its first use.
func DialGoogle(ctx context.Context, o GoogleOptions) (*Google, error) {
	conn, err := dialGoogle(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("connecting to Cloud KMS: %w", err)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return &Google{conn: conn, client: kmspb.NewKeyManagementServiceClient(conn), timeout: o.Timeout}, nil
}

func dialGoogle(ctx context.Context, o GoogleOptions) (*grpc.ClientConn, error) {
	untouched := grpc.WithChainUnaryInterceptor(checkIntegrity)
	if local, ok := strings.CutPrefix(o.Endpoint, "http://"); ok {
		if !loopback(local) {
			return nil, fmt.Errorf("endpoint %q is another machine: give HOST:PORT, which is reached with TLS", o.Endpoint)
		}
		return grpc.NewClient("passthrough:///"+local, grpc.WithTransportCredentials(insecure.NewCredentials()), untouched)
	}
	endpoint := googleEndpoint
	if o.Endpoint != "" {
		if _, _, err := net.SplitHostPort(o.Endpoint); err != nil {
			return nil, fmt.Errorf("endpoint %q: want HOST:PORT: %w", o.Endpoint, err)
		}
		endpoint = o.Endpoint
	}
	dial := []option.ClientOption{
		option.WithEndpoint(endpoint),
		option.WithScopes(gcpkms.DefaultAuthScopes()...),
		option.WithGRPCDialOption(untouched),
	}
	if o.CredentialsFile != "" {
		dial = append(dial, option.WithAuthCredentialsFile(option.ServiceAccount, o.CredentialsFile))
	}
	return gtransport.Dial(ctx, dial...)
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	ip, bad := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || bad == nil && ip.IsLoopback())
}

// Close ends the connection. Signers over it fail from then on.
func (g *Google) Close() error { return g.conn.Close() }

// googleName is what a version of a key is called.
var googleName = regexp.MustCompile(`^projects/[\w.:-]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+/cryptoKeyVersions/[1-9][0-9]*$`)

// ParseGoogleName reads the name of a version of a key, which may also be written
// as its id, //cloudkms.googleapis.com/v1/NAME, or as sigstore does, gcpkms://NAME.
func ParseGoogleName(s string) (name string, err error) {
	name = strings.TrimPrefix(s, googleReference)
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https:"), googleKeyID)
	switch {
	case len(name) > maxName:
		return "", fmt.Errorf("the name of a Cloud KMS key has %d bytes, more than %d", len(name), maxName)
	case !googleName.MatchString(name):
		return "", fmt.Errorf("%q does not name a version of a Cloud KMS key: want projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N; a key without a version would change under whoever trusts it", name)
	}
	return name, nil
}

// ParseDigest reads Voucher's and Kritis' word for the digest that a key signs:
// SHA256, SHA384 or SHA512. "" is 0, which leaves it to the key.
func ParseDigest(word string) (crypto.Hash, error) {
	switch word {
	case "":
		return 0, nil
	case "SHA256":
		return crypto.SHA256, nil
	case "SHA384":
		return crypto.SHA384, nil
	case "SHA512":
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("unsupported digest algorithm %q: want SHA256, SHA384 or SHA512", word)
}

// Signer returns the signer of a version of a key, whose id is
// //cloudkms.googleapis.com/v1/ and its name. It asks for the public half, so that
// a key that is not there, is disabled, or may not be used is known at once.
//
// The service account needs cloudkms.cryptoKeyVersions.useToSign and
// viewPublicKey (roles/cloudkms.signerVerifier), and cloudkms.cryptoKeys.get and
// cryptoKeyVersions.get (roles/cloudkms.viewer). digest is the word of
// [ParseDigest]; the key's version prescribes one, and another is an error.
func (g *Google) Signer(ctx context.Context, name, digest string) (signature.Signer, error) {
	s, err := g.signer(ctx, name, digest)
	if err != nil {
		return nil, fmt.Errorf("opening the Cloud KMS key %q: %w", clip(name), err)
	}
	return s, nil
}

func (g *Google) signer(ctx context.Context, name, digest string) (signature.Signer, error) {
	version, err := ParseGoogleName(name)
	if err != nil {
		return nil, err
	}
	hash, err := ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	public, err := g.client.GetPublicKey(ctx, &kmspb.GetPublicKeyRequest{Name: version})
	if err != nil {
		return nil, g.explain(ctx, "asking for its public half", err)
	}
	alg, err := signature.ParseAlgorithm(public.GetAlgorithm().String())
	if err != nil || alg.Hash() == 0 {
		return nil, fmt.Errorf("its algorithm is %s: want an EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384, RSA_SIGN_PKCS1 or RSA_SIGN_PSS key", public.GetAlgorithm())
	}
	if hash != 0 && hash != alg.Hash() {
		return nil, fmt.Errorf("it is a key for %s, and signs no digest of %s", public.GetAlgorithm(), digest)
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(public.GetPem()))
	if err != nil {
		return nil, fmt.Errorf("reading its public half: %w", err)
	}
	remote, err := g.open(ctx, version)
	if err != nil {
		return nil, err
	}
	return signature.NewRemoteSigner(key, alg, googleKeyID+version, func(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
		return g.sign(ctx, remote, message, opts)
	})
}

// open has the library read what it keeps of the key. The library does so without a
// deadline of ours, so that it is left behind when that has passed; it gives up by
// itself after a minute.
func (g *Google) open(ctx context.Context, version string) (*gcp.SignerVerifier, error) {
	remote, err := gcp.LoadSignerVerifier(ctx, googleReference+version, option.WithGRPCConn(g.conn))
	if err != nil {
		return nil, err
	}
	read := make(chan error, 1)
	go func() {
		_, err := remote.PublicKey()
		read <- err
	}()
	select {
	case err = <-read:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, g.explain(ctx, "reading what it is", err)
	}
	return remote, nil
}

func (g *Google) sign(ctx context.Context, remote *gcp.SignerVerifier, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	sig, err := remote.SignMessage(nil, options.WithContext(ctx), options.WithDigest(message), options.WithCryptoSignerOpts(opts))
	if err != nil {
		return nil, g.explain(ctx, "asking for a signature", err)
	}
	return sig, nil
}

// explain says that it was Cloud KMS, and whether it was too slow or refused.
func (g *Google) explain(ctx context.Context, doing string, err error) error {
	var answered interface{ GRPCStatus() *status.Status }
	answer := status.New(codes.OK, "")
	if errors.As(err, &answered) {
		answer = answered.GRPCStatus()
	}
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("%s of Cloud KMS: %w", doing, cause)
	case cause != nil, answer.Code() == codes.DeadlineExceeded: // our deadline is the server's too, which may notice first
		return fmt.Errorf("%s: Cloud KMS did not answer in time (%s at most): %w", doing, g.timeout, context.DeadlineExceeded)
	case answer.Code() != codes.OK:
		return fmt.Errorf("%s: Cloud KMS answers %s: %s", doing, answer.Code(), clip(answer.Message()))
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// clip shortens text that others chose, to one line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}
