package constraint_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/policy/platform/constraint"
)

const statement = `{
  "_type": "https://in-toto.io/Statement/v1",
  "subject": [{"name": "gcr.io/p/app", "digest": {"sha256": "77b0"}}],
  "predicateType": "https://slsa.dev/provenance/v1",
  "predicate": {
    "buildDefinition": {"buildType": "https://cloud.example/build/v1", "externalParameters": {"branch": "main", "debug": false, "tags": ["a", "b"]}},
    "runDetails": {"metadata": {"timeout": 600, "ratio": 0.5}}
  }
}`

func compiler(t testing.TB) *constraint.Compiler {
	t.Helper()
	c, err := constraint.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for text, want := range map[string]bool{
		`predicate.buildDefinition.externalParameters.branch == "main"`:                         true,
		`predicate.buildDefinition.externalParameters.branch == "dev"`:                          false,
		`predicate.buildDefinition.externalParameters.debug == false`:                           true,
		`!has(predicate.buildDefinition.externalParameters.secret)`:                             true,
		`"b" in predicate.buildDefinition.externalParameters.tags`:                              true,
		`predicate.buildDefinition.externalParameters.tags.exists(x, x.startsWith("c"))`:        false,
		`predicate.runDetails.metadata.timeout == 600`:                                          true,
		`predicate.runDetails.metadata.timeout < 600`:                                           false,
		`predicate.runDetails.metadata.ratio <= 0.5 && predicate.runDetails.metadata.ratio > 0`: true,
		`predicate.buildDefinition.buildType.matches("^https://cloud\\.example/")`:              true,
		`predicateType == "https://slsa.dev/provenance/v1"`:                                     true,
		`subject[0].digest.sha256 == "77b0" && subject.size() == 1`:                             true,
		`statement._type.endsWith("/v1")`:                                                       true,
		`statement.predicate == predicate`:                                                      true,
		"// which branch\npredicate.buildDefinition\n  .externalParameters.branch == 'main'":    true,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			e, err := c.Compile(text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Holds([]byte(statement)); err != nil || got != want {
				t.Errorf("got %v, %v", got, err)
			}
			if e.String() != text {
				t.Errorf("String() is %q", e)
			}
		})
	}
}

func TestExpressionsThatAreRefused(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for name, test := range map[string]struct{ text, want string }{
		"empty":              {"", "it is empty"},
		"only space":         {" \n", "it is empty"},
		"syntax":             {"predicate.x ==", "at character"},
		"unknown variable":   {"provenance.x == 1", "at character 1: undeclared reference to 'provenance'"},
		"unknown function":   {"now() > timestamp('2020-01-01T00:00:00Z')", "undeclared reference to 'now'"},
		"second line":        {"predicate.x == 1 &&\n  provenance.y", "in its line 2, character 3: undeclared reference"},
		"not a truth value":  {"predicateType", "must be true or false, and is string"},
		"perhaps no truth":   {"predicate.debug", "must be true or false, and is dyn; compare it, as in x == true"},
		"wrong types":        {"predicateType == 1", "no matching overload"},
		"bad pattern":        {`predicateType.matches("(")`, "invalid matches"},
		"computed pattern":   {`predicateType.matches(predicate.pattern)`, "the pattern of matches must be written out"},
		"computed, function": {`matches("x", predicateType + "x")`, "the pattern of matches must be written out"},
		"huge pattern":       {`predicateType.matches("((a{100}){9}b){1}((a{100}){9}b)((a{100}){9}b)")`, "size"},
		"too long":           {"true" + strings.Repeat(" || true", 600), "4804 characters, more than the 4096 allowed"},
		"too deep":           {strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion"},
		"too deep a list":    {strings.Repeat("[", 200) + strings.Repeat("]", 200) + " == []", "recursion"},
		"control characters": {"true\x1b[31m", "Syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := c.Compile(test.text)
			if err == nil || e != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 600 {
				t.Errorf("error %q", err)
			}
		})
	}
}

