package resolve

import "testing"

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"amd64","config":{"User":"1000:1000","Labels":{"a":"b"}}}`))
	f.Add([]byte(`{"config":{"User":"1","user":"0"}}`))
	f.Add([]byte(`{"config":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseConfig(raw)
		if err != nil && (c.User != "" || c.Labels != nil) {
			t.Fatalf("parseConfig(%q) fails and still gives %+v", raw, c)
		}
	})
}
