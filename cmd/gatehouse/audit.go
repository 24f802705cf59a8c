package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/cmd/internal/terminal"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// An auditQuery is what a person wants to know from a server's records.
type auditQuery struct {
	data, spill   string
	since, until  string
	api, attestor bool
	follow        bool
	output        string
	export        string
	quiet         bool
	records       audit.Filter
	calls         audit.CallFilter
}

func auditCommand() *cobra.Command {
	q := &auditQuery{}
	c := &cobra.Command{
		Use:   "audit --data DIR",
		Short: "Print the recorded decisions, calls to the metadata API, or requests to the attestor, oldest first",
		Long: `Print the decisions that a server recorded in its data folder, oldest first, or with
--api the calls to its metadata API, or with --attestor the requests to its attestor and
what came of them, refused ones too. The server may be running.
With --output json each line is one whole record; csv has a header, and a row for each.
A call that changes policy is on record before it does and after; text and csv show one
line for both.

Exit status: 0 printed at least one record, 1 none selected, 2 could not read.`,
		Example: `  gatehouse audit --data DIR --break-glass
  gatehouse audit --data DIR --since 24h --verdict DENY --output json
  gatehouse audit --data DIR --follow --namespace shop
  gatehouse audit --data DIR --since 720h --export november.csv
  gatehouse audit --data DIR --api --code PERMISSION_DENIED
  gatehouse audit --data DIR --attestor --image shop/web`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(auditTestCommand())
	q.bind(c.Flags())
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := q.check(c); err != nil {
			return err
		}
		if q.export != "" {
			return q.exportTo(c)
		}
		n, err := q.write(c.Context(), c.OutOrStdout(), nil)
		if err == nil && n == 0 {
			return none(c, "record is selected")
		}
		return err
	}
	return c
}

// none says, to people, that there is nothing to print, and is the answer no.
func none(c *cobra.Command, what string) error {
	_, err := fmt.Fprintln(c.ErrOrStderr(), "gatehouse: no "+what)
	return errors.Join(errNo, err)
}

func (q *auditQuery) bind(f *pflag.FlagSet) {
	f.StringVar(&q.data, "data", "", "the server's data folder (required)")
	f.StringVar(&q.spill, "spill", "", "the server's audit.spillDir, to read what was not moved from there yet")
	f.StringVar(&q.since, "since", "", "only records since then: a duration (24h) or a time (RFC 3339)")
	f.StringVar(&q.until, "until", "", "only records before then: a duration (1h) ago or a time (RFC 3339)")
	f.BoolVar(&q.follow, "follow", false, "go on with what comes, until interrupted")
	f.StringVarP(&q.output, "output", "o", "text", "output format: text, json or csv")
	f.StringVar(&q.export, "export", "", "write to this file, as JSON lines, or as CSV if its name ends with .csv; it is there whole or not at all")
	f.BoolVar(&q.quiet, "quiet", false, "with --export: no progress")
	f.StringVar(&q.records.ID, "id", "", "only the record of this id")
	f.StringVar(&q.records.Event, "event", "", "only this event: admission, refused, unchanged, deleting, pinned, pull, policy or lost")
	f.StringVar(&q.records.Cluster, "cluster", "", "only this cluster, LOCATION.NAME")
	f.StringVar(&q.records.Namespace, "namespace", "", "only this namespace")
	f.StringVar(&q.records.User, "user", "", "only requests of this user")
	f.StringVar(&q.records.Image, "image", "", "only requests with an image whose text contains this; with --attestor too")
	f.StringVar(&q.records.Verdict, "verdict", "", "only this verdict: ALLOW, DENY or INDETERMINATE")
	f.StringVar(&q.records.Override, "override", "", "only this override: BREAK_GLASS, DRY_RUN, NO_POLICY, FAIL_OPEN or LAST_ALLOWED")
	f.StringVar(&q.records.Policy, "policy", "", "only decisions by a policy whose name contains this, or whose version begins with it")
	f.BoolVar(&q.records.BreakGlass, "break-glass", false, "only requests that carried a break-glass marker, needed or not")
	f.BoolVar(&q.api, "api", false, "calls to the metadata API instead of decisions")
	f.BoolVar(&q.attestor, "attestor", false, "requests to the attestor instead of decisions")
	f.StringVar(&q.calls.Method, "method", "", "with --api: only this method, such as CreateOccurrence; with --attestor: check or verify")
	f.StringVar(&q.calls.Caller, "caller", "", "with --api and --attestor: only this caller")
	f.StringVar(&q.calls.Code, "code", "", "with --api: only this outcome: OK, PERMISSION_DENIED, UNAUTHENTICATED, …")
	f.StringVar(&q.calls.Resource, "resource", "", "with --api: only calls about a resource whose name contains this")
}

