package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

func TestImport(t *testing.T) {
	t.Parallel()
	from := start(t)
	from.filled(t, 40)
	file := filepath.Join(t.TempDir(), "f")
	from.export(t, file, transfer.ExportOptions{})
	want := from.content(t)
	// copied returns the file in a folder of the test's own, for its state.
	copied := func(t *testing.T) string {
		own := filepath.Join(t.TempDir(), "f")
		must(t, os.WriteFile(own, []byte(read(t, file)), 0o600))
		return own
	}

	t.Run("again does nothing", func(t *testing.T) {
		to, file := start(t), copied(t)
		first := to.importFile(t, file, transfer.ImportOptions{})
		second := to.importFile(t, file, transfer.ImportOptions{})
		if first.Resumed || !second.Resumed {
			t.Errorf("resumed %t and %t", first.Resumed, second.Resumed)
		}
		if diff := cmp.Diff(first.Occurrences, second.Occurrences); diff != "" || first.Occurrences.Created != 40 {
			t.Errorf("the second tells other numbers (-first +second):\n%s", diff)
		}
		same(t, want, to.content(t))
	})
	t.Run("without its state it compares, if told to", func(t *testing.T) {
		to, file := start(t), copied(t)
		to.importFile(t, file, transfer.ImportOptions{})
		r := to.importFile(t, file, transfer.ImportOptions{StateFile: file + ".other", SkipExisting: true})
		if r.Occurrences.Existing != 40 || r.Notes.Existing != 3 || r.Projects.Existing != 2 || r.Notes.Created+r.Occurrences.Created+r.Projects.Created != 0 {
			t.Errorf("imported %+v", r)
		}
		same(t, want, to.content(t))
	})
	for _, after := range []bool{false, true} {
		for _, method := range []string{"BatchCreateOccurrences", "BatchCreateNotes", "CreateNote", "CreateProject"} {
			for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Unauthenticated} {
				t.Run(fmt.Sprintf("%s answers %v, after its effect: %t", method, code, after), func(t *testing.T) {
					to, file := start(t), copied(t)
					calls := to.fails(method, 1, code, after)
					r, err := transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep})
					if calls.Load() == 0 {
						t.Fatalf("%s was not called", method)
					}
					if err != nil {
						wantError(t, err, "the same command goes on from there")
						r = to.importFile(t, file, transfer.ImportOptions{})
					}
					if r.Refused() != 0 || r.Occurrences.Created != 40 {
						t.Errorf("imported %+v", r)
					}
					same(t, want, to.content(t))
				})
			}
		}
	}
	t.Run("stopped by its user, it ends what it is at and goes on", func(t *testing.T) {
		to, file := start(t), copied(t)
		ctx, stop := context.WithCancel(t.Context())
		to.fault.Store(&fault{before: func(method string) error {
			if strings.HasSuffix(method, "/BatchCreateOccurrences") {
				stop()
			}
			return nil
		}})
		_, err := transfer.Import(ctx, to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep})
		if err != nil {
			t.Errorf("the last batch was not ended: %v", err)
		}
		to.fault.Store(nil)
		to.importFile(t, file, transfer.ImportOptions{})
		same(t, want, to.content(t))
	})
	t.Run("killed with a batch on its way, it looks what is there", func(t *testing.T) {
		to, file := start(t), copied(t)
		// The state of before the batch, and the target of after it.
		var state []byte
		to.fault.Store(&fault{before: func(method string) (err error) {
			if strings.HasSuffix(method, "/BatchCreateOccurrences") {
				state, err = os.ReadFile(file + ".import-state")
			}
			return err
		}})
		to.importFile(t, file, transfer.ImportOptions{})
		to.fault.Store(nil)
		must(t, os.WriteFile(file+".import-state", state, 0o600))
		r := to.importFile(t, file, transfer.ImportOptions{})
		if r.Occurrences.Created != 40 || r.Occurrences.Existing != 0 {
			t.Errorf("imported %+v", r.Occurrences)
		}
		same(t, want, to.content(t))
	})
	t.Run("a busy server is asked again, and not for ever", func(t *testing.T) {
		to, file := start(t), copied(t)
		to.fails("BatchCreateOccurrences", 1, codes.ResourceExhausted, false)
		to.importFile(t, file, transfer.ImportOptions{})
		same(t, want, to.content(t))
		to.fault.Store(&fault{before: func(string) error { return status.Error(codes.Unavailable, "\x1b[2Jbusy") }})
		_, err := transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep})
		wantError(t, err, "UNAVAILABLE", "is the server up")
		if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("the error %q drives a terminal", err)
		}
	})
	t.Run("the state is of one file and one server", func(t *testing.T) {
		to, file := start(t), copied(t)
		to.importFile(t, file, transfer.ImportOptions{})
		_, err := transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "another", Sleep: noSleep})
		wantError(t, err, "another server", "--state")
		must(t, os.WriteFile(file, bytes.Replace([]byte(read(t, file)), []byte("remedy 1"), []byte("Remedy 1"), 1), 0o600))
		_, err = transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep})
		wantError(t, err, "another file", "--state")
	})
	t.Run("into a server with v1 alone", func(t *testing.T) {
		to, file := start(t), copied(t)
		to.fault.Store(&fault{before: func(method string) error {
			if strings.Contains(method, "v1beta1") {
				return status.Error(codes.Unimplemented, "unknown service")
			}
			return nil
		}})
		to.importFile(t, file, transfer.ImportOptions{})
		to.fault.Store(nil)
		same(t, want, to.content(t))
	})
}

