package decide_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// Properties of every decision. Each test changes a random question in one way, and
// says what that must not do to the answer.

// spare returns a source of choices about a change of the question made of data: it
// depends on it, and shrinks with it.
func spare(data []byte) world {
	var seed uint64
	for _, b := range data {
		seed = seed*31 + uint64(b)
	}
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
	list := make([]byte, 200)
	for i := range list {
		list[i] = byte(r.Uint32())
	}
	return world{&choices{list}}
}

// each changes what is known of each digest.
func (q question) each(change func(*evidence.Image)) question {
	for _, d := range worldDigests {
		if img, ok := q.Facts.Images[d]; ok {
			change(&img)
			q.Facts.Images[d] = img
		}
	}
	return q
}

func asJSON(t testing.TB, d decide.Decision) string {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rank orders verdicts from the worst.
func rank(v decide.Verdict) int {
	switch v {
	case decide.ALLOW:
		return 2
	case decide.INDETERMINATE:
		return 1
	}
	return 0
}

// noWorse tells where d is worse than before, image by image.
func noWorse(before, d decide.Decision) string {
	if before.Allowed && !d.Allowed {
		return "what was let in is not any more: " + d.Summary
	}
	for i := range before.Images {
		if rank(d.Images[i].Verdict) < rank(before.Images[i].Verdict) {
			return "image " + before.Images[i].Image + " was " + before.Images[i].Verdict.String() + ", and is " + d.Images[i].Verdict.String()
		}
	}
	return ""
}

// Evidence that helps: one more attestation, provenance, or finished scan without
// findings. (Not an upload: see below. Nor a record of what was allowed, which
// helps too, but only where nothing could be read.)
func TestAddingEvidenceNeverDenies(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]func(world, *evidence.Image){
		"attestation": func(w world, img *evidence.Image) { img.Attestations = append(img.Attestations, w.attestation()) },
		"provenance":  func(w world, img *evidence.Image) { img.Provenances = append(img.Provenances, w.provenance()) },
		"finished scan": func(w world, img *evidence.Image) {
			img.Scans = append(img.Scans, evidence.Scan{Project: pick(w.choices, worldProjects...), Finished: true})
		},
		"allowed before": func(w world, img *evidence.Image) {
			img.Allowed = append(img.Allowed, evidence.Allowed{Image: pick(w.choices, worldNames...), Time: noon})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyQuestion(t, 10, func(data []byte) string {
				w := spare(data)
				return noWorse(questionOf(data).build().decide(), questionOf(data).each(func(img *evidence.Image) { add(w, img) }).build().decide())
			})
		})
	}
}

// Evidence that tells against an image: what a scan found, that it found more, that
// it has not ended. What was rejected says nothing either way.
func TestWhatTellsAgainstAnImageNeverAllows(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]func(world, *evidence.Image){
		"a finding": func(w world, img *evidence.Image) {
			for i := range img.Scans {
				img.Scans[i].Findings = append(slices.Clone(img.Scans[i].Findings), w.scan().Findings...)
			}
		},
		"a truncated scan": func(w world, img *evidence.Image) {
			for i := range img.Scans {
				img.Scans[i].Truncated = true
			}
		},
		"an unfinished scan": func(w world, img *evidence.Image) {
			s := w.scan()
			s.Finished = false
			img.Scans = append(img.Scans, s)
		},
		"a rejection": func(w world, img *evidence.Image) {
			img.Rejected = append(img.Rejected, evidence.Rejection{Note: pick(w.choices, worldNotes...), Project: pick(w.choices, worldProjects...), Reason: "is forged"})
		},
		// Uploading an image again, or recording it again, makes it no younger.
		"another upload": func(w world, img *evidence.Image) {
			if len(img.Uploads) == 0 {
				return
			}
			again := pick(w.choices, img.Uploads...)
			again.Time = again.Time.Add(pick(w.choices, time.Nanosecond, time.Hour, 365*24*time.Hour))
			img.Uploads = append(img.Uploads, again)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyQuestion(t, 11, func(data []byte) string {
				w := spare(data)
				worse := noWorse(questionOf(data).each(func(img *evidence.Image) { add(w, img) }).build().decide(), questionOf(data).build().decide())
				if worse != "" {
					return "with more against it than without: " + worse
				}
				return ""
			})
		})
	}
}

