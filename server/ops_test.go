package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestProfilesAreServedOnLoopbackOnly: health and metrics are for kubelets and Prometheus,
// and what is in memory is for whoever is on the machine.
func TestProfilesAreServedOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]int{"127.0.0.1:9090": http.StatusOK, "[::1]:9090": http.StatusOK, "0.0.0.0:9090": http.StatusNotFound, "10.0.0.7:9090": http.StatusNotFound} {
		handler := opsHandler(func() (string, error) { return "", nil }, prometheus.NewRegistry(), isLoopbackAddr(address))
		for path, want := range map[string]int{"/debug/pprof/": want, "/debug/pprof/cmdline": want, "/healthz": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusOK} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("%s of %s: %d, want %d", path, address, w.Code, want)
			}
		}
	}
}
