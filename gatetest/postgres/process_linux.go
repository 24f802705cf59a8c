package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
)

// childAttributes make the server end at once when the test process dies, and have
// it run as somebody else than root.
func childAttributes() (*syscall.SysProcAttr, error) {
	a := child.Attributes(syscall.SIGQUIT)
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
