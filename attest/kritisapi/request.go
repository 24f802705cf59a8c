package kritisapi

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/image"
)

// maxError bounds what is told of a request that cannot be read.
const maxError = 300

// maxName bounds the name of an occurrence.
const maxName = 1000

// parseRequest returns the image of a request. Members that are not known are
// ignored, as gcr-signer does.
func parseRequest(body []byte) (image.Reference, error) {
	var request struct {
		Image string `json:"image"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return image.Reference{}, malformed("the request", err)
	}
	if request.Image == "" {
		return image.Reference{}, errors.New(`the request names no image: want {"image":"REPOSITORY@sha256:…"}`)
	}
	ref, err := image.Parse(request.Image)
	if err != nil {
		return image.Reference{}, err
	}
	if ref.Digest().IsZero() {
		return image.Reference{}, fmt.Errorf("%q: %w", ref, kritissigner.ErrNoDigest)
	}
	return ref, nil
}

// An event is what Container Analysis publishes of an occurrence.
type event struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// parseEvent takes a push message of Pub/Sub apart.
func parseEvent(body []byte) (event, error) {
	var push struct {
		Message struct {
			Data string `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(body, &push); err != nil {
		return event{}, malformed("the push message", err)
	}
	data, err := base64.StdEncoding.DecodeString(push.Message.Data)
	if err != nil || len(data) == 0 {
		return event{}, errors.New("message.data of the push message is missing or no base64")
	}
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return event{}, malformed("message.data of the push message", err)
	}
	if e.Kind != "DISCOVERY" {
		return e, nil
	}
	if !isOccurrence(e.Name) {
		return event{}, fmt.Errorf("message.data of the push message names no occurrence: %.200q", e.Name)
	}
	return e, nil
}

// isOccurrence reports whether a name is one of an occurrence, whatever server gave it
// its id: projects/P/occurrences/ID or projects/P/locations/L/occurrences/ID.
func isOccurrence(name string) bool {
	parts := strings.Split(name, "/")
	if len(name) > maxName || len(parts) != 4 && len(parts) != 6 || len(parts) == 6 && parts[2] != "locations" {
		return false
	}
	return parts[0] == "projects" && parts[len(parts)-2] == "occurrences" && !slices.Contains(parts, "") &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) })
}

// malformed says that something is no good JSON, in few words: the decoder quotes
// its input.
func malformed(what string, err error) error {
	return fmt.Errorf("%s is no JSON that can be read: %.*s", what, maxError, err.Error())
}
