package httpserve

import (
	"context"
	"net/http"
	"time"
)

// readyEvery is how often AwaitReady asks.
const readyEvery = 250 * time.Millisecond

// AwaitReady asks handler for /readyz until the answer is 200, and reports
// whether it was before ctx ended. It needs no listener.
func AwaitReady(ctx context.Context, handler http.Handler) bool {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil)
		if err != nil {
			return false
		}
		answer := status{header: make(http.Header)}
		handler.ServeHTTP(&answer, req)
		if answer.code == http.StatusOK && ctx.Err() == nil {
			return true
		}
		select {
		case <-time.After(readyEvery):
		case <-ctx.Done():
			return false
		}
	}
}

// status is a ResponseWriter that keeps the status only.
type status struct {
	header http.Header
	code   int // 0: nothing was written yet
}

func (s *status) Header() http.Header { return s.header }

func (s *status) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
}

func (s *status) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return len(p), nil
}
