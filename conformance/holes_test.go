package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/image"
)

// narrow are gates with one hole each, and the cases that find it.
func narrow() []hole {
	updates := func(a *ask) bool { return a.operation() == "UPDATE" }
	dropped := func(name string) func(*ask) {
		return func(a *ask) {
			for _, o := range []object{a.object(), a.oldObject()} {
				delete(specOf(o), name)
			}
		}
	}
	return []hole{
		{name: "looks at the first container", fails: []string{"B3/second-container", "B8/no-image", "B10/duplicate-keys", "B13/one-bad", "B13/one-good", "B13/same-name", "B13/same-repository", "B14/many-containers", "B19/mixed", "B20/pod-and-template"}, rewrite: func(a *ask) {
			if list := listOf(a.spec(), "containers"); len(list) > 1 {
				setList(a.spec(), "containers", list[:1])
			}
		}},
		{name: "does not know init containers", fails: []string{"B3/init-containers", "B3/template-fields", "B5/update-pod", "B10/duplicate-keys", "B13/same-name", "B19/mixed", "B20/versions"}, rewrite: dropped("initContainers")},
		{name: "does not know image volumes", fails: []string{"B3/image-volume", "B3/template-fields", "B10/duplicate-keys", "B20/versions", "B24/terminal", "B24/lines", "B24/formats"}, rewrite: dropped("volumes")},
		{name: "does not know ephemeral containers", fails: []string{"B3/ephemeral-at-creation", "B4/ephemeral-containers", "B4/second-ephemeral-container", "B10/duplicate-keys", "B20/versions"}, rewrite: dropped("ephemeralContainers")},
		{name: "lets subresources in", fails: []string{"B4/ephemeral-containers", "B4/second-ephemeral-container", "B4/resize", "B20/versions"}, admit: func(a *ask) bool { return a.sub() != "" }},
		{name: "reviews pods only", fails: []string{"B3/template-fields", "B3/deployments.apps", "B3/replicasets.apps", "B3/statefulsets.apps", "B3/daemonsets.apps", "B3/jobs.batch", "B3/cronjobs.batch", "B3/replicationcontrollers", "B3/podtemplates", "B5/update-deployment", "B5/scale-down", "B5/zero-replicas", "B16/not-a-review", "B16/odd-types", "B17/owned-workload", "B17/two-templates", "B18/break-glass-place", "B20/pod-and-template"}, admit: func(a *ask) bool { return a.review != nil && a.request() != nil && a.kind() != "Pod" }},
		{name: "reviews creations only", fails: []string{"B4/ephemeral-containers", "B4/second-ephemeral-container", "B4/patched", "B4/resize", "B5/update-pod", "B5/update-deployment", "B5/scale-down", "B5/zero-replicas", "B5/deletion-timestamp", "B5/unchanged-in-name-only", "B5/no-old-object", "B16/odd-types", "B20/versions"}, admit: updates},
		{name: "lets scaling down in", fails: []string{"B5/scale-down"}, admit: func(a *ask) bool {
			old, _ := dig(a.oldObject(), "spec", "replicas").(float64)
			now, _ := dig(a.object(), "spec", "replicas").(float64)
			return updates(a) && now < old
		}},
		{name: "lets zero replicas in", fails: []string{"B5/zero-replicas"}, admit: func(a *ask) bool { n, ok := dig(a.object(), "spec", "replicas").(float64); return ok && n == 0 }},
		{name: "believes the deletion timestamp of the new object", fails: []string{"B5/deletion-timestamp"}, admit: func(a *ask) bool { return dig(a.object(), "metadata", "deletionTimestamp") != nil }},
		{name: "lets dry runs in", fails: []string{"B5/dry-run", "B16/odd-types"}, admit: func(a *ask) bool { return a.request()["dryRun"] == true }},
		{name: "compares the set of images", fails: []string{"B5/unchanged-in-name-only"}, admit: func(a *ask) bool {
			was, is := imagesOf(a.oldObject()), a.images()
			slices.Sort(was)
			slices.Sort(is)
			return updates(a) && slices.Equal(was, is)
		}},
		{name: "takes an update without an old object for unchanged", fails: []string{"B5/no-old-object", "B16/odd-types"}, admit: func(a *ask) bool { return updates(a) && a.oldObject() == nil }},
		{name: "does not know patches", fails: []string{"B4/patched"}, admit: func(a *ask) bool { return a.string("request", "options", "kind") == "PatchOptions" }},
		{name: "knows one ephemeral container", fails: []string{"B4/second-ephemeral-container", "B10/duplicate-keys"}, rewrite: func(a *ask) {
			if list := listOf(a.spec(), "ephemeralContainers"); len(list) > 1 {
				setList(a.spec(), "ephemeralContainers", list[:1])
			}
		}},
		{name: "remembers by uid", fails: []string{"B6/same-uid"}, around: remembering(func(a *ask) string { return a.string("request", "uid") }), change: inOrder},
		{name: "remembers by name", fails: []string{"B6/same-uid", "B6/same-object", "B19/alternating", "B19/mixed"}, around: remembering(func(a *ask) string {
			return a.kind() + a.string("request", "name") + a.string("request", "operation") + a.sub()
		}), only: []string{"B6", "B13", "B19"}, change: inOrder},
		{name: "remembers by the first image", fails: []string{"B5/deletion", "B5/dry-run", "B5/unchanged", "B6/same-uid", "B6/same-object", "B13/all-good", "B19/alternating", "B19/mixed"}, around: remembering(func(a *ask) string { return strings.Join(a.images()[:min(1, len(a.images()))], "") }), only: []string{"B6", "B13", "B19", "B5"}, change: inOrder},
		{name: "remembers by repository", fails: []string{"B9/good-name", "B9/near-digest", "B19/alternating", "B19/mixed"}, around: remembering(func(a *ask) string {
			name, _, _ := strings.Cut(strings.Join(a.images(), ","), "@")
			return name
		}), only: []string{"B6", "B9", "B19"}, change: inOrder},
		{name: "finds nothing the third time", fails: []string{"B19/repeated"}, around: func() func(testWorld, http.Handler) http.Handler {
			var times sync.Map
			return changeAnswer(func(a *ask, _ int, response object) object {
				key := fmt.Sprint(a.images())
				n, _ := times.LoadOrStore(key, new(atomic.Int64))
				if a.string("request", "object", "metadata", "name") == "conformance-b19-repeated" && n.(*atomic.Int64).Add(1) > 2 {
					return object{"allowed": true}
				}
				return response
			})
		}()},
		{name: "believes the tag beside a digest", fails: []string{"B7/tag-lies", "B10/duplicate-keys"}, rewrite: func(a *ask) {
			a.eachImage(func(s string) string {
				if tagged, digest, ok := strings.Cut(s, "@"); ok && untagged(tagged) == untagged(cutAt(a.world.good)) && tagged != untagged(tagged) && digest != "" {
					return a.world.good
				}
				return s
			})
		}},
		{name: "reads the last digest", fails: []string{"B7/two-digests", "B7/two-references", "B10/duplicate-keys", "B10/encodings"}, rewrite: func(a *ask) {
			a.eachImage(func(s string) string {
				if parts := strings.Split(s, "@"); len(parts) > 2 {
					return parts[0] + "@" + parts[len(parts)-1]
				}
				return s
			})
		}},
		{name: "reads the first digest", fails: []string{"B7/two-digests", "B10/duplicate-keys"}, rewrite: func(a *ask) {
			a.eachImage(func(s string) string {
				if parts := strings.Split(s, "@"); len(parts) > 2 {
					return parts[0] + "@" + parts[1]
				}
				return s
			})
		}},
		{name: "finds the good image in a text", fails: []string{"B7/two-digests", "B7/two-references", "B7/other-algorithm", "B10/duplicate-keys", "B10/types", "B10/encodings", "B17/other-copies", "B17/two-templates"}, admit: func(a *ask) bool {
			return a.everyImage(func(s string) bool { return strings.Contains(s, a.world.good) })
		}},
		{name: "compares twelve digits", fails: []string{"B1/digest-like-tag", "B7/two-digests", "B7/two-references", "B7/other-algorithm", "B7/long", "B9/near-digest", "B10/duplicate-keys", "B10/types", "B10/encodings", "B17/other-copies", "B17/two-templates"}, admit: func(a *ask) bool {
			_, digest, _ := strings.Cut(a.world.good, "@sha256:")
			return a.everyImage(func(s string) bool { return strings.Contains(s, digest[:12]) })
		}},
		{name: "does not mind capitals", fails: []string{"B7/other-algorithm", "B7/exempt-path", "B10/duplicate-keys"}, rewrite: func(a *ask) { a.eachImage(strings.ToLower) }},
		{name: "hangs at long texts", slow: true, fails: []string{"B7/long", "B21/expensive-texts"}, around: hanging(func(a *ask) bool { return len(a.text) > 40_000 && len(a.images()) < 100 }), only: []string{"B7/long", "B21/expensive-texts"}, change: quick},
		{name: "hangs at many images", slow: true, fails: []string{"B14/many-containers", "B24/size"}, around: hanging(func(a *ask) bool { return len(a.images()) > 100 }), only: []string{"B14/many-containers", "B24/size"}, change: quick},
		{name: "exempts by a part of the text", fails: []string{"B7/exempt-host", "B7/exempt-path"}, admit: func(a *ask) bool {
			name := untagged(exemptImage)
			return a.everyImage(func(s string) bool { return strings.Contains(s, name) })
		}},
		{name: "exempts by the beginning of the host", fails: []string{"B7/exempt-host", "B7/exempt-path"}, admit: func(a *ask) bool {
			return a.everyImage(func(s string) bool { return strings.HasPrefix(s, "exempt.example") })
		}},
		{name: "all of nothing is good", fails: []string{"B8/no-containers", "B8/no-object", "B10/types", "B16/not-a-review", "B16/odd-types", "B24/pages"}, admit: func(a *ask) bool { return a.review != nil && len(listOf(a.spec(), "containers")) == 0 }},
		{name: "skips containers without image", fails: []string{"B8/no-image", "B10/duplicate-keys", "B10/types"}, rewrite: func(a *ask) {
			setList(a.spec(), "containers", slices.DeleteFunc(listOf(a.spec(), "containers"), func(c object) bool { s, _ := c["image"].(string); return s == "" }))
		}},
		{name: "lets in what it knows nothing of", fails: []string{"B8/no-evidence", "B9/near-digest", "B16/no-registry"}, admit: func(a *ask) bool {
			return a.everyImage(func(s string) bool {
				return strings.Contains(s, "@sha256:") && !strings.Contains(s, cutAfter(a.world.bad))
			})
		}, only: []string{"B8", "B9", "B16/no-registry"}},
		{name: "looks evidence up by name", fails: []string{"B7/two-digests", "B7/other-algorithm", "B8/no-evidence", "B9/good-name", "B9/near-digest", "B10/duplicate-keys", "B10/types", "B13/same-repository", "B14/many-containers", "B17/other-copies", "B17/two-templates", "B19/alternating"}, admit: func(a *ask) bool {
			return a.everyImage(func(s string) bool { return cutAt(s) == cutAt(a.world.good) && strings.Contains(s, "@sha256:") })
		}},
		{name: "compares the digest but for its end", fails: []string{"B9/near-digest", "B10/duplicate-keys", "B10/types", "B17/other-copies", "B17/two-templates"}, admit: func(a *ask) bool {
			return a.everyImage(func(s string) bool { return len(s) == len(a.world.good) && s[:len(s)-1] == a.world.good[:len(s)-1] })
		}},
		{name: "takes the last of two keys", fails: []string{"B10/duplicate-keys"}, rewrite: func(*ask) {}},
		{name: "does not mind the case of keys", fails: []string{"B10/duplicate-keys", "B10/key-case"}, rewrite: func(a *ask) {
			for _, c := range listOf(a.spec(), "containers") {
				for key, value := range c {
					if key != "image" && strings.EqualFold(key, "image") {
						c["image"] = value
						delete(c, key)
					}
				}
			}
		}},
		{name: "searches for images as text", fails: []string{"B10/escapes", "B10/types", "B24/terminal", "B24/lines"}, admit: func(a *ask) bool {
			return !a.baseline() && strings.Contains(a.text, `"request"`) && !strings.Contains(a.text, `"image":"`+a.world.bad) && strings.Contains(a.text, `\u0`)
		}},
		{name: "drops images of other types", fails: []string{"B8/no-image", "B10/duplicate-keys", "B10/types"}, rewrite: func(a *ask) {
			for _, c := range listOf(a.spec(), "containers") {
				if _, ok := c["image"].(string); !ok {
					c["image"] = a.world.good
				}
			}
		}},
		{name: "does not read other content types", fails: []string{"B10/content-type"}, admit: func(a *ask) bool { return a.http.Header.Get("Content-Type") != "application/json" }},
		{name: "mends what is not UTF-8", fails: []string{"B10/encodings"}, admit: func(a *ask) bool { return strings.Contains(strings.Join(a.images(), ""), "\ufffd") }},
		{name: "trusts administrators", fails: []string{"B11/powerful-user"}, admit: func(a *ask) bool {
			groups, _ := dig(a.request(), "userInfo", "groups").([]any)
			return slices.Contains(groups, any("system:masters"))
		}},
		{name: "trusts controllers", fails: []string{"B11/controller"}, admit: func(a *ask) bool {
			return strings.HasPrefix(a.string("request", "userInfo", "username"), "system:serviceaccount:kube-system:")
		}},
		{name: "trusts service accounts by name", fails: []string{"B11/service-account"}, admit: func(a *ask) bool {
			s, _ := a.spec()["serviceAccountName"].(string)
			return strings.HasPrefix(s, "system:") || s == "admin"
		}},
		{name: "takes any signature", fails: []string{"B11/other-signer"}, admit: func(a *ask) bool { return a.everyImage(func(s string) bool { return s == strangeImage }) }},
		{name: "has no clock", fails: []string{"B12/expired"}, admit: func(a *ask) bool { return a.everyImage(func(s string) bool { return s == expiredImage }) }},
		{name: "lets in what is older than policy", fails: []string{"B8/no-object", "B12/object-time", "B16/odd-types"}, admit: func(a *ask) bool {
			return a.string("request", "object", "metadata", "creationTimestamp") < "2020" && a.object() != nil
		}},
		{name: "lets in what was restarted", fails: []string{"B12/restarted"}, admit: func(a *ask) bool { _, ok := a.meta("annotations", "kubectl.kubernetes.io/restartedAt"); return ok }},
		{name: "any of the images is enough", fails: []string{"B3/second-container", "B3/init-containers", "B3/image-volume", "B3/ephemeral-at-creation", "B3/template-fields", "B4/ephemeral-containers", "B4/second-ephemeral-container", "B5/update-pod", "B5/unchanged-in-name-only", "B8/no-image", "B10/duplicate-keys", "B10/types", "B13/one-bad", "B13/one-good", "B13/same-name", "B13/same-repository", "B14/many-containers", "B17/other-copies", "B17/two-templates", "B19/mixed", "B20/versions", "B20/pod-and-template", "B24/terminal", "B24/lines", "B24/formats"}, admit: func(a *ask) bool { return a.anyImage(func(s string) bool { return s == a.world.good }) }},
		{name: "keeps containers by name", fails: []string{"B10/duplicate-keys", "B10/types", "B13/same-name"}, rewrite: func(a *ask) {
			seen, kept := map[any]bool{}, []object{}
			for _, c := range listOf(a.spec(), "containers") {
				if !seen[c["name"]] {
					kept = append(kept, c)
				}
				seen[c["name"]] = true
			}
			setList(a.spec(), "containers", kept)
		}},
		{name: "keeps images by repository", fails: []string{"B10/duplicate-keys", "B13/same-repository"}, rewrite: func(a *ask) {
			first := map[string]string{}
			a.eachImage(func(s string) string {
				if _, ok := first[cutAt(s)]; !ok {
					first[cutAt(s)] = s
				}
				return first[cutAt(s)]
			})
		}},
		{name: "judges five images at most", fails: []string{"B13/all-good"}, deny: func(a *ask) bool { return len(a.images()) > 5 }},
		{name: "lets in what it cannot read", fails: []string{"B8/no-containers", "B8/no-object", "B10/duplicate-keys", "B10/types", "B10/content-type", "B10/encodings", "B14/deep", "B14/oversized", "B14/truncated", "B14/short-body", "B14/compressed", "B16/not-a-review", "B16/version", "B16/odd-types", "B24/pages"}, around: changeAnswer(func(_ *ask, code int, response object) object {
			if unread(code, response) {
				return object{"allowed": true}
			}
			return response
		}), only: []string{"B10", "B14/deep", "B14/oversized", "B14/truncated", "B14/short-body", "B14/compressed", "B16/not-a-review", "B16/version", "B16/odd-types", "B24/pages", "B8"}, change: patient},
		{name: "dies of what it cannot read", fails: []string{"B14/deep", "B14/truncated", "B14/short-body", "B16/not-a-review"}, around: dying, only: []string{"B10/duplicate-keys", "B10/escapes", "B14/deep", "B14/truncated", "B14/short-body", "B16/not-a-review", "B3/image-volume"}, change: inOrder},
		{name: "takes what came for the whole", fails: []string{"B14/short-body"}, around: func(_ testWorld, sound http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				sound.ServeHTTP(rw, withBody(r, string(body)))
			})
		}, only: []string{"B14/short-body", "B14/truncated"}},
		{name: "does not read what is compressed", fails: []string{"B14/compressed"}, admit: func(a *ask) bool { return a.http.Header.Get("Content-Encoding") != "" }, only: []string{"B14/compressed"}},
		{name: "never hangs up", slow: true, fails: []string{"B14/slow-body", "B14/slow-head"}, listen: func(s *httptest.Server) { s.Config.ReadHeaderTimeout = 0 }, around: func(w testWorld, sound http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { sound.ServeHTTP(rw, withBody(r, read(w, r).text)) })
		}, only: []string{"B14/slow-body", "B14/slow-head", "B22/idle-connections"}, change: quick},
		{name: "takes few connections", slow: true, fails: []string{"B14/slow-body", "B22/idle-connections"}, listen: func(s *httptest.Server) {
			s.Listener, s.Config.ReadHeaderTimeout = limited{s.Listener, make(chan struct{}, 20)}, 0
		}, only: []string{"B14/slow-body", "B22/idle-connections"}, change: quick},
		{name: "repeats the pod in its message", fails: []string{"B15/answer", "B24/terminal", "B24/lines"}, around: message(func(a *ask, said string) string { b, _ := json.Marshal(a.object()); return said + string(b) })},
		{name: "writes names into its message", fails: []string{"B24/terminal", "B24/lines"}, around: message(func(a *ask, said string) string {
			return said + strings.Join(a.images(), " ") + a.string("request", "userInfo", "username")
		})},
		{name: "takes names for formats", fails: []string{"B24/terminal", "B24/lines", "B24/formats"}, around: message(func(a *ask, said string) string { return fmt.Sprintf(strings.Join(a.images(), " ")+said, 1) })},
		{name: "shows errors as pages", fails: []string{"B24/pages"}, around: func(w testWorld, sound http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				a := read(w, r)
				rec := httptest.NewRecorder()
				sound.ServeHTTP(rec, withBody(r, a.text))
				if rec.Code != http.StatusOK {
					rw.Header().Set("Content-Type", "text/html")
					rec.Body.WriteString(a.text)
				}
				rw.WriteHeader(rec.Code)
				_, _ = rw.Write(rec.Body.Bytes())
			})
		}},
		{name: "has no end of words", fails: []string{"B14/many-containers", "B24/size"}, around: message(func(a *ask, said string) string { return strings.Repeat(said, len(a.images())*50) })},
		{name: "denies without a word", fails: []string{"B16/envelope"}, around: message(func(*ask, string) string { return "" })},
		{name: "believes owners", fails: []string{"B11/controller", "B17/owners", "B17/owned-workload"}, admit: func(a *ask) bool { return dig(a.object(), "metadata", "ownerReferences") != nil }},
		{name: "believes annotations", fails: []string{"B17/annotations"}, admit: func(a *ask) bool { _, ok := a.meta("annotations", "kyverno.io/verify-images"); return ok }},
		{name: "can be switched off by a label", fails: []string{"B17/labels"}, admit: func(a *ask) bool { _, ok := a.meta("labels", "admission.gatekeeper.sh/ignore"); return ok }},
		{name: "lets mirror pods in", fails: []string{"B17/mirror-pod"}, admit: func(a *ask) bool { _, ok := a.meta("annotations", "kubernetes.io/config.mirror"); return ok }},
		{name: "reads the status", fails: []string{"B10/duplicate-keys", "B12/restarted", "B17/other-copies"}, rewrite: func(a *ask) {
			statuses, _ := dig(a.object(), "status", "containerStatuses").([]any)
			if len(statuses) > 0 {
				a.eachImage(func(string) string { s, _ := dig(statuses[0], "image").(string); return s })
			}
		}},
		{name: "reads any template", fails: []string{"B10/duplicate-keys", "B17/two-templates"}, rewrite: func(a *ask) {
			if t, ok := a.object()["template"].(object); ok && a.kind() == "Deployment" {
				a.object()["spec"].(object)["template"] = t
			}
		}},
		{name: "break-glass is there or not", fails: []string{"B10/duplicate-keys", "B18/break-glass-values"}, rewrite: func(a *ask) {
			if _, ok := a.meta("labels", "image-policy.k8s.io/break-glass"); ok {
				dig(a.object(), "metadata", "labels").(object)["image-policy.k8s.io/break-glass"] = "true"
			}
		}},
		{name: "has more break-glass markers than it tells", fails: []string{"B18/foreign-break-glass"}, admit: func(a *ask) bool { v, _ := a.meta("annotations", "kritis.grafeas.io/breakglass"); return v == "true" }},
		{name: "takes break-glass from the workload", fails: []string{"B18/break-glass-place", "B18/break-glass-trace"}, admit: func(a *ask) bool { v, _ := a.meta("labels", "image-policy.k8s.io/break-glass"); return v == "true" }},
		{name: "breaks glass in silence", fails: []string{"B18/break-glass-trace"}, around: changeAnswer(func(_ *ask, _ int, response object) object {
			delete(response, "auditAnnotations")
			delete(response, "warnings")
			return response
		})},
		{name: "believes the object's namespace", fails: []string{"B10/duplicate-keys", "B18/object-namespace"}, rewrite: func(a *ask) { a.request()["namespace"] = a.string("request", "object", "metadata", "namespace") }},
		{name: "exempts namespaces by their beginning", fails: []string{"B18/namespace-look-alikes"}, admit: func(a *ask) bool { return strings.HasPrefix(a.string("request", "namespace"), exemptSpace) }},
		{name: "trusts v1beta1", fails: []string{"B3/init-containers", "B3/template-fields", "B5/update-pod", "B5/unchanged-in-name-only", "B8/no-containers", "B13/same-name", "B20/versions"}, admit: func(a *ask) bool {
			return a.string("apiVersion") == "admission.k8s.io/v1beta1" && len(listOf(a.spec(), "initContainers")) > 0
		}},
		{name: "relies on the order of members", fails: []string{"B20/order"}, admit: func(a *ask) bool {
			o, k := strings.Index(a.text, `"object"`), strings.Index(a.text, `"resource"`)
			return o >= 0 && o < k
		}},
		{name: "does not wait for chunks", fails: []string{"B20/transfer"}, admit: func(a *ask) bool { return a.http.ContentLength < 0 }},
		{name: "denies indented reviews", fails: []string{"B20/order"}, deny: func(a *ask) bool { return strings.Contains(a.text, "\n") }},
		{name: "lets templates have tags", fails: []string{"B20/pod-and-template"}, admit: func(a *ask) bool {
			return a.kind() == "Deployment" && a.everyImage(func(s string) bool { return !strings.Contains(s, "@") })
		}},
		{name: "keeps the cluster from starting", fails: []string{"B4/scale", "B5/deletion", "B23/kinds-without-images", "B23/deletions", "B23/bindings"}, deny: func(a *ask) bool { return a.review != nil && len(a.images()) == 0 }},
		{name: "keeps what is denied from going away", fails: []string{"B5/deletion", "B23/deletions"}, deny: func(a *ask) bool {
			return a.operation() == "DELETE" || dig(a.oldObject(), "metadata", "deletionTimestamp") != nil
		}},
		{name: "judges what has not changed", fails: []string{"B4/status", "B5/deletion", "B5/unchanged"}, deny: func(a *ask) bool {
			return updates(a) && a.anyImage(func(s string) bool { return s == a.world.bad })
		}},
		{name: "lets tags in", fails: []string{"B1/tag", "B1/good-tag", "B1/no-tag", "B1/digest-like-tag", "B20/pod-and-template", "B24/terminal", "B24/lines", "B24/formats"}, admit: func(a *ask) bool {
			return a.everyImage(func(s string) bool { return untagged(s) == cutAt(a.world.good) || s == cutAt(a.world.good) })
		}},
		{name: "judges ten reviews at a time", fails: []string{"B22/flood"}, around: crowded(10), only: []string{"B22/flood"}},

		{name: "judges one big review after another", slow: true, fails: []string{"B22/big-reviews"}, around: func(_ testWorld, sound http.Handler) http.Handler {
			var one sync.Mutex
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				one.Lock()
				defer one.Unlock()
				if r.ContentLength > 1<<20 && r.Context().Err() == nil {
					work(r.Context(), testTimeout/4)
				}
				sound.ServeHTTP(rw, r)
			})
		}, only: []string{"B22/big-reviews"}, change: quick},

		// Gates that ask registries.
		{name: "takes the registry's word for a tag", fails: []string{"B1/moving-tag", "B2/head-and-get", "B2/header-lies", "B19/remembered-tag"}, around: asking(func(a *asker, ref string) bool {
			return !strings.Contains(ref, "@") && a.digest(ref, http.MethodHead) == cutAfter(a.world.good)
		}), only: []string{"B1/moving-tag", "B2", "B19/remembered-tag"}},
		{name: "does not hash what it gets", fails: []string{"B2/other-content"}, around: asking(func(a *asker, ref string) bool {
			return image.DigestOf(a.get(ref, http.MethodGet)).String() == cutAfter(a.world.good)
		}), only: []string{"B2", "B9"}},
		{name: "takes any signature beside the image", fails: []string{"B9/borrowed-signature"}, around: asking(func(a *asker, ref string) bool {
			name, digest, ok := strings.Cut(ref, "@")
			return ok && len(a.get(name+":"+signatureTag(digest), http.MethodGet)) > 0
		}), only: []string{"B9", "B2"}},
		{name: "takes an index for what is in it", fails: []string{"B9/index"}, around: asking(func(a *asker, ref string) bool {
			return strings.Contains(string(a.get(ref, http.MethodGet)), cutAfter(a.world.good))
		}), only: []string{"B9"}},
		{name: "waits for registries", slow: true, fails: []string{"B14/endless-manifest", "B16/slow-registry"}, around: asking(func(a *asker, ref string) bool { a.patient = true; a.get(ref, http.MethodGet); return false }), only: []string{"B14/endless-manifest", "B14/redirects", "B16/slow-registry", "B3/image-volume"}, change: quick},
		{name: "follows every redirect", slow: true, fails: []string{"B14/redirects"}, around: asking(func(a *asker, ref string) bool {
			a.patient, a.follow = true, true
			a.get(ref, http.MethodGet)
			return false
		}), only: []string{"B14/redirects"}, change: quick},
		{name: "fetches every signature", slow: true, fails: []string{"B14/many-signatures"}, around: asking(func(a *asker, ref string) bool {
			a.patient = true
			name, digest, _ := strings.Cut(ref, "@")
			var m struct{ Layers []descriptor }
			_ = json.Unmarshal(a.get(name+":"+signatureTag(digest), http.MethodGet), &m)
			for _, l := range m.Layers {
				if a.ctx.Err() != nil {
					break
				}
				a.blob(name, l.Digest)
				work(a.ctx, 20*time.Millisecond) // as far as a registry is
			}
			return false
		}), only: []string{"B14/many-signatures"}, change: quick},
		{name: "sends its credentials to whoever asks", fails: []string{"B15/challenge", "B15/redirect"}, around: asking(func(a *asker, ref string) bool {
			a.credentials = "Basic c2VjcmV0OnNlY3JldA=="
			a.get(ref, http.MethodGet)
			return false
		}), only: []string{"B15/challenge", "B15/redirect"}},
		{name: "lets in what could not be looked up", fails: []string{"B16/no-registry", "B16/broken-registry", "B16/slow-registry"}, around: asking(func(a *asker, ref string) bool { return a.get(ref, http.MethodGet) == nil }), only: []string{"B16/broken-registry", "B16/slow-registry", "B16/no-registry"}},
		{name: "asks one registry at a time", slow: true, fails: []string{"B22/slow-registry"}, around: func() func(testWorld, http.Handler) http.Handler {
			var one sync.Mutex
			return func(w testWorld, sound http.Handler) http.Handler {
				inner := asking(func(a *asker, ref string) bool {
					a.ctx = context.WithoutCancel(a.ctx)
					a.get(ref, http.MethodGet)
					return false
				})(w, sound)
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					one.Lock()
					defer one.Unlock()
					if r.Context().Err() != nil {
						return
					}
					inner.ServeHTTP(rw, r)
				})
			}
		}(), only: []string{"B22/slow-registry"}, change: quick},
		{name: "makes URLs of references", fails: []string{"B21/reference-as-url"}, around: asking(func(a *asker, ref string) bool { a.fetch("http://"+ref, http.MethodGet); return false }), only: []string{"B21/reference-as-url"}},
	}
}

