// Command containerd is, by its first argument or the name that it is called by, containerd,
// its client ctr, or the part of it that runs image verifiers alone. It is for tests, in a
// module of its own so that its dependencies never meet the product's.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/containerd/containerd/v2/pkg/imageverifier/bindir"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pelletier/go-toml/v2"
)

func main() {
	if err := run(context.Background(), os.Args); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	name := filepath.Base(args[0])
	if name == "containerd" && len(args) > 1 && (args[1] == "ctr" || args[1] == "verify") {
		name, args = args[1], args[1:]
	}
	switch name {
	case "ctr":
		return app.New().Run(ctx, args)
	case "verify":
		return verify(ctx, args[1:])
	}
	return command.App().Run(ctx, args)
}

// verify runs the verifiers of a folder about an image, and prints their judgement as JSON:
// verify BIN_DIR NAME DIGEST.
func verify(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want BIN_DIR NAME DIGEST, not %q", args)
	}
	var config bindir.Config
	if err := toml.Unmarshal([]byte("max_verifiers = 10\nper_verifier_timeout = \"10s\"\n"), &config); err != nil {
		return err
	}
	config.BinDir = args[0]
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(args[2]), Size: 1}
	j, err := bindir.NewImageVerifier(&config).VerifyImage(ctx, args[1], desc)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(j)
}
