//go:build linux

package kubelet

// A manifest is what is read of a pod. It has one container.
type manifest struct {
	Metadata struct {
		Name, UID                  string
		Labels                     map[string]string
		DeletionTimestamp          string
		DeletionGracePeriodSeconds int
	}
	Spec struct {
		NodeName           string
		ServiceAccountName string
		SecurityContext    struct{ RunAsUser, RunAsGroup uint32 }
		Containers         []container
		Volumes            []volume
	}
}

type container struct {
	Name, Image string
	Args        []string
	Env         []struct{ Name, Value string }
	Ports       []struct {
		Name          string
		ContainerPort int
	}
	VolumeMounts   []struct{ Name, MountPath string }
	ReadinessProbe struct {
		HTTPGet struct {
			Path string
			Port portRef
		}
	}
}

// A volume is a source with its name.
type volume struct {
	Name                  string
	EmptyDir              *struct{}
	PersistentVolumeClaim *struct{ ClaimName string }
	Secret                *struct {
		SecretName string
		selection
	}
	ConfigMap *named
	Projected *struct{ Sources []source }
}

// A source is a part of a projected volume.
type source struct {
	Secret, ConfigMap   *named
	ServiceAccountToken *struct {
		Audience          string
		ExpirationSeconds int
		Path              string
	}
	DownwardAPI *struct {
		Items []struct {
			Path     string
			FieldRef struct{ FieldPath string }
		}
	}
}

type named struct {
	Name string
	selection
}

// A selection is which keys become files, and whether they may be missing.
type selection struct {
	Items    []struct{ Key, Path string }
	Optional bool
}

// port resolves a port of the container; 0 is none.
func (m *manifest) port(r portRef) int {
	if r.Name == "" {
		return r.Number
	}
	for _, p := range m.Spec.Containers[0].Ports {
		if p.Name == r.Name {
			return p.ContainerPort
		}
	}
	return 0
}
