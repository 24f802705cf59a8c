package metadata

import "testing"

// FuzzTokens checks that no text passes for a page token of a list but what was
// made for just that list.
func FuzzTokens(f *testing.F) {
	c, err := newTokenCodec(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("ListNotes", "projects/p", "", "n", "")
	f.Add("ListOccurrences", "projects/p", `kind="BUILD"`, "\x00\xff", "AQ")
	f.Fuzz(func(t *testing.T, method, parent, filter, position, other string) {
		l := listing{method, parent, filter}
		token := c.encode(l, position)
		if len(token) <= maxToken {
			if got, err := c.decode(l, token); err != nil || got != position {
				t.Fatalf("got %q, %v; want %q", got, err, position)
			}
		}
		if _, err := c.decode(listing{method, parent, filter + "x"}, token); KindOf(err) != InvalidArgument {
			t.Fatalf("a foreign list: %v", err)
		}
		if got, err := c.decode(l, other); err == nil && c.encode(l, got) != other {
			t.Fatalf("%q was taken for %q", other, got)
		} else if err != nil && KindOf(err) != InvalidArgument {
			t.Fatal(err)
		}
	})
}
