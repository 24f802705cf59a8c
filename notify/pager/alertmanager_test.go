package pager_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/alertmanager"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
)

// killedVariable makes the test binary a process that queues messages and waits to be
// killed. Its value is the outbox's folder and the Alertmanager's URL.
const killedVariable = "GATEHOUSE_NOTIFY_KILLED"

func TestMain(m *testing.M) {
	if told := os.Getenv(killedVariable); told != "" {
		os.Exit(queue(told))
	}
	os.Exit(m.Run())
}

const queued = 20

func queue(told string) int {
	dir, url, _ := strings.Cut(told, " ")
	ctx := context.Background()
	o, err := outbox(dir, url)
	if err == nil {
		go func() { _ = o.Run(ctx) }()
		for i := range queued {
			m := message(notify.Opened, fmt.Sprintf("incident-%d", i))
			m.Labels = []notify.Field{{Name: "namespace", Value: "shop"}}
			if err = o.Enqueue(ctx, m); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("durable")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test kills it, or ends
	return 0
}

func outbox(dir, url string) (*notify.Outbox, error) {
	config := pager.Config{
		Receivers: []pager.Receiver{{Name: "am", Timeout: time.Second, Alertmanager: &pager.Alertmanager{URLs: []string{url}}}},
		Routes:    []notify.Route{{Name: "all", Receivers: []string{"am"}, GroupWait: time.Millisecond, FailAfter: 1000, FailWithin: time.Hour}},
	}
	receivers, err := config.Open()
	if err != nil {
		return nil, err
	}
	return notify.Open(notify.Options{Dir: dir, Routes: config.Routes, Receivers: receivers})
}

// TestAPageGoesOutWhenThePagerIsBack: the pager is away, the process that queued the
// page is killed with SIGKILL, and whoever opens the outbox next delivers it, through a
// real Alertmanager, to where that notifies.
func TestAPageGoesOutWhenThePagerIsBack(t *testing.T) {
	t.Parallel()
	notified := make(chan string, 1000)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Alerts []struct{ Labels map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		for _, a := range body.Alerts {
			notified <- a.Labels["key"]
		}
	}))
	t.Cleanup(hook.Close)
	am := alertmanager.Start(t, alertmanager.Options{Webhook: hook.URL})
	am.Kill(t)

	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedVariable+"="+dir+" "+am.URL())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "durable\n" {
		t.Fatalf("the process wrote %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed

	am.Restart(t)
	o, err := outbox(dir, am.URL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- o.Run(ctx) }()
	keys := map[string]bool{}
	for len(keys) < queued {
		select {
		case key := <-notified:
			keys[key] = true
		case <-time.After(time.Minute):
			t.Fatalf("of %d only %v were notified", queued, keys)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheLifeOfAnAlert(t *testing.T) {
	t.Parallel()
	am := alertmanager.Start(t, alertmanager.Options{})
	r := opened(t, pager.Receiver{Alertmanager: &pager.Alertmanager{URLs: []string{"http://127.0.0.1:1", am.URL() + "/"}}}) // one of a cluster may be away
	only := func() alertmanager.Alert {
		t.Helper()
		alerts := am.Alerts(t)
		if len(alerts) != 1 {
			t.Fatalf("%d alerts: %+v", len(alerts), alerts)
		}
		return alerts[0]
	}
	m := message(notify.Opened, "inc/1")
	m.Severity = notify.Warning
	send(t, r, page(m))
	got := only()
	if got.Labels["alertname"] != "GatehouseIncident" || got.Labels["severity"] != "warning" || got.Labels["key"] != "inc/1" || got.Labels["cluster"] != "prod" ||
		got.GeneratorURL != "https://console.example/incidents/1" || !got.StartsAt.Equal(m.Time) || time.Until(got.EndsAt) < 23*time.Hour {
		t.Errorf("%+v", got)
	}
	if text := fmt.Sprint(got.Labels, got.Annotations); strings.ContainsAny(text, "<>") || strings.Contains(text, "](") || !strings.Contains(text, "who: eve ‹!channel›") {
		t.Errorf("markup is handed on: %s", text)
	}

	m.Kind, m.Severity = notify.Escalated, notify.Critical
	send(t, r, page(m))
	if got := only(); got.Labels["severity"] != "critical" || got.Annotations["status"] != "escalated" {
		t.Errorf("%+v", got)
	}
	m.Kind = notify.Acknowledged
	send(t, r, page(m))
	if got := only(); got.Annotations["status"] != "acknowledged" {
		t.Errorf("%+v", got)
	}
	m.Kind, m.Severity = notify.Closed, notify.Info
	send(t, r, page(m))
	if alerts := am.Alerts(t); len(alerts) != 0 {
		t.Errorf("after it was closed: %+v", alerts)
	}

	t.Run("a storm in one page", func(t *testing.T) {
		var many []notify.Message
		for i := range 256 {
			many = append(many, message(notify.Opened, fmt.Sprint(i)))
		}
		send(t, r, page(many...))
		if alerts := am.Alerts(t); len(alerts) != 256 {
			t.Errorf("%d alerts", len(alerts))
		}
		for i := range many {
			many[i].Kind = notify.Resolved
		}
		send(t, r, page(many...))
		if alerts := am.Alerts(t); len(alerts) != 0 {
			t.Errorf("%d alerts are left", len(alerts))
		}
	})
	t.Run("what began and ended while it was away is told all the same", func(t *testing.T) {
		send(t, r, page(message(notify.Opened, "brief"), message(notify.Closed, "brief")))
		if got := only(); time.Until(got.EndsAt) > 6*time.Minute {
			t.Errorf("%+v", got)
		}
	})
	t.Run("nobody takes it", func(t *testing.T) {
		r := opened(t, pager.Receiver{Alertmanager: &pager.Alertmanager{URLs: []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}}})
		if err := r.Send(t.Context(), page(m)); err == nil {
			t.Error("and it says that it was taken")
		}
	})
}
