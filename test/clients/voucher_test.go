package clients

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"
)

const (
	voucherImage   = "https://gcr.io/shop/web@" + digest
	voucherArmour  = "-----BEGIN PGP MESSAGE-----\n\nowEBCg==\n-----END PGP MESSAGE-----"
	voucherPayload = `{"critical":{"identity":{"docker-reference":"gcr.io/shop/web"},"image":{"docker-manifest-digest":"` + digest +
		`"},"type":"Google cloud binauthz container signature"}}`
	voucherKey = "90E942641C07A4C466BA97161EAF1DDD5EDB32B9"
)

// voucherOccurrence is what Voucher reads of an occurrence. It follows the
// pointers without a look, so that one that is missing ends the process.
type voucherOccurrence struct {
	Name          string `json:"name"`
	NoteName      string `json:"noteName"`
	Kind          *string
	CreateTime    time.Time
	UpdateTime    time.Time
	Resource      *struct{ URI string }
	Vulnerability *struct {
		Severity          *string
		EffectiveSeverity *string
	}
	Build *struct {
		Provenance *struct {
			ProjectID        string
			Creator          string
			LogsURI          string
			SourceProvenance *struct {
				Context *struct {
					Git *struct{ URL, RevisionID string }
				}
			}
			BuiltArtifacts []struct{ Checksum, ID string }
		}
	}
	Discovered *struct {
		Discovered *struct{ AnalysisStatus *string }
	}
	Attestation *struct {
		Attestation *struct {
			GenericSignedAttestation *struct {
				ContentType *string
				Signatures  []struct {
					Signature   []byte
					PublicKeyID string
				}
			}
		}
	}
}

// voucherList reads a project's occurrences as Voucher does in its Grafeas mode:
// all of them, without a filter or a page size, and with page_token spelled so.
func voucherList(t *testing.T, g *gatehouse, project string) (all []voucherOccurrence, requests int) {
	t.Helper()
	path := "/v1beta1/projects/" + project + "/occurrences"
	for query := ""; ; requests++ {
		var page struct {
			Occurrences   []voucherOccurrence `json:"occurrences"`
			NextPageToken string              `json:"nextPageToken"`
		}
		if err := json.Unmarshal(g.send(t, "GET", path+query, "", 200), &page); err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Occurrences...)
		if page.NextPageToken == "" {
			return all, requests + 1
		}
		query = "?" + url.Values{"page_token": {page.NextPageToken}}.Encode()
	}
}

// voucherAttestation is the body that Voucher makes, in the order that it has. It
// never has a payload.
func voucherAttestation(signature string) string {
	return `{"resource":{"uri":"` + voucherImage + `"},"noteName":"projects/binauth/notes/snakeoil","kind":"ATTESTATION",` +
		`"createTime":"0001-01-01T00:00:00Z","updateTime":"0001-01-01T00:00:00Z",` +
		`"attestation":{"attestation":{"genericSignedAttestation":{"contentType":"SIMPLE_SIGNING_JSON",` +
		`"signatures":[{"signature":"` + base64.StdEncoding.EncodeToString([]byte(signature)) + `","publicKeyId":"` + voucherKey + `"}]}}}}`
}

func TestVoucherInGrafeasModeAttests(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.send(t, "POST", "/v1beta1/projects/binauth/notes?note_id=snakeoil", `{"attestationAuthority":{"hint":{"humanReadableName":"snakeoil"}}}`, 200)
	path := "/v1beta1/projects/binauth/occurrences"
	var made voucherOccurrence
	if err := json.Unmarshal(g.send(t, "POST", path, voucherAttestation(voucherArmour), 200), &made); err != nil {
		t.Fatal(err)
	}
	if made.Kind == nil || *made.Kind != "ATTESTATION" || made.CreateTime.IsZero() || made.UpdateTime.IsZero() {
		t.Errorf("created %+v", made)
	}
	// The same again is told from a failure.
	g.send(t, "POST", path, voucherAttestation(voucherArmour), 409)
	// More than two pages of 20.
	for i := range 44 {
		g.send(t, "POST", path, voucherAttestation(fmt.Sprint("signature ", i)), 200)
	}
	all, requests := voucherList(t, g, "binauth")
	if len(all) != 45 || requests != 3 {
		t.Fatalf("%d occurrences in %d requests", len(all), requests)
	}
	seen := map[string]bool{}
	for _, o := range all {
		generic := o.Attestation.Attestation.GenericSignedAttestation
		if *o.Kind != "ATTESTATION" || o.NoteName != "projects/binauth/notes/snakeoil" || o.Resource.URI != voucherImage ||
			*generic.ContentType != "SIMPLE_SIGNING_JSON" || generic.Signatures[0].PublicKeyID != voucherKey {
			t.Fatalf("occurrence %+v", o)
		}
		seen[string(generic.Signatures[0].Signature)] = true
	}
	if len(seen) != 45 || !seen[voucherArmour] {
		t.Errorf("%d different signatures", len(seen))
	}
}

