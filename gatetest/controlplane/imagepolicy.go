package controlplane

import (
	"encoding/json"
	"os"
)

// An ImagePolicyWebhook is what the API server's admission plugin of that name asks
// about the images of each pod.
type ImagePolicyWebhook struct {
	// URL is an https address, which may be on loopback.
	URL string
	// CA are the certificates, in PEM, that its certificate is verified with.
	CA []byte
	// DefaultAllow lets pods in when it cannot be asked.
	DefaultAllow bool
}

// configure writes the plugin's configuration, and returns the flags that point to it.
// Answers are not cached: a test sees each of its own.
func (w *ImagePolicyWebhook) configure(c *ControlPlane) ([]string, error) {
	ca, kubeconfig, config := c.path("imagepolicy-ca.crt"), c.path("imagepolicy.kubeconfig"), c.path("admission.json")
	for path, content := range map[string]object{
		kubeconfig: {
			"apiVersion": "v1", "kind": "Config", "current-context": "webhook",
			"clusters": []object{{"name": "webhook", "cluster": object{"server": w.URL, "certificate-authority": ca}}},
			"users":    []object{{"name": "apiserver", "user": object{}}},
			"contexts": []object{{"name": "webhook", "context": object{"cluster": "webhook", "user": "apiserver"}}},
		},
		config: {
			"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
			"plugins": []object{{"name": "ImagePolicyWebhook", "configuration": object{"imagePolicy": object{
				"kubeConfigFile": kubeconfig, "allowTTL": -1, "denyTTL": -1, "retryBackoff": 100, "defaultAllow": w.DefaultAllow,
			}}}},
		},
	} {
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"--enable-admission-plugins=ImagePolicyWebhook", "--admission-control-config-file=" + config}, os.WriteFile(ca, w.CA, 0o600)
}
