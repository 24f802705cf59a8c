package review

// podSpec is the spec of the pod, or of the template of one. Of a pod, it has
// what admission adds: the token of its service account, and tolerations.
func (b *Builder) podSpec() object {
	isPod := b.kind.spec == nil
	spec := object{
		"containers":                    b.specOf(b.containers, isPod),
		"restartPolicy":                 "Always",
		"terminationGracePeriodSeconds": 30,
		"dnsPolicy":                     "ClusterFirst",
		"securityContext":               object{},
		"schedulerName":                 "default-scheduler",
	}
	account := b.serviceAccount
	if account == "" && isPod {
		account = "default" // by admission; templates stay as they were written
	}
	if account != "" {
		spec["serviceAccountName"], spec["serviceAccount"] = account, account
	}
	if len(b.initContainers) > 0 {
		spec["initContainers"] = b.specOf(b.initContainers, isPod)
	}
	if len(b.ephemeralContainers) > 0 {
		spec["ephemeralContainers"] = b.specOf(b.ephemeralContainers, false)
	}
	var volumes []object
	for _, v := range b.imageVolumes {
		volumes = append(volumes, object{"name": v.name, "image": object{"reference": v.image, "pullPolicy": "IfNotPresent"}})
	}
	if b.realistic {
		b.addUsual(spec)
		volumes = append(volumes,
			object{"name": "config", "configMap": object{"name": b.app() + "-config", "defaultMode": 420}},
			object{"name": "cache", "emptyDir": object{"sizeLimit": "256Mi"}},
		)
	}
	if isPod {
		volumes = append(volumes, tokenVolume(tokenVolumeName(b.name)))
		spec["tolerations"] = []object{toleration("not-ready"), toleration("unreachable")}
		spec["priority"] = 0
		spec["enableServiceLinks"] = true
		spec["preemptionPolicy"] = "PreemptLowerPriority"
	}
	if len(volumes) > 0 {
		spec["volumes"] = volumes
	}
	return spec
}

// addUsual adds what the pods of real services say about themselves.
func (b *Builder) addUsual(spec object) {
	spec["securityContext"] = object{
		"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
		"seccompProfile": object{"type": "RuntimeDefault"},
	}
	spec["imagePullSecrets"] = []object{{"name": "registry"}}
}

// specOf returns the containers as an API server completes them.
func (b *Builder) specOf(containers []container, token bool) []object {
	specs := make([]object, 0, len(containers))
	for _, c := range containers {
		spec := object{
			"name": c.name, "image": c.image, "imagePullPolicy": "IfNotPresent", "resources": object{},
			"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
		}
		var mounts []object
		if b.realistic {
			mounts = b.addUsualToContainer(spec)
		}
		if token {
			mounts = append(mounts, mount(tokenVolumeName(b.name), "/var/run/secrets/kubernetes.io/serviceaccount", true))
		}
		if len(mounts) > 0 {
			spec["volumeMounts"] = mounts
		}
		specs = append(specs, spec)
	}
	return specs
}

// addUsualToContainer adds what the containers of real services say about
// themselves, and returns their mounts.
func (b *Builder) addUsualToContainer(spec object) []object {
	spec["env"] = []object{
		{"name": "LOG_LEVEL", "value": "info"},
		{"name": "POD_IP", "valueFrom": object{"fieldRef": object{"apiVersion": "v1", "fieldPath": "status.podIP"}}},
	}
	spec["resources"] = object{
		"limits":   object{"memory": "512Mi"},
		"requests": object{"cpu": "250m", "memory": "512Mi"},
	}
	spec["readinessProbe"] = object{
		"httpGet":        object{"path": "/readyz", "port": 8080, "scheme": "HTTP"},
		"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
	}
	spec["securityContext"] = object{
		"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
		"capabilities": object{"drop": []string{"ALL"}},
	}
	return []object{mount("config", "/etc/service", true), mount("cache", "/var/cache/service", false)}
}