// Statements that nobody trusts, or that are of something else, change nothing.
func TestEvidenceOfNobodyOrOfSomethingElseNeverHelps(t *testing.T) {
	t.Parallel()
	stranger := [32]byte{0xee}
	for name, add := range map[string]func(world, *evidence.Image){
		"signed by a stranger": func(w world, img *evidence.Image) {
			a, u, p := w.attestation(), w.upload(), w.provenance()
			a.Fingerprint, u.Fingerprint, p.Fingerprint = stranger, stranger, stranger
			a.KeyID, u.KeyID, p.KeyID = "key-0", "key-0", "key-0" // a name is no key
			img.Attestations, img.Uploads, img.Provenances = append(img.Attestations, a), append(img.Uploads, u), append(img.Provenances, p)
		},
		"signed by the zero key": func(w world, img *evidence.Image) {
			a, u, p := w.attestation(), w.upload(), w.provenance()
			a.Fingerprint, u.Fingerprint, p.Fingerprint = [32]byte{}, [32]byte{}, [32]byte{}
			img.Attestations, img.Uploads, img.Provenances = append(img.Attestations, a), append(img.Uploads, u), append(img.Provenances, p)
		},
		"filed elsewhere": func(w world, img *evidence.Image) {
			a, u, p, s := w.attestation(), w.upload(), w.provenance(), w.scan()
			for _, o := range []*evidence.Origin{&a.Origin, &u.Origin, &p.Origin} {
				o.Note, o.Project = "projects/x/notes/built", "x"
			}
			s.Project = "x"
			img.Attestations, img.Uploads, img.Provenances, img.Scans = append(img.Attestations, a), append(img.Uploads, u), append(img.Provenances, p), append(img.Scans, s)
		},
		"expired or not yet valid": func(w world, img *evidence.Image) {
			a, b := w.attestation(), w.attestation()
			a.NotBefore, a.NotAfter = time.Time{}, noon
			b.NotBefore, b.NotAfter = noon.Add(1), time.Time{}
			img.Attestations = append(img.Attestations, a, b)
		},
		"zero": func(w world, img *evidence.Image) {
			img.Attestations, img.Uploads, img.Provenances = append(img.Attestations, evidence.Attestation{}), append(img.Uploads, evidence.Upload{}), append(img.Provenances, evidence.Provenance{})
			img.Scans, img.Rejected, img.Allowed = append(img.Scans, evidence.Scan{}), append(img.Rejected, evidence.Rejection{}), append(img.Allowed, evidence.Allowed{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyQuestion(t, 12, func(data []byte) string {
				w := spare(data)
				return noWorse(questionOf(data).each(func(img *evidence.Image) { add(w, img) }).build().decide(), questionOf(data).build().decide())
			})
		})
	}
	t.Run("of another digest", func(t *testing.T) {
		t.Parallel()
		everyQuestion(t, 13, func(data []byte) string {
			q := questionOf(data)
			q.Facts.Images[image.DigestOf([]byte("another"))] = spare(data).image()
			return noWorse(q.build().decide(), questionOf(data).build().decide())
		})
	})
}

// What is allowed when nothing can be read is allowed whatever there is to read;
// and no state that is not Known counts as such.
func TestAnOutageNeverSatisfiesACheck(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 14, func(data []byte) string {
		w := spare(data)
		down := questionOf(data).each(func(img *evidence.Image) { img.State = pick(w.choices, evidence.Unavailable, -1, 2) }).build().decide()
		gone := questionOf(data)
		gone.Facts.Images = nil
		missing := gone.build().decide()
		for _, known := range []decide.Decision{questionOf(data).each(func(img *evidence.Image) { *img = evidence.Image{State: evidence.Known} }).build().decide(), questionOf(data).build().decide()} {
			for i := range known.Images {
				if v := known.Images[i].Verdict; (down.Images[i].Verdict == decide.ALLOW || missing.Images[i].Verdict == decide.ALLOW) && v != decide.ALLOW {
					return "allowed in an outage, and " + v.String() + " by what is known"
				}
			}
		}
		return ""
	})
}