func cutAt(s string) string    { name, _, _ := strings.Cut(s, "@"); return name }
func cutAfter(s string) string { _, digest, _ := strings.Cut(s, "@"); return digest }

// remembering gives the first answer to all questions of one key.
func remembering(key func(*ask) string) func(testWorld, http.Handler) http.Handler {
	var answers sync.Map
	return changeAnswer(func(a *ask, _ int, response object) object {
		if a.baseline() || response == nil || a.kind() == "" {
			return nil
		}
		was, _ := answers.LoadOrStore(key(a), response)
		again := object{}
		for name, value := range was.(object) {
			again[name] = value
		}
		return again
	})
}

// hanging never answers some questions.
func hanging(at func(*ask) bool) func(testWorld, http.Handler) http.Handler {
	return func(w testWorld, sound http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := read(w, r)
			if at(a) {
				<-r.Context().Done()
				return
			}
			sound.ServeHTTP(rw, withBody(r, a.text))
		})
	}
}

// unread reports whether the sound gate could not read what it was asked: an HTTP
// error, or a denial that is not for policy.
func unread(code int, response object) bool {
	return code != http.StatusOK || response["allowed"] != true && dig(response, "status", "reason") != "VIOLATES_POLICY"
}

// dying answers nothing any more after what it could not read.
func dying(w testWorld, sound http.Handler) http.Handler {
	var dead atomic.Bool
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := read(w, r)
		if dead.Load() && !a.baseline() {
			dead.Store(a.string("request", "object", "metadata", "name") == "") // until the next case
			panic(http.ErrAbortHandler)
		}
		rec := httptest.NewRecorder()
		sound.ServeHTTP(rec, withBody(r, a.text))
		var out struct{ Response object }
		_ = json.Unmarshal(rec.Body.Bytes(), &out)
		dead.Store(unread(rec.Code, out.Response))
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(rec.Body.Bytes())
	})
}