// check refuses what makes no sense, and reads the times.
func (q *auditQuery) check(c *cobra.Command) (err error) {
	formats := []string{string(formatText), string(formatJSON), formatCSV}
	switch {
	case q.data == "":
		return errors.New("which log? give --data DIR, the data folder of the server")
	case q.api && q.attestor:
		return errors.New("--api and --attestor: give one of them")
	case !slices.Contains(formats, q.output):
		return fmt.Errorf("--output %q: want text, json or csv", q.output)
	case q.follow && q.export != "":
		return errors.New("--follow and --export: give one of them; an export ends")
	case q.follow && q.until != "":
		return errors.New("--follow and --until: give one of them")
	}
	if err := onlyOf(c, q.api, q.attestor); err != nil {
		return err
	}
	if q.records.Since, err = parseWhen("since", q.since, time.Now()); err != nil {
		return err
	}
	if q.records.Until, err = parseWhen("until", q.until, time.Now()); err != nil {
		return err
	}
	if !q.records.Until.IsZero() && !q.records.Since.Before(q.records.Until) {
		return fmt.Errorf("--since %q is not before --until %q", q.since, q.until)
	}
	q.calls.Since, q.calls.Until = q.records.Since, q.records.Until
	if err := q.checkWords(); err != nil {
		return err
	}
	if q.spill != "" {
		if _, err := os.Stat(q.spill); err != nil {
			return fmt.Errorf("--spill is the server's audit.spillDir: %w", err)
		}
	}
	if q.export != "" && !c.Flags().Changed("output") {
		q.output = string(formatJSON)
		if strings.HasSuffix(q.export, ".csv") {
			q.output = formatCSV
		}
	}
	return nil
}

// checkWords refuses words that no record can have: they would select nothing, and look like
// an answer.
func (q *auditQuery) checkWords() error {
	q.records.Verdict, q.records.Override = strings.ToUpper(q.records.Verdict), strings.ToUpper(q.records.Override)
	q.calls.Code = strings.ToUpper(q.calls.Code)
	for _, f := range []struct {
		flag, given string
		words       []string
	}{
		{"event", q.records.Event, []string{"admission", "refused", "unchanged", "deleting", "pinned", "pull", "policy", audit.EventLost}},
		{"verdict", q.records.Verdict, []string{decide.ALLOW.String(), decide.DENY.String(), decide.INDETERMINATE.String()}},
		{"override", q.records.Override, []string{string(decide.BreakGlass), string(decide.DryRun), string(decide.NoPolicy), string(decide.FailOpen), string(decide.LastAllowed)}},
	} {
		if err := oneOf(f.flag, f.given, f.words...); err != nil {
			return err
		}
	}
	if code := codes.OK; q.calls.Code != "" && code.UnmarshalJSON([]byte(strconv.Quote(q.calls.Code))) != nil {
		return fmt.Errorf("--code %q is none of gRPC's, such as OK and PERMISSION_DENIED", q.calls.Code)
	}
	return nil
}

// oneOf refuses a flag that was given another word than these.
func oneOf(flag, given string, words ...string) error {
	if given == "" || slices.Contains(words, given) {
		return nil
	}
	return fmt.Errorf("--%s %q: want %s or %s", flag, given, strings.Join(words[:len(words)-1], ", "), words[len(words)-1])
}

// write writes what is selected, and returns how many records that is.
func (q *auditQuery) write(ctx context.Context, w io.Writer, progress func(records int, read, total int64)) (n int, err error) {
	p := newAuditPrinter(w, format(q.output), q.follow)
	folder := "audit"
	switch {
	case q.api:
		folder = "audit-api"
	case q.attestor:
		folder = "audit-attestor"
	}
	source := audit.Source{Dir: filepath.Join(q.data, folder), Progress: func(read, total int64) error {
		if progress != nil {
			progress(p.n, read, total)
		}
		if q.follow {
			return nil // to be told to stop is no error
		}
		return ctx.Err()
	}}
	if q.spill != "" {
		source.Spill = filepath.Join(q.spill, folder)
	}
	runs := audit.RunFilter{Since: q.records.Since, Until: q.records.Until, Method: q.calls.Method, Caller: q.calls.Caller, Image: q.records.Image}
	switch {
	case q.api && q.follow:
		err = source.FollowCalls(ctx, q.calls, p.call)
	case q.api:
		err = source.Calls(q.calls, p.call)
	case q.attestor && q.follow:
		err = source.FollowRuns(ctx, runs, p.run)
	case q.attestor:
		err = source.Runs(runs, p.run)
	case q.follow:
		err = source.FollowRecords(ctx, q.records, p.record)
	default:
		err = source.Records(q.records, p.record)
	}
	return p.n, errors.Join(err, p.end())
}

