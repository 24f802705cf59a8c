package clusterca

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/internal/ownca"
)

// Show describes the authority of an installation.
func Show(ctx context.Context, o Options) (ownca.Status, error) {
	k := New(o)
	found, kept, err := k.authorityOf(ctx)
	if err != nil {
		return ownca.Status{}, err
	}
	return k.describe(found, kept), nil
}

// Rotate puts a new root beside those there are; see [ownca.Rotate]. The controller does
// the rest.
func Rotate(ctx context.Context, o Options, overlap time.Duration) (ownca.Status, error) {
	k := New(o)
	const most = 10
	for range most {
		found, kept, err := k.authorityOf(ctx)
		if err != nil {
			return ownca.Status{}, err
		}
		next, err := kept.Rotated(k.Now(), overlap)
		if err != nil {
			return ownca.Status{}, err
		}
		text, err := next.Text()
		if err != nil {
			return ownca.Status{}, err
		}
		data := map[string][]byte{keysKey: text, bundleKey: join(next.Bundle(), found.Data[beforeKey])}
		if err = k.putSecret(ctx, found, data, nil, ""); err == nil {
			return k.describe(found, next), nil
		}
		if !kube.Conflict(err) {
			return ownca.Status{}, err
		}
	}
	return ownca.Status{}, fmt.Errorf("the Secret %s/%s-ca is changed all the time", k.Namespace, k.Name)
}

func (k *Keeper) authorityOf(ctx context.Context) (object, ownca.Kept, error) {
	found, err := readSecret(ctx, k, k.Name+"-ca")
	if err != nil {
		return object{}, ownca.Kept{}, err
	}
	if len(found.Data[keysKey]) == 0 {
		return object{}, ownca.Kept{}, fmt.Errorf("there is no certificate authority in the Secret %s/%s-ca: the controller makes one", k.Namespace, k.Name)
	}
	kept, err := ownca.ReadKept(found.Data[keysKey], k.Lives)
	return found, kept, err
}

func (k *Keeper) describe(found object, kept ownca.Kept) ownca.Status {
	return ownca.Status{Bundle: "ConfigMap " + k.Namespace + "/" + found.Metadata.Name, BundleCurrent: true, Roots: kept.Roots(k.Now())}
}
