package audit_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// fill sets every field of a value, and of what it holds, to something of text, so that
// none that is added later is forgotten by the encoder.
func fill(v reflect.Value, text string, n int) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 11, 30, 1, 2, n%60, n, time.UTC)))
		return
	case image.Digest:
		ref, err := image.Parse("r.io/a@sha256:" + strings.Repeat("a", 64))
		if err != nil {
			panic(err)
		}
		v.Set(reflect.ValueOf(ref.Digest()))
		return
	case json.RawMessage:
		raw, _ := json.Marshal(map[string]string{text: text})
		v.Set(reflect.ValueOf(json.RawMessage(raw)))
		return
	case decide.Verdict:
		v.Set(reflect.ValueOf(decide.Verdict(n % 3)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, n+i)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n%3+1, n%3+1))
		for i := range v.Len() {
			fill(v.Index(i), text, n+i)
		}
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Float64:
		v.SetFloat(float64(n) / 7)
	default:
		panic(v.Kind())
	}
}

func sameAsJSON(t *testing.T, r *audit.Record) {
	t.Helper()
	want, wantErr := json.Marshal(r)
	got, err := audit.AppendRecord([]byte("x"), r)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%v, and encoding/json says %v", err, wantErr)
	}
	if err == nil && string(got) != "x"+string(want) {
		t.Errorf("got  %s\nwant x%s", got, want)
	}
}

func TestARecordIsEncodedAsEncodingJSONDoes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "a\"\\\b\f\n\r\t\x00\x1f\x7f<>&\u2028\u2029é\xff\xed\xa0\x80\U0001F600"} {
		for n := range 4 {
			var r audit.Record
			fill(reflect.ValueOf(&r).Elem(), text, n)
			sameAsJSON(t, &r)
		}
	}
	for _, r := range []audit.Record{
		{}, {Decision: &decide.Decision{}}, {Decision: &decide.Decision{Images: []decide.ImageDecision{}}},
		{Decision: &decide.Decision{Images: []decide.ImageDecision{{}, {Reasons: []decide.Reason{}}}, Policies: []decide.PolicyDecision{{}, {Deciding: decide.Deciding{Dialect: policy.Kritis}}}}},
		{Took: 1e-7}, {Took: 1e-6}, {Took: 1e21}, {Took: -3.25}, {Took: 123456.789},
		{Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, {Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 5400))},
		{Decision: &decide.Decision{Time: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{BreakGlass: &audit.BreakGlass{Object: json.RawMessage("{")}},
	} {
		sameAsJSON(t, &r)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("a", "b<\xff", 1.5, int64(1), uint8(0))
	f.Add("\u2028", "\x00", 1e-9, int64(-1), uint8(7))
	f.Fuzz(func(t *testing.T, a, b string, took float64, at int64, n uint8) {
		var r audit.Record
		fill(reflect.ValueOf(&r).Elem(), a, int(n))
		r.Name, r.Took, r.Time = b, took, time.Unix(at, int64(n)).UTC()
		r.Decision.Time = time.Unix(at/2, int64(n)).In(time.FixedZone("z", int(n)*900))
		if n%5 == 0 {
			r.Decision.Images = nil
		}
		sameAsJSON(t, &r)
	})
}
