package secretfile_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Shopify/ejson"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/attest/secretfile"
)

// testdata/age.json was encrypted by sops 3.13.3 to the key in testdata/age-key.txt.
const sealed, key = "testdata/age.json", "testdata/age-key.txt"

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWhatSOPSEncryptedIsDecrypted(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config/sops/age"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".config/sops/age/keys.txt"), []byte(read(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"openpgpkeys": map[string]any{"diy": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nnot a key\n-----END PGP PRIVATE KEY BLOCK-----\n"},
		"repositories": map[string]any{
			"us": map[string]any{"token": "hunter2-token"}, "app": map[string]any{"_app_id": "17", "_installation_id": "18", "private_key": "hunter2-pem"},
		},
		"datadog": map[string]any{
			"api_key": "hunter2-a", "on": true, "n": 3.0, "f": 1.5, "none": nil, "list": []any{"a", map[string]any{"b": ""}},
			"note_unencrypted": "in the clear", "count_unencrypted": 12.0,
		},
	}
	for about, values := range map[string]map[string]string{
		"with SOPS_AGE_KEY_FILE": {"SOPS_AGE_KEY_FILE": key},
		"with SOPS_AGE_KEY":      {"SOPS_AGE_KEY": read(t, key)},
		"with the user's keys":   {"HOME": home},
	} {
		text, err := secretfile.DecryptSOPS(t.Context(), sealed, env(values))
		if err != nil {
			t.Errorf("%s: %v", about, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v\n%s", about, err, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", about, diff)
		}
	}
}

func TestAFileOfSOPSThatWasChangedIsRefused(t *testing.T) {
	t.Parallel()
	text := read(t, sealed)
	token := text[strings.Index(text, `"token": `):]
	token = token[:strings.Index(token, "\n")]
	for about, row := range map[string]struct{ change, want string }{
		"a value in the clear was changed": {strings.Replace(text, "in the clear", "in the dark", 1), "MAC does not fit"},
		"a number in the clear":            {strings.Replace(text, `"count_unencrypted": 12`, `"count_unencrypted": 13`, 1), "MAC does not fit"},
		"a value was taken out":            {strings.Replace(text, token, `"more_unencrypted": ""`, 1), "MAC does not fit"},
		"a value was moved":                {strings.Replace(text, `"token":`, `"password":`, 1), "does not decrypt"},
		"a value was put in":               {strings.Replace(text, token, `"token": "mine"`, 1), "not in the form of sops"},
		"a value was damaged":              {strings.Replace(text, "data:BI", "data:CI", 1), "does not decrypt"},
		"a number was put in":              {strings.Replace(text, token, `"token": 17`, 1), "is not encrypted"},
		"the time was changed":             {strings.Replace(text, `"lastmodified": "20`, `"lastmodified": "21`, 1), "MAC does not fit"},
		"it is none":                       {`{"a": "b"}`, "not a JSON file that sops"},
		"it is no JSON":                    {`{"a": `, "not a JSON file that sops"},
		"a value of sops is taken out":     {strings.Replace(text, `"mac": "ENC`, `"mac": "X`, 1), "MAC does not fit"},
		"a rule that is no expression":     {strings.Replace(text, `"unencrypted_suffix": "_unencrypted"`, `"unencrypted_regex": "("`, 1), "no regular expression"},
		"another rule":                     {strings.Replace(text, `"unencrypted_suffix": "_unencrypted"`, `"encrypted_suffix": "_x"`, 1), "MAC does not fit"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			if row.change == text {
				t.Fatal("nothing was changed")
			}
			got, err := secretfile.DecryptSOPS(t.Context(), write(t, "s.json", row.change, 0o600), env(map[string]string{"SOPS_AGE_KEY_FILE": key}))
			if err == nil || !strings.Contains(err.Error(), row.want) || got != nil {
				t.Errorf("err = %v, want %q; got %s", err, row.want, got)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a secret: %v", err)
			}
		})
	}
}

// A stand-in for the sops command, which opens what is encrypted to other kinds of key.
func TestOtherKeysAreLeftToTheCommand(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	none := env(map[string]string{"HOME": t.TempDir()})
	if _, err := secretfile.DecryptSOPS(t.Context(), sealed, none); err == nil || !strings.Contains(err.Error(), "the sops command is needed") {
		t.Errorf("without the command: %v", err)
	}
	script := "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = '--decrypt --input-type json --output-type json' ] && echo '{\"file\": \"'$6'\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "sops"), []byte(script), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	text, err := secretfile.DecryptSOPS(t.Context(), sealed, none)
	if err != nil || !bytes.Contains(text, []byte("/testdata/age.json")) {
		t.Errorf("got %s, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(bin, "sops"), []byte("#!/bin/sh\necho no key >&2\nexit 128\n"), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	if _, err := secretfile.DecryptSOPS(t.Context(), sealed, none); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("a command that fails: %v", err)
	}
}

func TestKeysThatAreNoneAreSaidWithoutQuotingThem(t *testing.T) {
	t.Parallel()
	bad := write(t, "keys.txt", "AGE-SECRET-KEY-1HUNTER2\n", 0o600)
	for about, values := range map[string]map[string]string{
		"a file": {"SOPS_AGE_KEY_FILE": bad}, "a variable": {"SOPS_AGE_KEY": "AGE-SECRET-KEY-1HUNTER2"}, "no file": {"SOPS_AGE_KEY_FILE": bad + "x"},
	} {
		if _, err := secretfile.DecryptSOPS(t.Context(), sealed, env(values)); err == nil || strings.Contains(err.Error(), "HUNTER2") {
			t.Errorf("%s: %v", about, err)
		}
	}
}

func TestEJSON(t *testing.T) {
	t.Parallel()
	public, private, err := ejson.GenerateKeypair()
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if _, err := ejson.Encrypt(strings.NewReader(`{"_public_key": "`+public+`", "a": {"b": "hunter2", "_c": "clear"}}`), &sealed); err != nil {
		t.Fatal(err)
	}
	file, keys := write(t, "s.ejson", sealed.String(), 0o600), filepath.Dir(write(t, public, private, 0o600))
	text, err := secretfile.DecryptEJSON(file, keys)
	if err != nil || !strings.Contains(string(text), `"hunter2"`) || !strings.Contains(string(text), `"clear"`) {
		t.Errorf("got %s, %v", text, err)
	}
	for about, row := range map[string]struct{ file, keys, want string }{
		"no key":               {file, t.TempDir(), "no key for it"},
		"a key that is none":   {file, filepath.Dir(write(t, public, "hunter2", 0o600)), "does not decrypt"},
		"another key":          {file, filepath.Dir(write(t, public, strings.Repeat("0", 64), 0o600)), "does not decrypt"},
		"no file":              {file + "x", keys, "no such file"},
		"a file that is other": {write(t, "s.ejson", "hunter2", 0o600), keys, "not ejson"},
	} {
		if _, err := secretfile.DecryptEJSON(row.file, row.keys); err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", about, err, row.want)
		}
	}
}

func FuzzDecryptSOPS(f *testing.F) {
	text, err := os.ReadFile(sealed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte("str"), []byte("int"), 1))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(dir, "s.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := secretfile.DecryptSOPS(t.Context(), file, env(map[string]string{"SOPS_AGE_KEY_FILE": key, "PATH": ""}))
		if err == nil && !json.Valid(got) {
			t.Errorf("it decrypts to what is no JSON: %q", got)
		}
	})
}
