package suite

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// The elements of JUnit's format, as CI systems read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"` // seconds
		Failure *junitFailure `xml:"failure"`
		Error   *junitFailure `xml:"error"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit returns the report in JUnit's XML.
func (r *Report) JUnit() ([]byte, error) {
	all := junitSuites{Name: "gatehouse policy test"}
	for _, s := range r.Suites {
		out := junitSuite{Name: s.File}
		if s.Error != "" {
			out.Tests, out.Errors = 1, 1
			out.Cases = []junitCase{{Name: "load", Class: s.File, Time: "0", Error: &junitFailure{Message: firstLine(s.Error), Text: s.Error}}}
		}
		for i := range s.Cases {
			c := &s.Cases[i]
			one := junitCase{Name: c.Name, Class: s.File, Time: fmt.Sprintf("%.6f", c.Took.Seconds())}
			if !c.Passed {
				out.Failures++
				text := strings.Join(append([]string{c.Source}, append(c.Problems, c.why()...)...), "\n")
				one.Failure = &junitFailure{Message: firstLine(c.Problems[0]), Text: text}
			}
			out.Tests++
			out.Cases = append(out.Cases, one)
		}
		all.Tests += out.Tests
		all.Failures += out.Failures
		all.Errors += out.Errors
		all.Suites = append(all.Suites, out)
	}
	body, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing JUnit XML: %w", err)
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
