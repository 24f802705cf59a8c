// Package junit writes the results of tests in JUnit's XML, as CI systems read it.
package junit

import (
	"encoding/xml"
	"fmt"
	"time"
)

// A Report is the results of several suites.
type Report struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Suites   []*Suite `xml:"testsuite"`
}

// A Suite is the results of its cases.
type Suite struct {
	Name     string `xml:"name,attr"`
	Tests    int    `xml:"tests,attr"`
	Failures int    `xml:"failures,attr"`
	Errors   int    `xml:"errors,attr"`
	Skipped  int    `xml:"skipped,attr"`
	Cases    []Case `xml:"testcase"`
}

// A Case is one result: passed, unless one of the last three is set.
type Case struct {
	Name    string `xml:"name,attr"`
	Class   string `xml:"classname,attr"`
	Time    string `xml:"time,attr"` // see [Seconds]
	Failure *Text  `xml:"failure"`
	Error   *Text  `xml:"error"`
	Skipped *Text  `xml:"skipped"`
}

// A Text says why a case did not pass: in a line, and at length.
type Text struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// Seconds is how a duration is written.
func Seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// Suite returns a new suite of the report.
func (r *Report) Suite(name string) *Suite {
	s := &Suite{Name: name}
	r.Suites = append(r.Suites, s)
	return s
}

// Add adds a case, and counts it.
func (s *Suite) Add(c Case) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

// Marshal returns the report as XML, its counts being those of its suites.
func (r *Report) Marshal() ([]byte, error) {
	r.Tests, r.Failures, r.Errors, r.Skipped = 0, 0, 0, 0
	for _, s := range r.Suites {
		r.Tests += s.Tests
		r.Failures += s.Failures
		r.Errors += s.Errors
		r.Skipped += s.Skipped
	}
	body, err := xml.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing JUnit XML: %w", err)
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}
