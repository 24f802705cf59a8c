package sink

import (
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
)

// scopeName is who writes the records.
const scopeName = "github.com/gatehouse-dev/gatehouse/audit"

// maxImages bounds the images in the attributes of a record; its body has all.
const maxImages = 64

// severities are those of OpenTelemetry, as it maps syslog's.
var severities = map[deliver.Severity]struct {
	number logspb.SeverityNumber
	text   string
}{
	deliver.Alert:   {logspb.SeverityNumber_SEVERITY_NUMBER_ERROR3, "ALERT"},
	deliver.Error:   {logspb.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"},
	deliver.Warning: {logspb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARNING"},
	deliver.Notice:  {logspb.SeverityNumber_SEVERITY_NUMBER_INFO2, "NOTICE"},
	deliver.Info:    {logspb.SeverityNumber_SEVERITY_NUMBER_INFO, "INFO"},
}

// eventNames are those of records, by their logs.
var eventNames = map[deliver.Log]string{
	deliver.Decisions: "gatehouse.audit.decision", deliver.Calls: "gatehouse.audit.call", deliver.Runs: "gatehouse.audit.run",
}

// logsRequest is what a collector is sent. The body of a record is its JSON, or a sentence
// if it was shortened; attributes have OpenTelemetry's names where it has one.
func logsRequest(entries []deliver.Entry, format Format, place Place, now time.Time) (*collectorpb.ExportLogsServiceRequest, error) {
	records := make([]*logspb.LogRecord, 0, len(entries))
	for _, e := range entries {
		line, err := format.line(e, place)
		if err != nil {
			return nil, err
		}
		severity := severities[e.Severity()]
		a := attributes{}
		a.add("log.record.uid", e.ID)
		a.record(e, place)
		records = append(records, &logspb.LogRecord{
			TimeUnixNano: nanoseconds(e.Time), ObservedTimeUnixNano: nanoseconds(now), EventName: eventNames[e.Log],
			SeverityNumber: severity.number, SeverityText: severity.text, Body: text(string(line)), Attributes: a,
		})
	}
	resource := attributes{}
	resource.add("service.name", "gatehouse")
	resource.add("service.instance.id", place.Host)
	resource.add("host.name", place.Host)
	return &collectorpb.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
		Resource:  &resourcepb.Resource{Attributes: resource},
		ScopeLogs: []*logspb.ScopeLogs{{Scope: &commonpb.InstrumentationScope{Name: scopeName}, LogRecords: records}},
	}}}, nil
}

// nanoseconds since 1970; what is before has none.
func nanoseconds(t time.Time) uint64 {
	if t.IsZero() || t.UnixNano() < 0 {
		return 0
	}
	return uint64(t.UnixNano()) //nolint:gosec // not negative
}

// attributes are those of a record. Empty ones are left out.
type attributes []*commonpb.KeyValue

func (a *attributes) add(key, value string) {
	if value != "" {
		*a = append(*a, &commonpb.KeyValue{Key: key, Value: text(value)})
	}
}

func (a *attributes) flag(key string, value bool) {
	*a = append(*a, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: value}}})
}

func (a *attributes) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	var all commonpb.ArrayValue
	for _, v := range values[:min(len(values), maxImages)] {
		all.Values = append(all.Values, text(v))
	}
	*a = append(*a, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &all}}})
}

// text is a string, which in a message has to be UTF-8.
func text(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: strings.ToValidUTF8(s, "\ufffd")}}
}

func (a *attributes) record(e deliver.Entry, place Place) {
	a.add("gatehouse.text", e.Text())
	switch {
	case e.Decision != nil:
		a.decision(e.Decision, place)
	case e.Call != nil:
		c := e.Call
		a.add("rpc.method", c.Method)
		a.add("user.name", c.Caller)
		a.add("client.address", c.Origin)
		a.add("gatehouse.resource", c.Resource)
		if c.Error != "" {
			a.add("error.type", c.Code)
		}
		a.add("rpc.response.status_code", c.Code)
	default:
		r := e.Run
		a.add("rpc.method", r.Method)
		a.add("user.name", r.Caller)
		a.add("client.address", r.Origin)
		a.add("container.image.name", r.Image)
		a.add("gatehouse.check", r.Name)
		a.flag("gatehouse.success", r.Success)
	}
}

func (a *attributes) decision(r *audit.Record, place Place) {
	cluster := r.Cluster
	if cluster == "" {
		cluster = place.Cluster
	}
	a.add("k8s.cluster.name", cluster)
	a.add("k8s.namespace.name", r.Namespace)
	if strings.HasPrefix(r.Resource, "pods") {
		a.add("k8s.pod.name", r.Name)
	}
	a.add("user.name", r.User)
	a.add("gatehouse.event", r.Event)
	a.add("gatehouse.resource", r.Resource)
	a.add("gatehouse.name", r.Name)
	a.add("gatehouse.operation", r.Operation)
	a.add("error.message", r.Error)
	d := r.Decision
	if d == nil {
		return
	}
	a.flag("gatehouse.allowed", d.Allowed)
	a.add("gatehouse.verdict", d.Verdict.String())
	a.add("gatehouse.override", string(d.Override))
	a.flag("gatehouse.break_glass", d.BreakGlass != "")
	a.add("gatehouse.justification", d.Justification)
	a.add("gatehouse.policy", d.Policy)
	a.add("gatehouse.policy_version", d.PolicyVersion)
	a.add("gatehouse.rule", d.Rule)
	var images, digests []string
	for i := range d.Images {
		images = append(images, d.Images[i].Image)
		if !d.Images[i].Digest.IsZero() {
			digests = append(digests, d.Images[i].Digest.String())
		}
	}
	a.list("gatehouse.images", images)
	a.list("gatehouse.digests", digests)
}
