package attest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func TestAnImageIsAttestedOnce(t *testing.T) {
	t.Parallel()
	const ref = app + "@" + digest
	for about, s := range map[string]signature.Signer{"PKIX": pkixSigner(t), "PGP": pgpSigner(t)} {
		t.Run(about+", one after the other", func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			a := newAuthority(t, store, signing("good", s))
			first := checkImage(t, a, ref, "good").Results[0]
			want := first
			want.Details = &attest.Details{CheckName: "good", Body: first.Details.Body, KeyID: s.KeyID()}
			if diff := cmp.Diff(want, checkImage(t, a, ref, "good").Results[0]); diff != "" {
				t.Errorf("the second time (-want +got):\n%s", diff)
			}
			if n := len(store.Occurrences()); n != 1 {
				t.Errorf("%d attestations are stored, want 1", n)
			}
		})
		t.Run(about+", at once", func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			a := newAuthority(t, store, signing("good", s))
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					r, err := a.Check(t.Context(), mustParse(t, ref), "good")
					if err != nil || !r.Results[0].Attested {
						t.Errorf("got %+v, %v", r, err)
					}
				})
			}
			wg.Wait()
			if n := len(store.Occurrences()); n != 1 {
				t.Errorf("%d attestations are stored, want 1", n)
			}
		})
	}
	t.Run("and again for another image, check or key", func(t *testing.T) {
		t.Parallel()
		store := &attesttest.Store{}
		s := pgpSigner(t)
		both := func(s signature.Signer) *attest.Authority {
			return newAuthority(t, store, func(o *attest.Options) {
				o.Checks = append(o.Checks, passing("fine"))
				o.Signers = map[string]signature.Signer{"good": s, "fine": s}
			})
		}
		checkImage(t, both(s), ref, "good")
		for i, again := range []func() attest.Response{
			func() attest.Response { return checkImage(t, both(s), app+"@"+another, "good") },
			func() attest.Response { return checkImage(t, both(s), app+"2@"+digest, "good") },
			func() attest.Response { return checkImage(t, both(s), ref, "fine") },
			func() attest.Response { return checkImage(t, both(pgpSigner(t)), ref, "good") },
		} {
			if r := again().Results[0]; !r.Attested || r.Details.SignatureBase64 == "" {
				t.Errorf("%d: got %+v", i, r)
			}
			if n := len(store.Occurrences()); n != i+2 {
				t.Errorf("%d: %d attestations are stored, want %d", i, n, i+2)
			}
		}
	})
	t.Run("and again when the store does not tell", func(t *testing.T) {
		t.Parallel()
		store := &attesttest.Store{Fail: func(_ context.Context, method string) error {
			if strings.HasPrefix(method, "List") {
				return status.Error(codes.Unavailable, "down")
			}
			return nil
		}}
		if r := checkImage(t, newAuthority(t, store, signing("good", pgpSigner(t))), ref, "good").Results[0]; !r.Attested || r.Details.SignatureBase64 == "" {
			t.Errorf("got %+v", r)
		}
	})
}

// A look-up that hangs must leave the time to sign and file.
func TestALookUpThatHangsDoesNotCostTheAttestation(t *testing.T) {
	t.Parallel()
	s := pkixSigner(t)
	synctest.Test(t, func(t *testing.T) {
		store := &attesttest.Store{Fail: func(ctx context.Context, method string) error {
			if method == "ListNoteOccurrences" {
				<-ctx.Done()
				return status.FromContextError(ctx.Err()).Err()
			}
			return nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := newAuthority(t, store, signing("good", s)).Check(ctx, mustParse(t, app+"@"+digest), "good")
		if err != nil || !r.Results[0].Attested {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

// A request that waits for another's attestation of the same waits no longer
// than it may, and does not keep others.
func TestWaitingForAnotherAttestationEnds(t *testing.T) {
	t.Parallel()
	s := pkixSigner(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		store := &attesttest.Store{Fail: func(_ context.Context, method string) error {
			if method == "CreateOccurrence" {
				<-release
			}
			return nil
		}}
		a := newAuthority(t, store, signing("good", s))
		var wg sync.WaitGroup
		ask := func(timeout time.Duration, ref string, want error) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				r, err := a.Check(ctx, mustParse(t, ref), "good")
				if got := r.Results[0].Error; err != nil || (want != nil) != strings.Contains(got, fmt.Sprint(want)) {
					t.Errorf("%s within %v: got %+v, %v; want %v", ref, timeout, r, err, want)
				}
			})
		}
		ask(time.Hour, app+"@"+digest, nil)
		synctest.Wait() // it is filing
		ask(time.Minute, app+"@"+digest, context.DeadlineExceeded)
		ask(time.Hour, app+"@"+digest, nil)
		ask(time.Hour, app+"@"+another, nil)
		synctest.Wait()
		if n := store.Calls("CreateOccurrence"); n != 2 {
			t.Errorf("%d attestations are being filed, want 2: one of each image", n)
		}
		<-time.After(2 * time.Minute) // of the bubble's clock
		close(release)
		wg.Wait()
		if n := len(store.Occurrences()); n != 2 {
			t.Errorf("%d attestations are stored, want 2", n)
		}
	})
}