// exportTo writes a file, which is there whole or not at all.
func (q *auditQuery) exportTo(c *cobra.Command) error {
	tmp, err := os.CreateTemp(filepath.Dir(q.export), "."+filepath.Base(q.export)+"-*")
	if err != nil {
		return fmt.Errorf("exporting records: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	meter := terminal.NewMeter(c.ErrOrStderr(), q.quiet)
	defer meter.End()
	out := bufio.NewWriterSize(tmp, 1<<20)
	n, err := q.write(c.Context(), out, func(records int, read, total int64) {
		meter.Show(int64(records), "%d records, %d of %d MB read", records, read>>20, total>>20)
	})
	if errors.Is(err, context.Canceled) {
		_ = tmp.Close()
		return fmt.Errorf("interrupted: %s was not written", q.export)
	}
	if err == nil {
		err = errors.Join(out.Flush(), tmp.Sync())
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("exporting records: %w", err)
	}
	if err := os.Rename(tmp.Name(), q.export); err != nil {
		return fmt.Errorf("exporting records: %w", err)
	}
	meter.Say("%d records written to %s", n, q.export)
	if n == 0 {
		return errNo
	}
	return nil
}

func parseSince(s string, now time.Time) (time.Time, error) { return parseWhen("since", s, now) }

func parseWhen(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s %q: want a duration such as 24h, or a time such as 2026-01-02T15:04:05Z", flag, s)
	}
	return t, nil
}

func printRecord(w io.Writer, r audit.Record) error {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(printable(fmt.Sprintf(format, args...)), " ") + "\n")
	}
	verdict, override := "-", " "+r.Event
	if d := r.Decision; d != nil {
		verdict, override = d.Verdict.String(), ""
		if d.Override != "" {
			override = " overridden by " + string(d.Override)
		}
	}
	if r.DryRun {
		override += " (tried out)"
	}
	at := r.Time.UTC().Format(time.RFC3339)
	if r.Resource == "" && r.Name == "" && r.User == "" { // of no request
		line("%s  %-5s%s  %s", at, verdict, override, r.Replica)
	} else {
		line("%s  %-5s%s  %s %s %s%s", at, verdict, override, r.Operation, r.Resource, strings.TrimPrefix(r.Namespace+"/"+r.Name, "/"), by(r))
	}
	if r.Error != "" {
		line("    %s", r.Error)
	}
	if d := r.Decision; d != nil {
		if d.BreakGlass != "" {
			line("    break-glass by %s, justified as %q", d.BreakGlass, d.Justification)
		}
		for _, img := range d.Images {
			line("    %-13s %s", img.Verdict, img.Image)
			for _, reason := range img.Reasons {
				line("        %s", reason.Message)
			}
		}
	}
	for _, p := range r.Pinned {
		if p.Error != "" {
			line("    not pinned    %s: %s", p.Image, p.Error)
		} else {
			line("    pinned        %s to %s", p.Image, p.Digest)
		}
	}
	for _, p := range r.Policies {
		line("    in force      %s (%s) %s", p.Policy, p.Source, p.Version)
	}
	for _, p := range r.Before {
		line("    before        %s (%s) %s", p.Policy, p.Source, p.Version)
	}
	if r.Truncated {
		line("    (shortened: the record was too large)")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// by tells who asked, and which gate if it was another than the one whose log this is. Nodes
// that pull ask without a user.
func by(r audit.Record) string {
	text := ""
	if r.User != "" {
		text = " by " + r.User
	}
	if r.Origin != nil {
		text += ", at gate " + r.Origin.Gate
	}
	return text
}

// An auditPrinter writes records in one of the formats.
type auditPrinter struct {
	w      io.Writer
	format format
	rows   *rowWriter // of CSV
	n      int
	// intents are calls that are about to change policy, until their outcome comes; nil
	// while each is written as it comes.
	intents map[string]audit.Call
	order   []string
}

func newAuditPrinter(w io.Writer, f format, follow bool) *auditPrinter {
	p := &auditPrinter{w: w, format: f}
	if f == formatCSV {
		p.rows = newRowWriter(w)
	}
	if f != formatJSON && !follow {
		p.intents = map[string]audit.Call{}
	}
	return p
}

func (p *auditPrinter) json(v any) error { return json.NewEncoder(p.w).Encode(v) }

func (p *auditPrinter) record(r audit.Record) error {
	p.n++
	switch p.format {
	case formatJSON:
		return p.json(r)
	case formatCSV:
		return p.rows.record(r)
	}
	return printRecord(p.w, r)
}

func (p *auditPrinter) call(c audit.Call) error {
	if c.Phase == audit.PhaseIntent && p.intents != nil {
		if _, known := p.intents[c.ID]; !known {
			p.order = append(p.order, c.ID)
		}
		p.intents[c.ID] = c
		return nil
	}
	if intent, ok := p.intents[c.ID]; ok {
		c.Changes = intent.Changes
		delete(p.intents, c.ID)
	}
	return p.oneCall(c)
}

func (p *auditPrinter) oneCall(c audit.Call) error {
	p.n++
	switch p.format {
	case formatJSON:
		return p.json(c)
	case formatCSV:
		return p.rows.call(c)
	}
	return printCall(p.w, c)
}

func (p *auditPrinter) run(r audit.Run) error {
	p.n++
	switch p.format {
	case formatJSON:
		return p.json(r)
	case formatCSV:
		return p.rows.run(r)
	}
	return printRun(p.w, r)
}

// end writes the intents of which no outcome is known.
func (p *auditPrinter) end() error {
	for _, id := range p.order {
		if c, ok := p.intents[id]; ok {
			if err := p.oneCall(c); err != nil {
				return err
			}
		}
	}
	if p.rows != nil {
		return p.rows.end()
	}
	return nil
}
