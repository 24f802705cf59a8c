//go:build linux

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	// probeEvery is how often a pod is looked at, and probeBound what it has to answer in.
	probeEvery = 250 * time.Millisecond
	probeBound = 2 * time.Second
	// restartAfter is how long a container that ended is not started again.
	restartAfter = time.Second
	// tellRestarts is how many of them are logged.
	tellRestarts = 3
)

// A pod runs until it is deleted. What has no lock belongs to the goroutine of live.
type pod struct {
	*Machine
	name, uid, root, ip string
	manifest            atomic.Pointer[manifest]
	changed             chan struct{}
	gone, ready         atomic.Bool
	pid                 atomic.Int64 // 0 while no process runs

	tokens   map[string]string            // by audience
	written  map[string]map[string][]byte // the files that are in folders
	borrowed map[string]string            // folders of claims, by where they are
	told     string                       // the status that has been written
	since    map[string]string            // when conditions have changed
	restarts int
}

// kick has the pod looked at.
func (p *pod) kick() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// live runs the pod until it is gone, or the machine is off.
func (p *pod) live(ctx context.Context) {
	p.tokens, p.written, p.borrowed, p.since = map[string]string{}, map[string]map[string][]byte{}, map[string]string{}, map[string]string{}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	defer func() {
		p.ready.Store(false)
		p.pid.Store(0)
		if err := p.giveBack(); err != nil {
			p.logf("pod %s: %v", p.name, err)
		}
	}()
	var process *running
	defer func() {
		if process != nil {
			process.kill()
		}
	}()
	var ended time.Time
	// Volumes are looked at when anything has changed, and while something is missing.
	var mounted bool
	for {
		if p.gone.Load() || ctx.Err() != nil {
			return
		}
		if process.hasEnded() {
			if process != nil {
				process, ended = nil, time.Now()
				if p.restarts++; p.restarts <= tellRestarts {
					p.logf("pod %s: its process has ended", p.name)
				}
			}
			p.pid.Store(0)
		}
		if p.manifest.Load().Metadata.DeletionTimestamp != "" {
			p.end(ctx, process)
			return
		}
		var err error
		if !mounted {
			err = p.mount(ctx)
			mounted = err == nil
		}
		if err != nil && !errors.Is(err, errNotYet) && ctx.Err() == nil {
			p.logf("pod %s: %v", p.name, err)
		}
		if process == nil && err == nil && time.Since(ended) > restartAfter {
			if process, err = p.start(); err != nil {
				p.logf("pod %s: %v", p.name, err)
				process = nil
			}
		}
		p.ready.Store(process != nil && p.probe(ctx))
		p.tell(ctx, process != nil)
		select {
		case <-tick.C:
		case <-p.changed:
			mounted = false
		case <-process.ending():
		case <-ctx.Done():
		}
	}
}

// end gives the process the grace period, and says that the pod is over.
func (p *pod) end(ctx context.Context, process *running) {
	if process != nil {
		process.signal(syscall.SIGTERM)
		timer := time.NewTimer(time.Duration(p.manifest.Load().Metadata.DeletionGracePeriodSeconds) * time.Second)
		defer timer.Stop()
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for over := false; !over; {
			select {
			case <-process.ending():
				over = true
			case <-ctx.Done():
				process.kill()
				return
			case <-timer.C:
				p.logf("pod %s: killed after its grace period", p.name)
				process.kill()
			case <-tick.C:
				if p.gone.Load() { // by force
					process.kill()
				}
			}
		}
	}
	p.ready.Store(false)
	if err := p.giveBack(); err != nil {
		p.logf("pod %s: %v", p.name, err)
	}
	status, body, err := p.kube.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+p.namespace+"/pods/"+url.PathEscape(p.name),
		object{"gracePeriodSeconds": 0, "preconditions": object{"uid": p.uid}})
	if err != nil && ctx.Err() == nil || err == nil && status/100 != 2 && status != http.StatusNotFound && status != http.StatusConflict {
		p.logf("deleting pod %s: %d %s %v", p.name, status, body, err)
	}
}

