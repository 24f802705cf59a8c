// Command kube is a whole Kubernetes control plane in one program, for
// Gatehouse's tests: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl. It is a module of its own, so that the product's
// module graph stays small; package gatetest/controlplane builds and starts it.
//
// It acts as the program that its first argument names, or, started through a
// link, as the program that the link is named after:
//
//	kube etcd --data-dir=DIR --client-port=PORT --peer-port=PORT
//	kube kube-apiserver [flags of kube-apiserver]
//	kube kube-controller-manager [flags of kube-controller-manager]
//	kube kube-scheduler [flags of kube-scheduler]
//	kube kubectl [arguments of kubectl]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = "usage: kube etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl [argument...]"

func main() { os.Exit(run(os.Args)) }

// run acts as the program that args name and returns its exit code.
func run(args []string) int {
	args = program(args)
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}
	// cobra and kubectl's plugin lookup read the process's own arguments.
	os.Args = args
	switch args[0] {
	case "etcd":
		if err := serveEtcd(args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "etcd:", err)
			return 1
		}
		return 0
	case "kube-apiserver":
		return runCommand(apiserver.NewAPIServerCommand(), args)
	case "kube-controller-manager":
		return runCommand(controllermanager.NewControllerManagerCommand(), args)
	case "kube-scheduler":
		return runCommand(scheduler.NewSchedulerCommand(), args)
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	default:
		fmt.Fprintf(os.Stderr, "kube: unknown program %q\n%s\n", args[0], usage)
		return 2
	}
}

// program drops the name of the multi-call binary itself: what remains begins
// with the name of the program to act as.
func program(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	if name == "kube" {
		return args[1:]
	}
	return append([]string{name}, args[1:]...)
}

func runCommand(cmd *cobra.Command, args []string) int {
	cmd.SetArgs(args[1:])
	return cli.Run(cmd)
}

// serveEtcd runs a cluster of one member until SIGTERM or SIGINT.
func serveEtcd(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	dir := flags.String("data-dir", "", "where the data is kept (required)")
	client := flags.Int("client-port", 2379, "port on 127.0.0.1 for clients")
	peer := flags.Int("peer-port", 2380, "port on 127.0.0.1 for peers, of which there are none")
	unsafe := flags.Bool("unsafe-no-fsync", false, "never flush to disk: fast, and lost with the machine")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("--data-dir is missing")
	}

	cfg := embed.NewConfig()
	cfg.Dir = *dir
	cfg.ListenClientUrls = []url.URL{loopback(*client)}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{loopback(*peer)}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "warn"
	cfg.UnsafeNoFsync = *unsafe
	// The caller holds the ports reserved with a socket that does not listen.
	cfg.SocketOpts.ReusePort = true

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("starting in %q: %w", *dir, err)
	}
	defer server.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serving: %w", err)
	}
}

func loopback(port int) url.URL {
	return url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
}
