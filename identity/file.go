package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// watchInterval is how often the files are looked at. They are compared by
	// content: mounted secrets change behind symbolic links.
	watchInterval = 500 * time.Millisecond

	maxFile    = 1 << 20
	maxEntries = 1000
	// maxHashes of one caller: a token and the one that replaces it, twice.
	maxHashes = 4

	// minSafeCost is what bcrypt's own package takes for a default. htpasswd
	// takes 5, which a graphics card tries a hundred thousand times a second.
	minSafeCost = bcrypt.DefaultCost
	// maxCost keeps one login under two seconds of this machine.
	maxCost = 14
)

// A watchedFile is read at start, and again when it has changed.
type watchedFile struct {
	what, path string
	use        func(text []byte) (warnings []string, err error)
	logger     *slog.Logger

	sum  [sha256.Size]byte
	seen bool
}

// read puts the file's content in force, and reports whether it is new. A broken
// one is looked at once.
func (f *watchedFile) read() (changed bool, err error) {
	text, err := bounded.ReadFile(f.path, maxFile)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", f.what, err)
	}
	sum := sha256.Sum256(text)
	if f.seen && sum == f.sum {
		return false, nil
	}
	f.sum, f.seen = sum, true
	warnings, err := f.use(text)
	if err != nil {
		return true, fmt.Errorf("reading %s from %s: %w", f.what, f.path, err)
	}
	for _, w := range append(warnings, f.openToOthers()...) {
		f.logger.Warn("reading "+f.what, "file", f.path, "finding", w)
	}
	return true, nil
}

func (f *watchedFile) openToOthers() []string {
	info, err := os.Stat(f.path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []string{fmt.Sprintf("its mode is %#o, so that others on this machine may read or change it: chmod 600", info.Mode().Perm())}
}

// Run reads the files again when they change, until ctx ends.
func (i *Identity) Run(ctx context.Context) error {
	if len(i.files) == 0 {
		return nil
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	said := make(map[*watchedFile]string)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, f := range i.files {
			changed, err := f.read()
			switch {
			case err != nil && err.Error() != said[f]:
				said[f] = err.Error()
				i.logger.Error("the changed file is not used, the last good one stays in force", "file", f.path, "error", err)
			case err == nil && changed:
				delete(said, f)
				i.logger.Info("the changed file is in force", "file", f.path)
			}
		}
	}
}

// entries calls fn with the name and the rest of each line, which cut takes apart.
func entries(text []byte, form string, cut func(string) (name, rest string, ok bool), fn func(name, rest string) error) error {
	var errs []error
	seen := make(map[string]int)
	n := 0
	for line := range bytes.Lines(text) {
		n++
		entry := strings.TrimRight(string(line), "\r\n")
		if entry == "" || strings.HasPrefix(entry, "#") {
			continue
		}
		name, rest, ok := cut(entry)
		switch err := checkName(name); {
		case !ok:
			// What stands there may be a secret, and is not shown.
			errs = append(errs, fmt.Errorf("line %d: want %s", n, form))
		case err != nil:
			errs = append(errs, fmt.Errorf("line %d: %w", n, err))
		case seen[name] > 0:
			errs = append(errs, fmt.Errorf("line %d: %q is there already, in line %d", n, name, seen[name]))
		default:
			seen[name] = n
			if err := fn(name, rest); err != nil {
				errs = append(errs, fmt.Errorf("line %d: %q: %w", n, name, err))
			}
		}
		if len(seen) > maxEntries {
			return fmt.Errorf("line %d: more than %d callers", n, maxEntries)
		}
		if len(errs) > 10 {
			break
		}
	}
	if len(errs) == 0 && len(seen) == 0 {
		return errors.New("there is nobody in it: add lines " + form)
	}
	return errors.Join(errs...)
}

// parseTokens parses lines NAME:HASH. The name may have colons in it, as URIs do.
func parseTokens(text []byte) ([]token, error) {
	var tokens []token
	owner := make(map[[sha256.Size]byte]string)
	cut := func(line string) (name, rest string, ok bool) {
		at := strings.LastIndexByte(line, ':')
		if at < 0 {
			return "", "", false
		}
		return line[:at], line[at+1:], true
	}
	err := entries(text, "NAME:HASH, as gatehouse identity hash-token makes them", cut, func(name, rest string) error {
		hashes := strings.Split(rest, ",")
		if len(hashes) > maxHashes {
			return fmt.Errorf("more than %d hashes", maxHashes)
		}
		for _, h := range hashes {
			t := token{name: name}
			if n, err := hex.Decode(t.hash[:], []byte(h[:min(len(h), 2*sha256.Size)])); err != nil || n != sha256.Size || len(h) != 2*sha256.Size {
				return fmt.Errorf("want the SHA-256 of the token, %d hexadecimal digits; never the token itself", 2*sha256.Size)
			}
			if other, taken := owner[t.hash]; taken {
				return fmt.Errorf("its token is that of %q too", other)
			}
			owner[t.hash] = name
			tokens = append(tokens, t)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// parseUsers parses lines USER:BCRYPT.
func parseUsers(text []byte) (users map[string]string, warnings []string, err error) {
	users = make(map[string]string)
	cut := func(line string) (name, rest string, ok bool) { return strings.Cut(line, ":") }
	err = entries(text, "USER:BCRYPT, as gatehouse identity hash-password makes them", cut, func(name, hash string) error {
		cost, err := bcryptCost(hash)
		if err != nil {
			return err
		}
		if cost < minSafeCost {
			warnings = append(warnings, fmt.Sprintf("the password of %q is hashed at cost %d, which is soon guessed: hash it at cost %d", name, cost, minSafeCost))
		}
		users[name] = hash
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return users, warnings, nil
}

// bcryptLength is that of every bcrypt hash, such as "$2y$10$" and 53 more.
const bcryptLength = 60

// bcryptCost returns the cost of a hash that can be compared with.
func bcryptCost(hash string) (int, error) {
	wrong := errors.New("want a bcrypt hash ($2y$…), as htpasswd -B -C 10 makes them; other kinds are not safe, and never the password itself")
	if len(hash) != bcryptLength {
		return 0, wrong
	}
	for _, version := range []string{"$2a$", "$2b$", "$2y$"} {
		if !strings.HasPrefix(hash, version) {
			continue
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil || hash[6] != '$' || strings.ContainsFunc(hash[7:], func(r rune) bool { return !isBcryptRune(r) }) {
			return 0, wrong
		}
		if cost > maxCost {
			return 0, fmt.Errorf("the hash has cost %d, and each login would take seconds: want %d at most", cost, maxCost)
		}
		return cost, nil
	}
	return 0, wrong
}

func isBcryptRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '/'
}
