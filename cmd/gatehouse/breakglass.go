package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
)

func breakglassCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "breakglass",
		Short: "Look at what was let in against policy, and permit it",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(breakglassListCommand(), breakglassShowCommand(),
		breakglassTurnCommand("ack", "acknowledge", "acknowledged", "Say that you look at incidents", "I look"),
		breakglassTurnCommand("resolve", "resolve", "resolved", "Say that incidents are over", "rolled back, OPS-7"),
		breakglassGrantCommand(), breakglassGrantsCommand(), breakglassRevokeCommand())
	return c
}

const formatCSV = "csv"

// incidentSource is where incidents are read: at the service, or in the data folder of a
// gate that has none beside it.
type incidentSource struct {
	service serviceFlags
	data    string
}

func (s *incidentSource) bind(c *cobra.Command) {
	s.service.bind(c)
	c.Flags().StringVar(&s.data, "data", "", "read them in the data folder of a gate, instead of asking the service")
}

func (s *incidentSource) collection() string {
	return "projects/" + s.service.project + "/breakGlassIncidents"
}

// read calls fn with all incidents, the newest first.
func (s *incidentSource) read(c *cobra.Command, fn func([]breakglass.Incident) error) error {
	if s.data != "" {
		all, err := breakglass.ReadIncidents(filepath.Join(s.data, "breakglass"))
		if err != nil {
			return err
		}
		return fn(all)
	}
	return s.service.run(c, func(ctx context.Context, client *adminclient.Client) error {
		list, err := client.List(ctx, s.collection(), "breakGlassIncidents")
		if err != nil {
			return err
		}
		all := make([]breakglass.Incident, len(list))
		for n, raw := range list {
			if err := json.Unmarshal(raw, &all[n]); err != nil {
				return fmt.Errorf("reading the service's answer: %w", err)
			}
		}
		return fn(all)
	})
}

func breakglassListCommand() *cobra.Command {
	var s incidentSource
	var state, namespace, text, output string
	c := &cobra.Command{
		Use:   "list",
		Short: "List incidents, the newest first",
		Long: `List incidents: what was let in against policy, one for each workload and image; and
receivers of section notify that fail.

Exit status: 0 printed at least one, 1 there is none, 2 could not tell.`,
		Example: `  gatehouse breakglass list --state open
  gatehouse breakglass list --output csv > incidents.csv`,
		Args: cobra.NoArgs,
	}
	s.bind(c)
	f := c.Flags()
	f.StringVar(&state, "state", "", "only those in this state: open, acknowledged or resolved")
	f.StringVar(&namespace, "namespace", "", "only those of this namespace")
	f.StringVar(&text, "text", "", "only those whose workload, image or person contains this")
	f.StringVarP(&output, "output", "o", string(formatText), "output format: text, json or csv")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !slices.Contains([]string{string(formatText), string(formatJSON), formatCSV}, output) {
			return fmt.Errorf("--output %q: want text, json or csv", output)
		}
		if err := oneOf("state", state, string(breakglass.StateOpen), string(breakglass.StateAcknowledged), string(breakglass.StateResolved)); err != nil {
			return err
		}
		filter := breakglass.Filter{State: breakglass.State(state), Namespace: namespace, Text: text}
		return s.read(c, func(all []breakglass.Incident) error {
			all = slices.DeleteFunc(all, func(i breakglass.Incident) bool { return !filter.Match(&i) })
			if len(all) == 0 {
				return none(c, "incident is selected")
			}
			switch output {
			case string(formatJSON):
				return printJSON(c.OutOrStdout(), all)
			case formatCSV:
				return printIncidentsCSV(c.OutOrStdout(), all)
			}
			return printIncidents(c.OutOrStdout(), all)
		})
	}
	return c
}

func people(i *breakglass.Incident) string {
	names := make([]string, len(i.People))
	for n, p := range i.People {
		names[n] = p.Name
		if p.Name == "" {
			names[n] = "(not known)"
		}
	}
	return strings.Join(names, ", ")
}

func reasons(i *breakglass.Incident) string {
	texts := make([]string, len(i.Reasons))
	for n, r := range i.Reasons {
		texts[n] = strings.TrimSpace(r.Ticket + " " + r.Text)
	}
	return strings.Join(texts, "; ")
}

func printIncidents(out io.Writer, all []breakglass.Incident) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "ID\tKIND\tSTATE\tSINCE\tWHERE\tWORKLOAD\tIMAGE\tUSES\tWHO")
	for n := range all {
		i := &all[n]
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", cell(i.ID), cell(string(i.Kind)), cell(string(i.State)), i.First.UTC().Format(time.RFC3339),
			cell(i.Namespace), cell(i.Workload.String()), cell(i.Image), i.Uses, cell(people(i)))
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// cell is text of others that stays in its column.
func cell(s string) string { return strings.ReplaceAll(printable(s), "\t", " ") }

