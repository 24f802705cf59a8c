package metadata

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// maxSummarized is how many resources one vulnerability summary is about. At five
// severities each, and a URI in each row, its answer stays within what gRPC
// clients receive.
const maxSummarized = 5000

// A ResourceCount is how many vulnerability occurrences a resource has of one
// severity; SEVERITY_UNSPECIFIED stands for all of them.
type ResourceCount struct {
	ResourceURI string
	SeverityCount
}

// VulnerabilitySummary counts the parent's vulnerability occurrences that match
// the filter, by resource and severity.
func (s *Service) VulnerabilitySummary(ctx context.Context, caller Caller, parent, filter string) ([]ResourceCount, error) {
	return do(ctx, s, caller, "GetVulnerabilityOccurrencesSummary", parent, func(c *call) ([]ResourceCount, error) {
		p, err := ParseParent(parent)
		if err != nil {
			return nil, err
		}
		if err := c.need(ctx, OccurrencesList, parent); err != nil {
			return nil, err
		}
		f, err := s.occurrenceFilter(filter)
		if err != nil {
			return nil, err
		}
		var summaries []*Summary
		if uris, ok := f.resourcesOnly(); ok {
			summaries, err = c.storedSummaries(ctx, p, uris)
		} else {
			summaries, err = c.countedSummaries(ctx, p, f)
		}
		if err != nil {
			return nil, err
		}
		return countsOf(summaries), nil
	})
}

// storedSummaries reads the summaries of all of the parent's resources, or of
// those named.
func (c *call) storedSummaries(ctx context.Context, p Parent, uris []string) ([]*Summary, error) {
	q := SummaryQuery{Parent: p, Limit: maxSummarized}
	if uris != nil {
		q.Resources = make([]Key, len(uris))
		for i, uri := range uris {
			q.Resources[i] = KeyOf(uri)
		}
	}
	rows, more, err := c.store().Summaries(ctx, q)
	if err == nil && more {
		return nil, tooManyResources(p)
	}
	return rows, err
}

// countedSummaries makes summaries of the occurrences that match.
func (c *call) countedSummaries(ctx context.Context, p Parent, f *filter) ([]*Summary, error) {
	q := OccurrenceQuery{Parent: p, Limit: maxScan + 1}
	if possible := q.narrow(f.bounds()); !possible {
		return nil, nil
	}
	if q.Kinds &= KindSet(grafeas.NoteKind_VULNERABILITY); q.Kinds == 0 {
		return nil, nil
	}
	n, err := c.store().CountOccurrences(ctx, q)
	if err != nil {
		return nil, err
	}
	if n > maxScan {
		return nil, f.refuseTooBroad(maxScan)
	}
	byURI := map[string]*Summary{}
	q.Limit = MaxPageSize
	for {
		rows, more, err := c.store().Occurrences(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, o := range rows {
			if f.matchOccurrence(o) {
				uri := CanonicalURI(o.GetResourceUri())
				if byURI[uri] == nil {
					byURI[uri] = &Summary{}
				}
				byURI[uri].Add(o)
			}
		}
		if !more || len(rows) == 0 {
			break
		}
		if q.Before, err = idOf(rows[len(rows)-1]); err != nil {
			return nil, err
		}
	}
	if len(byURI) > maxSummarized {
		return nil, tooManyResources(p)
	}
	var all []*Summary
	for _, s := range byURI {
		all = append(all, s)
	}
	return all, nil
}

func tooManyResources(p Parent) error {
	return Errorf(InvalidArgument, `%q has vulnerabilities of more than %d resources; narrow the summary with a filter such as has_prefix(resourceUrl, "https://host/repository")`, p, maxSummarized)
}

// countsOf returns a row for each resource and severity, and one for all of a
// resource's.
func countsOf(summaries []*Summary) []ResourceCount {
	var counts []ResourceCount
	for _, s := range summaries {
		var all SeverityCount
		for _, c := range s.Counts {
			all.Total += c.Total
			all.Fixable += c.Fixable
			if c.Severity != grafeas.Severity_SEVERITY_UNSPECIFIED {
				counts = append(counts, ResourceCount{s.ResourceURI, c})
			}
		}
		if all.Total > 0 {
			counts = append(counts, ResourceCount{s.ResourceURI, all})
		}
	}
	slices.SortFunc(counts, func(a, b ResourceCount) int {
		return cmp.Or(cmp.Compare(a.ResourceURI, b.ResourceURI), cmp.Compare(a.Severity, b.Severity))
	})
	return counts
}