func TestImportRefusals(t *testing.T) {
	t.Parallel()
	from := start(t)
	from.filled(t, 10)
	lost := from.secretNote(t, "projects/elsewhere", "lost") // its project is not exported
	for i := range 3 {
		_, err := from.v1.CreateOccurrence(t.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: secretOccurrence(lost, 100+i)})
		must(t, err)
	}
	export := func(t *testing.T) string {
		file := filepath.Join(t.TempDir(), "f")
		from.export(t, file, transfer.ExportOptions{})
		return file
	}
	t.Run("tell which and why, and can be mended", func(t *testing.T) {
		to, file := start(t), export(t)
		var told []string
		rejects := file + ".rejects"
		r := to.importFile(t, file, transfer.ImportOptions{RejectsFile: rejects, Refused: func(line int, name, reason string) {
			told = append(told, fmt.Sprintf("line %d: %s: %s", line, name, reason))
		}})
		if r.Occurrences.Refused != 3 || r.Occurrences.Created != 10 || len(told) != 3 {
			t.Errorf("imported %+v, told %q", r.Occurrences, told)
		}
		for _, want := range []string{"projects/p/occurrences/", "NOT_FOUND", "projects/elsewhere/notes/lost", "import the project of the note"} {
			if !strings.Contains(told[0], want) {
				t.Errorf("%q lacks %q", told[0], want)
			}
		}
		to.secretNote(t, "projects/elsewhere", "lost")
		again := to.importFile(t, rejects, transfer.ImportOptions{})
		if again.Occurrences.Created != 3 || again.Refused() != 0 {
			t.Errorf("imported of the rejects %+v", again)
		}
		if n := len(to.content(t).Occurrences["projects/p"]); n != 13 {
			t.Errorf("there are %d occurrences, want 13", n)
		}
	})
	t.Run("are not too many", func(t *testing.T) {
		to, file := start(t), export(t)
		_, err := transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep, MaxErrors: 2})
		wantError(t, err, "refused 3 items", "--max-errors")
	})
	t.Run("interrupted, each is in the rejects once", func(t *testing.T) {
		to, file := start(t), export(t)
		to.fails("CreateOccurrence", 2, codes.Unauthenticated, false)
		opts := transfer.ImportOptions{Target: "target", Sleep: noSleep, RejectsFile: file + ".rejects"}
		_, err := transfer.Import(t.Context(), to.conn, file, opts)
		wantError(t, err, "UNAUTHENTICATED")
		to.fault.Store(nil)
		r := to.importFile(t, file, opts)
		if n := strings.Count(read(t, file+".rejects"), `"error":`); n != 3 || r.Occurrences.Refused != 3 || r.Occurrences.Created != 10 {
			t.Errorf("%d in the rejects, imported %+v", n, r.Occurrences)
		}
		if n := len(to.content(t).Occurrences["projects/p"]); n != 10 {
			t.Errorf("there are %d occurrences, want 10", n)
		}
	})
	for conflict, outcome := range map[transfer.Conflict]transfer.Outcomes{
		transfer.SkipConflict: {Created: 2, Refused: 1}, transfer.UpdateConflict: {Created: 2, Updated: 1},
	} {
		t.Run("a note with other content: "+string(conflict), func(t *testing.T) {
			to, file := start(t), export(t)
			to.conflicting(t)
			r := to.importFile(t, file, transfer.ImportOptions{OnConflict: conflict})
			if diff := cmp.Diff(outcome, r.Notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			n, err := to.v1.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/m"})
			must(t, err)
			if updated := n.GetShortDescription() == "m"; updated != (conflict == transfer.UpdateConflict) {
				t.Errorf("the note is %q", n.GetShortDescription())
			}
		})
	}
	t.Run("a note with other content: fail", func(t *testing.T) {
		to, file := start(t), export(t)
		to.conflicting(t)
		_, err := transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep, OnConflict: transfer.FailConflict})
		wantError(t, err, "projects/p/notes/m", "other content", "line ")
	})
}

