package httpserve_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/internal/httpserve"
)

func TestAwaitReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked++; asked < 4 || r.URL.Path != "/readyz" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprintln(w, "an answer")
		})
		if !httpserve.AwaitReady(t.Context(), handler) || asked != 4 {
			t.Errorf("not ready after %d questions", asked)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if httpserve.AwaitReady(ctx, http.NotFoundHandler()) {
			t.Error("a 404 was taken for ready")
		}
	})
}
