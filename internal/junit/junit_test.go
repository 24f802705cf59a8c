package junit_test

import (
	"encoding/xml"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-dev/gatehouse/internal/junit"
)

func TestCountsAreThoseOfTheCases(t *testing.T) {
	t.Parallel()
	r := &junit.Report{Name: "all", Tests: 99}
	one, two := r.Suite("one"), r.Suite("two <&>")
	one.Add(junit.Case{Name: "passes", Class: "one", Time: junit.Seconds(1500 * time.Millisecond)})
	one.Add(junit.Case{Name: "fails", Failure: &junit.Text{Message: "m", Text: "a\n<b>"}})
	two.Add(junit.Case{Name: "errs", Error: &junit.Text{}})
	two.Add(junit.Case{Name: "is skipped", Skipped: &junit.Text{}})
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if r.Tests != 4 || r.Failures != 1 || r.Errors != 1 || r.Skipped != 1 || one.Tests != 2 || two.Skipped != 1 {
		t.Errorf("counted %+v, %+v, %+v", r, one, two)
	}
	var back junit.Report
	if err := xml.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &back, cmpopts.IgnoreFields(junit.Report{}, "XMLName")); diff != "" {
		t.Errorf("a report changes when it is written and read (-made +read):\n%s", diff)
	}
}
