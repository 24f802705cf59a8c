package kube

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfig bounds a kubeconfig, and what a plugin for credentials prints.
const maxConfig = 4 << 20

// config is what is read of a kubeconfig. Others put fields of their own into it, and
// kubectl passes over them.
type config struct {
	CurrentContext string         `yaml:"current-context"`
	Contexts       []namedContext `yaml:"contexts"`
	Clusters       []namedCluster `yaml:"clusters"`
	Users          []namedUser    `yaml:"users"`
}

type namedContext struct {
	Name    string `yaml:"name"`
	Context struct {
		Cluster string `yaml:"cluster"`
		User    string `yaml:"user"`
	} `yaml:"context"`
}

type namedCluster struct {
	Name    string  `yaml:"name"`
	Cluster cluster `yaml:"cluster"`
}

type cluster struct {
	Server        string `yaml:"server"`
	TLSServerName string `yaml:"tls-server-name"`
	Insecure      bool   `yaml:"insecure-skip-tls-verify"`
	CA            string `yaml:"certificate-authority"`
	CAText        string `yaml:"certificate-authority-data"`
	ProxyURL      string `yaml:"proxy-url"`
}

type namedUser struct {
	Name string `yaml:"name"`
	User user   `yaml:"user"`
}

type user struct {
	Cert         string    `yaml:"client-certificate"`
	CertText     string    `yaml:"client-certificate-data"`
	Key          string    `yaml:"client-key"`
	KeyText      string    `yaml:"client-key-data"`
	Token        string    `yaml:"token"`
	TokenFile    string    `yaml:"tokenFile"`
	Username     string    `yaml:"username"`
	Password     string    `yaml:"password"`
	Exec         *exec     `yaml:"exec"`
	AuthProvider yaml.Node `yaml:"auth-provider"`
	As           string    `yaml:"as"`
}

// exec is a command that prints credentials.
type exec struct {
	APIVersion string   `yaml:"apiVersion"`
	Command    string   `yaml:"command"`
	Args       []string `yaml:"args"`
	Env        []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	InstallHint string `yaml:"installHint"`
	ProvideInfo bool   `yaml:"provideClusterInfo"`
}

// readConfig reads a kubeconfig, or those that KUBECONFIG lists, or the one in the
// home folder: of several the first that names something counts, as for kubectl.
func readConfig(file string) (config, error) {
	if file != "" {
		return readFile(file)
	}
	var files []string
	if list := os.Getenv("KUBECONFIG"); list != "" {
		files = filepath.SplitList(list)
	} else if home, err := os.UserHomeDir(); err == nil {
		files = []string{filepath.Join(home, ".kube", "config")}
	}
	var all config
	read := 0
	for _, name := range files {
		c, err := readFile(name)
		if errors.Is(err, os.ErrNotExist) || name == "" {
			continue
		}
		if err != nil {
			return all, err
		}
		read++
		if all.CurrentContext == "" {
			all.CurrentContext = c.CurrentContext
		}
		all.Contexts, all.Clusters, all.Users = append(all.Contexts, c.Contexts...), append(all.Clusters, c.Clusters...), append(all.Users, c.Users...)
	}
	if read == 0 {
		return all, fmt.Errorf("no kubeconfig (looked for %s); give --kubeconfig FILE", strings.Join(files, ", "))
	}
	return all, nil
}

func readFile(name string) (config, error) {
	var c config
	data, err := readBounded(name)
	if err != nil {
		return c, err
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("reading kubeconfig %s: %w", name, err)
	}
	// Names of files are from the folder that the kubeconfig is in.
	folder := filepath.Dir(name)
	for i := range c.Clusters {
		beside(folder, &c.Clusters[i].Cluster.CA)
	}
	for i := range c.Users {
		u := &c.Users[i].User
		beside(folder, &u.Cert, &u.Key, &u.TokenFile)
		if u.Exec != nil && strings.ContainsRune(u.Exec.Command, filepath.Separator) {
			beside(folder, &u.Exec.Command)
		}
	}
	return c, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("reading %s: larger than %d bytes", name, maxConfig)
	}
	return data, err
}

func beside(folder string, files ...*string) {
	for _, file := range files {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(folder, *file)
		}
	}
}

// choose returns the cluster and the user of a context, or of the current one.
func (c *config) choose(context string) (cluster, user, error) {
	if context == "" {
		context = c.CurrentContext
	}
	if context == "" {
		return cluster{}, user{}, errors.New("the kubeconfig has no current-context; give --context NAME")
	}
	for _, known := range c.Contexts {
		if known.Name == context {
			return c.resolve(known)
		}
	}
	var list []string
	for _, known := range c.Contexts {
		list = append(list, known.Name)
	}
	return cluster{}, user{}, fmt.Errorf("the kubeconfig has no context %q; it has %s", context, strings.Join(list, ", "))
}

func (c *config) resolve(context namedContext) (of cluster, as user, err error) {
	found := false
	for _, known := range c.Clusters {
		if known.Name == context.Context.Cluster && !found {
			of, found = known.Cluster, true
		}
	}
	if !found {
		return of, as, fmt.Errorf("context %q names cluster %q, which the kubeconfig does not have", context.Name, context.Context.Cluster)
	}
	if context.Context.User == "" {
		return of, as, nil
	}
	for _, known := range c.Users {
		if known.Name == context.Context.User {
			return of, known.User, nil
		}
	}
	return of, as, fmt.Errorf("context %q names user %q, whom the kubeconfig does not have", context.Name, context.Context.User)
}