func TestRequiringMoreNeverAllows(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]func(world, *question){
		// A rule without a check denies, and so is no less than one with a check.
		"a check": func(w world, q *question) {
			q.eachRule(func(r *policy.Rule) {
				if len(r.Checks) > 0 {
					r.Checks = slices.Insert(r.Checks, w.n(len(r.Checks)), policy.Check{Condition: w.condition(2)})
				}
			})
		},
		"a condition of all": func(w world, q *question) {
			q.eachRule(func(r *policy.Rule) {
				for i := range r.Checks {
					r.Checks[i].Condition = policy.AllOf{Of: []policy.Condition{w.condition(2), r.Checks[i].Condition}}
				}
			})
		},
		"one way less": func(w world, q *question) {
			q.eachRule(func(r *policy.Rule) {
				for i := range r.Checks {
					if c, ok := r.Checks[i].Condition.(policy.AnyOf); ok && len(c.Of) > 0 {
						r.Checks[i].Condition = policy.AnyOf{Of: c.Of[1:]}
					}
				}
			})
		},
		"a policy": func(w world, q *question) { q.Set = append(q.Set, w.ruleset()) },
		"the repository too": func(w world, q *question) {
			for _, r := range q.Set {
				if r == nil {
					continue
				}
				for name, a := range r.Attestors {
					a.MatchRepository = true
					r.Attestors[name] = a
				}
			}
		},
		"a key less": func(w world, q *question) {
			for _, r := range q.Set {
				if r == nil {
					continue
				}
				for name, a := range r.Attestors {
					if len(a.Keys) > 0 {
						a.Keys = a.Keys[1:]
						r.Attestors[name] = a
					}
				}
			}
		},
		"an attestor less": func(w world, q *question) {
			for _, r := range q.Set {
				if r != nil {
					delete(r.Attestors, built)
				}
			}
		},
		"what vulnerabilities may be": func(w world, q *question) {
			q.eachCondition(func(c policy.Condition) policy.Condition {
				if v, ok := c.(policy.Vulnerabilities); ok {
					v.MaxFixable, v.MaxUnfixable = max(v.MaxFixable-1, 0), max(v.MaxUnfixable-1, 0)
					v.Allowed, v.UnscannedAllowed, v.UnspecifiedAllowed = nil, false, false
					return v
				}
				return c
			})
		},
		"how old": func(w world, q *question) {
			q.eachCondition(func(c policy.Condition) policy.Condition {
				if f, ok := c.(policy.Fresh); ok {
					f.MaxAge /= 2
					return f
				}
				return c
			})
		},
		"who says so": func(w world, q *question) {
			q.eachCondition(func(c policy.Condition) policy.Condition {
				switch c := c.(type) {
				case policy.SignedBy:
					if len(c.Signers) > 0 {
						c.Signers = c.Signers[1:]
					}
					c.Cosign = true
					return c
				case policy.BuiltBy:
					for i := range c.Rules {
						c.Rules[i].ConfigBased, c.Rules[i].Constraint = true, holds{}
					}
					return c
				}
				return c
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyQuestion(t, 15, func(data []byte) string {
				q := questionOf(data)
				if len(q.Set) == 0 { // no policy lets everything in
					return ""
				}
				add(spare(data), &q)
				return noWorse(q.build().decide(), questionOf(data).build().decide())
			})
		})
	}
}

func (q question) eachRule(change func(*policy.Rule)) {
	for _, r := range q.Set {
		if r == nil {
			continue
		}
		for i := range r.Rules {
			change(&r.Rules[i])
		}
	}
}

