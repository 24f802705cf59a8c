package sink

import (
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// A Place is whose records they are.
type Place struct {
	// Project is a project id, and Cluster LOCATION.NAME for records that do not say theirs.
	Project, Cluster string
	// Host is the name of the machine.
	Host string
}

// Labels of entries, as Binary Authorization's webhook has the API server write them.
const (
	labelPrefix     = "imagepolicywebhook.image-policy.k8s.io/"
	labelBreakGlass = labelPrefix + "break-glass"
	labelDryRun     = labelPrefix + "dry-run"
	labelOverridden = labelPrefix + "overridden-verification-result"
	labelFailedOpen = labelPrefix + "failed-open"
	// labelFailedOpenBefore is what older clusters have.
	labelFailedOpenBefore = "image-policy.k8s.io/failed-open"

	marked = "true"

	// reasonViolates is that of a denial.
	reasonViolates = "VIOLATES_POLICY"

	// Codes of google.rpc.
	codeInvalidArgument  = 3
	codePermissionDenied = 7
)

// A googleEntry is google.logging.v2.LogEntry, as far as it is needed.
type googleEntry struct {
	InsertID     string            `json:"insertId"`
	LogName      string            `json:"logName"`
	Resource     googleResource    `json:"resource"`
	Timestamp    time.Time         `json:"timestamp"`
	Severity     string            `json:"severity"`
	Labels       map[string]string `json:"labels,omitempty"`
	ProtoPayload googleAudit       `json:"protoPayload"`
}

type googleResource struct {
	Type   string            `json:"type"`
	Labels map[string]string `json:"labels"`
}

// A googleAudit is google.cloud.audit.AuditLog.
type googleAudit struct {
	Type         string            `json:"@type"`
	ServiceName  string            `json:"serviceName"`
	MethodName   string            `json:"methodName"`
	ResourceName string            `json:"resourceName"`
	Caller       map[string]string `json:"authenticationInfo"`
	Status       googleStatus      `json:"status,omitzero"`
	Response     *kubernetesStatus `json:"response,omitempty"`
}

type googleStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type kubernetesStatus struct {
	Type    string `json:"@type"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
}

// logEntry writes a decision as GKE's audit log has it.
func logEntry(e deliver.Entry, place Place) googleEntry {
	r := e.Decision
	cluster := r.Cluster
	if cluster == "" {
		cluster = place.Cluster
	}
	location, name, _ := strings.Cut(cluster, ".")
	entry := googleEntry{
		InsertID: e.ID, LogName: "projects/" + place.Project + "/logs/cloudaudit.googleapis.com%2Factivity", Timestamp: e.Time, Severity: "NOTICE",
		Resource: googleResource{"k8s_cluster", map[string]string{"project_id": place.Project, "location": location, "cluster_name": name}},
		Labels:   labels(r.Decision),
		ProtoPayload: googleAudit{
			Type: "type.googleapis.com/google.cloud.audit.AuditLog", ServiceName: "k8s.io", Caller: map[string]string{"principalEmail": r.User},
		},
	}
	entry.ProtoPayload.MethodName, entry.ProtoPayload.ResourceName = kubernetesNames(r)
	var refusal kubernetesStatus
	switch d := r.Decision; {
	case d == nil && r.Error != "" && r.Event != deliver.EventTest:
		refusal = kubernetesStatus{Message: r.Error, Reason: http.StatusText(http.StatusBadRequest), Code: http.StatusBadRequest}
		entry.ProtoPayload.Status.Code = codeInvalidArgument
	case d != nil && !d.Allowed:
		refusal = kubernetesStatus{Message: decide.Message(*d), Reason: reasonViolates, Code: http.StatusForbidden}
		entry.ProtoPayload.Status.Code = codePermissionDenied
	default:
		return entry
	}
	refusal.Type, refusal.Status = "core.k8s.io/v1.Status", "Failure"
	entry.Severity, entry.ProtoPayload.Status.Message, entry.ProtoPayload.Response = "ERROR", refusal.Message, &refusal
	return entry
}

// labels are those that alarms on break-glass and dry run go by.
func labels(d *decide.Decision) map[string]string {
	l := map[string]string{}
	if d == nil {
		return l
	}
	if d.BreakGlass != "" {
		l[labelBreakGlass] = marked
	}
	for _, o := range d.Overrides() {
		switch o {
		case decide.DryRun:
			l[labelDryRun] = marked
		case decide.FailOpen, decide.LastAllowed:
			l[labelFailedOpen], l[labelFailedOpenBefore] = marked, marked
		}
	}
	if d.Override != decide.NoOverride && d.Override != decide.NoPolicy {
		l[labelOverridden] = decide.VerificationResult(*d)
	}
	return l
}

// kubernetesNames are what GKE calls what was asked for, such as io.k8s.core.v1.pods.create
// of core/v1/namespaces/shop/pods/web.
func kubernetesNames(r *audit.Record) (method, resource string) {
	name, sub, _ := strings.Cut(r.Resource, "/")
	name, group, _ := strings.Cut(name, ".")
	if group == "" {
		group = "core"
	}
	group = strings.TrimSuffix(group, ".k8s.io")
	method = "io.k8s." + group + ".v1." + name
	resource = group + "/v1/namespaces/" + r.Namespace + "/" + name
	if r.Name != "" {
		resource += "/" + r.Name
	}
	if sub != "" {
		method, resource = method+"."+sub, resource+"/"+sub
	}
	return method + "." + strings.ToLower(r.Operation), resource
}
