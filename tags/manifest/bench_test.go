package manifest_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/tags"
	"github.com/gatehouse-dev/gatehouse/tags/manifest"
)

// deployments is a stream of as many manifests as a person would write, 1 kB each.
func deployments(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
# The web front of shop %[1]d.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-%[1]d
  namespace: shop
  labels: {app.kubernetes.io/name: web, app.kubernetes.io/part-of: shop}
spec:
  replicas: 3
  selector:
    matchLabels: {app: web-%[1]d}
  template:
    metadata:
      labels:
        app: web-%[1]d
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: web
        image: registry.example/shop/web:%[2]d # pinned at release
        env:
        - name: DATABASE
          value: "postgres://db.shop.svc:5432/shop"
        - name: LOG_LEVEL
          value: info
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe:
          httpGet: {path: /healthz, port: http}
        resources:
          requests: {cpu: 100m, memory: 64Mi}
          limits: {memory: 128Mi}
`, i, i%200)
	}
	return b.String()
}

// BenchmarkRewrite pins all images of a stream. The baseline decodes the same stream
// into nodes and does nothing with them.
func BenchmarkRewrite(b *testing.B) {
	stream := deployments(1000)
	k := kinds(b)
	d := digest(b)
	b.Run("rewrite", func(b *testing.B) {
		b.SetBytes(int64(len(stream)))
		b.ReportAllocs()
		for b.Loop() {
			for r := manifest.NewReader(strings.NewReader(stream)); ; {
				text, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				doc, problems := k.Read(text)
				if len(problems) > 0 {
					b.Fatal(problems)
				}
				_, problem := doc.Rewrite(func(i manifest.Image) string {
					ref, _ := tags.Style{}.Pin(i.Reference, d)
					return ref.String()
				})
				if problem != nil {
					b.Fatal(problem)
				}
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(stream)))
		for b.Loop() {
			for dec := yaml.NewDecoder(strings.NewReader(stream)); ; {
				var n yaml.Node
				if err := dec.Decode(&n); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
