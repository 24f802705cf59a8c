// Package identity tells who calls the metadata API, what they may do, and how
// often.
//
// # Who
//
// An [Authenticator] looks at one request. There are four here, and the seam is
// for more (OIDC tokens are bearer tokens that are verified in another way):
//
//   - Bearer tokens from a file: "authorization: Bearer TOKEN". The file has the
//     SHA-256 of each token and never the token, one caller a line:
//     NAME:HASH or, while a token is being replaced, NAME:HASH,HASH.
//   - Tokens of Kubernetes: bearer tokens that are JSON web tokens, that no file knows,
//     and that an API server vouches for (TokenReview) to our audience. The answer is
//     remembered for seconds, and never beyond the token's end. While the API server is
//     away whoever is not remembered is refused, with the kind Unavailable.
//   - HTTP basic from a file in the style of htpasswd, with bcrypt hashes only:
//     USER:$2y$10$…
//   - Client certificates, which the TLS listener has verified against its CA.
//
// In both files empty lines and lines that begin with # are skipped. They are
// read again when they change; a broken new version keeps the last good one.
//
// The scheme's name is matched in any case. gRPC calls carry the same header, and
// so one place serves gRPC and REST. A request that presents credentials is
// judged by them: if they are wrong it is refused, whatever else it presents, and
// if the header is right the certificate is not asked for another name.
//
// # Names
//
// A caller's name is the same caller however it was proven: a token of "ci@shop",
// a user "ci@shop" and a certificate for the mail address ci@shop are one. The
// name in a certificate is that of its first kind of subject name, in this order,
// as it stands there (DNS names in lower case):
//
//  1. URI, such as spiffe://cluster.local/ns/shop/sa/ci
//  2. DNS name
//  3. mail address
//  4. the subject's common name, only if there are no names of the other kinds
//
// A service account is system:serviceaccount:NAMESPACE:NAME, as Kubernetes has it.
// With users: true others are called what the API server calls them: whoever gives
// names there can give those of callers here.
//
// Two names of the kind that counts say nothing about which one calls, and are
// refused. So is a name with white space or what cannot be seen, a name with "://"
// that is not a URI (a common name is often the applicant's choice), "*", and
// "gatehouse-attestor", which is the server's own.
//
// # May
//
// [Rule]s give roles on projects to callers; see [metadata.Roles]. What no rule gives is
// refused, and the refusal says which rule would give it. A caller without a name
// is anonymous and has nothing, "*" included. Whoever has notes.attachOccurrence
// on the note of an attestor may attest in its name: the roles notes.attacher,
// notes.editor, editor and admin have it, as they have at Google.
//
// # How often
//
// Each caller has a token bucket of its own. Credentials that are wrong are
// counted by remote address, so that guessing, and filling the audit log, is slow.
package identity
