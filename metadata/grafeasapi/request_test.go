package grafeasapi_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

func TestCompressedGRPC(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{MaxRequestBytes: 1 << 20})
	create := func(id string, size int) error {
		// The name and not the package's constant, whose import would hide that
		// the server lacks it.
		_, err := s.rpc.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: id, Note: &grafeas.Note{
			LongDescription: strings.Repeat("x", size), Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}},
		}}, grpc.UseCompressor("gzip"))
		return err
	}
	check(t, create("small", 1000), codes.OK)
	check(t, create("bomb", 20<<20), codes.ResourceExhausted)
}

func TestCompressedRESTIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	for encoding, want := range map[string]int{"gzip": 415, "identity, gzip": 415, "Identity": 200} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr+"/v1/projects/p/notes?noteId=n", strings.NewReader(`{"secret":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Encoding", encoding)
		resp, err := s.rest.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || want == 415 && !strings.Contains(string(body), "send it uncompressed") {
			t.Errorf("%s: status %d, want %d; body %s", encoding, resp.StatusCode, want, body)
		}
	}
}

func TestWrongMethodsAreToldTheRightOnes(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	for _, parent := range []string{"/v1/projects/p", "/v1/projects/p/locations/eu"} {
		for _, path := range []string{
			"/notes", "/notes:batchCreate", "/notes/n", "/notes/n/occurrences",
			"/occurrences", "/occurrences:batchCreate", "/occurrences/o", "/occurrences/o/notes",
		} {
			_, _, header := s.do("PUT", parent+path, "")
			allowed := strings.Split(header.Get("Allow"), ", ")
			for _, method := range []string{"GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"} {
				code, body, _ := s.do(method, parent+path, "")
				refused := code == 501 && strings.Contains(body, "Method Not Allowed")
				if refused == slices.Contains(allowed, method) {
					t.Errorf("%s %s: status %d, while allowed is %q; body %s", method, parent+path, code, allowed, body)
				}
			}
		}
	}
}

func TestFormsWithParametersInAnotherCaseAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{})
	for body, want := range map[string]int{"pageSize=1": 200, "PageSize=1": 400} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr+"/v1/projects/p/notes", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-HTTP-Method-Override", "GET")
		resp, err := s.rest.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", body, resp.StatusCode, want)
		}
	}
}

func TestStalledBodiesAreGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t, nil, grafeasapi.Options{Timeout: 100 * time.Millisecond})
	t.Run("HTTP/1", func(t *testing.T) {
		t.Parallel()
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST /v1/projects/p/notes?noteId=n HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		answer := bufio.NewReader(conn)
		resp, err := http.ReadResponse(answer, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 408 {
			t.Errorf("status %d, %v; want 408", resp.StatusCode, err)
		}
		_ = resp.Body.Close()
		if _, err := answer.ReadByte(); err != io.EOF {
			t.Errorf("the connection is held: %v", err)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: &protocols}, Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		body, stall := io.Pipe()
		defer func() { _ = stall.Close() }()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr+"/v1/projects/p/notes?noteId=n", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 408 {
			t.Errorf("status %d, want 408", resp.StatusCode)
		}
	})
}
