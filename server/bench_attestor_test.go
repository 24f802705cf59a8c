package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// attestWorkers is how many ask at once, as a CI does.
const attestWorkers = 16

// attestBench is a server and images that nobody has attested.
type attestBench struct {
	*running
	registry *registry.Registry
	refs     []image.Reference
	client   *http.Client
}

func newAttestBench(b *testing.B, images int) *attestBench {
	b.Helper()
	a := &attestBench{registry: registry.New(b)}
	cfg := DefaultConfig()
	cfg.Data = b.TempDir()
	for _, addr := range []*string{&cfg.Metadata.Address, &cfg.Attestor.Address, &cfg.Admission.Address, &cfg.Ops.Address} {
		*addr = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, discard(), func(a Addresses) error { started <- a; return nil }) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	select {
	case addresses := <-started:
		a.running = &running{t: b, data: cfg.Data, Addresses: addresses}
	case err := <-ended:
		b.Fatal(err)
	}
	a.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: attestWorkers}}
	a.refs = make([]image.Reference, images)
	for i := range a.refs {
		img, err := registry.Image(registry.ImageOptions{User: "65532", Labels: map[string]string{"n": fmt.Sprint(i)}})
		if err != nil {
			b.Fatal(err)
		}
		if a.refs[i], err = a.registry.Push(b.Context(), "shop/web", img); err != nil {
			b.Fatal(err)
		}
	}
	return a
}

// each runs do for images, some at once, and returns how long that took.
func (a *attestBench) each(refs []image.Reference, do func(image.Reference) error) time.Duration {
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range attestWorkers {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(refs); i = next.Add(1) - 1 {
				if err := do(refs[i]); err != nil {
					a.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// vouch has the attestor check and attest an image.
func (a *attestBench) vouch(ref image.Reference) error {
	resp, err := a.client.Post("http://"+a.Attestor+"/nobody", "application/json", strings.NewReader(fmt.Sprintf(`{"image_url":%q}`, ref)))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(text), `"attested":true`) {
		err = fmt.Errorf("%s: %s", ref, text)
	}
	return err
}

func (a *attestBench) read(url string) error {
	resp, err := a.client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// BenchmarkAttestation tells how many images a second are checked and attested, as a
// ratio to what nobody can do without: the manifest and the configuration read from the
// registry, one signature, and one attestation that is durable.
func BenchmarkAttestation(b *testing.B) {
	const images = 600
	for range b.N {
		a := newAttestBench(b, images)
		pem, err := signature.GeneratePKIX(developmentAlgorithm, rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		signer, err := signature.ParsePKIXSigner(pem, "", "")
		if err != nil {
			b.Fatal(err)
		}
		conn, err := grpc.NewClient(a.Metadata, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		client := grafeas.NewGrafeasClient(conn)
		if _, err := client.CreateNote(b.Context(), &grafeas.CreateNoteRequest{Parent: "projects/default", NoteId: "bare", Note: &grafeas.Note{
			Kind: grafeas.NoteKind_ATTESTATION, Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}}); err != nil {
			b.Fatal(err)
		}
		configs := a.configs()
		bare := func(ref image.Reference) error {
			base := "http://" + ref.Registry() + "/v2/" + ref.Path()
			if err := a.read(base + "/manifests/" + ref.Digest().String()); err != nil {
				return err
			}
			if err := a.read(base + "/blobs/" + configs[ref.Digest()]); err != nil {
				return err
			}
			payload := signature.NewPayload(ref.Name(), ref.Digest(), signature.TypeBinauthz)
			sig, err := signer.Sign(b.Context(), payload)
			if err != nil {
				return err
			}
			_, err = client.CreateOccurrence(b.Context(), &grafeas.CreateOccurrenceRequest{Parent: "projects/default", Occurrence: &grafeas.Occurrence{
				ResourceUri: ref.ResourceURI(), NoteName: "projects/default/notes/bare",
				Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
					SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: signer.KeyID()}},
				}},
			}})
			return err
		}
		// By turns, so that both meet the same machine.
		const part = 50
		a.each(a.refs[:part], bare)
		a.each(a.refs[:part], a.vouch)
		var bareTook, took time.Duration
		var asked int64
		for i := part; i < images; i += part {
			refs := a.refs[i : i+part]
			bareTook += a.each(refs, bare)
			before := a.registry.Requests()
			took += a.each(refs, a.vouch)
			asked += a.registry.Requests() - before
		}
		const measured = images - part
		b.ReportMetric(measured/took.Seconds(), "attested/s")
		b.ReportMetric(measured/bareTook.Seconds(), "bare/s")
		b.ReportMetric(bareTook.Seconds()/took.Seconds(), "ratio")
		b.ReportMetric(float64(asked)/measured, "registry-requests/image")
		_ = conn.Close()
	}
}

// configs are the digests of the images' configurations.
func (a *attestBench) configs() map[image.Digest]string {
	found := map[image.Digest]string{}
	for _, ref := range a.refs {
		resp, err := a.client.Get("http://" + ref.Registry() + "/v2/" + ref.Path() + "/manifests/" + ref.Digest().String())
		if err != nil {
			a.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			a.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), `"config":`)
		_, rest, _ = strings.Cut(rest, `"digest":"`)
		found[ref.Digest()], _, _ = strings.Cut(rest, `"`)
	}
	return found
}

// BenchmarkAttestorMemory has the attestor vouch for many images, and prints how much
// memory is in use after each thousand: it must not grow.
func BenchmarkAttestorMemory(b *testing.B) {
	const images, part = 10_000, 1000
	for range b.N {
		a := newAttestBench(b, images)
		var first, last uint64
		for i := 0; i < images; i += part {
			a.each(a.refs[i:i+part], a.vouch)
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.Logf("after %5d images: %5.1f MB in use, %d goroutines", i+part, float64(m.HeapInuse)/1e6, runtime.NumGoroutine())
			if last = m.HeapInuse; i == 0 {
				first = last
			}
		}
		b.ReportMetric(float64(last)/float64(first), "growth")
		b.ReportMetric(float64(last-first)/float64(images-part), "B/image")
	}
}
