package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes make the server end at once when the test process dies, keep a
// Ctrl-C in the terminal from it, and have it run as somebody else than root.
func childAttributes() (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if os.Geteuid() != 0 {
		return a, nil
	}
	uid, gid, err := unprivileged()
	if err != nil {
		return nil, err
	}
	a.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return a, nil
}

// giveAway makes the folder one of the user that the server runs as.
func giveAway(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := unprivileged()
	if err != nil {
		return err
	}
	return os.Chown(dir, int(uid), int(gid))
}

func unprivileged() (uid, gid uint32, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, lookupErr := user.Lookup(name)
		if lookupErr != nil {
			err = errors.Join(err, lookupErr)
			continue
		}
		id, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		group, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		return uint32(id), uint32(group), errors.Join(uidErr, gidErr)
	}
	return 0, 0, fmt.Errorf("root cannot run PostgreSQL, and there is nobody else: %w", err)
}

// killTree kills the server and its children, whose ids are read while it is
// halted, so that it makes no new ones. The children would end by themselves,
// though not before they have finished what they do.
func (p *process) killTree() error {
	if err := p.child.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pid := p.child.Pid
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, field := range strings.Fields(string(list)) {
		child, convErr := strconv.Atoi(field)
		if convErr != nil {
			err = errors.Join(err, convErr)
			continue
		}
		// The only error is that it has ended already; its id is not given to
		// another process before its halted parent has taken note.
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	err = errors.Join(err, p.child.Kill())
	<-p.done
	return err
}
