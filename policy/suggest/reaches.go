package suggest

import (
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
)

// Reaches says in words what a pattern of a Binary Authorization policy lets in beside
// what was meant, and why to think twice.
func Reaches(pattern string) (words string, warnings []string) {
	prefix := strings.TrimRight(pattern, "*")
	stars := len(pattern) - len(prefix)
	last := prefix[strings.LastIndexByte(prefix, '/')+1:]
	switch {
	case stars == 0:
		words = exactReaches(pattern)
	case strings.HasSuffix(prefix, "@"), strings.HasSuffix(prefix, "@sha256:"):
		name, _, _ := strings.Cut(prefix, "@")
		words = fmt.Sprintf("every digest of %s: all that was and will be pushed there, old images with known holes too", name)
	case strings.HasSuffix(prefix, ":") && stars == 1:
		words = fmt.Sprintf("every tag of %s, whatever it is moved to", strings.TrimSuffix(prefix, ":"))
	case strings.Contains(last, ":") && stars == 1:
		words = fmt.Sprintf("every tag that begins with %s, whatever it is moved to", prefix)
	case stars == 1 && last == "":
		words = fmt.Sprintf("every image directly in %s, by any tag or digest, and those that will be made there", strings.TrimSuffix(prefix, "/"))
	case stars == 1:
		words = fmt.Sprintf("every image whose name begins with %s and goes no deeper, by any tag or digest", prefix)
	case last == "":
		words = fmt.Sprintf("every image below %s, however deep, by any tag or digest, and those that will be made there", strings.TrimSuffix(prefix, "/"))
	default:
		words = fmt.Sprintf("every image whose name begins with %s, however deep: neighbours such as %s-other/x too", prefix, prefix)
	}
	if warning := whoPushes(prefix, stars, last); warning != "" {
		warnings = append(warnings, warning)
	}
	return words, warnings
}

func exactReaches(text string) string {
	ref, err := image.Parse(text)
	switch {
	case err != nil:
		return "nothing that a node can pull"
	case !ref.Digest().IsZero() && ref.Tag() == "":
		return "nothing"
	case !ref.Digest().IsZero():
		return "nothing, and this only as it is written"
	case ref.Tag() != "":
		return "whatever the tag is moved to"
	}
	return "whatever the registry serves for it without a tag"
}

// whoPushes warns of a wildcard over names that anyone may have a place among.
func whoPushes(prefix string, stars int, last string) string {
	if stars == 0 || !isShared(prefix) {
		return ""
	}
	n := hostLength(prefix)
	host, path := strings.TrimSuffix(prefix[:n], "/"), prefix[n:]
	if host == "" {
		host = "Docker Hub"
	}
	owner, below, isOwner := strings.Cut(path, "/")
	hub := host == "Docker Hub" || strings.EqualFold(host, "docker.io") || strings.EqualFold(host, "index.docker.io") || strings.EqualFold(host, "registry-1.docker.io")
	official := hub && (!isOwner || owner == "library")
	switch {
	case path == "":
		return fmt.Sprintf("anyone may push to %s: this lets in everyone's images", host)
	case official && (stars == 2 || last == "" || !strings.ContainsAny(last, ":@")):
		return "this lets in every official image of Docker Hub that fits, also those that nobody here uses"
	case official:
		return ""
	case !isOwner:
		return fmt.Sprintf("anyone may have a place on %s: whoever takes a name that begins with %q is let in", host, path)
	case below == "":
		return fmt.Sprintf("anyone may have a place on %s: be sure that %q is who you mean, since all that is pushed there is let in", host, owner)
	}
	return fmt.Sprintf("anyone may have a place on %s: be sure that %q is who you mean", host, owner)
}