// conflicting creates a note that filled creates, with other content.
func (g *gatehouse) conflicting(t *testing.T) {
	t.Helper()
	_, err := g.v1.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "m", Note: &grafeas.Note{
		ShortDescription: "another", Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}})
	must(t, err)
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	to := start(t)
	const (
		head = `{"format":"gatehouse-metadata","version":1,"source":"s","time":"2026-01-01T00:00:00Z","apis":["v1"]}` + "\n"
		note = `{"note":{"name":"projects/p/notes/n","secret":{}},"api":"v1"}` + "\n"
		end  = `{"end":{"projects":0,"notes":1,"occurrences":0}}` + "\n"
	)
	for name, c := range map[string]struct{ text, want string }{
		"empty":                         {"", "empty"},
		"of something else":             {`{"some":"json"}` + "\n", "line 1: the header"},
		"of another format":             {strings.Replace(head, "gatehouse-metadata", "x", 1), "format"},
		"of a version to come":          {strings.Replace(head, `"version":1`, `"version":2`, 1) + note + end, "version 2"},
		"cut off after a line":          {head + note, "cut off"},
		"cut off in a line":             {head + note[:20], "line 2: the file is cut off"},
		"cut off before the line's end": {head + note + end[:len(end)-1], "line 3: the file is cut off"},
		"a part is missing":             {head + end, "there were 0, 0 and 0"},
		"more after the end":            {head + note + end + note, "more after the end"},
		"an unknown member":             {head + strings.Replace(note, `"api"`, `"x":1,"api"`, 1) + end, "line 2"},
		"an unknown field":              {head + strings.Replace(note, `"secret"`, `"sikret"`, 1) + end, "line 2"},
		"a member twice":                {head + strings.Replace(note, `"api"`, `"api":"v1","api"`, 1) + end, "line 2"},
		"a field twice":                 {head + strings.Replace(note, `"secret"`, `"secret":{},"secret"`, 1) + end, "line 2"},
		"a name twice":                  {head + note + note + end, "line 3"},
		"no name":                       {head + strings.Replace(note, `"name":"projects/p/notes/n",`, ``, 1) + end, "line 2"},
		"a name of something else":      {head + strings.Replace(note, `notes/n`, `occurrences/n`, 1) + end, "line 2"},
		"no version":                    {head + strings.Replace(note, `,"api":"v1"`, ``, 1) + end, "api is"},
		"nothing":                       {head + "{}\n" + end, "line 2: want one of"},
		"two things":                    {head + strings.Replace(note, `"api"`, `"project":"projects/p","api"`, 1) + end, "line 2: want one of"},
		"no base64":                     {head + `{"note":"?","api":"v1"}` + "\n" + end, "line 2"},
		"a parent that is none":         {head + `{"project":"p"}` + "\n" + end, "line 2: project"},
		"other is another":              {head + strings.Replace(note, `"api"`, `"other":{"name":"projects/p/notes/m"},"api"`, 1) + end, "different names"},
		"a line too long":               {head + strings.Repeat("x", 17<<20) + "\n" + end, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			must(t, os.WriteFile(file, []byte(c.text), 0o600))
			_, err := transfer.Import(t.Context(), to.conn, file, transfer.ImportOptions{Target: "target", Sleep: noSleep})
			wantError(t, err, c.want, "nothing was imported")
		})
	}
	t.Run("cut off, and allowed to be", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "f")
		must(t, os.WriteFile(file, []byte(head+note+note[:20]), 0o600))
		r := to.importFile(t, file, transfer.ImportOptions{AllowTruncated: true})
		if r.Notes.Created != 1 || len(r.Warnings) != 1 {
			t.Errorf("imported %+v", r)
		}
	})
}
