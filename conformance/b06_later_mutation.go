package conformance

import "context"

func laterMutation() Class {
	return Class{
		ID: "B6", Title: "Another webhook changes the image after the review",
		Beyond: "Whether the gate is called in the validating phase, after all mutation, is said in its webhook configuration and not seen from its answers.",
		Cases: []Case{
			{
				ID: "B6/same-uid", Title: "the same request comes again with another image, as after another mutation",
				Gain: "The verdict on what the object was is given for what it has become.",
				must: "the good image is allowed and the bad one denied, both under one uid",
				try: func(ctx context.Context, t *trial) {
					uid := newUID()
					t.probe(ctx, probe{what: "the good image first", review: t.podOf(t.good()).UID(uid), want: allowed()})
					t.probe(ctx, probe{what: "then the bad image", review: t.podOf(t.bad()).UID(uid), want: denied()})
				},
			},
			{
				ID: "B6/same-object", Title: "the same pod comes again with another image under a new uid",
				Gain: "A verdict that is remembered by namespace and name counts for another image.",
				must: "the good image is allowed, and then the bad one denied for a pod of the same name",
				try: func(ctx context.Context, t *trial) {
					t.ask(ctx, "the good image first", t.podOf(t.good()), allowed())
					t.ask(ctx, "then the bad image", t.podOf(t.bad()), denied())
				},
			},
		},
	}
}
