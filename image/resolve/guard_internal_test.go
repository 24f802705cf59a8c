package resolve

import (
	"errors"
	"net/http"
	"testing"
)

type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Body: http.NoBody}, nil
}

func TestRequestsOfOneCallAreBounded(t *testing.T) {
	t.Parallel()
	g := &guard{next: answering{}, max: 1}
	req, err := http.NewRequestWithContext(withBudget(t.Context()), http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxRequests + 1 {
		resp, err := g.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if want := i == maxRequests; errors.Is(err, ErrEndless) != want {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
}
