package test

import (
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/runcast/runcast/internal/cable"
)

// row is the list's row of a run, in JavaScript.
func row(id string) string {
	return `[...document.querySelectorAll("#list .run")].find((node) => node.dataset.workflow === ` + quote(id) + `)`
}

// Open the page, start a run with its form, and see the run's bar move to
// the end, in the list and in the panel.
func TestPageShowsARunToItsEnd(t *testing.T) {
	dev := startDev(t)
	ctx := browser(t)
	prefer(t, ctx, "prefers-color-scheme", "light")
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(dev.page)); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 10*time.Second, "a page that is live", `document.querySelector("#link").dataset.state === "live"`)
	until(t, ctx, 10*time.Second, "a lesson where there are no runs",
		`!document.querySelector("#empty").hidden && document.querySelector("#curl").textContent.includes(`+quote(dev.api+"/v1/workflows")+`)`)
	screenshot(t, ctx, "empty")

	if err := chromedp.Do(ctx,
		chromedp.Click("#start-open"),
		chromedp.SetValue("#start-id", "order 42/a?b"),
		chromedp.SetValue("#start-input", `{"steps": 6, "step_ms": 400, "output": true}`),
		chromedp.SetValue("#start-tags", "shop, berlin"),
		chromedp.Click("#start-submit"),
	); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 10*time.Second, "the run in the list", row("order 42/a?b")+` !== undefined`)
	// From here on every place where the two bars stand is noted.
	eval[bool](t, ctx, `(() => {
		window.seen = { list: [], panel: [] };
		const note = (name, bar) => {
			const add = () => { const now = bar.getAttribute("aria-valuenow"); if (now !== null && seen[name].at(-1) !== Number(now)) seen[name].push(Number(now)); };
			add();
			new MutationObserver(add).observe(bar, { attributes: true, attributeFilter: ["aria-valuenow"] });
		};
		note("list", `+row("order 42/a?b")+`.querySelector("[role=progressbar]"));
		note("panel", document.querySelector("#detail-bar"));
		return true;
	})()`)
	until(t, ctx, 10*time.Second, "the run half way", `Number(document.querySelector("#detail-bar").getAttribute("aria-valuenow")) >= 40`)
	screenshot(t, ctx, "running")
	until(t, ctx, 30*time.Second, "the end of the run in the panel", `document.querySelector("#detail-status").textContent === "Completed"`)
	until(t, ctx, 10*time.Second, "the end of the run in the list", row("order 42/a?b")+`.classList.contains("is-completed")`)
	until(t, ctx, 5*time.Second, "the end of the stream", `document.querySelector("#detail-link").dataset.state === "ended"`)
	// The bars are where they say, once they have come to rest.
	until(t, ctx, 5*time.Second, "a full bar", `(() => {
		const fill = document.querySelector("#detail-bar .fill").getBoundingClientRect(), bar = document.querySelector("#detail-bar").getBoundingClientRect();
		return Math.abs(fill.right - bar.right) < 1 && fill.width > 100;
	})()`)
	screenshot(t, ctx, "completed")

	seen := eval[map[string][]float64](t, ctx, `seen`)
	for name, values := range seen {
		if !slices.IsSorted(values) || len(values) < 5 || values[len(values)-1] != 100 {
			t.Errorf("the bar in the %s stood at %v; it should rise in steps to 100", name, values)
		}
	}
	if steps := eval[int](t, ctx, `document.querySelectorAll("#steps .step.is-completed").length`); steps != 6 {
		t.Errorf("%d steps are shown as completed, want 6", steps)
	}
	if tags := eval[string](t, ctx, row("order 42/a?b")+`.querySelector(".message").textContent`); !slices.ContainsFunc([]string{"#berlin #shop", "#shop #berlin"}, func(s string) bool { return len(tags) >= len(s) && tags[len(tags)-len(s):] == s }) {
		t.Errorf("the row says %q, without its tags", tags)
	}

	// The same at the width of a phone, in the dark.
	prefer(t, ctx, "prefers-color-scheme", "dark")
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	screenshot(t, ctx, "phone-panel")
	if err := chromedp.Do(ctx, chromedp.Click("#detail-close")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 5*time.Second, "the list behind the panel", `document.querySelector("#detail").hidden && location.hash === ""`)
	if over := eval[float64](t, ctx, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		t.Errorf("the page is %v px wider than a phone", over)
	}
	screenshot(t, ctx, "phone-list")
}

