package webhook_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

// The receiver of the example, told by the sender: what is doubled, late or not
// signed for it changes nothing, whatever comes of it, and a newer run counts,
// also where it says that it began earlier.
func TestInbox(t *testing.T) {
	var b *inbox
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) { b.ServeHTTP(w, r) })
	k, err := keys(t, secret).For(srv.URL + "/runcast")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = newInbox(k.Secrets()...); err != nil {
		t.Fatal(err)
	}
	ours := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")})
	other := sender(t, webhook.Options{Keys: keys(t, newSecret), Allow: allow(t, "127.0.0.1")})
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	body := func(started, seconds, version int64) string {
		return fmt.Sprintf(`{"workflow_id":"a","data":{"started":%d,"version":%d,"time":%q}}`, started*1000, version, at(seconds).Format(time.RFC3339))
	}
	for _, tt := range []struct {
		what, id, body string
		by             *webhook.Sender
		status         int // of a refusal
		want           state
		took           int
	}{
		{"the first", "1", body(100, 100, 1), ours, 0, state{Time: at(100), Version: 1}, 1},
		{"of somebody else", "2", body(100, 100, 2), other, 401, state{Time: at(100), Version: 1}, 1},
		{"the same ID, which was refused before", "2", body(100, 100, 2), ours, 0, state{Time: at(100), Version: 2}, 2},
		{"a double", "2", body(100, 100, 2), ours, 0, state{Time: at(100), Version: 2}, 2},
		{"a known ID with something else", "2", body(100, 100, 9), ours, 0, state{Time: at(100), Version: 2}, 2},
		{"the same state to another subscriber", "2b", body(100, 100, 2), ours, 0, state{Time: at(100), Version: 2}, 2},
		{"one that jumps", "5", body(100, 100, 5), ours, 0, state{Time: at(100), Version: 5}, 3},
		{"a late letter", "4", body(100, 100, 4), ours, 0, state{Time: at(100), Version: 5}, 3},
		{"another run", "6", body(200, 200, 1), ours, 0, state{Time: at(200), Version: 1}, 4},
		{"a late letter of the run before", "7", body(100, 100, 8), ours, 0, state{Time: at(200), Version: 1}, 4},
		{"no JSON", "8", "{", ours, 400, state{Time: at(200), Version: 1}, 4},
		{"a run that a reset made of the first", "9", body(101, 300, 6), ours, 0, state{Time: at(300), Version: 6}, 5},
	} {
		err := tt.by.Send(t.Context(), webhook.Message{ID: tt.id, URL: srv.URL + "/runcast", Body: []byte(tt.body)})
		status := 0
		var refused *webhook.Error
		if errors.As(err, &refused) {
			status = refused.Status
		}
		if (err == nil) != (tt.status == 0) || status != tt.status || b.newest["a"] != tt.want || b.took != tt.took {
			t.Errorf("%s: %v; it has %+v, and took %d states", tt.what, err, b.newest["a"], b.took)
		}
	}
	// Somebody who has kept a message, or makes a large one.
	long := strings.Repeat(" ", webhook.MaxBody+1)
	for _, tt := range []struct {
		body   string
		at     time.Time
		status int
	}{
		{body(300, 300, 1), time.Now().Add(-6 * time.Minute), 401},
		{long, time.Now(), 413},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/runcast", bytes.NewReader([]byte(tt.body)))
		if err == nil {
			err = k.Sign(req.Header, "9", tt.at, []byte(tt.body))
		}
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status || b.took != 5 {
			t.Errorf("%d bytes of %v: %s, and it took %d states", len(tt.body), tt.at, res.Status, b.took)
		}
	}
}
