package test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browser starts a Chromium with a fresh profile and returns the context of
// its first tab. What the pages complain about on their console fails the
// test.
func browser(t *testing.T) context.Context {
	t.Helper()
	profile, err := os.MkdirTemp("", "runcast-browser-")
	if err != nil {
		t.Fatal(err)
	}
	// Chromium's children may still write for a moment after it has ended,
	// which t.TempDir would take for a failure.
	t.Cleanup(func() {
		for deadline := time.Now().Add(5 * time.Second); os.RemoveAll(profile) != nil && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
	})
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(profile),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
	}
	for _, name := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync",
		"disable-dev-shm-usage", "disable-background-timer-throttling", "disable-renderer-backgrounding",
		"disable-backgrounding-occluded-windows", "hide-scrollbars", "metrics-recording-only",
	} {
		options = append(options, chromedp.Flag(name, true))
	}
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	watchConsole(t, ctx)
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return limited
}

// chromium returns the path of the browser. A machine without one fails the
// test, unless its owner said that servers and browsers are to be left out.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("RUNCAST_TEST_SKIP_SERVERS") != "" && os.Getenv("CI") != "true" {
		t.Skip("no Chromium, and RUNCAST_TEST_SKIP_SERVERS is set")
	}
	t.Fatal("no Chromium on the PATH: run `make test`, which installs it, or set RUNCAST_TEST_SKIP_SERVERS=1")
	return ""
}

func watchConsole(t *testing.T, ctx context.Context) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	messages := chromedp.Console(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			text, err := json.Marshal(m)
			if err != nil {
				continue
			}
			// A stream that a test cuts off is logged by the browser itself.
			if strings.Contains(string(text), "net::ERR_") || strings.Contains(string(text), "Failed to load resource") {
				continue
			}
			t.Errorf("the page's console says %s", text)
		}
	})
	t.Cleanup(func() { cancel(); wait.Wait() })
}

// eval evaluates JavaScript in the page; a promise is awaited.
func eval[T any](t *testing.T, ctx context.Context, script string) T {
	t.Helper()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%v, in\n%s", err, clip(script))
	}
	return value
}

func clip(text string) string {
	if len(text) > 500 {
		return text[:500] + "…"
	}
	return text
}

// until waits for a JavaScript condition, which says more when it throws or
// when the time is over: then its last value is in the failure.
func until(t *testing.T, ctx context.Context, limit time.Duration, what, script string) {
	t.Helper()
	within(t, limit, what, func(context.Context) error {
		value, err := chromedp.Run(ctx, chromedp.Evaluate[string](
			`(async () => { const value = await (`+script+`); return value === true ? "" : "it is " + JSON.stringify(value ?? null); })()`,
			chromedp.EvalAwaitPromise))
		if err != nil {
			return err
		}
		if value != "" {
			return &conditionError{value}
		}
		return nil
	})
}

type conditionError struct{ text string }

func (e *conditionError) Error() string { return e.text }

// screenshot keeps a picture of the page for people, in the folder that
// RUNCAST_TEST_SCREENSHOTS names, or for the time of the test.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if len(png) < 5000 {
		t.Errorf("the picture %s has %d bytes: it cannot show much", name, len(png))
	}
	dir := os.Getenv("RUNCAST_TEST_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// prefer sets a media feature, such as the color scheme.
func prefer(t *testing.T, ctx context.Context, feature, value string) {
	t.Helper()
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// quote returns text as a JavaScript string.
func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always encodes
	}
	return string(b)
}
