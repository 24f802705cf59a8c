// Package v1beta1 is the dialect of Grafeas v1beta1: it turns its messages into
// those of v1, in which package metadata keeps them, and back.
//
// Nothing that comes in is lost. What v1 has a place for goes there, so that both
// versions see it. A message that v1 cannot hold whole is also kept as it came,
// without the fields that both have in common, in [metadata.OriginalField]; it is
// what v1beta1 then shows. docs/grafeas-kinds.md tells it kind by kind.
//
// What only v1 knows is not shown through v1beta1. [UpdateNote] and
// [UpdateOccurrence] see to it that an update does not lose it either.
package v1beta1
