package main

import (
	"fmt"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/sluice-stream/sluice/connector/kafka"
)

// propertyView is one property in JSON. Min and Max are of numbers; Values of choices.
type propertyView struct {
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Type    string   `json:"type"`
	Min     *int64   `json:"min"`
	Max     *int64   `json:"max"`
	Values  []string `json:"values"`
	Default string   `json:"default"`
	Doc     string   `json:"doc"`
}

func (c *cli) propertiesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "properties [NAME]", Short: "List the Kafka properties that a job may set", GroupID: "more", ValidArgsFunction: completeProperties,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("properties takes NAME or nothing; got %s; see `%s --help`", given(args), cmd.CommandPath())
			}
			return nil
		},
		Long: `List the Kafka properties that sources and sinks of a job may set, with type, range, default and meaning, or show
one. Every other name is refused when a job is validated. Needs no job manager.`,
		Example: "  sluice properties\n  sluice properties linger.ms\n  sluice properties -o json | jq -r '.[] | select(.role == \"sink\").name'",
		RunE: func(_ *cobra.Command, args []string) error {
			list := kafka.Properties()
			if len(args) == 1 {
				p, err := kafka.LookUpProperty(args[0])
				if err != nil {
					return &exitError{exitNotFound, fmt.Errorf("%w; `sluice properties` lists all", err)}
				}
				list = []kafka.Property{p}
			}
			if c.output == outputJSON {
				views := []propertyView{}
				for i := range list {
					views = append(views, viewOf(&list[i]))
				}
				return c.printJSON(views)
			}
			if len(args) == 1 {
				c.printProperty(&list[0])
				return nil
			}
			t := c.table("NAME", "FOR", "TYPE", "DEFAULT", "MEANING")
			t.SetColumnConfigs([]table.ColumnConfig{
				{Name: "TYPE", WidthMax: propertyTypeWidth, WidthMaxEnforcer: text.WrapSoft}, {Name: "MEANING", WidthMax: propertyDocWidth, WidthMaxEnforcer: text.WrapSoft},
			})
			for i := range list {
				p := &list[i]
				t.AppendRow(table.Row{p.Name, p.Role(), typeOf(p), p.Default, p.Doc})
			}
			t.Render()
			return nil
		},
	}
}

// The widths at which columns of the table are broken.
const (
	propertyTypeWidth = 32
	propertyDocWidth  = 80
)

func viewOf(p *kafka.Property) propertyView {
	v := propertyView{Name: p.Name, Role: p.Role(), Type: p.Type.String(), Values: append([]string{}, p.Values...), Default: p.Default, Doc: p.Doc}
	if p.Max > 0 {
		v.Min, v.Max = &p.Min, &p.Max
	}
	return v
}

// typeOf is the type with its range.
func typeOf(p *kafka.Property) string {
	switch {
	case len(p.Values) > 0:
		return p.Range()
	case p.Range() != "":
		return p.Type.String() + ", " + p.Range()
	default:
		return p.Type.String()
	}
}

func (c *cli) printProperty(p *kafka.Property) {
	role := p.Role()
	if p.Source && p.Sink {
		role = "source and sink"
	}
	byDefault := "none"
	if p.Default != "" {
		byDefault = strconv.Quote(p.Default)
	}
	for _, line := range [][2]string{{"name", p.Name}, {"for", role}, {"type", typeOf(p)}, {"default", byDefault}, {"meaning", p.Doc}} {
		fmt.Fprintf(c.stdout, "%-8s %s\n", line[0], line[1])
	}
}

// completeProperties offers the names of properties to the shell.
func completeProperties(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range kafka.Properties() {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
