package signer

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// errAltered is what Google asks clients to look for: a message that was damaged
// between the service and here, or is about another key.
var errAltered = errors.New("the message was altered on its way from or to Cloud KMS; try again")

// checkIntegrity does the checks of Google's guidelines for data integrity that the
// client library leaves out, and refuses answers that it would take for granted: it
// reads the checksum of a signature without looking whether there is one.
func checkIntegrity(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if r, ok := req.(*kmspb.AsymmetricSignRequest); ok {
		r.DigestCrc32C = wrapperspb.Int64(checksum(digestOf(r)))
	}
	if err := invoke(ctx, method, req, reply, conn, opts...); err != nil {
		return err
	}
	switch reply := reply.(type) {
	case *kmspb.AsymmetricSignResponse:
		r, ok := req.(*kmspb.AsymmetricSignRequest)
		switch {
		case !ok || reply.GetName() != r.GetName():
			return otherKey(reply.GetName())
		case !reply.GetVerifiedDigestCrc32C():
			return fmt.Errorf("%w: it did not confirm the digest", errAltered)
		}
		return verifySum("signature", reply.GetSignature(), reply.GetSignatureCrc32C())
	case *kmspb.PublicKey:
		if r, ok := req.(*kmspb.GetPublicKeyRequest); !ok || reply.GetName() != r.GetName() {
			return otherKey(reply.GetName())
		}
		return verifySum("public key", []byte(reply.GetPem()), reply.GetPemCrc32C())
	case *kmspb.CryptoKeyVersion:
		if r, ok := req.(*kmspb.GetCryptoKeyVersionRequest); !ok || reply.GetName() != r.GetName() {
			return otherKey(reply.GetName())
		}
		if s := reply.GetState(); s != kmspb.CryptoKeyVersion_ENABLED {
			return fmt.Errorf("the version is %s: enable it, or name another", s)
		}
	}
	return nil
}

func digestOf(r *kmspb.AsymmetricSignRequest) []byte {
	switch d := r.GetDigest().GetDigest().(type) {
	case *kmspb.Digest_Sha256:
		return d.Sha256
	case *kmspb.Digest_Sha384:
		return d.Sha384
	case *kmspb.Digest_Sha512:
		return d.Sha512
	}
	return nil
}

func otherKey(name string) error {
	return fmt.Errorf("%w: it is about the key %q", errAltered, clip(name))
}

func verifySum(what string, content []byte, sum *wrapperspb.Int64Value) error {
	switch {
	case sum == nil:
		return fmt.Errorf("%w: the %s comes without its checksum", errAltered, what)
	case sum.GetValue() != checksum(content):
		return fmt.Errorf("%w: the %s does not have its checksum", errAltered, what)
	}
	return nil
}

func checksum(b []byte) int64 {
	return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}
