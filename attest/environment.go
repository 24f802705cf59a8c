package attest

import (
	"strconv"
	"strings"
)

// A Getenv returns the value of an environment variable, "" when it is not set, as
// [os.Getenv] does.
type Getenv func(name string) string

// environmentKeys are what Voucher reads from the environment, over its file: each key in
// capitals, without a prefix, and with the dots of nested keys.
func environmentKeys() map[string]func(string) (any, bool) {
	text := func(s string) (any, bool) { return s, true }
	texts := func(s string) (any, bool) {
		var list []any
		for _, f := range strings.Fields(s) {
			list = append(list, f)
		}
		return list, true
	}
	flag := func(s string) (any, bool) { b, err := strconv.ParseBool(s); return b, err == nil }
	number := func(s string) (any, bool) { return integer(s) }
	return map[string]func(string) (any, bool){
		"dryrun": flag, "scanner": text, "failon": text, "metadata_client": text, "binauth_project": text, "image_project": text, "signer": text,
		"valid_repos": texts, "trusted_builder_identities": texts, "trusted_projects": texts,
		"server.port": number, "server.timeout": number, "server.require_auth": flag, "server.username": text, "server.password": text,
		"ejson.dir": text, "ejson.secrets": text, "sops.file": text,
		"containeranalysis.build_detail_fallback_project": text,
		"grafeasos.hostname":                              text, "grafeasos.version": text, "grafeasos.vul_project": text,
	}
}

func integer(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func upper(key string) string { return strings.ToUpper(key) }

// overlay puts what the environment says over the values of the file, and tells: who
// reads the file must not believe that it decides.
func (d *document) overlay(root *section, env Getenv) {
	if env == nil {
		return
	}
	for key, parse := range environmentKeys() {
		variable := upper(key)
		given := env(variable)
		if given == "" {
			continue
		}
		value, ok := parse(given)
		if !ok {
			d.problem(nil, "environment variable %s has a value that %s cannot have", variable, key)
			continue
		}
		put(root.values, strings.Split(key, "."), value)
		d.warn(nil, "%s is taken from the environment variable %s, as in Voucher, whatever the file says", key, variable)
	}
}

// put sets a value that may be within tables.
func put(values map[string]any, path []string, value any) {
	for ; len(path) > 1; path = path[1:] {
		inner, ok := values[path[0]].(map[string]any)
		if !ok {
			inner = map[string]any{}
		}
		// The tables of the file are in any case.
		lower := make(map[string]any, len(inner)+1)
		for k, v := range inner {
			lower[strings.ToLower(k)] = v
		}
		values[path[0]], values = lower, lower
	}
	values[path[0]] = value
}

// ApplyVoucherEnvironment changes the configuration by the variables of the
// environment that Voucher knows beside its keys: IS_CLOUDRUN=true, where Cloud Run asks
// who the caller is, turns authentication off, and VOUCHER_TARGET_OS and
// VOUCHER_TARGET_ARCH name the platform that is looked at.
func (c *Config) ApplyVoucherEnvironment(getenv func(string) string) {
	if getenv("IS_CLOUDRUN") == "true" {
		c.Server.RequireAuth = false
		c.Server.CloudRun = true
	}
	os, arch := getenv("VOUCHER_TARGET_OS"), getenv("VOUCHER_TARGET_ARCH")
	if os == "" && arch == "" {
		return
	}
	if os == "" {
		os = "linux"
	}
	if arch == "" {
		arch = "amd64"
	}
	c.Platforms = []string{os + "/" + arch}
}
