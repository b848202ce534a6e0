package kafka

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/PROPERTIES.md anew")

const propertiesDoc = "../../docs/PROPERTIES.md"

// TestPropertiesDocument keeps docs/PROPERTIES.md the table in the code; -update writes it.
func TestPropertiesDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Kafka properties\n\nWritten from the table in `connector/kafka/property.go` by `go test ./connector/kafka -run Document -update`.\n" +
		"Any other name is refused at submit. Secrets are written as `${env:NAME}` or `${file:PATH}`.\n\n" +
		"| name | for | type | default | meaning |\n|---|---|---|---|---|\n")
	for _, p := range Properties() {
		kind := p.Type.String()
		if len(p.Values) > 0 {
			kind = strings.Join(p.Values, ", ")
		} else if p.Max > 0 {
			kind = fmt.Sprintf("%s, %d to %d", kind, p.Min, p.Max)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", p.Name, p.Role(), kind, p.Default, strings.ReplaceAll(p.Doc, "|", `\|`))
	}
	if *update {
		if err := os.WriteFile(propertiesDoc, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(propertiesDoc)
	if err != nil || string(have) != b.String() {
		t.Errorf("docs/PROPERTIES.md is not the table in the code (%v): go test ./connector/kafka -run Document -update", err)
	}
}
