package breakglass

import "slices"

// LetIn returns the incident, not resolved yet, by which an image was let in against
// policy: by its digest, or, where a tag was let in, by how that was written.
func (s *Incidents) LetIn(digest string, texts []string) (id string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.current {
		if i.Digest != "" && i.Digest == digest || i.Digest == "" && slices.Contains(texts, i.Image) {
			return i.ID, true
		}
	}
	return "", false
}
