package notify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// BenchmarkEnqueue queues messages about 50 workloads, one after the other and 64 at
// once, and prints the cost beside that of a bare write and fsync of as many bytes.
func BenchmarkEnqueue(b *testing.B) {
	for name, parallel := range map[string]int{"alone": 0, "64 at once": 64} {
		b.Run(name, func(b *testing.B) {
			o, err := notify.Open(notify.Options{Dir: b.TempDir(), Routes: to("a"), Receivers: map[string]notify.Receiver{"a": hanging{}}})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = o.Close() }() // nothing is read again
			var n atomic.Int64
			one := func() {
				m := message(fmt.Sprintf("workload-%d", n.Add(1)%50))
				m.Fields = []notify.Field{{Name: notify.Why, Value: strings.Repeat("because ", 50)}}
				if err := o.Enqueue(context.Background(), m); err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			start := time.Now()
			if parallel == 0 {
				for b.Loop() {
					one()
				}
			} else {
				b.SetParallelism(parallel)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			}
			each := time.Since(start) / time.Duration(b.N)
			b.ReportMetric(float64(each)/float64(bare(b)), "×fsync")
		})
	}
}

// bare is what a write and fsync of 700 bytes takes.
func bare(b *testing.B) time.Duration {
	b.StopTimer()
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	const times = 200
	start := time.Now()
	for range times {
		if _, err := f.WriteString(strings.Repeat("x", 700)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(start) / times
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}