func TestVoucherInGrafeasModeReadsScansAndBuilds(t *testing.T) {
	t.Parallel()
	g := start(t)
	for id, note := range map[string]string{"CVE-1": betaKinds[0].note, "build": betaKinds[1].note, "scan": betaKinds[5].note} {
		g.send(t, "POST", "/v1beta1/projects/shop/notes?note_id="+id, "{"+note+"}", 200)
	}
	for _, about := range []struct{ note, details string }{
		{"scan", `"discovered":{"discovered":{"continuousAnalysis":"ACTIVE","analysisStatus":"FINISHED_SUCCESS"}}`},
		{"CVE-1", betaKinds[0].details},
		{"build", `"build":{"provenance":{"id":"1","projectId":"shop","creator":"ci@shop.example","logsUri":"https://logs",
			"builtArtifacts":[{"checksum":"` + digest + `","id":"web"}],"sourceProvenance":{"context":{"git":{"url":"https://git/web","revisionId":"c0ffee"}}}}}`},
	} {
		g.send(t, "POST", "/v1beta1/projects/shop/occurrences",
			`{"resource":{"uri":"`+voucherImage+`"},"noteName":"projects/shop/notes/`+about.note+`",`+about.details+`}`, 200)
	}
	all, _ := voucherList(t, g, "shop")
	found := map[string]int{}
	for _, o := range all {
		found[*o.Kind]++
		switch *o.Kind {
		case "DISCOVERY":
			if s := *o.Discovered.Discovered.AnalysisStatus; s != "FINISHED_SUCCESS" {
				t.Errorf("analysis status %q", s)
			}
		case "VULNERABILITY":
			if v := o.Vulnerability; *v.Severity != "HIGH" || *v.EffectiveSeverity != "HIGH" {
				t.Errorf("severity %q, effective %q", *v.Severity, *v.EffectiveSeverity)
			}
		case "BUILD":
			p := o.Build.Provenance
			if p.ProjectID != "shop" || p.Creator != "ci@shop.example" || p.LogsURI != "https://logs" || len(p.BuiltArtifacts) != 1 ||
				p.BuiltArtifacts[0].Checksum != digest || *p.SourceProvenance.Context.Git != struct{ URL, RevisionID string }{"https://git/web", "c0ffee"} {
				t.Errorf("provenance %+v", p)
			}
		}
	}
	if found["DISCOVERY"] != 1 || found["VULNERABILITY"] != 1 || found["BUILD"] != 1 || len(all) != 3 {
		t.Errorf("kinds %v", found)
	}
	// It lists notes too, and reads their kinds as eagerly.
	var notes struct {
		Notes []struct {
			Name string
			Kind *string
		}
	}
	if err := json.Unmarshal(g.send(t, "GET", "/v1beta1/projects/shop/notes?page_size=20", "", 200), &notes); err != nil {
		t.Fatal(err)
	}
	for _, n := range notes.Notes {
		if n.Kind == nil || *n.Kind == "NOTE_KIND_UNSPECIFIED" {
			t.Errorf("note %q has no kind", n.Name)
		}
	}
	if len(notes.Notes) != 3 {
		t.Errorf("%d notes", len(notes.Notes))
	}
}
