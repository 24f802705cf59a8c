package resolve

import "github.com/google/go-containerregistry/pkg/authn"

// A Login is what one registry takes: a name and a password, or a token.
type Login struct {
	Username, Password, IdentityToken, RegistryToken string
}

// WithLogin sets the login for one registry, HOST or HOST:PORT, in place of all other
// credentials. The zero Login is nobody's.
func WithLogin(registry string, l Login) Option {
	return WithKeychain(oneLogin{registry, l})
}

// oneLogin is a keychain of one registry.
type oneLogin struct {
	registry string
	login    Login
}

// Resolve implements authn.Keychain.
func (o oneLogin) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if o.login == (Login{}) || r.RegistryStr() != o.registry {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: o.login.Username, Password: o.login.Password, IdentityToken: o.login.IdentityToken, RegistryToken: o.login.RegistryToken,
	}), nil
}
