package secretfile

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// sopsSection is the key under which sops keeps its own.
	sopsSection = "sops"
	// commandTime bounds a run of the sops command, which may ask a key service.
	commandTime = 30 * time.Second
	// maxDepth bounds how deeply a file nests. Voucher's secrets have three levels.
	maxDepth = 32
)

// errNoIdentity says that no key of this user opens the file.
var errNoIdentity = errors.New("no age key of this user opens it")

// sopsMetadata is what sops says of a file.
type sopsMetadata struct {
	Age []struct {
		Enc string `json:"enc"`
	} `json:"age"`
	KeyGroups         []jsontext.Value `json:"key_groups"`
	LastModified      string           `json:"lastmodified"`
	MAC               string           `json:"mac"`
	MACOnlyEncrypted  bool             `json:"mac_only_encrypted"`
	UnencryptedSuffix string           `json:"unencrypted_suffix"`
	EncryptedSuffix   string           `json:"encrypted_suffix"`
	UnencryptedRegex  string           `json:"unencrypted_regex"`
	EncryptedRegex    string           `json:"encrypted_regex"`
}

// DecryptSOPS decrypts a JSON file of sops. The age keys are those that sops takes:
// SOPS_AGE_KEY, the file SOPS_AGE_KEY_FILE, and sops/age/keys.txt in the user's
// configuration folder.
func DecryptSOPS(ctx context.Context, file string, getenv func(string) string) ([]byte, error) {
	text, err := decryptSOPS(ctx, file, getenv)
	if err != nil {
		return nil, fmt.Errorf("decrypting secrets: %q: %w", file, err)
	}
	return text, nil
}

func decryptSOPS(ctx context.Context, file string, getenv func(string) string) ([]byte, error) {
	data, err := bounded.ReadFile(file, maxFile)
	if err != nil {
		return nil, err
	}
	var content struct {
		SOPS *sopsMetadata `json:"sops"`
	}
	if err := json.Unmarshal(data, &content); err != nil || content.SOPS == nil {
		return nil, errors.New("it is not a JSON file that sops has encrypted")
	}
	identities, err := ageIdentities(getenv)
	if err != nil {
		return nil, err
	}
	key, err := content.SOPS.dataKey(identities)
	if errors.Is(err, errNoIdentity) {
		return runSOPS(ctx, file)
	}
	if err != nil {
		return nil, err
	}
	return content.SOPS.decrypt(data, key)
}

// runSOPS has the sops command decrypt a file.
func runSOPS(ctx context.Context, file string) ([]byte, error) {
	path, err := exec.LookPath("sops")
	if err != nil {
		return nil, fmt.Errorf("%w, and for other keys the sops command is needed: %w", errNoIdentity, err)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	absolute, err := filepath.Abs(file) // may begin with "-"
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, "--decrypt", "--input-type", "json", "--output-type", "json", absolute) //nolint:gosec // the operator's file
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		const most = 500
		text := strings.Join(strings.Fields(said.String()), " ")
		return nil, fmt.Errorf("sops command: %w: %s", err, text[:min(len(text), most)])
	}
	return out.Bytes(), nil
}

func ageIdentities(getenv func(string) string) ([]age.Identity, error) {
	var all []age.Identity
	add := func(from string, text io.Reader) error {
		ids, err := age.ParseIdentities(text)
		if err != nil {
			return fmt.Errorf("reading the age keys of %s: they are not in age's format", from) // the cause quotes a line
		}
		all = append(all, ids...)
		return nil
	}
	if text := getenv("SOPS_AGE_KEY"); text != "" {
		if err := add("SOPS_AGE_KEY", strings.NewReader(text)); err != nil {
			return nil, err
		}
	}
	file, must := getenv("SOPS_AGE_KEY_FILE"), true
	if file == "" {
		config := getenv("XDG_CONFIG_HOME")
		if config == "" {
			config = filepath.Join(getenv("HOME"), ".config")
		}
		file, must = filepath.Join(config, "sops", "age", "keys.txt"), false
	}
	text, err := bounded.ReadFile(file, maxFile)
	switch {
	case errors.Is(err, os.ErrNotExist) && !must:
		return all, nil
	case err != nil:
		return nil, err
	}
	return all, add(file, bytes.NewReader(text))
}