// A running is the process of a pod.
type running struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (r *running) ending() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.done
}

func (r *running) hasEnded() bool {
	if r == nil {
		return true
	}
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// signal's only error is that it has ended.
func (r *running) signal(s os.Signal) { _ = r.cmd.Process.Signal(s) }

func (r *running) kill() {
	r.signal(syscall.SIGKILL)
	<-r.done
}

// start runs the program with what the container says.
func (p *pod) start() (*running, error) {
	if err := errors.Join(p.image(), p.names()); err != nil {
		return nil, err
	}
	spec := &p.manifest.Load().Spec
	c := spec.Containers[0]
	log, err := os.OpenFile(p.root+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	server, err := url.Parse(p.kube.URL())
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: programPath, Args: append([]string{programPath}, c.Args...), Dir: "/", Stdout: log, Stderr: log}
	cmd.Env = []string{"KUBERNETES_SERVICE_HOST=" + server.Hostname(), "KUBERNETES_SERVICE_PORT=" + server.Port(), "HOSTNAME=" + p.name}
	for _, e := range c.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	cmd.SysProcAttr = child.Attributes(syscall.SIGKILL)
	cmd.SysProcAttr.Chroot = p.root
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: spec.SecurityContext.RunAsUser, Gid: spec.SecurityContext.RunAsGroup}
	r := &running{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent death signal is sent when the thread ends that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
		close(r.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting: %w", err)
	}
	p.pid.Store(int64(cmd.Process.Pid))
	return r, nil
}

// probe asks whether the pod is ready.
func (p *pod) probe(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	spec := p.manifest.Load()
	get := spec.Spec.Containers[0].ReadinessProbe.HTTPGet
	address := net.JoinHostPort(p.ip, fmt.Sprint(spec.port(get.Port)))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+get.Path, nil)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode/100 == 2
}

// tell writes the status of the pod, if it has changed.
func (p *pod) tell(ctx context.Context, runs bool) {
	ready := p.ready.Load()
	now := fmt.Sprint(runs, ready, p.restarts)
	if now == p.told {
		return
	}
	at := time.Now().UTC().Format(time.RFC3339)
	word := map[bool]string{true: "True", false: "False"}
	var conditions []object
	for _, c := range []struct {
		kind string
		is   bool
	}{{"PodScheduled", true}, {"Initialized", true}, {"ContainersReady", ready}, {"Ready", ready}} {
		state, when, known := strings.Cut(p.since[c.kind], " ")
		if !known || state != word[c.is] {
			state, when = word[c.is], at
			p.since[c.kind] = state + " " + when
		}
		conditions = append(conditions, object{"type": c.kind, "status": state, "lastTransitionTime": when})
	}
	c := p.manifest.Load().Spec.Containers[0]
	state, phase := object{"waiting": object{"reason": "ContainerCreating"}}, "Pending"
	if runs {
		state = object{"running": object{"startedAt": at}}
	}
	if runs || p.restarts > 0 {
		phase = "Running"
	}
	err := p.client.Merge(ctx, object{"metadata": object{"uid": p.uid}, "status": object{
		"phase": phase, "podIP": p.ip, "podIPs": []object{{"ip": p.ip}}, "conditions": conditions,
		"containerStatuses": []object{{"name": c.Name, "image": c.Image, "imageID": "", "ready": ready, "started": runs, "restartCount": p.restarts, "state": state}},
	}}, nil, "api", "v1", "namespaces", p.namespace, "pods", p.name, "status")
	if err == nil {
		p.told = now
	} else if !kube.NotFound(err) && !kube.Conflict(err) && ctx.Err() == nil {
		p.logf("the status of pod %s: %v", p.name, err)
	}
}
