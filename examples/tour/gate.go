package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// A pod of the tour, and what should become of it.
type pod struct {
	title      string
	namespace  string
	name       string
	image      string
	breakGlass string // justification, or "" for an ordinary pod
	allowed    bool
}

func (t *tour) pods() []pod {
	return []pod{
		{"an image that lacks an attestation", "shop", "greeter", t.images.vulnerable.ref.String(), "", false},
		{"an attested image", "shop", "web", t.images.good.ref.String(), "", true},
		{"the same image by its tag", "shop", "web-by-tag", t.images.good.tag, "", false},
		{"break-glass, in an emergency", "shop", "greeter-now", t.images.vulnerable.ref.String(), "INC-42: checkout is down", true},
		{"where policy is only tried out", "trial", "tool", t.images.root.ref.String(), "", true},
	}
}

func (t *tour) askGate(ctx context.Context) error {
	if t.cluster {
		return t.askCluster(ctx)
	}
	t.say("  as an API server does: AdmissionReview v1 over TLS to https://%s/validate", t.server.Admission)
	for _, p := range t.pods() {
		b := review.Pod(p.namespace, p.name).Image("main", p.image)
		if p.breakGlass != "" {
			b.Label(breakGlassLabel, "true").Annotation(justification, p.breakGlass)
		}
		if err := t.submit(ctx, p, b.Review()); err != nil {
			return err
		}
	}
	t.say("\n  the vulnerable program is built anew with a fixed library, and checked:")
	if err := t.checkImage(ctx, t.images.fixed); err != nil {
		return err
	}
	fixed := pod{"the fix", "shop", "greeter", t.images.fixed.ref.String(), "", true}
	return t.submit(ctx, fixed, review.Pod(fixed.namespace, fixed.name).Image("main", fixed.image).Review())
}

const (
	breakGlassLabel = "image-policy.k8s.io/break-glass"
	justification   = "gatehouse.dev/break-glass-justification"
)

func (t *tour) submit(ctx context.Context, p pod, body []byte) error {
	var answer struct {
		Response struct {
			Allowed  bool
			Status   struct{ Message, Reason string }
			Warnings []string
		}
	}
	if err := t.post(ctx, t.client.gate, "https://"+t.server.Admission+"/validate?timeout=10s", body, &answer); err != nil {
		return err
	}
	r := answer.Response
	t.decided(p, r.Allowed)
	if !r.Allowed {
		t.quote(r.Status.Reason + ": " + r.Status.Message)
	}
	for _, w := range r.Warnings {
		t.quote("Warning: " + w)
	}
	if r.Allowed != p.allowed {
		return fmt.Errorf("pod %s: allowed %v, and should be %v", p.name, r.Allowed, p.allowed)
	}
	return nil
}

func (t *tour) decided(p pod, allowed bool) {
	verdict := "DENIED"
	if allowed {
		verdict = "ADMITTED"
	}
	t.say("\n  %-8s pod %s/%s: %s", verdict, p.namespace, p.name, p.title)
}

// showAudit prints what was recorded of the overrides.
func (t *tour) showAudit(ctx context.Context) error {
	for _, override := range []string{"BREAK_GLASS", "DRY_RUN"} {
		args := []string{"audit", "--data", t.dataDir(), "--override", override}
		t.command("gatehouse %s", strings.Join(args, " "))
		out, err := t.audit(ctx, args)
		if err != nil {
			return err
		}
		t.quote(string(out))
	}
	return nil
}

// audit runs the command until the records of the last moments are on disk.
func (t *tour) audit(ctx context.Context, args []string) ([]byte, error) {
	for {
		out, err := exec.CommandContext(ctx, t.gatehouse, args...).Output()
		if err == nil {
			return out, nil
		}
		if ctx.Err() != nil || !isExit(err, 1) {
			return nil, err
		}
	}
}
