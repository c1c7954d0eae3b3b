package webhook_test

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"sync"

	"github.com/runcast/runcast/pkg/webhook"
)

// A receiver that can be told everything twice: it knows each message by its
// ID, and each state by its place, since what was a dead letter may come after
// what is newer. In a real one both would be in the database, written together
// with what the state changes there.
func ExampleKeys_Verify() {
	// Its own secret, as `runcast push-secret` prints it.
	keys, err := webhook.ParseKeys("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	if err != nil {
		log.Fatal(err)
	}
	type place struct{ Started, Version int64 }
	var (
		mu     sync.Mutex
		seen   = make(map[string]bool)  // IDs
		newest = make(map[string]place) // by workflow ID
	)
	http.HandleFunc("POST /runcast", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhook.MaxBody))
		if err != nil {
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
			return
		}
		id, err := keys.Verify(r.Header, body)
		if err != nil {
			http.Error(w, "not signed by us", http.StatusUnauthorized)
			return
		}
		var post struct {
			WorkflowID string `json:"workflow_id"`
			Data       place  `json:"data"`
		}
		if err := json.Unmarshal(body, &post); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		last, now := newest[post.WorkflowID], post.Data
		if !seen[id] && (now.Started > last.Started || now.Started == last.Started && now.Version > last.Version) {
			newest[post.WorkflowID] = now // and what else there is to do
		}
		seen[id] = true
		w.WriteHeader(http.StatusNoContent) // a double was taken, too
	})
}
