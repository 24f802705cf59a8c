package breakglass

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

const (
	journalFile = "incidents.jsonl"
	// compactAt is how large the journal may grow beyond what it says.
	compactAt = 8 << 20
)

// An entry is one line of the journal: what has changed, and how far the audit log was
// read when it had. A line is there as a whole or not at all.
type entry struct {
	At        audit.Position `json:"at"`
	Incidents []*Incident    `json:"incidents,omitempty"`
	Dropped   []string       `json:"dropped,omitempty"`
	Objects   []Object       `json:"objects,omitempty"`
	// Origins are the files of logs elsewhere whose records have come.
	Origins map[string]*origin `json:"origins,omitempty"`
}

// An origin is how far a file of the log of a gate elsewhere has come.
type origin struct {
	After audit.Position `json:"after"`
	Heard time.Time      `json:"heard"`
}

// A journal is a file of entries.
type journal struct {
	path string
	file *os.File
	size int64
	live int64 // size after it was last written anew
}

// openJournal reads the journal in a folder. What a crash has torn is cut off: it follows
// from the audit log once more.
func openJournal(dir string, take func(*entry)) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the journal of incidents: %w", err)
	}
	j := &journal{path: filepath.Join(dir, journalFile)}
	size, err := readJournal(j.path, take)
	if err != nil {
		return nil, err
	}
	if j.file, err = os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("opening the journal of incidents: %w", err)
	}
	if err := j.file.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the journal of incidents: %w", err), j.file.Close())
	}
	j.size, j.live = size, size
	return j, nil
}

// readJournal returns how far the file is whole.
func readJournal(path string, take func(*entry)) (size int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the journal of incidents: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	lines := bufio.NewReaderSize(f, 64<<10)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading the journal of incidents: %w", err)
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, fmt.Errorf("reading the journal of incidents: %s:%d: %w; move the file away, and the incidents are made anew from the audit log, without who looked at them", path, n, err)
		}
		take(&e)
		size += int64(len(line))
	}
}

// append writes an entry, and returns when it is on disk.
func (j *journal) append(e *entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding incidents: %w", err)
	}
	line = append(line, '\n')
	_, err = j.file.WriteAt(line, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("writing the journal of incidents: %w", errors.Join(err, j.file.Truncate(j.size)))
	}
	j.size += int64(len(line))
	return nil
}

// large reports whether most of the file is old.
func (j *journal) large() bool { return j.size > 2*j.live+compactAt }

// replace writes the journal anew.
func (j *journal) replace(entries []*entry) error {
	var b bytes.Buffer
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encoding incidents: %w", err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	if err := durable.WriteFile(j.path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing the journal of incidents anew: %w", err)
	}
	f, err := os.OpenFile(j.path, os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("writing the journal of incidents anew: %w", err)
	}
	old := j.file
	j.file, j.size, j.live = f, int64(b.Len()), int64(b.Len())
	return old.Close()
}

func (j *journal) close() error { return j.file.Close() }

// ReadIncidents returns the incidents in a folder, the newest first, as far as the process
// that makes them has written them.
func ReadIncidents(dir string) ([]Incident, error) {
	path := filepath.Join(dir, journalFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("reading the journal of incidents: %w", err)
	}
	s := &Incidents{byID: map[string]*Incident{}, current: map[Key]*Incident{}, changed: map[string]bool{}}
	if _, err := readJournal(path, func(e *entry) {
		for _, i := range e.Incidents {
			s.put(i)
		}
		for _, id := range e.Dropped {
			s.drop(id)
		}
	}); err != nil {
		return nil, err
	}
	var all []Incident
	for _, i := range s.sorted() {
		all = append(all, *i)
	}
	return all, nil
}
