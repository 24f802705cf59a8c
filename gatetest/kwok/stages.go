package kwok

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A stage is what kwok does with objects of a kind when they are in a certain state.
type stage struct {
	name, kind string
	// when are expressions of jq about the object, with an operator and values.
	when []expression
	// status is a template of what the status becomes; "" deletes the object.
	status string
	// every is how often it is done, in milliseconds, while the state lasts; 0 is once.
	every int
}

type expression struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

const ready = `.status.conditions.[] | select( .type == "Ready" ) | .status`

const nodeStatus = `
phase: Running
conditions:
{{ range NodeConditions }}
- {type: {{ .type | Quote }}, status: {{ .status | Quote }}, reason: {{ .reason | Quote }}, message: {{ .message | Quote }}, lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ $.metadata.creationTimestamp | Quote }}}
{{ end }}
addresses:
- {type: Hostname, address: {{ NodeName | Quote }}}
`

const podRunning = `
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: true, started: true, restartCount: 0, state: {running: {startedAt: {{ $now | Quote }}}}}
{{ end }}
`

// stages are those of nodes, and of pods but for those of namespaces that somebody else
// runs.
func stages(others []string) []stage {
	here := expression{Key: ".metadata.namespace", Operator: "NotIn", Values: others}
	if len(others) == 0 {
		here = expression{Key: ".metadata.namespace", Operator: "Exists"}
	}
	stays := expression{Key: ".metadata.deletionTimestamp", Operator: "DoesNotExist"}
	goes := expression{Key: ".metadata.deletionTimestamp", Operator: "Exists"}
	return []stage{
		{name: "node-begins", kind: "Node", when: []expression{{Key: ready, Operator: "NotIn", Values: []string{"True"}}}, status: nodeStatus},
		{name: "node-lives", kind: "Node", when: []expression{{Key: ready, Operator: "In", Values: []string{"True"}}}, status: nodeStatus, every: 600_000},
		{name: "pod-runs", kind: "Pod", when: []expression{here, stays, {Key: ".status.phase", Operator: "In", Values: []string{"Pending"}}}, status: podRunning},
		{name: "pod-goes", kind: "Pod", when: []expression{here, goes}},
	}
}

// configuration renders stages as documents of YAML.
func configuration(all []stage) ([]byte, error) {
	type object = map[string]any
	var text strings.Builder
	for _, s := range all {
		next := object{"delete": true}
		if s.status != "" {
			next = object{"statusTemplate": s.status}
		}
		spec := object{"resourceRef": object{"apiGroup": "v1", "kind": s.kind}, "selector": object{"matchExpressions": s.when}, "next": next}
		if s.every != 0 {
			spec["delay"] = object{"durationMilliseconds": s.every, "jitterDurationMilliseconds": s.every + 10_000}
		}
		document, err := json.Marshal(object{"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": object{"name": s.name}, "spec": spec})
		if err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintf(&text, "---\n%s\n", document)
	}
	return []byte(text.String()), nil
}
