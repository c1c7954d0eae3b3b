package strategy

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"sync"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/webhook"
)

// seenMax bounds how many IDs of messages a [Receiver] remembers.
const seenMax = 4096

// Receiver takes what runs send to the watchers of this process. It is an
// http.Handler, to be served where workers can reach it, and safe for use by
// many goroutines.
//
// It is idempotent: a message that comes again is taken, and changes nothing.
type Receiver struct {
	keys webhook.Keys
	url  string

	mu    sync.Mutex
	boxes map[string]*mailbox
	// seen are the IDs of the newest messages, order the same as a ring.
	seen  map[string]bool
	order []string
	next  int
	stats map[string]ReceiverStats // by strategy
}

// ReceiverStats counts what came since the receiver was made.
type ReceiverStats struct {
	// Taken were for a watcher, Doubles had come before.
	Taken, Doubles int64
	// Strays were for a watcher who is not there any more, or never was.
	Strays int64
	// Refused were not signed as they must be, or cannot be read.
	Refused int64
}

// unknownStrategy is in the place of the strategy of what is refused: what it
// says of itself cannot be trusted.
const unknownStrategy = "unknown"

// NewReceiver returns a receiver that workers reach at the URL, which is where
// its handler is served. It verifies with the keys that are this URL's among
// those of the deployment.
func NewReceiver(keys webhook.Keys, rawURL string) (*Receiver, error) {
	if keys.Empty() {
		return nil, errors.New("strategy: a receiver needs the secrets of its workers; set RUNCAST_PUSH_SECRETS")
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("strategy: %q is not the URL of a receiver, such as http://127.0.0.1:8081/v1/strategies/callback", webhook.Redacted(rawURL))
	}
	if keys, err = keys.For(rawURL); err != nil {
		return nil, fmt.Errorf("strategy: %w", err)
	}
	return &Receiver{
		keys: keys, url: rawURL, boxes: make(map[string]*mailbox), seen: make(map[string]bool),
		stats: map[string]ReceiverStats{Signal: {}, Push: {}, unknownStrategy: {}},
	}, nil
}

// Stats returns the counts so far, by the strategy that is sent such messages;
// what was refused is of an "unknown" one.
func (r *Receiver) Stats() map[string]ReceiverStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.stats)
}

// count changes the counts of a strategy. The mutex is held.
func (r *Receiver) count(strategy string, change func(*ReceiverStats)) {
	s := r.stats[strategy]
	change(&s)
	r.stats[strategy] = s
}

// ServeHTTP takes one webhook.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		problem.MethodNotAllowed(w, req, http.MethodPost)
		return
	}
	post, id, p := r.read(w, req)
	if p != nil {
		r.mu.Lock()
		r.count(unknownStrategy, func(s *ReceiverStats) { s.Refused++ })
		r.mu.Unlock()
		problem.Write(w, *p)
		return
	}
	if !r.dispatch(id, post) {
		// The sender drops the subscription for it.
		problem.Write(w, problem.Problem{Status: http.StatusGone, Detail: "Nobody here follows under this subscription any more."})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Receiver) read(w http.ResponseWriter, req *http.Request) (*handlers.Post, string, *problem.Problem) {
	if media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, "", &problem.Problem{Status: http.StatusUnsupportedMediaType, Detail: "A webhook is JSON, with the header Content-Type: application/json."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, webhook.MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, "", &problem.Problem{
			Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("The body is longer than %d bytes.", tooLarge.Limit),
		}
	}
	if err != nil {
		return nil, "", &problem.Problem{Status: http.StatusBadRequest, Detail: "The body cannot be read."}
	}
	id, err := r.keys.Verify(req.Header, body)
	if err != nil {
		return nil, "", &problem.Problem{
			Status: http.StatusUnauthorized,
			Detail: fmt.Sprintf("It cannot be verified: %v. RUNCAST_PUSH_SECRETS must be the same here and on the workers, and their clocks right; and RUNCAST_CALLBACK_URL names where workers reach this.", err),
		}
	}
	var post handlers.Post
	if err := json.Unmarshal(body, &post); err != nil || post.Strategy() == "" || post.Data.Started <= 0 || post.Data.Version <= 0 {
		return nil, "", &problem.Problem{Status: http.StatusBadRequest, Detail: "The body is not what a run sends to its subscribers."}
	}
	return &post, id, nil
}

// dispatch hands a message over, and reports whether there is a watcher.
func (r *Receiver) dispatch(id string, post *handlers.Post) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[post.Subscriber]
	switch {
	case r.seen[id]:
		r.count(post.Strategy(), func(s *ReceiverStats) { s.Doubles++ })
		return true
	case box == nil:
		r.count(post.Strategy(), func(s *ReceiverStats) { s.Strays++ })
		return false
	}
	r.count(post.Strategy(), func(s *ReceiverStats) { s.Taken++ })
	if len(r.order) < seenMax {
		r.order = append(r.order, id)
	} else {
		delete(r.seen, r.order[r.next])
		r.order[r.next] = id
		r.next = (r.next + 1) % seenMax
	}
	r.seen[id] = true
	box.put(post)
	return true
}

// open returns a new watcher's mailbox. Close it.
func (r *Receiver) open() *mailbox {
	b := &mailbox{receiver: r, id: rand.Text(), wake: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boxes[b.id] = b
	return b
}

// mailbox holds the newest message for a watcher. The receiver's lock guards it.
type mailbox struct {
	receiver *Receiver
	// id is the subscription's.
	id string
	// wake holds a token while there may be a message.
	wake   chan struct{}
	newest *handlers.Post
}

// put takes a message unless one is there whose state is newer by its time, or
// where that is the same by its version, of whatever run.
func (b *mailbox) put(post *handlers.Post) {
	if old := b.newest; old != nil {
		o, p := &old.Data, &post.Data
		if cmp.Or(o.Time.Compare(p.Time), cmp.Compare(o.Version, p.Version)) > 0 {
			return
		}
	}
	b.newest = post
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns the newest message that was not taken yet, or nil.
func (b *mailbox) take() *handlers.Post {
	b.receiver.mu.Lock()
	defer b.receiver.mu.Unlock()
	post := b.newest
	b.newest = nil
	return post
}

// peek returns it and leaves it there.
func (b *mailbox) peek() *handlers.Post {
	b.receiver.mu.Lock()
	defer b.receiver.mu.Unlock()
	return b.newest
}

// putBack leaves a message for later, unless there is a newer one.
func (b *mailbox) putBack(post *handlers.Post) {
	b.receiver.mu.Lock()
	defer b.receiver.mu.Unlock()
	if b.newest == nil {
		b.put(post)
	}
}

// full reports whether there is a message.
func (b *mailbox) full() bool { return b.peek() != nil }

func (b *mailbox) close() {
	b.receiver.mu.Lock()
	defer b.receiver.mu.Unlock()
	delete(b.receiver.boxes, b.id)
}
