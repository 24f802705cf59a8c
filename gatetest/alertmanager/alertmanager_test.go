package alertmanager_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/alertmanager"
)

func TestAnAlertIsToldToTheWebhook(t *testing.T) {
	t.Parallel()
	told := make(chan struct{}, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told <- struct{}{} }))
	t.Cleanup(hook.Close)
	am := alertmanager.Start(t, alertmanager.Options{Webhook: hook.URL})
	post := func() {
		resp, err := http.Post(am.URL()+"/api/v2/alerts", "application/json", strings.NewReader(`[{"labels":{"alertname":"a"}}]`))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("answers %s", resp.Status)
		}
	}
	post()
	<-told
	if alerts := am.Alerts(t); len(alerts) != 1 || alerts[0].Labels["alertname"] != "a" {
		t.Errorf("it has %+v", alerts)
	}
	am.Kill(t)
	if resp, err := http.Get(am.URL()); err == nil {
		_ = resp.Body.Close()
		t.Error("a killed server answers")
	}
	am.Restart(t)
	post()
	<-told
}
