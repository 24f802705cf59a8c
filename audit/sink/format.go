package sink

import (
	"encoding/json"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
)

// A Format is how a record is written where it is a line of JSON.
type Format string

// The formats.
const (
	// Gatehouse is the record as the log has it, and its log as the first member "log".
	Gatehouse Format = "gatehouse"
	// Google is an entry of Cloud Logging as GKE has one for a request to a cluster with
	// Binary Authorization. There are only decisions in it.
	Google Format = "google"
)

func (f Format) known() bool { return f == "" || f == Gatehouse || f == Google }

// line returns a record as one line of JSON, without its end.
func (f Format) line(e deliver.Entry, place Place) ([]byte, error) {
	if f == Google {
		text, err := json.Marshal(logEntry(e, place))
		return deliver.Shown(text), err
	}
	line := append([]byte(`{"log":"`), e.Log...)
	line = append(line, `",`...)
	return append(line, e.Line[1:]...), nil // an entry has an id, and so more to come
}

// timeOf is the time of a record that was written as a line.
func timeOf(line []byte) (time.Time, bool) {
	var r struct {
		Time      time.Time `json:"time"`
		Timestamp time.Time `json:"timestamp"` // of Google's
	}
	if json.Unmarshal(line, &r) != nil {
		return time.Time{}, false
	}
	if r.Time.IsZero() {
		r.Time = r.Timestamp
	}
	return r.Time, !r.Time.IsZero()
}
