package policy

// An Applied is what one policy has to say about a pod before its images are known.
type Applied struct {
	Ruleset *Ruleset
	// Rule is nil if none is for the pod.
	Rule *Rule
	// Because says why that rule was chosen.
	Because string
}

// Applies tells which rule of each policy is for a pod, and why.
func (s Set) Applies(pod Scope) []Applied {
	here := s.In(pod.Namespace)
	list := make([]Applied, 0, len(here))
	for _, r := range here {
		a := Applied{Ruleset: r, Because: "no rule is for the pod"}
		if rule, ok := r.Select(pod); ok {
			a.Rule, a.Because = rule, because(r, rule.Scope)
		}
		list = append(list, a)
	}
	return list
}

func because(r *Ruleset, s Scope) string {
	switch {
	case s.fields() > 1:
		return "all that the rule names is true of the pod"
	case s.Cluster != "":
		return "the pod is in cluster " + s.Cluster
	case s.Namespace != "":
		return "the pod is in namespace " + s.Namespace
	case s.ServiceAccount != "":
		return "the pod runs as service account " + s.ServiceAccount
	case s.IstioIdentity != "":
		return "the pod has the Istio identity " + s.IstioIdentity
	case len(r.Rules) == 1:
		return "it is the only rule"
	}
	return "no more specific rule is for the pod"
}
