package apiservice

import (
	"net/http"
	"testing"

	"github.com/runcast/runcast/pkg/progress"
)

// Who comes when the run has closed gets its last state and its end, by every
// strategy; who has that already is told that there is no more.
func TestClosedRun(t *testing.T) {
	s := serveStrategies(t, "", true)
	for _, tt := range []struct {
		name string
		n    int64
		want string
	}{
		{"completed", 0, `"status":"completed"`},
		{"failed", -1, `"status":"failed"`},
	} {
		id := s.start(t)
		s.count(t, id, 7)
		s.count(t, id, tt.n)
		_ = s.client.GetWorkflow(t.Context(), id, "").Get(t.Context(), nil) // to its end, however
		eventually(t, "end in Redis", func() bool {
			snap, err := s.store.Snapshot(t.Context(), id)
			return err == nil && snap.Status != "" && snap.Status != progress.StatusRunning
		})
		for _, name := range s.names {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				v := sse(t, t.Context(), name, s.stream(name, id))
				snapshot := v.sees("")
				end := v.ends(tt.want)
				if snapshot.kind != "snapshot" || !snapshot.has(`"current":7`) || len(v.got) != 2 {
					t.Errorf("got %+v", v.got)
				}
				if tt.n < 0 && !end.has("the oven is cold") {
					t.Errorf("the end does not say why: %s", end.data)
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.stream(name, id), nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Last-Event-ID", end.id)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if res.StatusCode != http.StatusNoContent {
					t.Errorf("with the position of the end: %s", res.Status)
				}
			})
		}
	}
}
