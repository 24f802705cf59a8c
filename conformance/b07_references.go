package conformance

import (
	"maps"
	"slices"
	"strings"
)

func references() Class {
	return Class{
		ID: "B7", Title: "A reference is read differently by the gate and by the kubelet",
		Cases: []Case{
			{
				ID: "B7/tag-lies", Title: "the tag of the good image beside the digest of the bad one",
				Gain: "The gate verifies the tag, and the kubelet pulls the digest.",
				probes: func(w *world) []probe {
					tag := w.profile.Good.Tag
					if tag == "" {
						tag = w.goodName() + ":1"
					}
					return []probe{{what: "good:TAG@bad", review: w.podOf(tag + "@" + w.badDigest()), want: denied()}}
				},
			},
			{
				ID: "B7/two-digests", Title: "two digests in one reference",
				Gain: "One parser takes the first, another the last.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "bad@good", review: w.podOf(w.bad() + "@" + w.goodDigest()), want: denied()},
						{what: "good@bad", review: w.podOf(w.good() + "@" + w.badDigest()), want: denied()},
					}
				},
			},
			{
				ID: "B7/two-references", Title: "the good image hidden behind the bad one",
				Gain: "The gate finds the good image somewhere in the text, and the runtime reads the bad one.",
				probes: func(w *world) []probe {
					var list []probe
					separators := map[string]string{"a newline": "\n", "a NUL": "\x00", "a space": " ", "a fragment": "#", "a query": "?x=", "a comma": ",", "a slash": "/", "a tab": "\t"}
					for _, name := range slices.Sorted(maps.Keys(separators)) {
						list = append(list, probe{what: name, review: w.podOf(w.bad() + separators[name] + w.good()), want: denied()})
					}
					return list
				},
			},
			{
				ID: "B7/other-algorithm", Title: "digests that are short, long, in capitals or of another algorithm",
				Gain: "Evidence is found by a part of the digest, and the reference names something else.",
				probes: func(w *world) []probe {
					hex := strings.TrimPrefix(w.goodDigest(), "sha256:")
					list := []probe{
						{what: "the first 12 digits", review: w.podOf(w.goodName() + "@sha256:" + hex[:12]), want: denied()},
						{what: "one digit less", review: w.podOf(w.goodName() + "@sha256:" + hex[:63]), want: denied()},
						{what: "one digit more", review: w.podOf(w.goodName() + "@sha256:" + hex + "0"), want: denied()},
						{what: "sha512 of the same digits", review: w.podOf(w.goodName() + "@sha512:" + hex + hex), want: denied()},
						{what: "no algorithm", review: w.podOf(w.goodName() + "@" + hex), want: denied()},
						{what: "another spelling of the algorithm", review: w.podOf(w.goodName() + "@SHA256:" + hex), want: denied()},
					}
					if upper := strings.ToUpper(hex); upper != hex {
						list = append(list, probe{what: "capital digits", review: w.podOf(w.goodName() + "@sha256:" + upper), want: denied()})
					}
					return list
				},
			},
			{
				ID: "B7/long", Title: "references of 1 kB to 1 MB",
				Gain: "A parser takes so long that the gate is skipped, or fails so that it is.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "1 kB", review: w.podOf(strings.Repeat("a", 1<<10) + "/" + w.bad()), want: answered()},
						{what: "64 kB of parts", review: w.podOf(strings.Repeat("a/", 32<<10) + w.bad()), want: answered()},
						{what: "1 MB", review: w.podOf(strings.Repeat("a", 1<<20) + "@" + w.goodDigest()), want: answered()},
					}
				},
			},
			exemptLookAlikes("B7/exempt-host", "a foreign host that looks like the exempt one",
				"Whoever owns a domain or a repository of the right name is exempt.", []string{"portieris v0.14.2"},
				func(host, path string) map[string]string {
					return map[string]string{
						"a longer host": host + ".evil.example/" + path, "the host in the path": "evil.example/" + host + "/" + path, "the host as a user": host + "@evil.example/" + path,
						"another port": hostOnly(host) + ":4443/" + path, "a host before": "evil-" + host + "/" + path, "a subdomain": "evil." + host + "/" + path, "another letter": homoglyph(host) + "/" + path,
						"a scheme": "https://" + host + "/" + path, "an encoded slash": host + "%2f" + path, "a trailing dot": hostOnly(host) + "./" + path, "a zero-width space": host + "\u200b/" + path,
					}
				}),
			exemptLookAlikes("B7/exempt-path", "another image that looks like the exempt one",
				"The exemption of one image covers others, which anyone may push.", nil,
				func(host, path string) map[string]string {
					name := untagged(path)
					return map[string]string{
						"dots": host + "/" + name + "/../evil", "more path": host + "/" + name + "/evil:1", "a longer name": host + "/" + name + "-evil:1", "path before": host + "/evil/" + path,
						"capitals": host + "/" + strings.ToUpper(name) + ":1", "an empty part": host + "//" + path, "a space before": " " + host + "/" + path, "a newline after": host + "/" + path + "\nevil", "no host": path + "-evil",
					}
				}),
		},
	}
}

// exemptLookAlikes are references that policy must not take for the exempt image.
func exemptLookAlikes(id, title, gain string, references []string, lookAlikes func(host, path string) map[string]string) Case {
	return Case{
		ID: id, Title: title, Gain: gain, References: references, needs: []need{needExemptImage()},
		probes: func(w *world) []probe {
			host, path, ok := strings.Cut(w.profile.Exempt.Image, "/")
			if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
				host, path = "docker.io", w.profile.Exempt.Image
			}
			list := []probe{{what: "the exempt image itself", review: w.podOf(w.profile.Exempt.Image), want: allowed()}}
			texts := lookAlikes(host, path)
			for _, name := range slices.Sorted(maps.Keys(texts)) {
				list = append(list, probe{what: name, review: w.podOf(texts[name]), want: denied()})
			}
			return list
		},
	}
}

func hostOnly(host string) string { name, _, _ := strings.Cut(host, ":"); return name }

// homoglyph writes a host in letters of another alphabet that look the same.
func homoglyph(s string) string {
	return strings.NewReplacer("e", "\u0435", "o", "\u043e", "a", "\u0430", "c", "\u0441").Replace(s)
}
