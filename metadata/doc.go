// Package metadata keeps what is known about images: Grafeas notes and
// occurrences. A note is a fact in general (a vulnerability, an authority that
// may attest) and an occurrence is that fact found on one resource.
//
// [Service] is the only way in. Every call names its [Caller], and one function
// beneath all transports asks the [Authorizer] and writes the log record, so no
// transport can forget either. Package grafeasapi is its gRPC and REST face;
// packages memory and sqlite are stores, held to the contract of [Store] by the
// suite in package metadatatest.
//
// What is promised:
//   - A call that returns without an error is durable, if the store is.
//   - A batch is created whole or not at all. It is refused beforehand if its
//     answer would pass [MaxBatchBytes], which clients could not receive.
//   - A filter, a page token or a name that is not understood is refused, never
//     ignored. A filter that needs a long scan yields short pages instead.
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
// (which binds tighter than AND) and NOT or "-", and parentheses. The terms are
//
//	resourceUrl = "https://host/repo@sha256:…"
//	kind = "ATTESTATION"                         or without the quotes
//	noteName = "projects/p/notes/n"
//	noteProjectId = "p"
//	noteId = "n"
//	has_prefix(resourceUrl, "host/repo")         for any of these fields
//	has_suffix(resourceUrl, "sha256:…")
//
// with "!=" too, and with the field names in snake case as well; resourceUrl may
// also be spelt resourceUri or resource.uri. Notes have no resourceUrl. Whatever
// else a filter says is refused with INVALID_ARGUMENT, the term and its position.
//
// An image reference has two spellings, with and without "https://", and a term
// matches it if it matches either, however the reference was stored. A URI with
// another scheme (deb://, http://) has only its own.
//
// Terms on resourceUrl (equality, and a whole digest as suffix), on noteName and
// on kind are answered by an index, alone or joined by OR, when they stand in a
// conjunction. Others look at up to 10,000 rows a call.
//
// # The change feed
//
// To follow the feed from nothing: read a snapshot with
// [Service.NoteOccurrences], then call Changes from the sequence it returned.
// A follower so far behind that its changes were dropped gets [ErrCompacted],
// and begins again with a snapshot.
package metadata
