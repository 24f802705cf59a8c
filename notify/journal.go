package notify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	journalName   = "outbox"
	damagedSuffix = ".damaged"
	// maxLine bounds a line that is read: the longest that is written has the ids of
	// maxSeen messages.
	maxLine = 2 << 20
	// maxBuffered bounds what waits for a disk that does not answer.
	maxBuffered = 32 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// file is what the journal needs of a file.
type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// A journal is a file of lines, each with its checksum, that are on disk when append
// says so. Those who wait at the same time share one fsync.
type journal struct {
	path   string
	create func(path string) (file, error)

	// io is held while the file is written or replaced.
	io   sync.Mutex
	f    file
	size atomic.Int64 // of the file
	torn bool         // half a line could not be cut off: only replace may write

	mu      sync.Mutex
	buf     []byte
	waiters []chan error
	closed  bool

	wake chan struct{}
	done chan struct{}
}

var (
	errTorn          = errors.New("the file has a torn end")
	errJournalClosed = errors.New("the outbox is closed")
)

// openJournal opens the journal in dir and gives each sound line to replay. damaged
// says how many were not sound, besides a last one that a crash left unfinished.
func openJournal(dir string, replay func(line []byte) error) (j *journal, damaged int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	path := filepath.Join(dir, journalName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	size, damaged, err := readLines(f, replay)
	if err == nil && damaged > 0 {
		err = setAside(f, path+damagedSuffix)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	j = &journal{path: path, create: createFile, f: f, wake: make(chan struct{}, 1), done: make(chan struct{})}
	j.size.Store(size)
	go j.run()
	return j, damaged, nil
}

// setAside keeps a damaged file as it is, for people to look at.
func setAside(f *os.File, path string) error {
	beside, err := createFile(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(beside, io.NewSectionReader(f, 0, math.MaxInt64))
	if err = errors.Join(err, beside.Close()); errors.Is(err, syscall.ENOSPC) {
		return os.Remove(path) // paging is worth more than the copy
	}
	return err
}

func createFile(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
}

// readLines returns where the last sound line ends.
func readLines(r io.Reader, replay func(line []byte) error) (size int64, damaged int, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	var at int64
	unsound := 0 // since the last sound line
	for {
		line, err := in.ReadSlice('\n')
		at += int64(len(line))
		switch {
		case errors.Is(err, io.EOF):
			// Half a line at the end was never reported as written.
			return size, damaged + unsound, nil
		case errors.Is(err, bufio.ErrBufferFull):
			unsound++
			continue
		case err != nil:
			return 0, 0, err
		}
		text, ok := unseal(line)
		if ok {
			ok = replay(text) == nil
		}
		if !ok {
			unsound++
			continue
		}
		size, damaged, unsound = at, damaged+unsound, 0
	}
}

// seal appends a line with its checksum.
func seal(buf, text []byte) []byte {
	return fmt.Appendf(buf, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
}

func unseal(line []byte) (text []byte, ok bool) {
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || len(sum) != 8 {
		return nil, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	return text, err == nil && uint32(want) == crc32.Checksum(text, castagnoli)
}

// append hands lines to the writer. The channel gets nil once they, and all that were
// handed over before, are on disk.
func (j *journal) append(lines []byte) <-chan error {
	done := make(chan error, 1)
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closed:
		done <- errJournalClosed
	case len(j.buf)+len(lines) > maxBuffered:
		done <- errors.New("the disk does not keep up")
	default:
		j.buf = append(j.buf, lines...)
		j.waiters = append(j.waiters, done)
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
	return done
}

func (j *journal) take() (lines []byte, waiters []chan error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines, waiters = j.buf, j.waiters
	j.buf, j.waiters = nil, nil
	return lines, waiters
}

func (j *journal) run() {
	defer close(j.done)
	for range j.wake {
		j.io.Lock()
		lines, waiters := j.take()
		err := j.write(lines)
		j.io.Unlock()
		answer(waiters, err)
	}
}

func answer(waiters []chan error, err error) {
	for _, w := range waiters {
		w <- err
	}
}

// write writes lines, or leaves the file as it was.
func (j *journal) write(lines []byte) error {
	switch {
	case j.torn:
		return errTorn
	case len(lines) == 0:
		return nil
	}
	_, err := j.f.Write(lines)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		if cut := j.f.Truncate(j.size.Load()); cut != nil {
			j.torn = true
			err = errors.Join(err, cut)
		}
		return err
	}
	j.size.Add(int64(len(lines)))
	return nil
}

// replace puts content, which holds what waits to be written, in place of all lines.
// If it fails the file is what it was, and what waits has failed.
func (j *journal) replace(content []byte) error {
	j.io.Lock()
	defer j.io.Unlock()
	_, waiters := j.take()
	err := j.swap(content)
	answer(waiters, err)
	return err
}

func (j *journal) swap(content []byte) error {
	beside := j.path + ".new"
	f, err := j.create(beside)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(beside, j.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(beside))
	}
	_ = j.f.Close() // it has been replaced
	j.f, j.torn = f, false
	j.size.Store(int64(len(content)))
	return syncDir(filepath.Dir(j.path))
}

func (j *journal) close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	close(j.wake) // append sends no more
	j.mu.Unlock()
	<-j.done
	lines, waiters := j.take()
	err := j.write(lines)
	answer(waiters, err)
	return errors.Join(err, j.f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