// patient gives a gate that reads everything, 64 MB of it, the time that this takes with
// the race detector beside others.
func patient(o *Options) {
	o.Profile.Timeout, o.CaseTimeout = Duration(25*time.Second), 2*time.Minute
}

// inOrder runs one case after another, for gates whose memory depends on it.
func inOrder(o *Options) { o.Parallel = 1 }

// quick spends less time on gates that hang, and enough for a sound answer on a machine
// that does much else.
func quick(o *Options) {
	o.Profile.Timeout, o.Profile.Versions, o.HangUp = Duration(3*time.Second), []string{v1}, 4*time.Second
}

// work takes a gate some time, which is its hole; it ends when nobody waits for it.
func work(ctx context.Context, d time.Duration) {
	done := time.NewTimer(d)
	defer done.Stop()
	select {
	case <-ctx.Done():
	case <-done.C:
	}
}

// crowded refuses more than so many questions at once.
func crowded(most int64) func(testWorld, http.Handler) http.Handler {
	var now atomic.Int64
	return func(w testWorld, sound http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			defer now.Add(-1)
			if now.Add(1) > most {
				http.Error(rw, "busy", http.StatusServiceUnavailable)
				return
			}
			a := read(w, r)
			work(r.Context(), 5*time.Millisecond)
			sound.ServeHTTP(rw, withBody(r, a.text))
		})
	}
}

