package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	deliveries, messages, dropped *prometheus.CounterVec
	failing                       *prometheus.GaugeVec
	disk, damaged                 prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_notify_deliveries_total", Help: "Pages that were tried, by receiver and result: ok, failed, or refused, which another try does not mend.",
		}, []string{"receiver", "result"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_notify_messages_total", Help: "Messages in the pages that a receiver has taken.",
		}, []string{"receiver"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_notify_dropped_total", Help: "Messages that were lost for want of room.",
		}, []string{"severity"}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_notify_receiver_failing", Help: "1 while a receiver fails, so that others are tried.",
		}, []string{"receiver"}),
		disk: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_notify_outbox_write_failures_total", Help: "How often the disk did not take what was to be kept.",
		}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_notify_outbox_damaged_total", Help: "Lines of the outbox that could not be read at the start.",
		}),
	}
}

// appear has every series be there from the start, so that the first failure is seen as an
// increase.
func (m *metrics) appear(o *Outbox) {
	for name := range o.pagers {
		for _, result := range []string{"ok", "failed", "refused"} {
			m.deliveries.WithLabelValues(name, result)
		}
		m.messages.WithLabelValues(name)
		m.failing.WithLabelValues(name)
	}
	for _, s := range Severities() {
		m.dropped.WithLabelValues(string(s))
	}
}

func (m *metrics) register(registry prometheus.Registerer, o *Outbox) error {
	m.appear(o)
	for _, c := range []prometheus.Collector{
		m.deliveries, m.messages, m.dropped, m.failing, m.disk, m.damaged,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_notify_outbox_messages", Help: "Messages that wait to be delivered.",
		}, func() float64 { count, _ := o.waiting(); return float64(count) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_notify_outbox_oldest_seconds", Help: "How long the oldest message has waited.",
		}, func() float64 {
			_, oldest := o.waiting()
			if oldest.IsZero() {
				return 0
			}
			return time.Since(oldest).Seconds()
		}),
	} {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}
