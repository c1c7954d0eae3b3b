package test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Type an SMS into the page, and watch the agents answer it: the box beside
// the list, the run's steps and output in the panel, the reply in the outbox.
func TestPageTakesAnSMS(t *testing.T) {
	dev := startDev(t)
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(dev.page)); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 10*time.Second, "the box", `!document.querySelector("#sms").hidden`)
	if err := chromedp.Do(ctx, chromedp.Click("#sms-send")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 5*time.Second, "what is missing", `!document.querySelector("#sms-error").hidden`)
	if err := chromedp.Do(ctx, chromedp.SendKeys("#sms-text", "log 8h on apollo yesterday\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 30*time.Second, "the end of the run in the panel", `document.querySelector("#detail-status").textContent === "Completed"`)
	for _, step := range []string{"Router", "Timesheet agent", "Composer", "Send", "Delivery"} {
		if !strings.Contains(eval[string](t, ctx, `document.querySelector("#steps").textContent`), step) {
			t.Errorf("the panel does not show %s", step)
		}
	}
	if text := eval[string](t, ctx, `document.querySelector("#detail").textContent`); !strings.Contains(text, "Recorded 8 h on apollo yesterday.") {
		t.Errorf("the panel does not show the reply: %q", text)
	}
	screenshot(t, ctx, "sms")
	if over := eval[float64](t, ctx, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		t.Errorf("the page is %v px too wide", over)
	}
	list, err := redisClient(t, dev.redis, "").XRange(t.Context(), "outbox", "-", "+").Result()
	if err != nil || len(list) != 1 || list[0].Values["text"] != "Recorded 8 h on apollo yesterday." {
		t.Errorf("outbox = %v, %v", list, err)
	}
}
