package main

import (
	"fmt"

	"github.com/sluice-stream/sluice/web"
)

// publicationText says how publishing goes at a place.
func publicationText(p *web.Publication) string {
	text := fmt.Sprintf("%s in %s: ", p.Source, p.Storage)
	switch {
	case p.Checkpoint > 0:
		text += fmt.Sprintf("of checkpoint %d, published %s ago", p.Checkpoint, ago(p.PublishedAt))
	case p.Error == "":
		text += "not published yet"
	default:
		text += "not published since the job manager started"
	}
	if p.Error != "" {
		text += fmt.Sprintf("; fails for %s: %s", ago(p.FailingSince), p.Error)
	}
	return text
}