// A connection that is lost twice on the way loses and repeats nothing: the
// text that a run streams arrives whole, and the page says what happened.
func TestPageGoesOnAfterALostConnection(t *testing.T) {
	dev := startDev(t)
	line := cable.New(t, dev.addr)
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate("http://"+line.Addr+"/#run=cut-42")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 10*time.Second, "the panel waiting for a run that is not there yet", `document.querySelector("#detail-link").dataset.state === "live"`)
	eval[bool](t, ctx, `(() => {
		window.states = [];
		new MutationObserver(() => states.push(document.querySelector("#detail-link").dataset.state))
			.observe(document.querySelector("#detail-link"), { attributes: true, attributeFilter: ["data-state"] });
		return true;
	})()`)
	dev.run(t, "cut-42", map[string]any{"steps": 8, "step_ms": 1200, "output": true})
	for _, percent := range []string{"10", "50"} {
		until(t, ctx, 20*time.Second, percent+" percent", `Number(document.querySelector("#detail-bar").getAttribute("aria-valuenow")) >= `+percent)
		line.Pull()
		until(t, ctx, 10*time.Second, "a page that knows it is cut off", `document.querySelector("#detail-link").dataset.state === "reconnecting"`)
		line.Plug()
		until(t, ctx, 20*time.Second, "a page that is live again", `["live", "ended"].includes(document.querySelector("#detail-link").dataset.state)`)
	}
	until(t, ctx, 40*time.Second, "the end of the run", `document.querySelector("#detail-status").textContent === "Completed"`)
	texts := eval[[]string](t, ctx, `[...document.querySelectorAll("#outputs .output pre")].map((node) => node.textContent)`)
	if len(texts) != 8 {
		t.Fatalf("%d outputs, want 8: %q", len(texts), texts)
	}
	for i, text := range texts {
		if want := stepText(i+1, 8); text != want {
			t.Errorf("output %d is %q, want %q", i+1, text, want)
		}
	}
	if states := eval[[]string](t, ctx, `states`); !slices.Contains(states, "reconnecting") || states[len(states)-1] != "ended" {
		t.Errorf("the link was %q", states)
	}
	if gaps := eval[int](t, ctx, `document.querySelectorAll("#detail-gaps li").length`); gaps != 0 {
		t.Errorf("%d gaps are shown; nothing was lost", gaps)
	}
}

// What runs are called and say is text, whatever it looks like; and the
// list can be narrowed down to what is looked for.
func TestPageFiltersAndTrustsNothing(t *testing.T) {
	dev := startDev(t)
	hostile := `<img src=x onerror="document.title='owned'">`
	dev.run(t, hostile, map[string]any{"steps": 1, "step_ms": 50}, "<b>tag</b>")
	dev.run(t, "failing", map[string]any{"steps": 3, "step_ms": 50, "fail_at": 2})
	dev.run(t, "long", map[string]any{"steps": 3, "step_ms": 60_000})
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1200, 800), chromedp.Navigate(dev.page)); err != nil {
		t.Fatal(err)
	}
	ids := `[...document.querySelectorAll("#list .run")].map((node) => node.dataset.workflow).sort().join("|")`
	until(t, ctx, 20*time.Second, "three runs, two of them over", `(() => {
		const all = [...document.querySelectorAll("#list .run")];
		return all.length === 3 && all.filter((node) => node.matches(".is-completed, .is-failed")).length === 2;
	})()`)
	if first := eval[string](t, ctx, `document.querySelector("#list .run").dataset.workflow`); first != "long" {
		t.Errorf("%q stands first, and not the run that is running", first)
	}
	if n := eval[int](t, ctx, `document.querySelectorAll("#list img, #list b").length`); n != 0 {
		t.Errorf("text from outside became %d elements", n)
	}
	if title := eval[string](t, ctx, `document.title`); title != "1 running – Runcast" {
		t.Errorf("the title is %q", title)
	}
	for _, tt := range []struct{ status, text, want string }{
		{"active", "", "long"},
		{"completed", "", hostile},
		{"unhappy", "", "failing"},
		{"", "ONERROR", hostile},
		{"", "step 2 failed", "failing"},
		{"completed", "long", ""},
		{"", "", hostile + "|failing|long"},
	} {
		eval[bool](t, ctx, `(() => {
			document.querySelector('#filter input[name="status"][value="`+tt.status+`"]').click();
			const find = document.querySelector("#find");
			find.value = `+quote(tt.text)+`;
			find.dispatchEvent(new Event("input", { bubbles: true }));
			return true;
		})()`)
		until(t, ctx, 5*time.Second, "the runs that match "+tt.status+" "+tt.text, ids+` === `+quote(tt.want))
	}

	// Nothing that shows state is nameless for those who do not see it.
	nameless := eval[[]string](t, ctx, `[...document.querySelectorAll("[role=progressbar], input, textarea, button, a")]
		.filter((node) => !(node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.textContent.trim() || node.labels?.length))
		.map((node) => node.outerHTML)`)
	if len(nameless) > 0 {
		t.Errorf("without a name: %q", nameless)
	}

	// The keyboard alone opens a run and closes it, and comes back to where
	// it was.
	eval[bool](t, ctx, row(hostile)+`.querySelector("a").focus() ?? true`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 10*time.Second, "the panel with the run", `document.querySelector("#detail-title").textContent === `+quote(hostile)+` && document.querySelector("#detail-status").textContent === "Completed"`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\u001b")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 5*time.Second, "the list, with the run in focus", `document.querySelector("#detail").hidden && document.activeElement === `+row(hostile)+`.querySelector("a")`)
	if title := eval[string](t, ctx, `document.title`); title != "1 running – Runcast" {
		t.Errorf("the title is %q", title)
	}
}
