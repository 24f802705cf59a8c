package admission

type groupKind struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
}

type groupResource struct {
	Group    string `json:"group"`
	Resource string `json:"resource"`
}

// String returns "deployments.apps", or "pods" for the core group.
func (r groupResource) String() string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}

// builtin reports whether a resource is reviewed without being configured.
func (r groupResource) builtin() bool { return r == pods || workloads[r] }

var pods = groupResource{"", "pods"}

// workloads are the resources whose template is reviewed. A custom resource that
// happens to have one of these names in another group is not among them.
var workloads = map[groupResource]bool{
	{"apps", "deployments"}:        true,
	{"apps", "replicasets"}:        true,
	{"apps", "statefulsets"}:       true,
	{"apps", "daemonsets"}:         true,
	{"extensions", "deployments"}:  true,
	{"extensions", "replicasets"}:  true,
	{"extensions", "daemonsets"}:   true,
	{"batch", "jobs"}:              true,
	{"batch", "cronjobs"}:          true,
	{"", "replicationcontrollers"}: true,
	{"", "podtemplates"}:           true,
}

// kindResources is for senders that name the kind only.
var kindResources = map[groupKind]groupResource{
	{"", "Pod"}:                   {"", "pods"},
	{"apps", "Deployment"}:        {"apps", "deployments"},
	{"apps", "ReplicaSet"}:        {"apps", "replicasets"},
	{"apps", "StatefulSet"}:       {"apps", "statefulsets"},
	{"apps", "DaemonSet"}:         {"apps", "daemonsets"},
	{"batch", "Job"}:              {"batch", "jobs"},
	{"batch", "CronJob"}:          {"batch", "cronjobs"},
	{"", "ReplicationController"}: {"", "replicationcontrollers"},
	{"", "PodTemplate"}:           {"", "podtemplates"},
	{"extensions", "Deployment"}:  {"extensions", "deployments"},
	{"extensions", "ReplicaSet"}:  {"extensions", "replicasets"},
	{"extensions", "DaemonSet"}:   {"extensions", "daemonsets"},
}

// imageless are the subresources whose objects are of another kind and bring no
// image: they change a number, a node, or talk to what runs.
var imageless = map[string]bool{
	"attach": true, "binding": true, "eviction": true, "exec": true, "log": true,
	"portforward": true, "proxy": true, "scale": true, "status": true,
}
