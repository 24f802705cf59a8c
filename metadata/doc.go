// Package metadata keeps what is known about images: Grafeas notes and
// occurrences. A note is a fact in general (a vulnerability, an authority that
// may attest) and an occurrence is that fact found on one resource.
//
// [Service] is the only way in. Every call names its [Caller], and one function
// beneath all transports asks the [Authorizer] and writes the log record, so no
// transport can forget either. Package grafeasapi is its gRPC and REST face;
// packages memory, sqlite and postgres are stores, held to the contract of [Store]
// by the suite in package metadatatest. A version of the API other than v1 is a
// [Dialect] of the same service: package v1beta1 is one.
//
// What is promised:
//   - A call that returns without an error is durable, if the store is.
//   - A batch is created whole or not at all. It is refused beforehand if its
//     answer would pass [MaxBatchBytes], which clients could not receive.
//   - A filter, a page token or a name that is not understood is refused, never
//     ignored. One that would look at more than 10,000 rows for what no index
//     answers is refused too, with the position of the term.
//   - Occurrences are listed newest first, notes in the order of their ids.
//     Whatever existed when the first page was read, and was not deleted since,
//     appears exactly once.
//   - Every write appends a [Change] in the same transaction. [Service.Changes]
//     reads them, [Service.Head] tells the last one without any I/O, and
//     [Service.Wait] blocks until there are more.
//
// # Filters
//
// The language is that of https://google.aip.dev/160: terms joined by AND, OR
// (which binds tighter than AND) and NOT or "-", and parentheses. The parser is
// that of go.einride.tech/aip: it follows the published grammar rule by rule, gives
// every expression its position, is kept up (eleven releases from January to May
// 2026) and needs no generated code or runtime of its own. What it is too strict
// about (spaces, bare values) is put right before it, and what it cannot tell
// apart is refused. The terms are
//
//	resourceUrl = "https://host/repo@sha256:…"
//	kind = "ATTESTATION"                         or a former name, or a number
//	noteName = "projects/p/notes/n"
//	noteProjectId = "p"
//	noteId = "n"
//	has_prefix(resourceUrl, "host/repo")         or hasPrefix
//	has_suffix(resourceUrl, "sha256:…")          or hasSuffix
//	createTime >= "2026-01-31T12:00:00Z"
//	vulnerability.severity >= HIGH               any path to a value
//	discovery:*                                  which is set
//
// with = != < <= > >= and ":". Names may be in snake case, and resourceUrl may be
// spelt resourceUri or resource.uri. Notes have no resourceUrl. A path is one
// through the message as the caller's API shows it ([Dialect]); in gcloud's words
// the name of a package is dependencyPackageName. Values are strings in double
// quotes, or bare words, numbers and dashes. Whatever else a filter says is
// refused with INVALID_ARGUMENT, the term and its position.
//
// How values compare:
//   - Text by its bytes; there are no wildcards. Numbers as numbers, floats in
//     their own width. Enums by name or number, in the order of their numbers.
//     Booleans as true and false, bytes as base64; neither has an order.
//   - Times as RFC 3339, or as a day, which is its first moment in UTC and has no
//     equality. Durations as "90s" or "1h30m".
//   - Of what is repeated on a path, any one will do: tags = "x" asks whether one of
//     them is. The entries of a map are found by their key, labels.env = "prod" or
//     labels."a.b" = "prod".
//   - What a path does not lead to (a message that is not set, the other member of
//     a oneof, a key that is not there) passes no term. A plain field that is not
//     set has its zero value, as always in proto3.
//   - "!=" is the opposite of "=" in all cases: tags != "x" asks that none of them
//     is, and vulnerability.severity != HIGH passes what is no vulnerability.
//   - ":" is "=", but on a map, where labels:env asks for the key; with a bare * it
//     asks whether anything is there, and a plain field that is zero is not.
//
// An image reference has two spellings, with and without "https://", and a term
// matches it if it matches either, however the reference was stored. A URI with
// another scheme (deb://, http://) has only its own.
//
// Indexes answer terms that stand in a conjunction, alone or joined by OR:
// equality of resourceUrl, kind, noteName, noteProjectId and noteId, prefixes of
// resourceUrl (beyond "https://"), noteId and noteName (the whole project at least),
// a whole digest as the suffix of resourceUrl, and kinds that are excluded. Others
// look at what those leave, row by row; pages are short where few of them match.
//
// # The change feed
//
// To follow the feed from nothing: read a snapshot with
// [Service.NoteOccurrences], then call Changes from the sequence it returned.
// A follower so far behind that its changes were dropped gets [ErrCompacted],
// and begins again with a snapshot.
package metadata
