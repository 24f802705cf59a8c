package decide_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// answerOf reduces a decision to what the naive evaluator says too.
func answerOf(d decide.Decision) naiveAnswer {
	a := naiveAnswer{Allowed: d.Allowed, Verdict: d.Verdict, Override: d.Override}
	for _, id := range d.Images {
		a.Images = append(a.Images, id.Verdict)
	}
	for _, p := range d.Policies {
		a.Policies = append(a.Policies, naivePolicy{p.Verdict, p.Override})
	}
	return a
}

// naiveDiff is what the two evaluators do not agree on.
func naiveDiff(q question) string {
	want := naiveDecide(q.Request, q.Set, q.Facts, noon)
	if len(q.Set) == 1 {
		want.Policies = nil // a decision of one policy is the policy's
	}
	return cmp.Diff(want, answerOf(q.decide()))
}

// differ asks one question of both, of policies as literals and as they are built.
func differ(data []byte) string {
	if diff := naiveDiff(questionOf(data)); diff != "" {
		return "Decide differs from the naive evaluator (-naive +Decide):\n" + diff
	}
	if diff := naiveDiff(questionOf(data).build()); diff != "" {
		return "Decide of built policies differs from the naive evaluator (-naive +Decide):\n" + diff
	}
	return ""
}

func TestDecideAgreesWithANaiveEvaluator(t *testing.T) {
	questions(t, 1, 4000, differ)
}

func FuzzDecideAgainstNaive(f *testing.F) {
	f.Add([]byte{})
	for i := range 20 {
		f.Add(randomBytes(2, i))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		if differ(data) != "" {
			t.Fatal(explain(data, differ))
		}
	})
}

// What is random must not be all alike: each answer is to be had by many questions.
func TestQuestionsAreOfEveryKind(t *testing.T) {
	count := map[string]int{}
	codes := map[decide.Code]int{}
	for i := range 4000 {
		d := questionOf(randomBytes(1, i)).build().decide()
		count[d.Verdict.String()+" "+string(d.Override)]++
		for _, id := range d.Images {
			for _, r := range id.Reasons {
				codes[r.Code]++
			}
		}
	}
	t.Log(count, codes)
	for _, kind := range []string{"ALLOW ", "DENY ", "DENY DRY_RUN", "DENY BREAK_GLASS", "INDETERMINATE ", "INDETERMINATE FAIL_OPEN", "INDETERMINATE LAST_ALLOWED", "INDETERMINATE NO_POLICY"} {
		if count[kind] < 5 {
			t.Errorf("%d questions are answered %q", count[kind], kind)
		}
	}
	for _, code := range []decide.Code{
		decide.CodeExempt, decide.CodeAttested, decide.CodeNotAttested, decide.CodeScanned, decide.CodeVulnerable, decide.CodeNotScanned, decide.CodeScanTruncated,
		decide.CodeFresh, decide.CodeStale, decide.CodeUploadUnknown, decide.CodeTrusted, decide.CodeNotTrusted, decide.CodeBuilt, decide.CodeNotBuilt, decide.CodeNoCheck,
	} {
		if codes[code] < 5 {
			t.Errorf("%d reasons are %s", codes[code], code)
		}
	}
}