// eachCondition replaces the conditions that checks are made of.
func (q question) eachCondition(change func(policy.Condition) policy.Condition) {
	var walk func(c policy.Condition) policy.Condition
	walk = func(c policy.Condition) policy.Condition {
		switch c := c.(type) {
		case policy.AllOf:
			for i := range c.Of {
				c.Of[i] = walk(c.Of[i])
			}
			return c
		case policy.AnyOf:
			for i := range c.Of {
				c.Of[i] = walk(c.Of[i])
			}
			return c
		}
		return change(c)
	}
	q.eachRule(func(r *policy.Rule) {
		for i := range r.Checks {
			r.Checks[i].Condition = walk(r.Checks[i].Condition)
		}
	})
}

func TestRemovingAnExemptionNeverAllows(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 16, func(data []byte) string {
		w := spare(data)
		less := func(list []policy.Exemption) []policy.Exemption {
			if len(list) == 0 || w.bool() {
				return list
			}
			i := w.n(len(list))
			return slices.Concat(list[:i], list[i+1:])
		}
		q := questionOf(data)
		for _, r := range q.Set {
			if r == nil {
				continue
			}
			r.Exempt = less(r.Exempt)
			for i := range r.Rules {
				r.Rules[i].Exempt = less(r.Rules[i].Exempt)
				for j := range r.Rules[i].Checks {
					r.Rules[i].Checks[j].Exempt = less(r.Rules[i].Checks[j].Exempt)
				}
			}
		}
		return noWorse(q.build().decide(), questionOf(data).build().decide())
	})
}

// shuffled changes the order of what a set of facts consists of.
func shuffled(q question, r *rand.Rand) question {
	return q.each(func(img *evidence.Image) {
		shuffle(r, img.Attestations)
		shuffle(r, img.Rejected)
		shuffle(r, img.Scans)
		for i := range img.Scans {
			shuffle(r, img.Scans[i].Findings)
		}
		shuffle(r, img.Uploads)
		shuffle(r, img.Provenances)
		shuffle(r, img.Allowed)
	})
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// The order in which evidence came differs from gate to gate, and must not be seen.
func TestTheOrderOfEvidenceDoesNotMatter(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 17, func(data []byte) string {
		r := rand.New(rand.NewPCG(uint64(len(data)), 17)) //nolint:gosec // repeatable on purpose
		want := asJSON(t, questionOf(data).build().decide())
		for range 4 {
			if got := asJSON(t, shuffled(questionOf(data), r).build().decide()); got != want {
				return "the order of evidence shows:\n" + want + "\n" + got
			}
		}
		return ""
	})
}

// The order of images, policies, checks and conditions shows in what is told of
// them, and not in any verdict.
func TestTheOrderOfImagesAndRequirementsDoesNotMatter(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 18, func(data []byte) string {
		r := rand.New(rand.NewPCG(uint64(len(data)), 18)) //nolint:gosec // repeatable on purpose
		want := questionOf(data)
		got := questionOf(data)
		// What a rule allowed before is known by what the rule says, in its order.
		for _, q := range []question{want, got} {
			q.each(func(img *evidence.Image) { img.Allowed = nil })
		}
		shuffle(r, got.Request.Images)
		shuffle(r, got.Set)
		got.eachRule(func(rule *policy.Rule) {
			shuffle(r, rule.Exempt)
			shuffle(r, rule.Checks)
		})
		for _, rules := range got.Set {
			if rules != nil {
				shuffle(r, rules.Exempt)
			}
		}
		got.eachCondition(func(c policy.Condition) policy.Condition {
			if c, ok := c.(policy.SignedBy); ok {
				shuffle(r, c.Signers)
				shuffle(r, c.Projects)
			}
			return c
		})
		a, b := want.build().decide(), got.build().decide()
		if a.Allowed != b.Allowed || a.Verdict != b.Verdict || a.Override != b.Override {
			return "the order shows: " + a.Summary + ", " + b.Summary
		}
		verdicts := map[string]decide.Verdict{}
		for _, id := range a.Images {
			verdicts[id.Image] = id.Verdict
		}
		for _, id := range b.Images {
			if verdicts[id.Image] != id.Verdict {
				return "the order shows in image " + id.Image
			}
		}
		return ""
	})
}

