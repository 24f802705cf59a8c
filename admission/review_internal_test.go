package admission

import (
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	reviews "github.com/gatehouse-dev/gatehouse/gatetest/review"
)

const seedImage = "reg.test/web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// FuzzOnePassReadsWhatTwoPassesRead: a review decoded on the way must be the
// review that is decoded after it was read whole, or none at all.
func FuzzOnePassReadsWhatTwoPassesRead(f *testing.F) {
	for _, b := range []*reviews.Builder{
		reviews.Pod("shop", "web").Image("a", seedImage).InitImage("b", "x:1").EphemeralImage("c", "y").ImageVolume("d", "z"),
		reviews.Pod("shop", "web").Image("a", seedImage).Update(reviews.Pod("shop", "web").Image("a", "old")),
		reviews.Deployment("shop", "web").Image("a", seedImage).PodLabel(BreakGlassLabel, markerValue).Realistic(),
		reviews.CronJob("shop", "web").Image("a", seedImage).ServiceAccount("sa"),
		reviews.Pod("shop", "web").Image("a", seedImage).Delete(),
	} {
		f.Add(b.Review())
	}
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"object":{"spec":{"containers":[{"image":"late"}]}},"uid":"u","resource":{"resource":"pods"}}}`))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","resource":{"resource":"pods"},"object":{"spec":{"containers":{}}}}}`))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","resource":{"resource":"pods"},"object":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		once, err := readReview(body)
		var twice plainReview
		plainErr := json.Unmarshal(body, &twice)
		if err != nil {
			if plainErr == nil && twice.review().check() == nil {
				t.Fatalf("refused what two passes read: %v", err)
			}
			return
		}
		if plainErr != nil {
			t.Fatalf("read what two passes refuse: %v", plainErr)
		}
		a, b := once.Request, (*request)(twice.Request)
		res := b.resource()
		if a.resource() != res || a.UID != b.UID || a.Namespace != b.Namespace || a.Operation != b.Operation || a.SubResource != b.SubResource ||
			a.DryRun != b.DryRun || !reflect.DeepEqual(a.UserInfo, b.UserInfo) || a.Kind != b.Kind || a.hasObject() != b.hasObject() || present(a.OldObject) != present(b.OldObject) {
			t.Fatalf("once: %+v\ntwice: %+v", a, b)
		}
		one, oneErr := a.subjects(res, Resources{})
		two, twoErr := b.subjects(res, Resources{})
		if len(one) != len(two) || (oneErr == nil) != (twoErr == nil) {
			t.Fatalf("once: %v %v, twice: %v %v", one, oneErr, two, twoErr)
		}
		if diff := cmp.Diff(imagesOf(one), imagesOf(two)); diff != "" {
			t.Fatal(diff)
		}
		for i := range one {
			if !one[i].runsAs(two[i]) {
				t.Fatalf("%+v once, %+v twice", one[i], two[i])
			}
		}
	})
}
