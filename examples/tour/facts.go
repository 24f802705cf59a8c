package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

type object = map[string]any

// post sends JSON and decodes the answer into out, unless that is nil.
func (t *tour) post(ctx context.Context, client *http.Client, url string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s: %s", url, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (t *tour) grafeas(ctx context.Context, path string, message object) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return t.post(ctx, t.client.plain, "http://"+t.server.Metadata+"/v1/projects/default/"+path, body, nil)
}

// recordFacts does what a build system and a scanner do.
func (t *tour) recordFacts(ctx context.Context) error {
	notes := map[string]object{
		"ci-build": {"build": object{"builderVersion": "tour"}},
		"go-scan":  {"discovery": object{"analysisKind": "VULNERABILITY"}},
	}
	for _, p := range t.all() {
		for _, f := range p.findings {
			notes[f.CVE] = object{"shortDescription": f.Summary, "vulnerability": object{"details": []object{{
				"affectedCpeUri": "cpe:/a:golang:go", "affectedPackage": f.Module.Path,
			}}}}
		}
	}
	for id, note := range notes {
		if err := t.grafeas(ctx, "notes?noteId="+id, note); err != nil {
			return err
		}
	}
	for _, p := range t.all() {
		if err := t.recordImage(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) all() []picture {
	return []picture{t.images.good, t.images.root, t.images.vulnerable, t.images.fixed}
}

func (t *tour) recordImage(ctx context.Context, p picture) error {
	uri := p.ref.ResourceURI()
	occurrences := []object{
		{"noteName": "projects/default/notes/ci-build", "build": object{"provenance": object{
			"id": "build-of-" + p.tag, "projectId": "shop", "creator": "ci@shop.example",
			"builtArtifacts": []object{{"checksum": p.ref.Digest().String(), "id": p.ref.String(), "names": []string{p.tag}}},
		}}},
		{"noteName": "projects/default/notes/go-scan", "discovery": object{"analysisStatus": "FINISHED_SUCCESS"}},
	}
	for _, f := range p.findings {
		occurrences = append(occurrences, object{"noteName": "projects/default/notes/" + f.CVE, "vulnerability": object{
			"shortDescription": f.Summary,
			"packageIssue": []object{{
				"affectedCpeUri": "cpe:/a:golang:go", "affectedPackage": f.Module.Path,
				"affectedVersion": object{"kind": "NORMAL", "name": f.Module.Version},
				"fixedCpeUri":     "cpe:/a:golang:go", "fixedPackage": f.Module.Path,
				"fixedVersion": object{"kind": "NORMAL", "name": f.FixedVersion},
			}},
		}})
	}
	found := "build, scan finished, nothing found"
	for i, f := range p.findings {
		if i == 0 {
			found = "build, scan finished, "
		}
		found += fmt.Sprintf("%s (%s) in %s, fixed in %s", f.CVE, f.ID, f.Module, f.FixedVersion)
	}
	for _, o := range occurrences {
		o["resourceUri"] = uri
		if err := t.grafeas(ctx, "occurrences", o); err != nil {
			return err
		}
	}
	t.say("  %-10s %s", short(p), found)
	return nil
}

// short is the name and tag of a picture: "web:1".
func short(p picture) string { return p.tag[strings.LastIndexByte(p.tag, '/')+1:] }

// checkImages asks the attestor as a pipeline does.
func (t *tour) checkImages(ctx context.Context) error {
	// The fix is checked when it is made, later.
	for _, p := range []picture{t.images.good, t.images.root, t.images.vulnerable} {
		if err := t.checkImage(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) checkImage(ctx context.Context, p picture) error {
	body, err := json.Marshal(object{"image_url": p.ref.String()})
	if err != nil {
		return err
	}
	var answer struct {
		Success bool
		Results []struct {
			Name, Error       string
			Success, Attested bool
			Details           struct{ KeyID string }
		}
	}
	if err := t.post(ctx, t.client.plain, "http://"+t.server.Attestor+"/all", body, &answer); err != nil {
		return err
	}
	verdict := "rejected"
	if answer.Success {
		verdict = "approved"
	}
	t.say("  %-10s %s", short(p), verdict)
	for _, r := range answer.Results {
		switch {
		case r.Attested:
			t.say("      ✓ %-11s attested, key %s", r.Name, r.Details.KeyID)
		case r.Success:
			t.say("      ✓ %-11s not attested: %s", r.Name, r.Error)
		default:
			t.say("      ✗ %-11s %s", r.Name, r.Error)
		}
	}
	return nil
}
