package pager_test

import (
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"testing"
)

type mimeDecoder = mime.WordDecoder

func decodeBody(t *testing.T, m *netmail.Message) string {
	t.Helper()
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
