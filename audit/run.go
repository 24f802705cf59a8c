package audit

import (
	"encoding/json"
	"strings"
	"time"
)

// A Run is one line of the log of what an attestor was asked: to check an image, or to
// verify what it is attested. It has a folder of its own.
type Run struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Method is "check" or "verify", and API how it was asked: "voucher" or "v1".
	Method string `json:"method"`
	API    string `json:"api"`
	// Caller is empty while nobody is asked who he is, and for one who could not prove
	// it; Origin is the address that he called from.
	Caller string `json:"caller"`
	Origin string `json:"origin,omitempty"`
	// Image is what was asked about and Name the check or group, as far as they were
	// understood.
	Image   string `json:"image,omitempty"`
	Name    string `json:"name,omitempty"`
	Success bool   `json:"success"`
	DryRun  bool   `json:"dryRun,omitempty"`
	// Error says why the request was refused.
	Error   string      `json:"error,omitempty"`
	Results []RunResult `json:"results,omitempty"`
	// Took is in seconds.
	Took float64 `json:"took"`
	// Replica is the process that was asked.
	Replica string `json:"replica,omitempty"`
	// Truncated is set when the record was too large to be kept whole.
	Truncated bool `json:"truncated,omitempty"`
	// Lost is set for a method "lost", which stands for records that are missing.
	Lost *Lost `json:"lost,omitempty"`
}

// A RunResult is what came of one check.
type RunResult struct {
	Check string `json:"check"`
	// Verdict is PASS, FAIL or ERROR; of a verification PASS or FAIL.
	Verdict  string `json:"verdict"`
	Reason   string `json:"reason,omitempty"`
	Attested bool   `json:"attested"`
	// Attestations are those that were made or found, or verified.
	Attestations []RunAttestation `json:"attestations,omitempty"`
}

// A RunAttestation is a signature about one image.
type RunAttestation struct {
	Resource string `json:"resource"`
	Note     string `json:"note,omitempty"`
	KeyID    string `json:"keyId"`
	// Signature is in standard base64, and empty when the attestation was there before.
	Signature string `json:"signature,omitempty"`
}

// AppendRun hands a record to the writer without waiting for the disk. It fails with
// [ErrFull] or [ErrClosed].
func (l *Log) AppendRun(r Run) error {
	if r.Replica == "" {
		r.Replica = l.Replica
	}
	line, err := encodeRun(r)
	if err != nil {
		return encoding(err)
	}
	return l.enqueue(line, nil)
}

// encodeRun makes a line of at most MaxRecord bytes.
func encodeRun(r Run) ([]byte, error) {
	for _, field := range []*string{&r.Method, &r.API, &r.Caller, &r.Origin, &r.Image, &r.Name, &r.Error} {
		*field = short(*field)
	}
	line, err := json.Marshal(r)
	if err != nil || len(line) <= MaxRecord {
		return line, err
	}
	r.Truncated = true
	results := make([]RunResult, 0, len(r.Results))
	for _, c := range r.Results {
		c.Reason, c.Attestations = short(c.Reason), nil
		results = append(results, c)
	}
	if r.Results = results; len(results) > keptOfRecord {
		r.Results = results[:keptOfRecord]
	}
	return json.Marshal(r)
}

// A RunFilter selects runs; a field that is empty selects all.
type RunFilter struct {
	Since, Until time.Time
	// Method and Caller are compared without regard to case.
	Method, Caller string
	// Image selects runs about an image whose text contains it.
	Image string
}

func (f RunFilter) match(r Run) bool {
	if !within(r.Time, f.Since, f.Until) {
		return false
	}
	for _, field := range [...]struct{ want, got string }{{f.Method, r.Method}, {f.Caller, r.Caller}} {
		if field.want != "" && !strings.EqualFold(field.want, field.got) {
			return false
		}
	}
	return strings.Contains(r.Image, f.Image)
}

// QueryRuns is [Query] for a log of runs.
func QueryRuns(dir string, filter RunFilter, fn func(Run) error) error {
	return Source{Dir: dir}.Runs(filter, fn)
}