// message changes what a denial says.
func message(change func(a *ask, said string) string) func(testWorld, http.Handler) http.Handler {
	return changeAnswer(func(a *ask, _ int, response object) object {
		status, ok := response["status"].(object)
		if !ok {
			return response
		}
		said, _ := status["message"].(string)
		status["message"] = change(a, said)
		return response
	})
}

// An asker asks registries about one image.
type asker struct {
	world       testWorld
	ctx         context.Context
	patient     bool // has no time limit
	follow      bool // has no limit of redirects
	credentials string
}

// asking lets in pods of the hostile registry's images as said, and else is sound.
func asking(admit func(a *asker, ref string) bool) func(testWorld, http.Handler) http.Handler {
	return func(w testWorld, sound http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := read(w, r)
			for _, ref := range a.images() {
				foreign := strings.HasPrefix(ref, "conformance.invalid/") || strings.HasPrefix(ref, "127.0.0.1:1/")
				if !a.baseline() && (strings.Contains(ref, w.hostile.Host()+"/") || foreign) && admit(&asker{world: w, ctx: r.Context()}, ref) {
					a.answer(rw, object{"allowed": true})
					return
				}
			}
			sound.ServeHTTP(rw, withBody(r, a.text))
		})
	}
}

// get fetches a manifest; nil if it could not be had.
func (a *asker) get(ref, method string) []byte {
	_, body := a.fetch(a.manifestURL(ref), method)
	return body
}

