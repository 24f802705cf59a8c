package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/voucherclient"
	"github.com/gatehouse-dev/gatehouse/attest/voucherclient/googletoken"
)

// The ways to say who asks an attestor.
const (
	authBasic              = "basic"
	authIDToken            = "idtoken"
	authDefaultAccessToken = "default-access-token"
)

// clientConfig is how to ask an attestor: Voucher's flags and the keys of its file.
type clientConfig struct {
	Server, Username, Password string
	Check, Auth                string
	Timeout                    int
}

// overlay takes what a file says where no flag does. The flag for the server has a name
// of its own.
func (c *clientConfig) overlay(changed func(flag string) bool, said attest.ClientConfig, server string) error {
	for _, field := range []struct {
		flag string
		to   *string
		said string
	}{
		{server, &c.Server, said.Server}, {"username", &c.Username, said.Username}, {"password", &c.Password, said.Password},
		{"check", &c.Check, said.Check}, {"auth", &c.Auth, said.Auth},
	} {
		if !changed(field.flag) && field.said != "" {
			*field.to = field.said
		}
	}
	if !changed("timeout") && said.Timeout != 0 {
		c.Timeout = said.Timeout
	}
	if c.Timeout <= 0 {
		return errors.New("timeout: want a number of seconds")
	}
	return nil
}

// client makes a client that says who it is as Auth has it.
func (c *clientConfig) client(ctx context.Context, options ...voucherclient.Option) (*voucherclient.Client, error) {
	switch strings.ToLower(c.Auth) {
	case authBasic, "":
		if c.Username != "" && c.Password != "" {
			options = append(options, voucherclient.WithBasicAuth(c.Username, c.Password))
		}
	case authIDToken:
		h, err := googletoken.IDToken(ctx, c.Server)
		if err != nil {
			return nil, err
		}
		options = append(options, voucherclient.WithHTTPClient(h))
	case authDefaultAccessToken:
		h, err := googletoken.FromAccessToken(ctx, c.Server)
		if err != nil {
			return nil, err
		}
		options = append(options, voucherclient.WithHTTPClient(h))
	default:
		return nil, fmt.Errorf("invalid auth value: %q", c.Auth)
	}
	return voucherclient.New(c.Server, options...)
}