// dataKey opens the key of the file, which is there once for each recipient.
func (m *sopsMetadata) dataKey(identities []age.Identity) ([]byte, error) {
	if len(identities) == 0 || len(m.Age) == 0 || len(m.KeyGroups) > 0 {
		return nil, errNoIdentity
	}
	const keySize = 32
	for _, recipient := range m.Age {
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(recipient.Enc)), identities...)
		if err != nil {
			continue // of somebody else
		}
		key, err := io.ReadAll(io.LimitReader(r, keySize+1))
		if err != nil || len(key) != keySize {
			return nil, errors.New("its data key is damaged")
		}
		return key, nil
	}
	return nil, errNoIdentity
}

// decrypt decrypts the values, and verifies that they are all of those that sops wrote,
// in their order.
func (m *sopsMetadata) decrypt(data, key []byte) ([]byte, error) {
	rules, err := m.rules()
	if err != nil {
		return nil, err
	}
	if m.MACOnlyEncrypted {
		return nil, errors.New("it has mac_only_encrypted, which is not read here; encrypt it without")
	}
	w := sopsWalk{rules: rules, key: key, dec: jsontext.NewDecoder(bytes.NewReader(data)), hash: sha512.New()}
	w.enc = jsontext.NewEncoder(&w.out)
	if err := w.object(nil); err != nil {
		return nil, err
	}
	modified, err := time.Parse(time.RFC3339, m.LastModified)
	if err != nil {
		return nil, errors.New("its time of change is damaged")
	}
	mac, _, err := open(m.MAC, key, modified.Format(time.RFC3339))
	if err != nil || subtle.ConstantTimeCompare(mac, fmt.Appendf(nil, "%X", w.hash.Sum(nil))) != 1 {
		return nil, errors.New("it was changed after it was encrypted: its MAC does not fit")
	}
	return w.out.Bytes(), nil
}

// rules tell whether the value at a path is encrypted.
type sopsRules func(path []string) bool

func (m *sopsMetadata) rules() (sopsRules, error) {
	given := 0
	rule, encrypts := func(string) bool { return false }, false // all is encrypted
	for _, r := range []struct {
		text     string
		regex    bool
		encrypts bool
	}{
		{m.UnencryptedSuffix, false, false}, {m.EncryptedSuffix, false, true}, {m.UnencryptedRegex, true, false}, {m.EncryptedRegex, true, true},
	} {
		if r.text == "" {
			continue
		}
		given++
		encrypts = r.encrypts
		rule = func(s string) bool { return strings.HasSuffix(s, r.text) }
		if r.regex {
			re, err := regexp.Compile(r.text)
			if err != nil {
				return nil, errors.New("its rule for what is encrypted is no regular expression")
			}
			rule = re.MatchString
		}
	}
	if given > 1 {
		return nil, errors.New("it has several rules for what is encrypted; sops takes one")
	}
	return func(path []string) bool {
		for _, p := range path {
			if rule(p) {
				return encrypts
			}
		}
		return !encrypts
	}, nil
}

// sopsWalk decrypts a document from decoder to encoder.
type sopsWalk struct {
	rules sopsRules
	key   []byte
	dec   *jsontext.Decoder
	out   bytes.Buffer
	enc   *jsontext.Encoder
	hash  hash.Hash
}

var errNotJSON = errors.New("it is not JSON that sops writes")

// object copies an object, without sops' own section at the top.
func (w *sopsWalk) object(path []string) error {
	if len(path) > maxDepth {
		return fmt.Errorf("it nests more than %d deep", maxDepth)
	}
	if token, err := w.dec.ReadToken(); err != nil || token.Kind() != '{' {
		return errNotJSON
	}
	if err := w.enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for w.dec.PeekKind() == '"' {
		token, err := w.dec.ReadToken()
		if err != nil {
			return errNotJSON
		}
		name := token.String()
		if len(path) == 0 && name == sopsSection {
			if err := w.dec.SkipValue(); err != nil {
				return errNotJSON
			}
			continue
		}
		if err := w.enc.WriteToken(jsontext.String(name)); err != nil {
			return errNotJSON
		}
		if err := w.value(append(path[:len(path):len(path)], name)); err != nil {
			return err
		}
	}
	return w.end('}', jsontext.EndObject)
}