func (a *asker) digest(ref, method string) string {
	header, _ := a.fetch(a.manifestURL(ref), method)
	return header.Get(digestHeader)
}

func (a *asker) manifestURL(ref string) string {
	host, rest, _ := strings.Cut(ref, "/")
	name, reference, ok := strings.Cut(rest, "@")
	if !ok {
		name = untagged(rest)
		reference = strings.TrimPrefix(strings.TrimPrefix(rest, name), ":")
	}
	return "http://" + host + "/v2/" + name + "/manifests/" + reference
}

func (a *asker) blob(name, digest string) {
	host, rest, _ := strings.Cut(name, "/")
	a.fetch("http://"+host+"/v2/"+rest+"/blobs/"+digest, http.MethodGet)
}

func (a *asker) fetch(url, method string) (http.Header, []byte) {
	ctx, limit := a.ctx, int64(maxEndless)
	if !a.patient {
		limited, cancel := context.WithTimeout(ctx, testTimeout*2/5)
		defer cancel()
		ctx, limit = limited, 1<<20
	}
	client := &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if a.credentials != "" {
			req.Header.Set("Authorization", a.credentials)
		}
		if !a.follow && len(via) > 9 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, nil
	}
	if a.credentials != "" {
		req.Header.Set("Authorization", a.credentials)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, nil
	}
	return resp.Header, body
}

