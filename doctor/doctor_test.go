package doctor

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestTheRoomOfAFolder(t *testing.T) {
	t.Parallel()
	free, size, err := room(t.TempDir())
	if err != nil || size == 0 || free > size {
		t.Errorf("%d of %d, %v", free, size, err)
	}
	found, err := Examine(context.Background(), Options{Data: t.TempDir(), Now: time.Now}, []string{"store"})
	if err != nil || len(found) != 1 || found[0].Check != "store" || found[0].Result == Skipped || found[0].Result == Unknown {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestNothingIsLookedAtThatIsNotNamed(t *testing.T) {
	t.Parallel()
	found, err := Examine(context.Background(), Options{Now: time.Now}, nil)
	if err != nil || len(found) != len(Checks()) || Worst(found) != Skipped {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := Examine(context.Background(), Options{}, []string{"nothing"}); err == nil {
		t.Error("there is no such check, and no error")
	}
}

func TestWhatARuleCovers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule                       string
		group, resource, operation string
		want                       bool
	}{
		"named":                      {`{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}`, "", "pods", "CREATE", true},
		"another operation":          {`{"apiGroups":[""],"apiVersions":["v1"],"operations":["UPDATE"],"resources":["pods"]}`, "", "pods", "CREATE", false},
		"another group":              {`{"apiGroups":["apps"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}`, "", "pods", "CREATE", false},
		"another version":            {`{"apiGroups":[""],"apiVersions":["v2"],"operations":["*"],"resources":["*"]}`, "", "pods", "CREATE", false},
		"all":                        {`{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*/*"]}`, "", "pods/ephemeralcontainers", "UPDATE", true},
		"all without subresources":   {`{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}`, "", "pods/ephemeralcontainers", "UPDATE", false},
		"pods without subresources":  {`{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["pods"]}`, "", "pods/ephemeralcontainers", "UPDATE", false},
		"all subresources of pods":   {`{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["pods/*"]}`, "", "pods/ephemeralcontainers", "UPDATE", true},
		"subresources are not pods":  {`{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["pods/*"]}`, "", "pods", "CREATE", false},
		"a subresource of all kinds": {`{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["*/ephemeralcontainers"]}`, "", "pods/ephemeralcontainers", "UPDATE", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w webhook
			if err := json.Unmarshal([]byte(`{"rules":[`+tc.rule+`]}`), &w); err != nil {
				t.Fatal(err)
			}
			if got := w.covers(tc.group, tc.resource, tc.operation); got != tc.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"a": "1"}
	for text, want := range map[string]bool{
		`{}`:                        true,
		`{"matchLabels":{"a":"1"}}`: true,
		`{"matchLabels":{"a":"2"}}`: false,
		`{"matchLabels":{"b":""}}`:  false,
		`{"matchExpressions":[{"key":"a","operator":"In","values":["1","2"]}]}`: true,
		`{"matchExpressions":[{"key":"b","operator":"In","values":[""]}]}`:      false,
		`{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]}]}`:  false,
		`{"matchExpressions":[{"key":"b","operator":"NotIn","values":["1"]}]}`:  true,
		`{"matchExpressions":[{"key":"a","operator":"Exists"}]}`:                true,
		`{"matchExpressions":[{"key":"b","operator":"Exists"}]}`:                false,
		`{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}`:          false,
		`{"matchExpressions":[{"key":"b","operator":"DoesNotExist"}]}`:          true,
	} {
		var s selector
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if got := s.matches(labels); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestConditionsThatAreLoose(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]bool{
		`request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp)`: false,
		`!('x' in oldObject.metadata.labels)`:                                         false,
		`!('x' in object.metadata.labels)`:                                            true,
		`'x' in oldObject.metadata.labels || 'x' in object.metadata.labels`:           true,
		`object.metadata.name != 'x'`:                                                 true,
		`request.namespace != 'gatehouse'`:                                            false,
	} {
		if got := loose(expression); got != want {
			t.Errorf("%s: %v", expression, got)
		}
	}
}

// TestWhatGatesSay of the metadata service that they follow.
func TestWhatGatesSay(t *testing.T) {
	t.Parallel()
	const fine = "gatehouse_feed_connected 1\ngatehouse_evidence_lag_changes 3\ngatehouse_feed_silence_seconds 0.5\ngatehouse_evidence_from_copy 0\ngatehouse_evidence_copy_refused 0\n"
	for name, tc := range map[string]struct {
		metrics string
		result  Result
		text    string
	}{
		"fine":             {fine, OK, "3 changes behind"},
		"its own store":    {"gatehouse_evidence_digests 1\n", OK, "follows nobody"},
		"away":             {strings.Replace(fine, "connected 1", "connected 0", 1), Problem, "heard 0 s ago"},
		"never there":      {strings.NewReplacer("connected 1", "connected 0", "seconds 0.5", "seconds -1").Replace(fine), Problem, "never been heard"},
		"by its copy":      {strings.NewReplacer("connected 1", "connected 0", "from_copy 0", "from_copy 1").Replace(fine), Problem, "by its copy"},
		"far behind":       {strings.Replace(fine, "changes 3", "changes 3000", 1), Warning, "3000 changes behind"},
		"refused its copy": {strings.Replace(fine, "refused 0", "refused 1", 1), Warning, "refused its copy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tc.metrics) }))
			defer s.Close()
			found, err := Examine(t.Context(), Options{Ops: []string{s.URL}, Now: time.Now}, []string{"feed"})
			if err != nil || Worst(found) != tc.result || !strings.Contains(found[len(found)-1].Message, tc.text) {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}

// TestWhoAsksTheMetadataService is known there, or is told how to be.
func TestWhoAsksTheMetadataService(t *testing.T) {
	t.Parallel()
	for status, tc := range map[string]struct {
		code       int
		text, mend string
	}{
		"UNAUTHENTICATED":   {401, "does not know who asks", "kubectl create token"},
		"PERMISSION_DENIED": {403, "and does not tell", "identity.rules"},
		"UNAVAILABLE":       {503, "UNAVAILABLE", ""},
	} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.code)
				_, _ = io.WriteString(w, `{"error":{"code":1,"status":"`+status+`","message":"no"}}`)
			}))
			defer s.Close()
			found, err := Examine(t.Context(), Options{Service: s.URL, HTTP: s.Client(), Project: "default", Now: time.Now}, []string{"metadata"})
			if err != nil || Worst(found) != Problem || !strings.Contains(found[0].Message, tc.text) || !strings.Contains(found[0].Mend, tc.mend) {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}
