// Log lines and streamed text of one run. They arrive from the stream, from
// the snapshot and from the history, so they are kept by seq and shown in its
// order, each once.

import { clock } from "./format.js";
import { byId, el, setText } from "./view.js";

const MOST = 4000; // records kept
const MOST_LINES = 1000; // lines shown
const MOST_TEXT = 200000; // characters shown per output

/** Makes an empty collection, drawn into the page's detail panel. */
export function makeRecords() {
  const log = byId("log");
  let events = []; // by seq
  let seen = new Set();
  let epoch = 0, drawn = 0, dropped = 0, ordered = true;

  function clear() {
    events = [];
    seen = new Set();
    drawn = dropped = 0;
    ordered = true;
    log.replaceChildren();
    byId("outputs").replaceChildren();
    byId("log-part").hidden = byId("output-part").hidden = byId("log-omitted").hidden = true;
  }

  // Another epoch numbers anew: what was kept has no place in it.
  function begin(snapshot) {
    if (epoch !== snapshot.epoch) clear();
    epoch = snapshot.epoch;
  }

  function add(event) {
    if (event.epoch !== epoch && epoch) return;
    epoch = event.epoch;
    const shown = event.type === "log" || event.type === "output" || event.lost > 0 || (event.type === "started" && event.status !== "queued");
    if (!shown || seen.has(event.seq)) return;
    seen.add(event.seq);
    if (events.length && event.seq < events.at(-1).seq) ordered = false;
    events.push(event);
    if (events.length > MOST) {
      order();
      const gone = events.splice(0, MOST / 4);
      gone.forEach((old) => seen.delete(old.seq));
      dropped += gone.length;
      ordered = false;
    }
  }

  function order() {
    events.sort((a, b) => a.seq - b.seq);
  }

  function draw(snapshot) {
    if (!ordered) {
      // Older ones came in behind newer ones: begin again, in order.
      order();
      ordered = true;
      drawn = 0;
      log.replaceChildren();
      byId("outputs").replaceChildren();
    }
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    const lines = [];
    for (; drawn < events.length; drawn++) {
      const event = events[drawn];
      // An ID may have been used before; this panel shows its newest chain.
      if (snapshot.chain && event.chain !== snapshot.chain) continue;
      if (event.lost > 0) lines.push(line(event, `${event.lost} earlier events of this writer were lost`, "mark-line"));
      if (event.type === "log") lines.push(line(event, (event.step ? `${event.step}: ` : "") + (event.message ?? "")));
      else if (event.type === "started") lines.push(line(event, event.run_id === event.chain ? "run started" : "next run of the chain started", "mark-line"));
      else if (event.type === "output") write(event);
    }
    log.append(...lines);
    byId("log-part").hidden = log.children.length === 0;
    let cut = dropped;
    while (log.children.length > MOST_LINES) { log.firstElementChild.remove(); cut++; }
    if (cut) {
      byId("log-omitted").hidden = false;
      setText(byId("log-omitted"), "Older lines are not shown.");
    }
    if (lines.length && atEnd) log.scrollTop = log.scrollHeight;
    const open = new Set((snapshot.outputs ?? []).map((output) => output.step));
    for (const box of byId("outputs").children) box.classList.toggle("open", open.has(box.dataset.step));
    byId("output-part").hidden = byId("outputs").children.length === 0;
  }

  function line(event, message, style = "") {
    const time = el("time", "", clock(event.time));
    time.dateTime = event.time;
    return el("li", style, time, el("span", "", message));
  }

  // write adds a piece of text to its step's output. Another attempt begins
  // anew: the pieces of the one before are not part of its text.
  function write(event) {
    const step = event.step ?? "", attempt = String(event.attempt ?? 0);
    let box = [...byId("outputs").children].find((node) => node.dataset.step === step);
    if (!box) {
      box = el("div", "output", el("h4", "", step || "Text"), el("pre"));
      box.dataset.step = step;
      box.dataset.run = event.run_id;
      byId("outputs").append(box);
    }
    const pre = box.lastElementChild;
    if (box.dataset.attempt !== attempt || box.dataset.run !== event.run_id) {
      box.dataset.attempt = attempt;
      box.dataset.run = event.run_id;
      pre.textContent = "";
      setText(box.firstElementChild, (step || "Text") + (event.attempt > 1 ? `, attempt ${attempt}` : ""));
    }
    const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30;
    pre.append(typeof event.data === "string" ? event.data : "");
    if (pre.childNodes.length > 200) pre.normalize();
    if (pre.textContent.length > MOST_TEXT) pre.textContent = "…" + pre.textContent.slice(-MOST_TEXT / 2);
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  }

  return { clear, begin, add, draw };
}