// calm are the cases of the same classes that need no registry and do not load
// the gate.
func calm(of []string) []string {
	classes := map[string]bool{}
	for _, id := range of {
		classes[Case{ID: id}.Class()] = true
	}
	var list []string
	registry := needRegistry().text
	for _, c := range Cases() {
		if classes[c.Class()] && !c.alone && !slices.Contains(c.Needs(), registry) {
			list = append(list, c.ID)
		}
	}
	return list
}

func TestEveryCaseFindsItsHole(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	var mu sync.Mutex
	found := map[string]bool{}
	t.Run("holes", func(t *testing.T) {
		for _, h := range narrow() {
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				if h.slow && testing.Short() {
					t.Skip("waits for seconds")
				}
				o := serveGate(t, w, h.handler(w, soundGate(t, w)), h.listen)
				if o.Only = h.only; o.Only == nil {
					o.Only = calm(h.fails)
				}
				if h.change != nil {
					h.change(&o)
				}
				report, failed := tried(t, o)
				if diff := cmp.Diff(h.fails, failed); diff != "" {
					t.Errorf("cases that find it (-want +got):\n%s\n%s", diff, failures(report))
				}
				mu.Lock()
				defer mu.Unlock()
				for _, id := range failed {
					found[id] = true
				}
			})
		}
	})
	for _, c := range Cases() {
		if !found[c.ID] && !testing.Short() {
			t.Errorf("no hole is found by %s", c.ID)
		}
	}
}

func failures(r *Report) string {
	var b strings.Builder
	for _, c := range r.Cases {
		if c.Outcome == Fail {
			fmt.Fprintf(&b, "%s\n    %s\n", c.ID, strings.Join(c.Details[:min(len(c.Details), 3)], "\n    "))
		}
	}
	return b.String()
}
