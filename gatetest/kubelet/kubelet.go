//go:build linux

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// A Machine is where the pods of a namespace run.
type Machine struct {
	kube      *controlplane.ControlPlane
	client    *kube.Client
	namespace string
	program   string
	dir       string
	subnet    string // "127.A.B.", in which all addresses are
	logf      func(string, ...any)

	stop context.CancelFunc
	// following are the informers and the listeners, running the pods.
	following, running sync.WaitGroup

	mu       sync.Mutex
	pods     map[string]*pod     // by UID
	services map[string]*service // by name
	claims   map[string]string   // UIDs, by name
	lent     map[string]bool     // folders of claims that a pod has
	logs     map[string]string   // of pods, by name: the file
	last     int                 // of the addresses that are taken
}

// New returns the machine of a namespace, which need not be there yet; nothing runs before
// [Machine.Start]. The program, a file that is linked with nothing, stands for every image.
// The machine is switched off when the test ends, and if that has failed, what the
// pods wrote is logged. It is skipped for who is not root: only root can give a process a
// root folder.
func New(t testing.TB, cp *controlplane.ControlPlane, namespace string, program string) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("pods run in root folders of their own, which only root can give them")
	}
	client, err := kube.Open(kube.Options{Kubeconfig: cp.Kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{
		kube: cp, client: client, namespace: namespace, program: program, dir: t.TempDir(), logf: t.Logf,
		subnet: fmt.Sprintf("127.%d.%d.", 64+rand.IntN(128), rand.IntN(256)),
		logs:   map[string]string{}, services: map[string]*service{}, lent: map[string]bool{},
	}
	t.Cleanup(func() {
		m.PowerOff()
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s := range m.services {
			s.close()
		}
		for name, file := range m.logs {
			if text, err := os.ReadFile(file); err == nil && t.Failed() {
				t.Logf("pod %s:\n%s", name, text[max(0, len(text)-8000):])
			}
		}
	})
	return m
}

// Start switches the machine on: pods that are there run, as after a reboot.
func (m *Machine) Start() {
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.mu.Lock()
	m.pods, m.claims = map[string]*pod{}, map[string]string{}
	m.mu.Unlock()
	follow := func(resource string, set func([]byte), gone func(name string)) {
		m.following.Go(func() {
			m.client.Follow(ctx, kube.Follower{
				Resource: kube.Resource{Version: "v1", Name: resource, Namespace: m.namespace},
				Set:      func(o kube.Object) { set(o.JSON) },
				Gone:     func(k kube.Key) { gone(k.Name) },
			})
		})
	}
	kick := func([]byte) { m.kickAll() }
	kicked := func(string) { m.kickAll() }
	follow("services", func(text []byte) { m.serve(text) }, m.withdraw)
	follow("secrets", kick, kicked)
	follow("configmaps", kick, kicked)
	follow("persistentvolumeclaims", func(text []byte) { m.provide(ctx, text) }, func(string) {})
	follow("pods", func(text []byte) { m.run(ctx, text) }, m.deleted)
}

// PowerOff ends all pods' processes at once, and nobody is told. Volumes and root folders
// stay.
func (m *Machine) PowerOff() {
	if m.stop == nil {
		return
	}
	m.stop()
	m.stop = nil
	m.following.Wait()
	m.running.Wait()
}

// Pids returns the process ids of the pods whose names begin with a prefix, by name.
func (m *Machine) Pids(prefix string) map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]int{}
	for _, p := range m.pods {
		if pid := p.pid.Load(); pid != 0 && strings.HasPrefix(p.name, prefix) {
			found[p.name] = int(pid)
		}
	}
	return found
}

// Log returns what the pods have written whose names begin with a prefix.
func (m *Machine) Log(prefix string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all strings.Builder
	for name, file := range m.logs {
		if strings.HasPrefix(name, prefix) {
			text, _ := os.ReadFile(file)
			_, _ = all.Write(text)
		}
	}
	return all.String()
}

// address gives out an address on loopback.
func (m *Machine) address() string {
	m.last++
	return fmt.Sprint(m.subnet, 2+m.last%250)
}

func (m *Machine) kickAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pods {
		p.kick()
	}
}

// run makes a pod run that has a node, and tells one that runs that it has changed.
func (m *Machine) run(ctx context.Context, text []byte) {
	var spec manifest
	if err := json.Unmarshal(text, &spec); err != nil {
		m.logf("a pod: %v", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[spec.Metadata.UID]
	if p == nil {
		if spec.Spec.NodeName == "" {
			return
		}
		m.forget(spec.Metadata.Name) // one that another has taken the place of
		root := filepath.Join(m.dir, "pods", spec.Metadata.UID)
		p = &pod{Machine: m, name: spec.Metadata.Name, uid: spec.Metadata.UID, root: root, ip: m.address(), changed: make(chan struct{}, 1)}
		p.manifest.Store(&spec)
		m.pods[p.uid], m.logs[p.name] = p, root+".log"
		m.running.Go(func() { p.live(ctx) })
		return
	}
	p.manifest.Store(&spec)
	p.kick()
}

// deleted is told of pods that are not there any more, which may have been taken away
// without a wait for their end.
func (m *Machine) deleted(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(name)
}

func (m *Machine) forget(name string) {
	for uid, p := range m.pods {
		if p.name == name {
			p.gone.Store(true)
			p.kick()
			delete(m.pods, uid)
		}
	}
}

// provide gives a claim a volume: a folder that outlives pods.
func (m *Machine) provide(ctx context.Context, text []byte) {
	var claim struct {
		Metadata struct{ Name, UID string }
		Spec     struct {
			VolumeName  string
			AccessModes []string
			Resources   struct{ Requests map[string]string }
		}
	}
	if err := json.Unmarshal(text, &claim); err != nil {
		m.logf("a claim: %v", err)
		return
	}
	m.mu.Lock()
	again := m.claims[claim.Metadata.Name] == claim.Metadata.UID
	m.claims[claim.Metadata.Name] = claim.Metadata.UID
	m.mu.Unlock()
	m.kickAll()
	if again || claim.Spec.VolumeName != "" {
		return
	}
	status, body, err := m.kube.Do(ctx, http.MethodPost, "/api/v1/persistentvolumes", object{
		"apiVersion": "v1", "kind": "PersistentVolume", "metadata": object{"name": "pv-" + claim.Metadata.UID},
		"spec": object{
			"capacity": claim.Spec.Resources.Requests, "accessModes": claim.Spec.AccessModes, "persistentVolumeReclaimPolicy": "Retain",
			"hostPath": object{"path": m.claimFolder(claim.Metadata.UID)},
			"claimRef": object{"namespace": m.namespace, "name": claim.Metadata.Name, "uid": claim.Metadata.UID},
		},
	})
	if err != nil || status != http.StatusCreated && status != http.StatusConflict {
		m.logf("a volume for %s: %d %s %v", claim.Metadata.Name, status, body, err)
	}
}

func (m *Machine) claimFolder(uid string) string { return filepath.Join(m.dir, "claims", uid) }

type object = map[string]any

// hosts are the lines of /etc/hosts.
func (m *Machine) hosts() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := []string{"127.0.0.1 localhost"}
	for _, s := range m.services {
		name := s.name + "." + m.namespace
		lines = append(lines, s.ip+" "+name+".svc "+name+" "+name+".svc.cluster.local")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
