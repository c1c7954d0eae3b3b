package webhook_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

// inbox is a receiver that can be told everything twice: it knows each message
// by its ID, and each state by its place, since what was a dead letter may come
// after what is newer. In a real one both would be in the database, written
// together with what the state changes there.
type inbox struct {
	// keys are its own: their secrets are what `runcast push-secret` prints.
	keys webhook.Keys

	mu     sync.Mutex
	seen   map[string]bool  // IDs
	newest map[string]state // by workflow ID
	took   int              // states
}

// state is what the inbox keeps of a run.
type state struct {
	// Time is when it was. Several versions of a run may have the same.
	Time    time.Time
	Version int64
	Percent float64
}

func newInbox(secrets ...string) (*inbox, error) {
	keys, err := webhook.ParseKeys(secrets...)
	return &inbox{keys: keys, seen: make(map[string]bool), newest: make(map[string]state)}, err
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhook.MaxBody))
	if err != nil {
		http.Error(w, "too long", http.StatusRequestEntityTooLarge)
		return
	}
	id, err := b.keys.Verify(r.Header, body)
	if err != nil {
		http.Error(w, "not signed by us", http.StatusUnauthorized)
		return
	}
	var post struct {
		WorkflowID string `json:"workflow_id"`
		Data       state  `json:"data"`
	}
	if err := json.Unmarshal(body, &post); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	b.take(id, post.WorkflowID, post.Data)
	w.WriteHeader(http.StatusNoContent) // a double was taken, too
}

func (b *inbox) take(id, workflowID string, now state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[id] {
		return
	}
	b.seen[id] = true
	last := b.newest[workflowID]
	if cmp.Or(now.Time.Compare(last.Time), cmp.Compare(now.Version, last.Version)) <= 0 {
		return
	}
	b.newest[workflowID] = now // and what else there is to do
	b.took++
}

// A receiver of what runs push: the second message comes twice, and the first
// one, a dead letter by then, comes last.
func ExampleKeys_Verify() {
	b, err := newInbox("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range []struct{ id, body string }{
		{"msg_2", `{"workflow_id":"order-42","data":{"time":"2025-11-25T02:34:41Z","version":2,"percent":50}}`},
		{"msg_2", `{"workflow_id":"order-42","data":{"time":"2025-11-25T02:34:41Z","version":2,"percent":50}}`},
		{"msg_1", `{"workflow_id":"order-42","data":{"time":"2025-11-25T02:34:40Z","version":1,"percent":10}}`},
	} {
		r := httptest.NewRequest(http.MethodPost, "/runcast", strings.NewReader(m.body))
		if err := b.keys.Sign(r.Header, m.id, time.Now(), []byte(m.body)); err != nil {
			log.Fatal(err)
		}
		answer := httptest.NewRecorder()
		b.ServeHTTP(answer, r)
		fmt.Println(m.id, answer.Code, b.newest["order-42"].Percent)
	}
	fmt.Println("states taken:", b.took)
	// Output:
	// msg_2 204 50
	// msg_2 204 50
	// msg_1 204 50
	// states taken: 1
}
