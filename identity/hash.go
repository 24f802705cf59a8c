package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// minToken is the shortest token that is hashed, in bytes. The hash is fast, and
// so a token must be too long to be guessed from it.
const minToken = 20

// NewToken returns a random token, which cannot be guessed.
func NewToken() string { return rand.Text() + rand.Text() }

// TokenLine returns the line of a tokens file for a caller and his token.
func TokenLine(name, token string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if strings.HasPrefix(name, "#") {
		return "", errors.New("a name cannot begin with #, which begins a comment")
	}
	if err := checkToken(token); err != nil {
		return "", err
	}
	if len(token) < minToken {
		return "", fmt.Errorf("the token has %d characters and can be guessed: want %d at least, random ones; --generate makes one", len(token), minToken)
	}
	hash := sha256.Sum256([]byte(token))
	return name + ":" + hex.EncodeToString(hash[:]), nil
}

// PasswordLine returns the line of a users file for a user and his password.
func PasswordLine(name, password string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(name, "#") || strings.Contains(name, ":"):
		return "", fmt.Errorf("user name %q: it cannot begin with # or have a colon in it", name)
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes, and bcrypt would not look at the rest", maxPassword)
	case strings.ContainsAny(password, "\x00\r\n"):
		return "", errors.New("the password has a line break or a NUL in it")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), minSafeCost)
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	return name + ":" + string(hash), nil
}
