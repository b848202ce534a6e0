package figures

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// WriteJSON writes a report to a file, or to stdout without a path.
func WriteJSON(report any, path string, stdout io.Writer) error {
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	text = append(text, '\n')
	if path == "" {
		_, err = stdout.Write(text)
	} else {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
