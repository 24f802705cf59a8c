package decide_test

import (
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// A naive evaluator of policies, written from what the dialects say and not from
// the code of this package: it splits references, compares patterns and weighs
// evidence by itself, in the plainest way there is. It is slow, and says nothing
// but verdicts.

// A naiveAnswer is what the naive evaluator says.
type naiveAnswer struct {
	Allowed  bool
	Verdict  decide.Verdict
	Override decide.Override
	Images   []decide.Verdict
	Policies []naivePolicy
}

type naivePolicy struct {
	Verdict  decide.Verdict
	Override decide.Override
}

// Where an Exemption of these tests says in what language its pattern is.
const (
	inBinauthz = "binauthz"
	inPlatform = "platform"
	inExact    = "exact"
)

func naiveDecide(req decide.Request, set policy.Set, facts evidence.Facts, now time.Time) naiveAnswer {
	answer := naiveAnswer{Allowed: true, Verdict: decide.ALLOW}
	if len(set) == 0 {
		answer.Verdict, answer.Override = decide.INDETERMINATE, decide.NoPolicy
		for range req.Images {
			answer.Images = append(answer.Images, decide.INDETERMINATE)
		}
		return answer
	}
	for range req.Images {
		answer.Images = append(answer.Images, decide.ALLOW)
	}
	overrides := map[decide.Override]bool{}
	for _, rules := range set {
		if rules == nil {
			rules = &policy.Ruleset{} // which denies
		}
		p := naivePolicy{Verdict: decide.ALLOW}
		rule := naiveRule(req, rules)
		// Whatever is INDETERMINATE because its evidence could not be read may be
		// let by, if the rule says so; what is so for another reason may not.
		onlyOutage, allBefore := true, true
		for i, u := range req.Images {
			n := naive{rules: rules, rule: rule, now: now, text: u.Text, ref: naiveSplit(u.Text)}
			n.known = naiveKnown(facts, n.ref)
			v := n.image()
			if v == decide.INDETERMINATE {
				onlyOutage = onlyOutage && n.known.State != evidence.Known
				allBefore = allBefore && n.allowedBefore()
			}
			answer.Images[i] = naiveWorst(answer.Images[i], v)
			p.Verdict = naiveWorst(p.Verdict, v)
		}
		outage := p.Verdict == decide.INDETERMINATE && onlyOutage
		switch {
		case p.Verdict == decide.ALLOW:
		case rule != nil && rule.DryRun:
			p.Override = decide.DryRun
		case outage && rule.OnUnavailable.Warn:
			p.Override = decide.FailOpen
		case outage && allBefore:
			p.Override = decide.LastAllowed
		case req.BreakGlass != "":
			p.Override = decide.BreakGlass
		}
		answer.Verdict = naiveWorst(answer.Verdict, p.Verdict)
		answer.Allowed = answer.Allowed && (p.Verdict == decide.ALLOW || p.Override != "")
		answer.Policies = append(answer.Policies, p)
		overrides[p.Override] = true
	}
	if answer.Allowed {
		for _, o := range []decide.Override{decide.DryRun, decide.LastAllowed, decide.FailOpen, decide.BreakGlass} {
			if overrides[o] {
				answer.Override = o // the last is the one most worth noticing
			}
		}
	}
	return answer
}

func naiveWorst(verdicts ...decide.Verdict) decide.Verdict {
	worst := decide.ALLOW
	for _, v := range verdicts {
		switch v {
		case decide.DENY:
			return decide.DENY
		case decide.INDETERMINATE:
			worst = decide.INDETERMINATE
		}
	}
	return worst
}

func naiveBest(verdicts ...decide.Verdict) decide.Verdict {
	best := decide.DENY
	for _, v := range verdicts {
		switch v {
		case decide.ALLOW:
			return decide.ALLOW
		case decide.INDETERMINATE:
			best = decide.INDETERMINATE
		}
	}
	return best
}

// naiveRule returns the first rule whose scope the pod is in, nil if there is none.
func naiveRule(req decide.Request, rules *policy.Ruleset) *policy.Rule {
	account := req.ServiceAccount
	if account == "" {
		account = "default"
	}
	for i := range rules.Rules {
		s := rules.Rules[i].Scope
		switch {
		case s.Cluster != "" && s.Cluster != req.Cluster:
		case s.Namespace != "" && s.Namespace != req.Namespace:
		case s.ServiceAccount != "" && s.ServiceAccount != req.Namespace+":"+account:
		case s.IstioIdentity != "" && s.IstioIdentity != req.IstioIdentity && "spiffe://"+s.IstioIdentity != req.IstioIdentity:
		default:
			return &rules.Rules[i]
		}
	}
	return nil
}

func naiveKnown(facts evidence.Facts, ref naiveRef) evidence.Image {
	for d, img := range facts.Images {
		if ref.ok && ref.digest != "" && d.String() == ref.digest {
			return img
		}
	}
	return evidence.Image{}
}

// naive is one policy looking at one image.
type naive struct {
	rules *policy.Ruleset
	rule  *policy.Rule
	now   time.Time
	text  string
	ref   naiveRef
	known evidence.Image
}

func (n naive) image() decide.Verdict {
	if naiveExempts(n.rules.Exempt, n.text) {
		return decide.ALLOW
	}
	if n.rule == nil {
		return decide.DENY
	}
	if n.rule.Evaluation == policy.AlwaysAllow {
		return decide.ALLOW
	}
	if n.rule.Evaluation != policy.RequireChecks {
		return decide.DENY
	}
	if naiveExempts(n.rule.Exempt, n.text) {
		return decide.ALLOW
	}
	if len(n.rule.Checks) == 0 {
		return decide.DENY
	}
	var all []decide.Verdict
	for _, c := range n.rule.Checks {
		if naiveExempts(c.Exempt, n.text) {
			all = append(all, decide.ALLOW)
		} else {
			all = append(all, n.condition(c.Condition))
		}
	}
	return naiveWorst(all...)
}

// allowedBefore: the rule allowed this very image, by evidence, not long ago.
func (n naive) allowedBefore() bool {
	for _, a := range n.known.Allowed {
		age := n.now.Sub(a.Time)
		if n.rule.Hash() != "" && a.Rule == n.rule.Hash() && a.Image == n.text && age >= 0 && age <= n.rule.OnUnavailable.LastAllowedWithin && n.rule.OnUnavailable.LastAllowedWithin > 0 {
			return true
		}
	}
	return false
}

func (n naive) condition(c policy.Condition) decide.Verdict {
	yes := func(b bool) decide.Verdict {
		if b {
			return decide.ALLOW
		}
		return decide.DENY
	}
	switch c := c.(type) {
	case policy.AllOf:
		if len(c.Of) == 0 {
			return decide.DENY
		}
		var all []decide.Verdict
		for _, part := range c.Of {
			all = append(all, n.condition(part))
		}
		return naiveWorst(all...)
	case policy.AnyOf:
		var all []decide.Verdict
		for _, part := range c.Of {
			all = append(all, n.condition(part))
		}
		return naiveBest(all...)
	case policy.Digested:
		return yes(n.ref.ok && n.ref.digest != "")
	case policy.InDirectory:
		met := false
		for _, p := range c.Patterns {
			met = met || (n.ref.ok && naiveInDirectory(p.String(), n.ref))
		}
		return yes(met)
	}
	// A condition that nothing can meet is not met, whatever is known.
	if !naiveCanBeMet(c, n.rules) || !n.ref.ok || n.ref.digest == "" {
		return decide.DENY
	}
	if n.known.State != evidence.Known {
		return decide.INDETERMINATE
	}
	switch c := c.(type) {
	case policy.Attested:
		return yes(n.attested(n.rules.Attestors[c.Attestor]))
	case policy.SignedBy:
		return yes(n.signedBy(c))
	case policy.Vulnerabilities:
		return n.vulnerabilities(c)
	case policy.Fresh:
		return yes(n.fresh(c))
	case policy.BuiltBy:
		for _, rule := range c.Rules {
			for _, p := range n.known.Provenances {
				if naiveBuilt(rule, p) {
					return decide.ALLOW
				}
			}
		}
	}
	return decide.DENY
}

// naiveCanBeMet reports whether a condition on evidence names whose word counts
// and where it is looked for.
func naiveCanBeMet(c policy.Condition, rules *policy.Ruleset) bool {
	keys := func(signers []policy.Signer) bool {
		n := 0
		for _, s := range signers {
			n += len(s.Keys)
		}
		return n > 0
	}
	switch c := c.(type) {
	case policy.Attested:
		a, there := rules.Attestors[c.Attestor]
		return there && a.Note != "" && len(a.Keys) > 0
	case policy.SignedBy:
		return keys(c.Signers) && len(c.Projects) > 0
	case policy.Vulnerabilities:
		return len(c.Projects) > 0
	case policy.Fresh:
		return keys(c.Recorders) && len(c.Projects) > 0 && c.MaxAge > 0
	case policy.BuiltBy:
		for _, r := range c.Rules {
			if len(r.Projects) > 0 && len(r.Builder.Keys) > 0 && len(r.Builder.IDs) > 0 {
				return true
			}
		}
	}
	return false
}

func naiveTrusts(keys []policy.Key, fingerprint [32]byte) bool {
	for _, k := range keys {
		if k.Fingerprint == fingerprint && fingerprint != [32]byte{} {
			return true
		}
	}
	return false
}

func naiveSigned(signers []policy.Signer, fingerprint [32]byte) bool {
	for _, s := range signers {
		if naiveTrusts(s.Keys, fingerprint) {
			return true
		}
	}
	return false
}

func naiveHas(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func (n naive) inTime(att evidence.Attestation) bool {
	early := !att.NotBefore.IsZero() && n.now.Before(att.NotBefore)
	late := !att.NotAfter.IsZero() && !n.now.Before(att.NotAfter)
	return !early && !late
}

func (n naive) attested(a policy.Attestor) bool {
	for _, att := range n.known.Attestations {
		if att.Note != a.Note || !naiveTrusts(a.Keys, att.Fingerprint) || !n.inTime(att) {
			continue
		}
		if a.MatchRepository && att.Repository != n.ref.repository() {
			continue
		}
		return true
	}
	return false
}

func (n naive) signedBy(c policy.SignedBy) bool {
	for _, att := range n.known.Attestations {
		if naiveHas(c.Projects, att.Project) && naiveSigned(c.Signers, att.Fingerprint) && n.inTime(att) && (att.Cosign || !c.Cosign) {
			return true
		}
	}
	return false
}

func (n naive) vulnerabilities(c policy.Vulnerabilities) decide.Verdict {
	finished, more := false, false
	for _, scan := range n.known.Scans {
		if !naiveHas(c.Projects, scan.Project) {
			continue
		}
		finished = finished || scan.Finished
		more = more || scan.Truncated
		for _, f := range scan.Findings {
			if naiveViolates(c, f) {
				return decide.DENY
			}
		}
	}
	switch {
	case !finished && !c.UnscannedAllowed:
		return decide.DENY
	case more:
		return decide.INDETERMINATE
	}
	return decide.ALLOW
}

func naiveViolates(c policy.Vulnerabilities, f evidence.Finding) bool {
	parts := strings.Split(f.Note, "/")
	id := parts[len(parts)-1]
	named := func(list []string) bool { return naiveHas(list, f.Note) || (id != "" && naiveHas(list, id)) }
	if named(c.Blocked) {
		return true
	}
	if named(c.Allowed) {
		return false
	}
	limit := c.MaxUnfixable
	if f.Fixable {
		limit = c.MaxFixable
	}
	switch limit {
	case policy.AllowAll:
		return false
	case policy.Minimal, policy.Low, policy.Medium, policy.High, policy.Critical:
		if f.Severity == 0 {
			return !c.UnspecifiedAllowed
		}
		return f.Severity < 1 || f.Severity > int(limit)
	}
	return true
}

// fresh: by the oldest record that counts.
func (n naive) fresh(c policy.Fresh) bool {
	counted := 0
	for _, up := range n.known.Uploads {
		if !naiveHas(c.Projects, up.Project) || !naiveSigned(c.Recorders, up.Fingerprint) {
			continue
		}
		counted++
		if n.now.Sub(up.Time) > c.MaxAge {
			return false
		}
	}
	if counted == 0 {
		return false
	}
	for _, up := range n.known.Uploads { // the oldest may not be of tomorrow
		if naiveHas(c.Projects, up.Project) && naiveSigned(c.Recorders, up.Fingerprint) && !up.Time.After(n.now) {
			return true
		}
	}
	return false
}

func naiveBuilt(rule policy.ProvenanceRule, p evidence.Provenance) bool {
	if !naiveHas(rule.Projects, p.Project) || !naiveTrusts(rule.Builder.Keys, p.Fingerprint) {
		return false
	}
	named := false
	for _, id := range rule.Builder.IDs {
		named = named || (id != "" && strings.HasPrefix(p.Builder, id))
	}
	if !named || (rule.ConfigBased && !p.ConfigBased) {
		return false
	}
	from := len(rule.Sources) == 0
	for _, s := range rule.Sources {
		from = from || naiveFrom(s.String(), p.Source)
	}
	if !from {
		return false
	}
	if rule.Constraint != nil {
		if p.Statement == nil {
			return false
		}
		holds, err := rule.Constraint.Holds(p.Statement)
		return holds && err == nil
	}
	return true
}

// naiveFrom compares a source pattern with the URL of a repository.
func naiveFrom(pattern, url string) bool {
	if pattern == "" {
		return false
	}
	if i := strings.Index(url, "://"); i >= 0 {
		url = url[i+len("://"):]
	}
	for i := range len(url) {
		if url[i] == '#' || url[i] == '?' {
			url = url[:i]
			break
		}
	}
	slash := strings.Index(url, "/")
	if slash < 0 {
		slash = len(url)
	}
	host, path := url[:slash], url[slash:]
	host = strings.ToLower(host[strings.LastIndex(host, "@")+1:])
	if i := strings.Index(path, "@"); i >= 0 {
		path = path[:i]
	}
	whole := host
	if path != "" {
		whole += "/" + strings.TrimSuffix(strings.TrimSuffix(path[1:], "/"), ".git")
	}
	for _, part := range strings.Split(whole, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	if strings.Contains(whole, "%") {
		return false
	}
	switch {
	case strings.HasSuffix(pattern, "/**"):
		below := pattern[:len(pattern)-2]
		return strings.HasPrefix(whole, below) && len(whole) > len(below)
	case strings.HasSuffix(pattern, "/*"):
		below := pattern[:len(pattern)-1]
		return strings.HasPrefix(whole, below) && len(whole) > len(below) && !strings.Contains(whole[len(below):], "/")
	}
	return whole == pattern
}

func naiveExempts(list []policy.Exemption, text string) bool {
	for _, e := range list {
		if naiveCovers(e.Origin, e.Pattern.String(), text) {
			return true
		}
	}
	return false
}

func naiveCovers(language, pattern, text string) bool {
	switch language {
	case inBinauthz:
		return naiveBinauthz(pattern, text)
	case inPlatform:
		return naivePlatform(pattern, text)
	case inExact:
		return pattern == text && text != ""
	}
	return false
}

// naiveBinauthz walks along pattern and text.
func naiveBinauthz(pattern, text string) bool {
	if pattern == "" {
		return false
	}
	i := 0
	for ; i < len(pattern) && pattern[i] != '*'; i++ {
		if i >= len(text) || text[i] != pattern[i] {
			return false
		}
	}
	rest := text[min(i, len(text)):]
	switch pattern[i:] {
	case "":
		return rest == ""
	case "*":
		return !strings.Contains(rest, "/")
	case "**":
		// A wildcard never stands in a registry host.
		slash := strings.Index(text, "/")
		inFirst := !strings.Contains(pattern, "/")
		return !inFirst || slash < 0 || !naiveIsHost(text[:slash])
	}
	return false
}

func naivePlatform(pattern, text string) bool {
	ref := naiveSplit(text)
	if !ref.ok {
		return false
	}
	stars := 0
	for strings.HasSuffix(pattern, "*") {
		pattern, stars = pattern[:len(pattern)-1], stars+1
	}
	if stars == 2 {
		return strings.HasPrefix(ref.name, pattern)
	}
	name, digest := pattern, ""
	if i := strings.Index(pattern, "@"); i >= 0 {
		name, digest = pattern[:i], pattern[i+1:]
	}
	tag, hasTag := "", false
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name, tag, hasTag = name[:i], name[i+1:], true
	}
	if digest != "" && digest != ref.digest {
		return false
	}
	switch {
	case stars == 1 && hasTag:
		return ref.name == name && ref.tag != "" && strings.HasPrefix(ref.tag, tag)
	case stars == 1:
		return strings.HasPrefix(ref.name, name) && !strings.Contains(ref.name[len(name):], "/")
	case hasTag:
		return ref.name == name && ref.tag == tag
	}
	return ref.name == name
}

// naiveInDirectory compares the directory of an image with a pattern.
func naiveInDirectory(pattern string, ref naiveRef) bool {
	patternHost, patternPath := pattern, ""
	if i := strings.Index(pattern, "/"); i >= 0 {
		patternHost, patternPath = pattern[:i], pattern[i+1:]
	}
	if pattern == "" {
		return false
	}
	if i := strings.Index(ref.name, "/"); i < 0 || !naiveIsHost(ref.name[:i]) {
		return false // the node chooses the registry of a short name
	}
	if patternHost[0] == '*' {
		suffix := strings.ToLower(patternHost[1:])
		if len(ref.host) <= len(suffix) || !strings.HasSuffix(ref.host, suffix) || strings.Contains(ref.host[:len(ref.host)-len(suffix)], ":") {
			return false
		}
	} else if naiveHost(patternHost) != ref.host {
		return false
	}
	dir := ""
	if i := strings.LastIndex(ref.path, "/"); i >= 0 {
		dir = ref.path[:i]
	}
	switch {
	case strings.HasSuffix(patternPath, "**"):
		below := patternPath[:len(patternPath)-2]
		return (dir != "" && strings.HasPrefix(dir, below)) || dir == strings.TrimSuffix(below, "/")
	case strings.HasSuffix(patternPath, "*"):
		below := patternPath[:len(patternPath)-1]
		return dir != "" && strings.HasPrefix(dir, below) && !strings.Contains(dir[len(below):], "/")
	}
	return dir == patternPath
}

// A naiveRef is a reference taken apart.
type naiveRef struct {
	ok                bool
	name, tag, digest string // as written
	host, path        string // normalised
}

func (r naiveRef) repository() string { return r.host + "/" + r.path }

const (
	lowerDigits = "abcdefghijklmnopqrstuvwxyz0123456789"
	hexDigits   = "0123456789abcdef"
	wordBytes   = lowerDigits + "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
)

func naiveOnly(s, of string) bool { return strings.Trim(s, of) == "" }

func naiveIsHost(first string) bool {
	return first == "localhost" || strings.Contains(first, ".") || strings.Contains(first, ":")
}

func naiveHost(host string) string {
	host = strings.ToLower(host)
	switch host {
	case "docker.io", "registry-1.docker.io":
		return "index.docker.io"
	}
	return host
}

func naiveSplit(text string) naiveRef {
	var none naiveRef
	if bare := strings.TrimPrefix(text, "sha256:"); len(bare) == 64 && naiveOnly(bare, hexDigits) {
		return none // the id of an image on a node
	}
	r := naiveRef{ok: true, name: text}
	if i := strings.Index(text, "@"); i >= 0 {
		r.name, r.digest = text[:i], text[i+1:]
		if len(r.digest) != 71 || r.digest[:7] != "sha256:" || !naiveOnly(r.digest[7:], hexDigits) {
			return none
		}
	}
	if i := strings.LastIndex(r.name, ":"); i >= 0 && !strings.Contains(r.name[i:], "/") {
		r.name, r.tag = r.name[:i], r.name[i+1:]
		if r.tag == "" || len(r.tag) > 128 || !naiveOnly(r.tag, wordBytes+".-") || r.tag[0] == '.' || r.tag[0] == '-' {
			return none
		}
	}
	r.host, r.path = "index.docker.io", r.name
	if i := strings.Index(r.name, "/"); i >= 0 && naiveIsHost(r.name[:i]) {
		if !naiveHostOK(r.name[:i]) {
			return none
		}
		r.host, r.path = naiveHost(r.name[:i]), r.name[i+1:]
	}
	if r.host == "index.docker.io" && !strings.Contains(r.path, "/") && r.path != "" {
		r.path = "library/" + r.path
	}
	if len(r.path) > 255 {
		return none
	}
	for _, part := range strings.Split(r.path, "/") {
		if !naivePartOK(part) {
			return none
		}
	}
	return r
}

func naiveHostOK(host string) bool {
	if len(host) > 261 {
		return false
	}
	if strings.HasPrefix(host, "[") {
		i := strings.Index(host, "]")
		if i < 0 {
			return false
		}
		addr, err := netip.ParseAddr(host[1:i])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		rest := host[i+1:]
		return rest == "" || (rest[0] == ':' && naivePortOK(rest[1:]))
	}
	if i := strings.Index(host, ":"); i >= 0 {
		if !naivePortOK(host[i+1:]) {
			return false
		}
		host = host[:i]
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || !naiveOnly(label, strings.ReplaceAll(wordBytes, "_", "")+"-") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

func naivePortOK(port string) bool {
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
		n = 10*n + int(c-'0')
	}
	return port != "" && len(port) <= 5 && n >= 1 && n <= 65535
}

// naivePartOK: runs of letters and digits, joined by ".", "_", "__" or dashes.
func naivePartOK(part string) bool {
	if part == "" || !naiveOnly(part[:1], lowerDigits) || !naiveOnly(part[len(part)-1:], lowerDigits) || !naiveOnly(part, lowerDigits+"._-") {
		return false
	}
	separators := strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(lowerDigits, r) })
	for _, s := range separators {
		if s != "." && s != "_" && s != "__" && !naiveOnly(s, "-") {
			return false
		}
	}
	return true
}
