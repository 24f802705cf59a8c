package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// BenchmarkReplica starts a gate in a process of its own beside a server with 200,000
// attestations: over the wire, and again from its copy while the server is dead. It
// prints how many a second each start takes in, and the memory of the gate.
func BenchmarkReplica(b *testing.B) {
	const n = 200_000
	for b.Loop() {
		b.StopTimer()
		c := startCluster(b)
		c.fill(b, n)
		b.StartTimer()

		begun := time.Now()
		g := c.gate("gate")
		wire := time.Since(begun)
		if a := g.ask(strconv.Itoa(n - 1)); !a.Allowed {
			b.Fatal(a)
		}
		fromWire := g.residentMB(b)
		until(b, "there is a copy", func() bool {
			_, err := os.Stat(filepath.Join(c.dir, "gate", "gate", "evidence.generation"))
			return err == nil
		})
		g.terminate(b)
		c.server.kill()
		begun = time.Now()
		g = c.gate("gate")
		restart := time.Since(begun)
		took := tookToRead(b, g.stderr.String())
		if a := g.ask("7"); !a.Allowed {
			b.Fatal(a)
		}
		b.ReportMetric(n/wire.Seconds(), "wire/s")
		b.ReportMetric(n/took.Seconds(), "copy/s")
		b.ReportMetric(restart.Seconds(), "s-from-copy")
		b.ReportMetric(fromWire, "MB-after-wire")
		b.ReportMetric(g.residentMB(b), "MB-after-copy")
		g.kill()
	}
}

// tookToRead returns how long the copy took, as the gate has logged it.
func tookToRead(b *testing.B, log string) time.Duration {
	b.Helper()
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, "took="); ok && strings.Contains(line, "read the copy") {
			if d, err := time.ParseDuration(strings.TrimSpace(rest)); err == nil {
				return d
			}
		}
	}
	b.Fatalf("the gate did not read a copy:\n%s", log)
	return 0
}

// fill stores attestations of images that are called by numbers.
func (c *cluster) fill(b *testing.B, n int) {
	b.Helper()
	conn, err := grpc.NewClient(c.server.Metadata, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	client := grafeas.NewGrafeasClient(conn)
	const batch = 1000
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for from := w * batch; from < n; from += workers * batch {
				req := &grafeas.BatchCreateOccurrencesRequest{Parent: "projects/default"}
				for i := from; i < from+batch; i++ {
					d := image.DigestOf(fmt.Append(nil, i))
					payload := signature.NewPayload("reg.test/app", d, signature.TypeBinauthz)
					sig, err := c.signer.Sign(b.Context(), payload)
					if err != nil {
						b.Error(err)
						return
					}
					req.Occurrences = append(req.Occurrences, &grafeas.Occurrence{
						ResourceUri: "https://reg.test/app@" + d.String(), NoteName: "projects/default/notes/vetted",
						Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
							SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: c.signer.KeyID()}},
						}},
					})
				}
				if _, err := client.BatchCreateOccurrences(b.Context(), req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// residentMB returns the memory of a process.
func (p *serveProcess) residentMB(b *testing.B) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kB / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
