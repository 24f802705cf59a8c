package deliver

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all sinks.
type Metrics struct {
	delivered, failures, shortened *prometheus.CounterVec
	lost                           *prometheus.CounterVec
	up                             *prometheus.GaugeVec
	registry                       prometheus.Registerer
}

// NewMetrics registers them.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"sink"}, labels...))
	}
	m := &Metrics{
		delivered: count("gatehouse_audit_sink_delivered_total", "Audit records that a sink has taken."),
		failures:  count("gatehouse_audit_sink_failures_total", "Deliveries of audit records that failed; they are tried again."),
		shortened: count("gatehouse_audit_sink_shortened_total", "Audit records that a sink took only without what is large."),
		lost:      count("gatehouse_audit_sink_lost_total", "Audit records that a sink will not get: it refused them, or they could not be read.", "reason"),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_audit_sink_up", Help: "Whether a sink took what it was last given.",
		}, []string{"sink"}),
		registry: registry,
	}
	for _, c := range []prometheus.Collector{m.delivered, m.failures, m.shortened, m.lost, m.up} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// follow has a sink's metrics there from the start, so that alarms can be on their rates.
func (m *Metrics) follow(f *Follower) error {
	name := f.opts.Name
	m.delivered.WithLabelValues(name)
	m.failures.WithLabelValues(name)
	m.shortened.WithLabelValues(name)
	for _, reason := range []string{reasonRefused, reasonUnreadable} {
		m.lost.WithLabelValues(name, reason)
	}
	m.up.WithLabelValues(name).Set(1)
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"gatehouse_audit_sink_lag_seconds", "How old the oldest audit record is that a sink has not taken; 0 when it has all.", func() float64 { return f.Lag().Seconds() }},
		{"gatehouse_audit_sink_lag_bytes", "How much of the audit log a sink has not taken.", func() float64 { return float64(f.Behind()) }},
	} {
		if err := m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: g.name, Help: g.help, ConstLabels: prometheus.Labels{"sink": name},
		}, g.value)); err != nil {
			return err
		}
	}
	return nil
}
