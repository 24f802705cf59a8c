package conformance

import "strings"

// marker stands for an image in a review whose text is edited afterwards.
const marker = "conformance.invalid/marker"

// replace changes the first place of a text in a review.
func replace(old, by string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, by, 1) }
}

// imageMember puts text in the place of the member "image" whose value is marker.
func imageMember(by string) func(string) string { return replace(`"image":"`+marker+`"`, by) }

// kindIs makes the review one of another kind, as for a subresource.
func kindIs(kind, group string) func(string) string {
	return func(text string) string {
		before, rest, ok := strings.Cut(text, `"kind":{`)
		if !ok {
			return text
		}
		_, after, _ := strings.Cut(rest, "}")
		return before + `"kind":{"group":"` + group + `","version":"v1","kind":"` + kind + `"}` + after
	}
}
