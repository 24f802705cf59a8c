package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

// StoreConfig is where notes and occurrences are kept: in the data folder, unless
// a database is named.
type StoreConfig struct {
	Postgres PostgresConfig `yaml:"postgres"`
}

// PostgresConfig is a PostgreSQL database, which several servers may share.
type PostgresConfig struct {
	// ConnectionFile is a file with the connection string, since that may hold a
	// password: postgres://USER:PASSWORD@HOST/DATABASE, or KEY=VALUE pairs.
	ConnectionFile string `yaml:"connectionFile"`
	// MaxConnections is how many connections serve reads; two more serve writes.
	// 0 is as many as processors, at least 4.
	MaxConnections int32 `yaml:"maxConnections"`
}

func (c StoreConfig) validate() error {
	switch {
	case c.Postgres.MaxConnections < 0:
		return fmt.Errorf("store postgres maxConnections %d: want 0 or more", c.Postgres.MaxConnections)
	case c.Postgres.MaxConnections != 0 && c.Postgres.ConnectionFile == "":
		return errors.New("store postgres has maxConnections and no connectionFile: give the file with the connection string, or leave the section out")
	}
	return nil
}

// maxConnString bounds the file with the connection string.
const maxConnString = 64 << 10

// connString reads the connection string, which errors do not show.
func (c PostgresConfig) connString() (string, error) {
	raw, err := bounded.ReadFile(c.ConnectionFile, maxConnString)
	if err != nil {
		return "", fmt.Errorf("reading the connection string of the store: %w", err)
	}
	text := string(bytes.TrimSpace(raw))
	if text == "" {
		return "", fmt.Errorf("reading the connection string of the store: %s is empty; write postgres://USER:PASSWORD@HOST/DATABASE into it", c.ConnectionFile)
	}
	return text, nil
}

// openStore opens the store that the configuration names.
func (p *parts) openStore(ctx context.Context) (metadata.Store, error) {
	store, err := p.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	measured, err := newMeasuredStore(store, p.registry)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return measured, nil
}

func (p *parts) openDatabase(ctx context.Context) (metadata.Store, error) {
	c := p.cfg.Store.Postgres
	if c.ConnectionFile == "" {
		return sqlite.Open(ctx, filepath.Join(p.cfg.Data, "metadata.db"), sqlite.Options{})
	}
	text, err := c.connString()
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(c.ConnectionFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		p.logger.Warn("others on this machine may read the file with the connection string: chmod 600", "file", c.ConnectionFile)
	}
	return postgres.Open(ctx, text, postgres.Options{MaxConnections: c.MaxConnections})
}
