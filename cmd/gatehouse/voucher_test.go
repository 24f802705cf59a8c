package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/server"
)

// startAttestor runs a server until the test ends, with a configuration of the attestor,
// and returns the URL of that.
func startAttestor(t *testing.T, config string) string {
	t.Helper()
	cfg := server.DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.Attestor.ConfigFile = filepath.Join(t.TempDir(), "voucher.toml")
	if err := os.WriteFile(cfg.Attestor.ConfigFile, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []*string{&cfg.Metadata.Address, &cfg.Attestor.Address, &cfg.Admission.Address, &cfg.Ops.Address} {
		*addr = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan server.Addresses, 1), make(chan error, 1)
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	go func() {
		ended <- server.Run(ctx, cfg, logger, func(a server.Addresses) error { started <- a; return nil })
	}()
	select {
	case a := <-started:
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return "http://" + a.Attestor
	case err := <-ended:
		cancel()
		t.Fatal(err)
		return ""
	}
}

// B3: what passed and is not attested is not the same as what is attested.
func TestTheExitStatusTellsPassedFromAttested(t *testing.T) {
	t.Parallel()
	reg := registry.New(t)
	push := func(user string) string {
		img, err := registry.Image(registry.ImageOptions{User: user})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := reg.Push(t.Context(), "shop/web", img)
		if err != nil {
			t.Fatal(err)
		}
		return ref.String()
	}
	good, root := push("65532"), push("")
	const config = "binauth_project = \"p\"\n[checks]\nnobody = true\n"
	attests, dry := startAttestor(t, config), startAttestor(t, "dryrun = true\n"+config)
	for about, row := range map[string]struct {
		attestor, image string
		code, voucher   int
		says, client    string
	}{
		"passed and attested":         {attests, good, exitYes, 0, "passed and is attested", "   ✓ passed nobody\n"},
		"passed and not attested":     {dry, good, exitUnattested, 0, "passed, but is not attested", "   ✓ passed nobody, but wasn't attested\n"},
		"not passed":                  {attests, root, exitNo, 1, "is not vouched for", "   ✗ failed nobody, err: "},
		"no attestor where one was":   {"http://127.0.0.1:1", good, exitUnknown, 1, "", ""},
		"an image without a registry": {attests, strings.Replace(good, reg.Host(), "127.0.0.1:1", 1), exitNo, 1, "is not vouched for", "   ✗ failed nobody, err: "},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), []string{"check", "--server", row.attestor, row.image}, nil, &stdout, &stderr); code != row.code || !strings.Contains(stdout.String(), row.says) {
				t.Errorf("gatehouse check: %d, want %d\n%s%s", code, row.code, &stdout, &stderr)
			}
			stdout.Reset()
			if code := runVoucher(t.Context(), voucherClientCommand(), []string{"-v", row.attestor, row.image}, nil, &stdout, &stderr); code != row.voucher || !strings.Contains(stdout.String(), row.client) {
				t.Errorf("voucher_client: %d, want %d\n%s%s", code, row.voucher, &stdout, &stderr)
			}
		})
	}
}
