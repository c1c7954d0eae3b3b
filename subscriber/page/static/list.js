// The list of runs: read every few seconds, and kept moving in between by one
// stream for the running workflows in sight.

import { followMany, isTerminal } from "./runcast.js";
import { age, counted, percentText, statusOf, took } from "./format.js";
import { arrange, byId, el, makeBar, setBar, setMark, setText, setTone } from "./view.js";

const PAGE = 50;
const EVERY = 2000; // ms between readings
const PATIENCE = 3000; // ms that a stream may stay behind the list
const MOST_ROWS = 1000;
const MOST_LIVE = 16; // topics that one stream resumes by one id

/**
 * Runs the list.
 *
 * @param {{now: function(): number, onServerTime: function(string), onState: function(string),
 *   onCounts: function(object), onItem: function(object)}} page
 */
export function startList(page) {
  const list = byId("list");
  const rows = new Map(); // workflow ID -> {id, data, live, seen, ...elements}
  const inSight = new Set();
  const filter = { text: "", status: "" };
  let chosen = "", panel = "", older = null, reading = false, timer = 0, paused = false, loaded = false;
  let stream = null, streamed = new Set(), retune = 0;

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) inSight.add(entry.target.dataset.workflow);
      else inSight.delete(entry.target.dataset.workflow);
    }
    tune();
  });

  async function read() {
    clearTimeout(timer);
    if (reading || paused) return;
    reading = true;
    try {
      const page = await fetchPage("");
      const held = new Set(page.items.map((item) => item.workflow_id));
      // A first page that is the whole list says what is gone, too.
      if (!page.next) for (const [id, row] of [...rows]) if (!held.has(id) && !row.live && id !== panel) drop(id);
      page.items.forEach((item) => merge(item));
      if (!older) older = { next: page.next };
      loaded = true;
      trouble("");
    } catch (error) {
      trouble(error.message);
    } finally {
      reading = false;
      draw();
      if (!paused) timer = setTimeout(read, EVERY);
    }
  }

  async function fetchPage(cursor) {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (cursor) query.set("cursor", cursor);
    let response;
    try {
      response = await fetch(`/v1/workflows?${query}`, { headers: { Accept: "application/json" }, cache: "no-store" });
    } catch {
      throw new Error("The subscriber does not answer. Trying again.");
    }
    page.onServerTime(response.headers.get("Date"));
    const body = await response.json().catch(() => null);
    if (!response.ok) throw new Error(`The list cannot be read, trying again: ${body?.detail ?? `${response.status} ${body?.title ?? response.statusText}`}`);
    return { items: body?.workflows ?? [], next: body?.next_cursor ?? "" };
  }

  function trouble(message) {
    const note = byId("trouble");
    setText(note, message);
    note.hidden = !message;
    page.onState(message ? "reconnecting" : "live");
  }

  // merge takes over what the list says of a workflow, unless a stream tells
  // of it: the two are never equally new, and a bar must not go to and fro. A
  // stream that stays behind the list has died without a word.
  function merge(item) {
    const row = rows.get(item.workflow_id) ?? makeRow(item.workflow_id);
    if (row.live || row.id === panel) {
      if (!(Date.parse(item.updated_at) > Date.parse(row.data.updated_at))) return;
      row.behind ??= Date.now();
      if (Date.now() - row.behind < PATIENCE) return;
    }
    row.behind = undefined;
    row.data = item;
    page.onItem(item);
  }

  // update is what a stream says: a snapshot, which is a summary and more.
  // Two streams may tell of the same workflow, one ahead of the other.
  function update(id, snapshot) {
    if (!snapshot || snapshot.seq === 0) return;
    const row = rows.get(id) ?? makeRow(id);
    if (row.epoch === snapshot.epoch && row.seq > snapshot.seq) return;
    row.epoch = snapshot.epoch;
    row.seq = snapshot.seq;
    row.behind = undefined;
    row.data = snapshot;
    drawRow(row);
  }

  function makeRow(id) {
    const row = {
      id, data: { workflow_id: id }, live: false, epoch: 0, seq: 0, behind: undefined,
      node: el("li", "run"), mark: el("span", "mark"), link: el("a"), kind: el("span", "kind"),
      bar: makeBar(), percent: el("span", "percent"), step: el("p"), message: el("p", "message"),
      took: el("span", "took"), age: el("span", "age"),
    };
    row.node.dataset.workflow = id;
    row.link.href = `#run=${encodeURIComponent(id)}`;
    row.link.textContent = id;
    row.link.title = id;
    row.bar.setAttribute("aria-label", `Progress of ${id}`);
    row.node.append(
      row.mark, el("div", "name", row.link, row.kind), el("div", "gauge", row.bar, row.percent),
      el("div", "what", row.step, row.message), row.took, row.age,
    );
    row.node.classList.toggle("chosen", id === chosen);
    rows.set(id, row);
    watcher.observe(row.node);
    return row;
  }

  function drop(id) {
    const row = rows.get(id);
    watcher.unobserve(row.node);
    row.node.remove();
    rows.delete(id);
    inSight.delete(id);
  }

  function drawRow(row) {
    const d = row.data;
    setTone(row.node, d.status);
    setMark(row.mark, d.status);
    setText(row.kind, d.type);
    setBar(row.bar, d);
    setText(row.percent, percentText(d));
    const failed = isTerminal(d.status) && d.status !== "completed";
    const tags = (d.tags ?? []).map((tag) => `#${tag}`).join(" ");
    setText(row.step, failed ? d.error || statusOf(d.status).label : d.step || statusOf(d.status).label);
    setText(row.message, [counted(d), d.message, tags].filter(Boolean).join(" · "));
    row.step.title = row.step.textContent;
    drawTimes(row);
  }

  function drawTimes(row) {
    const now = page.now();
    setText(row.took, took(row.data, now));
    setText(row.age, age(now - Date.parse(row.data.updated_at)));
  }

  // Running workflows stand first. Within both parts the order follows the
  // last start or end, so that a mere step forward moves no row.
  function order(a, b) {
    const done = isTerminal(a.data.status) - isTerminal(b.data.status);
    if (done) return done;
    const time = (row) => Date.parse(row.data.closed_at ?? row.data.started_at ?? row.data.updated_at) || 0;
    return time(b) - time(a) || (a.id < b.id ? -1 : 1);
  }

  function shown(row) {
    const d = row.data;
    switch (filter.status) {
      case "active": if (isTerminal(d.status)) return false; break;
      case "completed": if (d.status !== "completed") return false; break;
      case "unhappy": if (!isTerminal(d.status) || d.status === "completed") return false; break;
    }
    if (!filter.text) return true;
    return [row.id, d.type, d.step, d.message, d.error, d.status, ...(d.tags ?? [])]
      .some((text) => text && String(text).toLowerCase().includes(filter.text));
  }

  function draw() {
    const all = [...rows.values()].sort(order);
    for (const row of all.splice(MOST_ROWS)) drop(row.id);
    const visible = all.filter(shown);
    all.forEach(drawRow);
    arrange(list, visible.map((row) => row.node));
    const counts = { all: all.length, shown: visible.length, running: 0, completed: 0, other: 0 };
    for (const { data } of all) {
      if (!isTerminal(data.status)) counts.running++;
      else if (data.status === "completed") counts.completed++;
      else counts.other++;
    }
    byId("more").hidden = !older?.next || rows.size >= MOST_ROWS;
    page.onCounts({ ...counts, loaded, filtered: Boolean(filter.text || filter.status) });
    tune();
  }

  // tune lets the stream follow the running workflows in sight. It is opened
  // anew only when one of them is missing from it.
  function tune() {
    clearTimeout(retune);
    retune = setTimeout(() => {
      const wanted = [...list.children].map((node) => node.dataset.workflow)
        .filter((id) => inSight.has(id) && !isTerminal(rows.get(id).data.status)).slice(0, MOST_LIVE);
      if (paused || wanted.length === 0) return untune();
      if (stream && wanted.every((id) => streamed.has(id))) return;
      untune();
      streamed = new Set(wanted);
      const mine = streamed;
      const setLive = (live) => mine.forEach((id) => { const row = rows.get(id); if (row) row.live = live; });
      stream = followMany("/v1/stream", wanted, {
        onSnapshot: update,
        onUpdate: (id, event, snapshot) => update(id, snapshot),
        onEnd: (id, event, snapshot) => {
          mine.delete(id);
          const row = rows.get(id);
          if (row) row.live = false;
          update(id, snapshot);
          draw();
        },
        onState: (state) => { if (mine === streamed) setLive(state === "live"); },
      });
    }, 150);
  }

  function untune() {
    stream?.close();
    stream = null;
    streamed.forEach((id) => { const row = rows.get(id); if (row) row.live = false; });
    streamed = new Set();
  }

  byId("more").addEventListener("click", async () => {
    try {
      const page = await fetchPage(older.next);
      older.next = page.next;
      page.items.forEach((item) => merge(item));
    } catch (error) {
      trouble(error.message);
    }
    draw();
  });
  byId("find").addEventListener("input", (event) => { filter.text = event.target.value.trim().toLowerCase(); draw(); });
  byId("filter").addEventListener("change", (event) => {
    if (event.target.name === "status") { filter.status = event.target.value; draw(); }
  });
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  setInterval(() => { if (!paused) rows.forEach(drawTimes); }, 1000);

  return {
    read, update,
    choose(id) {
      chosen = id;
      rows.forEach((row) => {
        row.node.classList.toggle("chosen", row.id === id);
        if (row.id === id) row.link.setAttribute("aria-current", "true");
        else row.link.removeAttribute("aria-current");
      });
    },
    // The panel's own stream tells of this workflow, or no longer does.
    followed(id, live) { if (live) panel = id; else if (panel === id) panel = ""; },
    link: (id) => rows.get(id)?.link,
    pause() { paused = true; clearTimeout(timer); tune(); },
    resume() { if (paused) { paused = false; read(); tune(); } },
  };
}
