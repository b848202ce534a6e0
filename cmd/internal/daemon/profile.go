package daemon

import (
	"net/http"

	"github.com/sluice-stream/sluice/web"
)

const pprofUsage = "serve Go's profiles at /debug/pprof/ of --http"

// profiled adds the profiles to what is served over HTTP, if the operator asks for them.
func profiled(asked bool, h http.Handler) http.Handler {
	if !asked {
		return h
	}
	return web.WithProfiles(h)
}
