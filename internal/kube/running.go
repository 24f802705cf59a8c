package kube

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

const (
	podsPage = "500"
	// maxPodPages bounds the pods of a namespace that are looked at: 50,000.
	maxPodPages = 100
)

// Images are those that pods of a namespace are made of or run, as they are written and by
// their digests.
type Images map[string]bool

// Has reports whether an image is among them: by its digest, or by its text if it has none.
func (i Images) Has(text, digest string) bool { return i[text] || digest != "" && i[digest] }

func (i Images) add(text string) {
	if text == "" {
		return
	}
	i[text] = true
	if _, digest, found := strings.Cut(text, "@"); found {
		i[digest] = true
	}
}

// RunningImages returns the images of the pods of a namespace that have not ended, as far
// as there are fewer than 50,000 of those. Whoever may list pods there may ask.
func (c *Client) RunningImages(ctx context.Context, namespace string) (Images, error) {
	type containers []struct {
		Image   string `json:"image"`
		ImageID string `json:"imageID"`
	}
	images := Images{}
	next := ""
	for range maxPodPages {
		var list struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []struct {
				Spec struct {
					Containers          containers `json:"containers"`
					InitContainers      containers `json:"initContainers"`
					EphemeralContainers containers `json:"ephemeralContainers"`
					Volumes             []struct {
						Image *struct {
							Reference string `json:"reference"`
						} `json:"image"`
					} `json:"volumes"`
				} `json:"spec"`
				Status struct {
					Phase                 string     `json:"phase"`
					ContainerStatuses     containers `json:"containerStatuses"`
					InitContainerStatuses containers `json:"initContainerStatuses"`
				} `json:"status"`
			} `json:"items"`
		}
		query := url.Values{"limit": {podsPage}}
		if next != "" {
			query.Set("continue", next)
		}
		if err := c.Get(ctx, &list, query, "api", "v1", "namespaces", namespace, "pods"); err != nil {
			return nil, err
		}
		for _, pod := range list.Items {
			if pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed" {
				continue
			}
			for _, some := range []containers{
				pod.Spec.Containers, pod.Spec.InitContainers, pod.Spec.EphemeralContainers, pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses,
			} {
				for _, one := range some {
					images.add(one.Image)
					images.add(one.ImageID)
				}
			}
			for _, v := range pod.Spec.Volumes {
				if v.Image != nil {
					images.add(v.Image.Reference)
				}
			}
		}
		if next = list.Metadata.Continue; next == "" {
			return images, nil
		}
	}
	return nil, fmt.Errorf("namespace %q has more pods than are looked at", namespace)
}
