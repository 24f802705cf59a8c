// Package googletoken makes clients that say who they are by an identity token of Google,
// as attestors on Cloud Run ask for.
package googletoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/idtoken"
	googleoauth2 "google.golang.org/api/oauth2/v2"
	"google.golang.org/api/option"
)

// tokenTime bounds the making of one token.
const tokenTime = 10 * time.Second

// IDToken returns a client with identity tokens of the service account that the
// application default credentials are of. The audience is the URL of the attestor.
func IDToken(ctx context.Context, audience string) (*http.Client, error) {
	source, err := idtoken.NewTokenSource(ctx, audience)
	if err != nil {
		return nil, fmt.Errorf("getting an identity token of the application default credentials: %w", err)
	}
	return clientOf(source), nil
}

// FromAccessToken returns a client with the identity token that comes with the access
// token of the application default credentials, or one that is made of it, where the
// former cannot be had: in Cloud Build, and for people.
func FromAccessToken(ctx context.Context, audience string) (*http.Client, error) {
	source, err := google.DefaultTokenSource(ctx, "https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email")
	if err != nil {
		return nil, fmt.Errorf("reading the application default credentials: %w", err)
	}
	return clientOf(oauth2.ReuseTokenSource(nil, &exchanged{source, audience})), nil
}

func clientOf(source oauth2.TokenSource) *http.Client {
	return &http.Client{Transport: &oauth2.Transport{Source: source}}
}

// exchanged are identity tokens for access tokens.
type exchanged struct {
	source   oauth2.TokenSource
	audience string
}

// Token implements [oauth2.TokenSource].
func (e *exchanged) Token() (*oauth2.Token, error) {
	access, err := e.source.Token()
	if err != nil {
		return nil, err
	}
	id, ok := access.Extra("id_token").(string)
	if !ok || id == "" {
		if id, err = e.generate(access); err != nil {
			return nil, fmt.Errorf("making an identity token: %w", err)
		}
	}
	return &oauth2.Token{AccessToken: id, TokenType: "Bearer", Expiry: access.Expiry}, nil
}

// generate asks Google for an identity token of the service account whose access token
// it is.
func (e *exchanged) generate(access *oauth2.Token) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTime)
	defer cancel()
	as := option.WithTokenSource(oauth2.StaticTokenSource(access))
	info, err := googleoauth2.NewService(ctx, as)
	if err != nil {
		return "", err
	}
	about, err := info.Tokeninfo().Context(ctx).Do()
	if err != nil {
		return "", err
	}
	if about.Email == "" {
		return "", errors.New("the access token is of nobody with a mail address")
	}
	credentials, err := iamcredentials.NewService(ctx, as)
	if err != nil {
		return "", err
	}
	made, err := credentials.Projects.ServiceAccounts.GenerateIdToken("projects/-/serviceAccounts/"+about.Email, &iamcredentials.GenerateIdTokenRequest{Audience: e.audience}).Context(ctx).Do()
	if err != nil {
		return "", err
	}
	return made.Token, nil
}
