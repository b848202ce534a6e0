package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Profiles are there only when asked for, and everything else stays as it was.
func TestProfilesOnlyWhenAskedFor(t *testing.T) {
	plain := Handler(fakeCluster{}, nil)
	for _, c := range []struct {
		handler http.Handler
		path    string
		status  int
	}{
		{plain, "/debug/pprof/heap", 404},
		{WithProfiles(plain), "/debug/pprof/heap", 200},
		{WithProfiles(plain), "/v1/jobs", 200},
		{WithProfiles(plain), "/nothing", 404},
	} {
		rec := httptest.NewRecorder()
		c.handler.ServeHTTP(rec, httptest.NewRequest("GET", c.path, nil))
		if rec.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.path, rec.Code, c.status)
		}
	}
}
