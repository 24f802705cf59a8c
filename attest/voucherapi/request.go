package voucherapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// readBody reads the whole body in the time there is for it.
func (h *handler) readBody(w http.ResponseWriter, r *http.Request) (body []byte, status int, err error) {
	body, err = bounded.ReadBody(w, r, MaxBody, time.Now().Add(h.bodyTimeout))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, http.StatusRequestEntityTooLarge, errors.New("request is too long")
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The deadline stays, or the server would wait for the rest.
		w.Header().Set("Connection", "close")
		return nil, http.StatusRequestTimeout, fmt.Errorf("the request did not arrive within %v", h.bodyTimeout)
	case err != nil:
		return nil, http.StatusUnprocessableEntity, errors.New("the request could not be read to its end")
	}
	return body, http.StatusOK, nil
}

// parseImage returns the reference that a request is about. Its errors have the
// words of Voucher's.
func parseImage(body []byte) (image.Reference, error) {
	var request struct {
		ImageURL string `json:"image_url"`
	}
	// A decoder, since what follows the object is ignored as Voucher does.
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return image.Reference{}, explain(err)
	}
	if request.ImageURL == "" {
		return image.Reference{}, errors.New("can't use URL in ImageData: repository name must have at least one component")
	}
	ref, err := image.Parse(request.ImageURL)
	if err != nil {
		return image.Reference{}, errors.New("can't use URL in ImageData: invalid reference format")
	}
	if ref.Digest().IsZero() {
		return image.Reference{}, errors.New("reference " + ref.String() + " has no digest")
	}
	return ref, nil
}

// explain names what is there in the words of JSON, where the decoder would name
// types of this program.
func explain(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	kind, _, _ := strings.Cut(wrong.Value, " ") // "number 1.5"
	if wrong.Field != "" {
		return fmt.Errorf("image_url is a JSON %s; want a string", kind)
	}
	return fmt.Errorf("the request is a JSON %s; want an object: {\"image_url\":\"REPOSITORY@sha256:…\"}", kind)
}
