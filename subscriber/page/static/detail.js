// One run in full: its own stream, with steps, log lines, streamed text, and
// every gap said out loud.

import { follow, isTerminal } from "./runcast.js";
import { counted, gapReason, moment, percentText, statusOf, took } from "./format.js";
import { makeRecords } from "./records.js";
import { arrange, byId, el, makeBar, setBar, setMark, setText, setTone } from "./view.js";

const LINK = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", ended: "Ended", paused: "Paused" };
const MOST_GAPS = 5;

/**
 * Runs the detail panel.
 *
 * @param {{now: function(): number, onSnapshot: function(string, object),
 *   onFollowed: function(string, boolean), onClose: function()}} page
 */
export function startDetail(page) {
  const panel = byId("detail");
  const steps = new Map(); // step name -> elements
  const records = makeRecords();
  let id = "", run = "", stream = null, snapshot = null, ended = false, frame = 0, paused = false;

  function open(workflow, newRun = "") {
    if (workflow === id && !newRun) return;
    stop();
    id = workflow;
    run = newRun;
    snapshot = null;
    steps.clear();
    byId("steps").replaceChildren();
    byId("detail-gaps").replaceChildren();
    byId("detail-gaps").hidden = true;
    records.clear();
    setText(byId("detail-title"), id);
    panel.hidden = false;
    byId("stage").classList.add("open");
    byId("detail-body").scrollTop = 0;
    draw();
    start();
  }

  function start() {
    ended = false;
    const path = `/v1/workflows/${encodeURIComponent(id)}`;
    const url = `${path}/stream${run ? `?run=${encodeURIComponent(run)}` : ""}`;
    stream = follow(url, {
      onSnapshot(s) {
        snapshot = s;
        records.begin(s);
        for (const record of s.records ?? []) records.add(record);
        backfill(path, s);
        changed();
      },
      onUpdate(event, s) {
        snapshot = s ?? snapshot;
        records.add(event);
        changed();
      },
      onGap: showGap,
      onEnd(event, s) {
        snapshot = s ?? snapshot;
        ended = true;
        changed();
      },
      onState: showState,
    });
  }

  function stop() {
    page.onFollowed(id, false);
    stream?.close();
    stream = null;
  }

  // backfill reads what was logged before this viewer came. The snapshot has
  // the state and the open output; older lines are history, read in pages up
  // to the snapshot. What is newer comes from the stream. A page of large
  // events is short, so how many they are says nothing.
  async function backfill(path, s) {
    if (s.seq === 0 || !s.first_seq) return;
    const mine = id;
    let after = "";
    try {
      for (;;) {
        const query = new URLSearchParams({ limit: "1000", ...(after ? { after } : {}) });
        const response = await fetch(`${path}/events?${query}`, { cache: "no-store" });
        if (!response.ok) return;
        const body = await response.json();
        if (mine !== id) return;
        const events = body.events ?? [];
        for (const event of events) records.add(event);
        changed();
        after = body.next;
        if (!body.more || !(events.at(-1)?.seq < s.seq)) return;
      }
    } catch {
      // Without the history the panel still shows all that is live.
    }
  }

  function showState(state) {
    page.onFollowed(id, state === "live");
    const link = byId("detail-link");
    link.dataset.state = state;
    setText(byId("detail-link-text"), LINK[state]);
  }

  function showGap(gap) {
    const list = byId("detail-gaps");
    const from = gap.from && gap.from !== "0-0" ? `from ${gap.from} ` : "";
    list.append(el("li", "", `${gapReason(gap.reason)} Gap ${from}to ${gap.to}.`));
    while (list.children.length > MOST_GAPS) list.firstElementChild.remove();
    list.hidden = false;
  }

  // changed draws at most once per frame of the screen, however fast events
  // come in.
  function changed() {
    if (snapshot) page.onSnapshot(id, snapshot);
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); });
  }

  function draw() {
    if (!id) return;
    const s = snapshot ?? { status: "", seq: 0 };
    setText(byId("detail-type"), s.type || (s.seq ? "Workflow" : "Waiting for its first event"));
    const badge = byId("detail-status");
    if (badge.dataset.is !== String(s.status)) {
      badge.dataset.is = String(s.status);
      const mark = el("span", "mark");
      setMark(mark, s.status);
      mark.querySelector(".sr").remove();
      badge.replaceChildren(mark.firstElementChild, statusOf(s.status).label);
    }
    setTone(badge, s.status);
    const bar = byId("detail-bar");
    setTone(bar, s.status);
    setBar(bar, s);
    setText(byId("detail-percent"), percentText(s));
    setText(byId("detail-message"), [counted(s), s.message || (isTerminal(s.status) ? "" : s.step)].filter(Boolean).join(" · "));
    const error = byId("detail-error");
    setText(error, s.error);
    error.hidden = !s.error;
    drawFacts(s);
    drawSteps(s);
    records.draw(s);
  }

  function drawFacts(s) {
    const facts = [
      ["Started", moment(s.started_at)],
      [isTerminal(s.status) ? "Took" : "Running for", s.started_at ? took(s, page.now()) : ""],
      ["Ended", moment(s.closed_at)],
      ["Attempt", s.attempt > 1 ? String(s.attempt) : ""],
      ["Tags", (s.tags ?? []).join(", ")],
      ["Run", s.run_id, "mono"],
      ["Chain", s.chain !== s.run_id ? s.chain : "", "mono"],
      ["Position", s.seq ? `${s.epoch}-${s.seq}-${s.check}` : "", "mono"],
    ].filter(([, value]) => value);
    const list = byId("detail-facts");
    // Rows come and go with what is known; the text of those that stay changes.
    const kinds = facts.map(([name]) => name).join();
    if (list.dataset.kinds !== kinds) {
      list.dataset.kinds = kinds;
      list.replaceChildren(...facts.flatMap(([name, , style]) => [el("dt", "", name), el("dd", style ?? "")]));
    }
    facts.forEach(([, value], i) => setText(list.children[2 * i + 1], value));
  }

  function drawSteps(s) {
    const all = s.steps ?? [];
    byId("steps-part").hidden = all.length === 0;
    const names = new Set(all.map((step) => step.name));
    for (const name of steps.keys()) if (!names.has(name)) steps.delete(name);
    const nodes = all.map((step) => {
      const row = steps.get(step.name) ?? makeStep(step.name);
      setTone(row.node, step.status);
      setMark(row.mark, step.status);
      setText(row.attempt, step.attempt > 1 ? ` attempt ${step.attempt}` : "");
      setBar(row.bar, step);
      setText(row.percent, percentText(step));
      const note = step.error || [counted(step), step.message].filter(Boolean).join(" · ");
      setText(row.note, note);
      row.note.hidden = !note;
      row.note.classList.toggle("bad", Boolean(step.error));
      return row.node;
    });
    arrange(byId("steps"), nodes);
    const omitted = byId("steps-omitted");
    omitted.hidden = !s.steps_omitted;
    setText(omitted, s.steps_omitted ? `${s.steps_omitted} more not shown.` : "");
  }

  function makeStep(name) {
    const row = {
      node: el("li", "step"), mark: el("span", "mark"), attempt: el("span", "try"),
      bar: makeBar(), percent: el("span", "percent"), note: el("p", "note"),
    };
    const label = el("span", "label", name, row.attempt);
    label.title = name;
    row.bar.setAttribute("aria-label", `Progress of step ${name}`);
    row.node.append(row.mark, label, row.bar, row.percent, row.note);
    steps.set(name, row);
    return row;
  }

  function close() {
    if (!id) return;
    stop();
    id = "";
    panel.hidden = true;
    byId("stage").classList.remove("open");
    page.onClose();
  }

  byId("detail-close").addEventListener("click", close);
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  setInterval(() => { if (id && snapshot && !ended && !paused) drawFacts(snapshot); }, 1000);

  return {
    open, close,
    focus: () => panel.focus({ preventScroll: true }),
    // A chain's stream has ended; the list tells of another under the same ID.
    notice(item) {
      if (item.workflow_id === id && ended && snapshot && item.run_id !== snapshot.run_id) open(id, item.run_id);
    },
    pause() { paused = true; if (id && !ended) { stop(); showState("paused"); } },
    resume() { if (paused) { paused = false; if (id && !ended) start(); } },
  };
}