// printIncidentsCSV prints what spreadsheets take for text, whatever others chose.
func printIncidentsCSV(out io.Writer, all []breakglass.Incident) error {
	w := csv.NewWriter(out)
	rows := [][]string{{
		"id", "state", "first", "last", "cluster", "namespace", "workload", "image", "digest", "uses", "pods", "people", "reasons", "permits", "policy", "rule", "verdict", "said",
		"escalations", "record", "kind", "gates",
	}}
	for n := range all {
		i := &all[n]
		row := []string{
			i.ID, string(i.State), i.First.UTC().Format(time.RFC3339), i.Last.UTC().Format(time.RFC3339), i.Cluster, i.Namespace, i.Workload.String(), i.Image, i.Digest,
			strconv.FormatInt(i.Uses, 10), strconv.FormatInt(i.Pods, 10), people(i), reasons(i), strings.Join(i.Permits, "; "), i.Policy, i.Rule, i.Verdict, i.Said,
			strconv.Itoa(i.Escalations), i.Record, string(i.Kind), strings.Join(i.Gates, "; "),
		}
		for col, text := range row {
			row[col] = csvCell(text)
		}
		rows = append(rows, row)
	}
	return w.WriteAll(rows)
}

func breakglassShowCommand() *cobra.Command {
	var s incidentSource
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show an incident: who, what, why, where, what policy says, and who looked",
		Long: `Show an incident: who, what, why, where, what policy says, and who looked.

Exit status: 0 printed, 1 there is none, 2 could not tell.`,
		Args: cobra.ExactArgs(1),
	}
	s.bind(c)
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.read(c, func(all []breakglass.Incident) error {
			n := slices.IndexFunc(all, func(i breakglass.Incident) bool { return i.ID == args[0] })
			if n < 0 {
				_, err := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: there is no incident %s\n", printable(args[0]))
				return errors.Join(errNo, err)
			}
			if *output == formatJSON {
				return printJSON(c.OutOrStdout(), all[n])
			}
			return printIncident(c.OutOrStdout(), &all[n])
		})
	}
	return c
}

func printIncident(out io.Writer, i *breakglass.Incident) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	line("incident %s: %s", i.ID, i.State)
	if i.Kind == breakglass.Receiver {
		line("  what    receiver %s of section notify fails", i.Workload.Name)
		line("  when    since %s", at(i.First))
		line("  why     %s", i.Said)
	} else {
		printGlass(line, at, i)
	}
	if i.Before != "" {
		line("  before  incident %s, which was resolved", i.Before)
	}
	for _, e := range i.History {
		by := ""
		if e.Who != "" {
			by = " by " + e.Who
		}
		if e.Text != "" {
			by += ": " + e.Text
		}
		line("  %s  %s%s", at(e.Time), e.What, by)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// printGlass prints what is to be said of glass that was broken.
func printGlass(line func(string, ...any), at func(time.Time) string, i *breakglass.Incident) {
	where := fmt.Sprintf("namespace %s, %s", i.Namespace, i.Workload)
	if i.Cluster != "" {
		where = "cluster " + i.Cluster + ", " + where
	}
	line("  where   %s", where)
	line("  what    %s", i.Image)
	line("  how     %s, permitted by %s", i.Marker, strings.Join(i.Permits, ", "))
	line("  when    %s to %s, used %s, %s", at(i.First), at(i.Last), counted(int(i.Uses), "time", "times"), counted(int(i.Pods), "pod", "pods"))
	for _, p := range i.People {
		name := p.Name
		if name == "" {
			name = "somebody who is not known"
		}
		line("  who     %s, %s, first at %s", name, counted(int(p.Uses), "time", "times"), at(p.First))
	}
	for _, r := range i.Reasons {
		line("  why     %s", strings.TrimSpace(r.Ticket+" "+r.Text))
	}
	if len(i.Reasons) == 0 {
		line("  why     nobody said")
	}
	line("  policy  %s of %s, %s: %s", i.Verdict, i.Policy, i.Rule, i.Said)
	line("  record  %s", i.Record)
	if len(i.Gates) > 0 {
		line("  gates   %s", strings.Join(i.Gates, ", "))
	}
}

// breakglassTurnCommand is ack or resolve.
func breakglassTurnCommand(name, verb, done, short, example string) *cobra.Command {
	var s serviceFlags
	var comment string
	c := &cobra.Command{
		Use:   name + " ID...",
		Short: short,
		Long: short + `. What was let in stays where it is.

Exit status: 0 all are, 1 the service refuses, 2 could not tell.`,
		Example: "  gatehouse breakglass " + name + ` 0f1e2d3c4b5a6978 --comment "` + example + `"`,
		Args:    cobra.MinimumNArgs(1),
	}
	s.bind(c)
	c.Flags().StringVarP(&comment, "comment", "m", "", "what is to be known about it")
	c.RunE = func(c *cobra.Command, args []string) error {
		by := ""
		if u, err := user.Current(); err == nil {
			by = u.Username
		}
		body, err := json.Marshal(map[string]string{"comment": comment, "by": by})
		if err != nil {
			return err
		}
		return s.run(c, func(ctx context.Context, client *adminclient.Client) error {
			for _, id := range args {
				if _, err := client.Create(ctx, "projects/"+s.project+"/breakGlassIncidents/"+id+":"+verb, "", "", body, ""); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", printable(id), done); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c
}