func (w *sopsWalk) end(kind jsontext.Kind, token jsontext.Token) error {
	if got, err := w.dec.ReadToken(); err != nil || got.Kind() != kind {
		return errNotJSON
	}
	return w.enc.WriteToken(token)
}

func (w *sopsWalk) value(path []string) error {
	switch w.dec.PeekKind() {
	case '{':
		return w.object(path)
	case '[':
		return w.list(path)
	case 'n':
		return w.copyToken()
	case '"':
		if w.rules(path) {
			return w.encrypted(path)
		}
	}
	if w.rules(path) {
		return fmt.Errorf("the value of %q is not encrypted", strings.Join(path, "."))
	}
	return w.plain()
}

func (w *sopsWalk) list(path []string) error {
	if err := w.copyToken(); err != nil {
		return err
	}
	for w.dec.PeekKind() != ']' {
		if w.dec.PeekKind() == 0 {
			return errNotJSON
		}
		if err := w.value(path); err != nil {
			return err
		}
	}
	return w.end(']', jsontext.EndArray)
}

func (w *sopsWalk) copyToken() error {
	token, err := w.dec.ReadToken()
	if err != nil {
		return errNotJSON
	}
	return w.enc.WriteToken(token)
}

// plain copies a value that is not encrypted, and counts it to the MAC.
func (w *sopsWalk) plain() error {
	token, err := w.dec.ReadToken()
	if err != nil {
		return errNotJSON
	}
	text := token.String()
	switch token.Kind() {
	case 't':
		text = "True"
	case 'f':
		text = "False"
	case '0':
		if f, err := strconv.ParseFloat(text, 64); err == nil && strings.ContainsAny(text, ".eE") {
			text = strconv.FormatFloat(f, 'f', -1, 64)
		}
	}
	_, _ = io.WriteString(w.hash, text) // a hash takes all
	return w.enc.WriteToken(token.Clone())
}

// encrypted writes the value that was encrypted at this path.
func (w *sopsWalk) encrypted(path []string) error {
	token, err := w.dec.ReadToken()
	if err != nil {
		return errNotJSON
	}
	if token.String() == "" { // sops leaves empty strings as they are
		return w.enc.WriteToken(jsontext.String(""))
	}
	text, kind, err := open(token.String(), w.key, strings.Join(path, ":")+":")
	if err != nil {
		return fmt.Errorf("the value of %q: %w", strings.Join(path, "."), err)
	}
	if kind != "comment" {
		_, _ = w.hash.Write(text) // a hash takes all
	}
	switch kind {
	case "int", "float":
		return w.enc.WriteValue(jsontext.Value(text))
	case "bool":
		return w.enc.WriteToken(jsontext.Bool(strings.EqualFold(string(text), "true")))
	}
	return w.enc.WriteToken(jsontext.String(string(text)))
}

// open decrypts ENC[AES256_GCM,data:…,iv:…,tag:…,type:…], which is bound to a place in
// the document.
func open(sealed string, key []byte, place string) (text []byte, kind string, err error) {
	inner, ok := strings.CutPrefix(sealed, "ENC[AES256_GCM,")
	inner, closed := strings.CutSuffix(inner, "]")
	fields := map[string]string{}
	for part := range strings.SplitSeq(inner, ",") {
		name, value, _ := strings.Cut(part, ":")
		fields[name] = value
	}
	if !ok || !closed || len(fields) != 4 {
		return nil, "", errors.New("it is not in the form of sops")
	}
	var parts [3][]byte
	for i, name := range []string{"data", "iv", "tag"} {
		if parts[i], err = base64.StdEncoding.DecodeString(fields[name]); err != nil {
			return nil, "", errors.New("it is not in the form of sops")
		}
	}
	const most = 64 // bytes of a nonce; sops has 32
	block, err := aes.NewCipher(key)
	if err != nil || len(parts[1]) == 0 || len(parts[1]) > most {
		return nil, "", errors.New("it is damaged")
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(parts[1]))
	if err != nil {
		return nil, "", errors.New("it is damaged")
	}
	text, err = gcm.Open(nil, parts[1], append(parts[0], parts[2]...), []byte(place))
	if err != nil {
		return nil, "", errors.New("it does not decrypt: it was changed, moved, or encrypted with another key")
	}
	return text, fields["type"], nil
}
