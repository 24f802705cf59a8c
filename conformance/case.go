package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// Version is the version of the suite: the first number changes when a gate that
// passed may fail without having changed, the second when cases are added that
// the same gates pass, the third for words.
const Version = "1.0.0"

// A Class is a family of ways around a gate.
type Class struct {
	ID    string // "B3"
	Title string
	// Beyond says what of the class cannot be tried from outside, and why; it is ""
	// when nothing was left out.
	Beyond string
	Cases  []Case
}

// A Case is one way around a gate, and what must hold when it is tried.
type Case struct {
	// ID is the class and a name in it: "B3/ephemeral-containers".
	ID string
	// Title says what is tried.
	Title string
	// Gain says what an attacker has of it, or what breaks, where it does not hold.
	Gain string
	// References are advisories and issues in which it was seen.
	References []string

	needs []need
	// alone is set for cases that load the gate and so would disturb others.
	alone bool
	// probes are the reviews to send and what must hold for each. They are sent in
	// each version of the protocol that the gate speaks.
	probes func(*world) []probe
	// must and try are what has to hold, and how it is tried, where that is more
	// than reviews and their verdicts.
	must string
	try  func(context.Context, *trial)
}

// A probe is a review and what must hold for the answer.
type probe struct {
	what   string
	review *review.Builder
	// edit changes the text of the review, for what no API server writes.
	edit func(string) string
	want want
}

// A want is what must hold for an answer.
type want struct {
	text  string // "is denied"
	check func(*world, exchange) error
}

// A need is what a case needs of the profile.
type need struct {
	text string
	met  func(*world) bool
}

// Class returns the class of the case: "B3".
func (c Case) Class() string {
	class, _, _ := strings.Cut(c.ID, "/")
	return class
}

// Needs says what the case needs beside a good and a bad image.
func (c Case) Needs() []string {
	var list []string
	for _, n := range c.needs {
		list = append(list, n.text)
	}
	return list
}

// Must says what has to hold, a sentence for each thing that is sent.
func (c Case) Must() []string {
	if c.probes == nil {
		return []string{c.must}
	}
	var list []string
	for _, p := range c.probes(exampleWorld(c)) {
		list = append(list, p.what+" "+p.want.text)
	}
	return list
}

// Classes returns all classes with their cases, in order.
func Classes() []Class {
	return []Class{
		movingTags(), twoAnswers(), uncoveredFields(), subresources(), operations(), laterMutation(),
		references(), vacuousTruth(), wrongSubject(), typeConfusion(), wideIdentity(), timeOfEvidence(),
		anyOfAllOf(), exhaustion(), credentialLeaks(), failOpen(), trustedState(), exemptionAbuse(),
		caches(), disagreeingPaths(), policyEngine(), availability(), bootstrapping(), injection(),
	}
}

// Cases returns the cases of all classes, in order.
func Cases() []Case {
	var all []Case
	for _, c := range Classes() {
		all = append(all, c.Cases...)
	}
	return all
}

// Find returns the case with an id.
func Find(id string) (Case, bool) {
	all := Cases()
	i := slices.IndexFunc(all, func(c Case) bool { return c.ID == id })
	if i < 0 {
		return Case{}, false
	}
	return all[i], true
}

// Row is the class as a row of a table in Markdown: its id, its title with how many
// cases try it, and what is not tried.
func (c Class) Row() string {
	return fmt.Sprintf("| %s | %s (%d) | %s |", c.ID, c.Title, len(c.Cases), c.Beyond)
}
