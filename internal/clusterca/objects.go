package clusterca

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"maps"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// Keys of the objects.
const (
	keysKey   = "ca-keys.json" // the authority
	beforeKey = "before.crt"   // roots of one that was lost, for as long as something of it is served
	bundleKey = "ca.crt"
	certKey   = "tls.crt"
	keyKey    = "tls.key"

	issuedKey = "gatehouse.dev/issued" // annotation: when a certificate was
)

// meta is what is read of every object.
type meta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
}

// An object is a Secret, or a ConfigMap; with no version it is not there.
type object struct {
	Metadata meta
	Data     map[string][]byte
	Text     map[string]string
}

func (k *Keeper) path(kind string, more ...string) []string {
	return append([]string{"api", "v1", "namespaces", k.Namespace, kind}, more...)
}

func (p *pass) secret(name string) (object, error) { return readSecret(p.ctx, p.Keeper, name) }

func readSecret(ctx context.Context, k *Keeper, name string) (object, error) {
	var o struct {
		Metadata meta              `json:"metadata"`
		Data     map[string][]byte `json:"data"`
	}
	err := k.Client.Get(ctx, &o, nil, k.path("secrets", name)...)
	if kube.NotFound(err) {
		return object{Metadata: meta{Name: name}}, nil
	}
	if err != nil {
		return object{}, fmt.Errorf("reading the Secret %s/%s: %w", k.Namespace, name, err)
	}
	return object{Metadata: o.Metadata, Data: o.Data}, nil
}

func (p *pass) configMap(name string) (object, error) {
	var o struct {
		Metadata meta              `json:"metadata"`
		Data     map[string]string `json:"data"`
	}
	err := p.Client.Get(p.ctx, &o, nil, p.path("configmaps", name)...)
	if kube.NotFound(err) {
		return object{Metadata: meta{Name: name}}, nil
	}
	if err != nil {
		return object{}, fmt.Errorf("reading the ConfigMap %s/%s: %w", p.Namespace, name, err)
	}
	return object{Metadata: o.Metadata, Text: o.Data}, nil
}

// write changes what is in an object, in the version that was read, or makes it. What is
// null is removed.
func (k *Keeper) write(ctx context.Context, kind, what string, o object, fields map[string]any, annotations map[string]string) error {
	m := o.Metadata
	var err error
	if m.ResourceVersion == "" {
		fields["metadata"] = meta{Name: m.Name, Namespace: k.Namespace, Annotations: annotations, Labels: map[string]string{
			"app.kubernetes.io/name": "gatehouse", "app.kubernetes.io/instance": k.Name, "app.kubernetes.io/managed-by": "gatehouse-controller",
		}}
		err = k.Client.Create(ctx, fields, nil, k.path(kind)...)
	} else {
		delete(fields, "type") // which cannot be changed
		change := map[string]any{"resourceVersion": m.ResourceVersion}
		if annotations != nil { // null would remove all there are
			change["annotations"] = annotations
		}
		fields["metadata"] = change
		err = k.Client.Merge(ctx, fields, nil, k.path(kind, m.Name)...)
	}
	if err != nil {
		return fmt.Errorf("writing the %s %s/%s: %w", what, k.Namespace, m.Name, err)
	}
	return nil
}

func (k *Keeper) putSecret(ctx context.Context, o object, data map[string][]byte, annotations map[string]string, kind string) error {
	fields := map[string]any{"apiVersion": "v1", "kind": "Secret", "type": kind}
	values := make(map[string]any)
	for key, value := range data {
		switch {
		case len(value) > 0:
			values[key] = value
		case o.Metadata.ResourceVersion != "":
			values[key] = nil // which removes it
		}
	}
	fields["data"] = values
	return k.write(ctx, "secrets", "Secret", o, fields, maps.Clone(annotations))
}

func (p *pass) writeSecret(o object, data map[string][]byte, annotations map[string]string, kind string) error {
	return p.putSecret(p.ctx, o, data, annotations, kind)
}

func (p *pass) writeConfigMap(o object, data map[string]string) error {
	return p.write(p.ctx, "configmaps", "ConfigMap", o, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": data}, nil)
}

// join returns the certificates of several texts of PEM, each once.
func join(texts ...[]byte) []byte {
	var all bytes.Buffer
	seen := make(map[string]bool)
	for _, text := range texts {
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" && !seen[string(block.Bytes)] {
				seen[string(block.Bytes)] = true
				_ = pem.Encode(&all, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // a buffer never fails
			}
		}
	}
	return all.Bytes()
}
