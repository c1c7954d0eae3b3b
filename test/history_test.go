package test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// The panel shows a run's lines from before it was opened, also where each
// page of history is much shorter than asked for, as large events make it.
func TestPageShowsHistoryThatComesInShortPages(t *testing.T) {
	redis := "redis://" + startRedis(t)
	store, err := redisstore.Open(t.Context(), redis, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	const lines = 250
	a := redisstore.Append{WorkflowID: "w", Fence: redisstore.Fence{RunID: "r", Chain: "r", RunTime: time.Now()}}
	for range lines {
		a.Events = append(a.Events, progress.Event{
			WorkflowID: "w", RunID: "r", Chain: "r", Type: progress.TypeLog, Time: time.Now(), Message: "packed",
		})
	}
	if _, err := store.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	start(t, []string{"REDIS_URL=" + redis, "RUNCAST_SUBSCRIBER_ADDR=" + addr}, build(t, "./cmd/subscriber"))
	within(t, time.Minute, "the subscriber", func(ctx context.Context) error {
		return expectStatus(ctx, "http://"+addr+"/readyz", http.StatusOK)
	})
	front := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		if strings.HasSuffix(r.Out.URL.Path, "/events") {
			q := r.Out.URL.Query()
			q.Set("limit", "5")
			r.Out.URL.RawQuery = q.Encode()
		}
	}})
	defer front.Close()
	defer front.CloseClientConnections() // the page's streams

	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(front.URL+"/#run=w")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 20*time.Second, "all lines", fmt.Sprintf(`document.querySelectorAll("#log li").length === %d`, lines))
}
