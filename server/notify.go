package server

import (
	"path/filepath"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// openOutbox opens the outbox of pages, if there are receivers.
func (p *parts) openOutbox() error {
	c := p.cfg.Notify
	if len(c.Receivers) == 0 {
		return nil
	}
	receivers, err := c.Open()
	if err != nil {
		return err
	}
	p.outbox, err = notify.Open(notify.Options{
		Dir: filepath.Join(p.cfg.Data, "notify"), Routes: c.Routes, Receivers: receivers,
		MaxMessages: c.MaxMessages, MaxBytes: c.MaxBytes, Logger: p.logger, Registry: p.registry,
	})
	if err != nil {
		return err
	}
	p.onClose(p.outbox.Close)
	return nil
}
