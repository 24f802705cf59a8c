package suite

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/junit"
)

// JUnit returns the report in JUnit's XML.
func (r *Report) JUnit() ([]byte, error) {
	all := &junit.Report{Name: "gatehouse policy test"}
	for _, s := range r.Suites {
		out := all.Suite(s.File)
		if s.Error != "" {
			out.Add(junit.Case{Name: "load", Class: s.File, Time: junit.Seconds(0), Error: &junit.Text{Message: firstLine(s.Error), Text: s.Error}})
		}
		for i := range s.Cases {
			c := &s.Cases[i]
			one := junit.Case{Name: c.Name, Class: s.File, Time: junit.Seconds(c.Took)}
			if !c.Passed {
				text := strings.Join(append([]string{c.Source}, append(c.Problems, c.why()...)...), "\n")
				one.Failure = &junit.Text{Message: firstLine(c.Problems[0]), Text: text}
			}
			out.Add(one)
		}
	}
	return all.Marshal()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
