package admission

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-dev/gatehouse/decide"
)

const tracerName = "github.com/gatehouse-dev/gatehouse/admission"

// step begins a part of a review in the trace that the review is part of. Without one it
// costs a look into the context.
func step(ctx context.Context, name string) (context.Context, trace.Span) {
	whole := trace.SpanFromContext(ctx)
	if !whole.IsRecording() {
		return ctx, nothing
	}
	return whole.TracerProvider().Tracer(tracerName).Start(ctx, name)
}

// nothing is a span that is kept nowhere.
var nothing = trace.SpanFromContext(context.Background())

// explainTrace says in a trace what was asked, and decided.
func explainTrace(ctx context.Context, req *request, d *decide.Decision, allowed bool) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("k8s.namespace.name", req.Namespace), attribute.String("gatehouse.resource", resourceName(req)),
		attribute.String("gatehouse.operation", clip(req.Operation)), attribute.String("gatehouse.request.uid", clip(req.UID)),
		attribute.Bool("gatehouse.dry_run", req.DryRun), attribute.Int("gatehouse.images", len(d.Images)),
		attribute.Bool("gatehouse.allowed", allowed), attribute.String("gatehouse.verdict", d.Verdict.String()),
		attribute.String("gatehouse.reason_class", d.Class().String()), attribute.String("gatehouse.override", string(d.Override)),
		attribute.String("gatehouse.policy", d.Policy), attribute.String("gatehouse.policy_version", d.PolicyVersion), attribute.String("gatehouse.rule", d.Rule),
	)
}