func TestWhatCannotBeEvaluatedDoesNotHold(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for name, test := range map[string]struct{ text, statement, want string }{
		"absent field":      {"predicate.nope == 1", statement, "no such key"},
		"absent, inverted":  {"!(predicate.nope == 1)", statement, "no such key"},
		"of another type":   {"predicate.buildDefinition > 3", statement, "no such overload"},
		"no JSON":           {"true", "{", "decoding the statement"},
		"a list":            {"true", "[]", "decoding the statement"},
		"null":              {"true", "null", "no predicate"},
		"fields twice":      {"true", `{"predicate": {}, "predicate": {}}`, "decoding the statement"},
		"no predicate":      {"true", `{"subject": [], "predicateType": "x"}`, "no predicate"},
		"predicate is text": {"true", `{"subject": [], "predicateType": "x", "predicate": "y"}`, "no predicate"},
		"no predicate type": {"true", `{"subject": [], "predicate": {}}`, "no predicateType"},
		"no subject":        {"true", `{"predicateType": "x", "predicate": {}}`, "no subject"},
		"too large":         {"true", `{"subject": [], "predicateType": "x", "predicate": {"x": "` + strings.Repeat("x", 1<<20) + `"}}`, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := c.Compile(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Holds([]byte(test.statement)); got || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want %q", got, err, test.want)
			}
		})
	}
	if got, err := new(constraint.Expression).Holds([]byte(statement)); got || err == nil {
		t.Error("the zero Expression holds")
	}
}

// TestCostIsBounded has expressions that would run for hours or fill the memory.
func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	list := `[` + strings.Repeat(`"aaaaaaaaaaaaaaaaaaaa",`, 4000) + `"b"]`
	big := `{"subject": [], "predicateType": "x", "predicate": {"list": ` + list + `}}`
	doubling := `["aaaaaaaaaaaaaaaa"]` + strings.Repeat(`.map(x, x + x)`, 40)
	for name, text := range map[string]string{
		"nested loops": `predicate.list.all(a, predicate.list.all(b, predicate.list.all(c, a + b + c != "")))`,
		"patterns":     `predicate.list.all(a, predicate.list.all(b, !(a + b).matches("(a*)*(a*)*(a*)*c|a+z")))`,
		"doubling":     doubling + `[0] != ""`,
		"comparisons":  `predicate.list.all(a, predicate.list.map(b, b) == predicate.list)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := c.Compile(text)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			got, err := e.Holds([]byte(big))
			if got || err == nil || !strings.Contains(err.Error(), "limit exceeded") {
				t.Errorf("got %v, %v", got, err)
			}
			took := time.Since(start)
			t.Logf("%v: %v", took, err)
			if took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestExpressionsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	e, err := compiler(t).Compile(`predicate.buildDefinition.externalParameters.tags.map(x, x + "!").exists(x, x.matches("^b"))`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got, err := e.Holds([]byte(statement)); !got || err != nil {
					t.Errorf("got %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzCompile(f *testing.F) {
	for _, text := range []string{`predicate.x == 1`, `subject.exists(s, s.name.matches("^a.*b$"))`, `has(predicate.a.b) ? predicate.a.b == "c" : false`, "[1].map(x, [x].map(y, y))[0][0] == 1"} {
		f.Add(text, statement)
	}
	c := compiler(f)
	f.Fuzz(func(t *testing.T, text, statement string) {
		e, err := c.Compile(text)
		if err != nil {
			if e != nil || strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 600 {
				t.Errorf("expression %v with error %q", e, err)
			}
			return
		}
		got, err := e.Holds([]byte(statement))
		if again, againErr := e.Holds([]byte(statement)); got != again || (err == nil) != (againErr == nil) {
			t.Error("the same question has two answers")
		}
		if err != nil && got {
			t.Error("an error holds")
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	e, err := compiler(b).Compile(`predicate.buildDefinition.externalParameters.branch == "main" && predicate.buildDefinition.buildType.matches("^https://cloud")`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if ok, err := e.Holds([]byte(statement)); !ok {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	c := compiler(b)
	for i := 0; b.Loop(); i++ {
		if _, err := c.Compile(fmt.Sprintf(`predicate.x == "v%d"`, i)); err != nil {
			b.Fatal(err)
		}
	}
}
