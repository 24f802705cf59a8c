package attest

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-dev/gatehouse/image"
)

const tracerName = "github.com/gatehouse-dev/gatehouse/attest"

// step begins a part of a run in the trace that the run is part of, if it is in one. check
// is "" for what is done for all of them.
func step(ctx context.Context, name, check string, ref image.Reference) (context.Context, trace.Span) {
	whole := trace.SpanFromContext(ctx)
	if !whole.IsRecording() {
		return ctx, trace.SpanFromContext(context.Background())
	}
	ctx, span := whole.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithAttributes(
		attribute.String("container.image.name", ref.Repository()), attribute.String("oci.manifest.digest", ref.Digest().String()),
	))
	if check != "" {
		span.SetAttributes(attribute.String("gatehouse.check.name", check))
	}
	return ctx, span
}

// end ends a part of a run. What went wrong is not said: it may quote what others sent.
func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
