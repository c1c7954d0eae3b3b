package subscriber_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/runcast/runcast/pkg/progress"
)

func TestSnapshotUpdatesEnd(t *testing.T) {
	each(t, func(t *testing.T, open func(*node, string, string) client) {
		n := start(t)
		c := open(n, "order-42", "")
		f := expect(t, c, "snapshot")
		if f.ID != "0-0" || f.snapshot(t).WorkflowID != "order-42" {
			t.Errorf("the first snapshot is %s %s", f.ID, f.Data)
		}
		r := newRun(t, n.store, "order-42", "run-1")
		want := []progress.Position{r.add(progress.TypeStarted)}
		for i := range 10 {
			want = append(want, r.log(fmt.Sprint("line ", i)))
		}
		for i, pos := range want {
			f := expect(t, c, "update")
			if f.ID != pos.String() || f.event(t).Seq != int64(i+1) {
				t.Fatalf("update %d: id %s, data %s; want position %s", i, f.ID, f.Data, pos)
			}
		}
		end := r.add(progress.TypeClosed)
		f = expect(t, c, "end")
		if f.ID != end.String() || f.event(t).Type != progress.TypeClosed {
			t.Errorf("end %s %s, want position %s", f.ID, f.Data, end)
		}
		expectEOF(t, c)

		// A viewer who comes now gets snapshot and end.
		c = open(n, "order-42", "")
		if f := expect(t, c, "snapshot"); f.ID != end.String() || f.snapshot(t).Status != progress.StatusCompleted {
			t.Errorf("snapshot %s %s", f.ID, f.Data)
		}
		if f := expect(t, c, "end"); f.ID != end.String() {
			t.Errorf("end %s, want %s", f.ID, end)
		}
		expectEOF(t, c)

		// One who has seen it all gets nothing more.
		if s, ok := c.(*sseClient); ok {
			res, _ := getVia(t, s.via, s.res.Request.URL.String(), "Last-Event-ID", end.String())
			if res.StatusCode != http.StatusNoContent {
				t.Errorf("got %s, want 204", res.Status)
			}
		} else {
			expectEOF(t, open(n, "order-42", "?after="+end.String()))
		}
	})
}
