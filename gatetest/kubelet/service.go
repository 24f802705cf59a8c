//go:build linux

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
)

// A service passes connections on to the pods that are ready, each for as long as it
// lasts, as a Service of Kubernetes does.
type service struct {
	machine  *Machine
	name, ip string
	ctx      context.Context
	cancel   context.CancelFunc
	closed   sync.WaitGroup

	mu        sync.Mutex
	listeners map[int]net.Listener // by port of the Service
	selector  map[string]string
	ports     map[int]portRef // where they lead
	next      int
}

// A portRef is a port's number or its name.
type portRef struct {
	Number int
	Name   string
}

// UnmarshalJSON reads either.
func (r *portRef) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &r.Number) == nil {
		return nil
	}
	return json.Unmarshal(text, &r.Name)
}

func (m *Machine) service(name string) *service {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.services[name]
	if s == nil {
		s = &service{machine: m, name: name, ip: m.address(), listeners: map[int]net.Listener{}, ports: map[int]portRef{}}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		m.services[name] = s
	}
	return s
}

// Expose returns an address, HOST:PORT on loopback, at which a port of a Service can be
// reached, whether it is there yet or not. Connections are closed while there is no pod
// that is ready.
func (m *Machine) Expose(name string, port int) (address string, err error) {
	s := m.service(name)
	l, err := new(net.ListenConfig).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.accept(l, port)
	return l.Addr().String(), nil
}

// serve is told of a Service that is there.
func (m *Machine) serve(text []byte) {
	var o struct {
		Metadata struct{ Name string }
		Spec     struct {
			Selector map[string]string
			Ports    []struct {
				Port       int
				TargetPort portRef
			}
		}
	}
	if err := json.Unmarshal(text, &o); err != nil {
		m.logf("a service: %v", err)
		return
	}
	s := m.service(o.Metadata.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.selector = o.Spec.Selector
	for _, p := range o.Spec.Ports {
		s.ports[p.Port] = p.TargetPort
		if s.listeners[p.Port] != nil {
			continue
		}
		l, err := new(net.ListenConfig).Listen(s.ctx, "tcp", net.JoinHostPort(s.ip, fmt.Sprint(p.Port)))
		if err != nil {
			m.logf("service %s: %v", s.name, err)
			continue
		}
		s.listeners[p.Port] = l
		s.accept(l, p.Port)
	}
}

// withdraw is told that a Service is not there any more: it leads nowhere.
func (m *Machine) withdraw(name string) {
	s := m.service(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.ports)
}

func (s *service) accept(l net.Listener, port int) {
	s.closed.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.closed.Go(func() { s.forward(conn.(*net.TCPConn), port) })
		}
	})
	context.AfterFunc(s.ctx, func() { _ = l.Close() })
}

func (s *service) close() {
	s.cancel()
	s.closed.Wait()
}

// backend chooses the pod for a connection; "" is none.
func (s *service) backend(port int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	target, ok := s.ports[port]
	if !ok {
		return ""
	}
	ready := s.machine.endpoints(s.selector, target)
	if len(ready) == 0 {
		return ""
	}
	s.next++
	return ready[s.next%len(ready)]
}

// forward passes on what both ends say, and that they hang up.
func (s *service) forward(from *net.TCPConn, port int) {
	defer func() { _ = from.Close() }()
	address := s.backend(port)
	if address == "" {
		return
	}
	conn, err := new(net.Dialer).DialContext(s.ctx, "tcp", address)
	if err != nil {
		return // the client tells
	}
	to := conn.(*net.TCPConn)
	defer func() { _ = to.Close() }()
	defer context.AfterFunc(s.ctx, func() { _, _ = from.Close(), to.Close() })()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(to, from); _ = to.CloseWrite() })
	both.Go(func() { _, _ = io.Copy(from, to); _ = from.CloseWrite() })
	both.Wait()
}

// endpoints are the addresses of the pods that a selector names which are ready and stay.
func (m *Machine) endpoints(selector map[string]string, target portRef) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []string
	for _, p := range m.pods {
		spec := p.manifest.Load()
		if !p.ready.Load() || spec.Metadata.DeletionTimestamp != "" || !selects(selector, spec.Metadata.Labels) {
			continue
		}
		if port := spec.port(target); port != 0 {
			found = append(found, net.JoinHostPort(p.ip, fmt.Sprint(port)))
		}
	}
	return found
}

func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}