// Build makes a Ruleset fast and gives its rules their hashes, and changes nothing
// else.
func TestBuildChangesNothingButSpeed(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 19, func(data []byte) string {
		literal, built := questionOf(data), questionOf(data).build()
		for _, q := range []question{literal, built} {
			q.each(func(img *evidence.Image) { img.Allowed = nil })
		}
		if a, b := asJSON(t, literal.decide()), asJSON(t, built.decide()); a != b {
			return "a literal and what is built of it differ:\n" + a + "\n" + b
		}
		return ""
	})
}

func TestTheSameQuestionHasOneAnswer(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 20, func(data []byte) string {
		q := questionOf(data).build()
		a, b := q.decide(), q.decide()
		c := questionOf(data).build()
		elsewhere := decide.Decide(c.Request, c.Set, c.Facts, noon.In(time.FixedZone("", 3600)))
		if x, y, z := asJSON(t, a), asJSON(t, b), asJSON(t, elsewhere); x != y || x != z {
			return "one question, several answers:\n" + x + "\n" + y + "\n" + z
		}
		if decide.Message(a) != decide.Message(elsewhere) {
			return "one decision, several messages"
		}
		return ""
	})
}

// A policy of a set says what it says alone, whatever the others are called, do or
// let by; and the request is let in if each of them lets it in.
func TestNoPolicyOfASetLeaksIntoAnother(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 21, func(data []byte) string {
		q := questionOf(data).build()
		d := q.decide()
		allowed := true
		for i := range q.Set {
			alone := q
			alone.Set = policy.Set{q.Set[i]}
			one := alone.decide()
			allowed = allowed && one.Allowed
			if len(q.Set) > 1 && (d.Policies[i].Verdict != one.Verdict || (d.Policies[i].Override != one.Override)) {
				return "policy " + one.Policy + " says " + one.Verdict.String() + " " + string(one.Override) + " alone, and " + d.Policies[i].Verdict.String() + " " + string(d.Policies[i].Override) + " beside others"
			}
			for j := range one.Images {
				if rank(d.Images[j].Verdict) > rank(one.Images[j].Verdict) {
					return "an image has a better verdict by all policies than by one"
				}
			}
		}
		if len(q.Set) > 0 && d.Allowed != allowed {
			return "allowed by all is not allowed by each: " + d.Summary
		}
		return ""
	})
}

// Whatever lets in what policy does not allow is told, and nothing is told that
// was not needed.
func TestEveryOverrideIsTold(t *testing.T) {
	t.Parallel()
	everyQuestion(t, 22, func(data []byte) string {
		q := questionOf(data).build()
		d := q.decide()
		switch {
		case d.Allowed && d.Verdict != decide.ALLOW && d.Override == decide.NoOverride:
			return "let in against policy, and not told by what"
		case (d.Verdict == decide.ALLOW || !d.Allowed) && d.Override != decide.NoOverride:
			return "an override that was not needed: " + string(d.Override)
		case d.Override == decide.BreakGlass && q.Request.BreakGlass == "":
			return "glass is broken without a marker"
		case q.Request.BreakGlass != "" && !d.Allowed:
			return "break-glass did not let in"
		case (d.Override == decide.FailOpen || d.Override == decide.LastAllowed) && len(q.Set) == 1 && d.Verdict != decide.INDETERMINATE:
			return string(d.Override) + " let in what is " + d.Verdict.String()
		}
		// Without the marker no answer is better.
		q.Request.BreakGlass = ""
		if without := q.decide(); without.Allowed && d.Override == decide.BreakGlass {
			return "break-glass is told where something else would have let in"
		}
		return ""
	})
}
