// Package image holds the words every other package uses for container images:
// [Reference], what a person or a manifest writes; [Tag], a mutable name; and
// [Digest], the content address that alone can be attested or decided.
//
// A Reference keeps the text it was parsed from ([Reference.String]), because
// Binary Authorization patterns match that text byte for byte, beside its
// normalised parts. Normalisation happens one way only: a reference whose first
// path component is not a registry host is a Docker Hub short name, so "nginx"
// is repository "library/nginx" of registry "index.docker.io" and "team/app" is
// "team/app" of it; "docker.io" and "registry-1.docker.io" are spellings of the
// same registry, and a host is lower-cased. The tag is never defaulted.
//
// A [Pattern] lets images in by name. Binary Authorization has two languages for
// that, which look alike and differ: the exempt patterns of a project's policy
// compare text ([ParseBinauthzPattern]), and the allow patterns of a platform
// policy compare names, tags and digests ([ParsePlatformPattern]). Both look at a
// reference as it is written: a pattern for "docker.io/library/nginx" does not
// cover "nginx", because normalisation must not exempt what no one wrote down.
//
// The package does no I/O; package resolve asks registries.
package image
