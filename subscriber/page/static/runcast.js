// Runcast in a browser: follow a workflow, over Server-Sent Events.
//
//   import { follow } from "/runcast.js";
//
//   const run = follow("/v1/workflows/order-42/stream", {
//     onSnapshot: (snapshot) => draw(snapshot),        // first, and after a gap
//     onUpdate: (event, snapshot) => draw(snapshot),   // each event, folded
//     onGap: (gap) => note(`missed ${gap.from} to ${gap.to}: ${gap.reason}`),
//     onEnd: (event, snapshot) => done(snapshot.status),
//   });
//   run.close();                                       // when you have seen enough
//
// It depends on nothing, resumes by itself, and never skips silently: events
// that do not follow each other make it read again from the last one known.

const TERMINAL = new Set(["completed", "failed", "canceled", "terminated", "timed_out", "unknown"]);
const MAX_STEPS = 100; // part of the contract, see docs/wire-contract.md

/** Reports whether nothing follows this status. */
export function isTerminal(status) {
  return TERMINAL.has(status);
}

/** The snapshot of a stream without events. */
export function emptySnapshot() {
  return { v: 1, workflow_id: "", epoch: 0, seq: 0, check: "", first_seq: 0 };
}

/**
 * Folds the next event into a snapshot and returns the new one; the old one
 * stays as it was. Returns null when the event is not the next one: then the
 * stream has to be read anew. The rules are those of pkg/progress.
 */
export function fold(snapshot, event) {
  const e = event;
  let s = { ...snapshot };
  if (e.seq !== s.seq + 1 || (s.seq > 0 && e.epoch !== s.epoch)) return null;
  if (s.seq === 0) {
    s.v = 1;
    s.workflow_id = e.workflow_id;
    s.first_seq = 1;
  }
  s.epoch = e.epoch;
  s.seq = e.seq;
  s.check = e.check;
  const fresh = s.seq === 1 || text(e.run_id) !== text(s.run_id) || text(e.chain) !== text(s.chain);
  if (fresh) s = beginRun(s, e);
  delete s.records; // they belong to the reading that brought them
  s.updated_at = e.time;
  if (e.workflow_type) s.type = e.workflow_type;
  if (e.tags != null) set(s, "tags", e.tags.length ? [...e.tags] : undefined);
  switch (e.type) {
    case "started":
      // A late "queued" does not hide that the run has begun.
      if (e.status !== "queued" || fresh) s.status = e.status;
      break;
    case "progress":
      for (const key of ["percent", "current", "total", "message"]) set(s, key, e[key]);
      if (e.step) s.step = e.step;
      if (e.attempt > 0) s.attempt = e.attempt;
      begun(s);
      break;
    case "step":
      foldStep(s, e);
      break;
    case "output":
      openOutput(s, e);
      break;
    case "closed":
      s.status = e.status;
      set(s, "error", e.error);
      s.closed_at = e.time;
      delete s.outputs;
      delete s.output_from;
      break;
  }
  return s;
}

// beginRun drops what belonged to the run before. Within a chain its start,
// type and tags stay.
function beginRun(s, e) {
  const next = {
    v: s.v, workflow_id: s.workflow_id, epoch: s.epoch, seq: s.seq, check: s.check, first_seq: s.first_seq,
    status: "running", started_at: e.time,
  };
  set(next, "run_id", e.run_id);
  set(next, "chain", e.chain);
  if (text(e.chain) === text(s.chain)) {
    if (s.started_at) next.started_at = s.started_at;
    set(next, "type", s.type);
    set(next, "tags", s.tags);
  }
  return next;
}

function foldStep(s, e) {
  const steps = [...(s.steps ?? [])];
  const i = steps.findIndex((step) => step.name === e.step);
  if (e.status === "queued" && i >= 0) return; // the step began before the note that it was scheduled came
  const state = { name: e.step, first: e.seq, seq: e.seq, status: e.status };
  for (const key of ["percent", "current", "total", "message", "error", "attempt", "time"]) set(state, key, e[key]);
  if (i >= 0) {
    state.first = steps[i].first;
    steps[i] = state;
  } else if (steps.length < MAX_STEPS) {
    steps.push(state);
  } else {
    s.steps_omitted = (s.steps_omitted ?? 0) + 1;
    const j = oldestFinished(steps);
    if (j >= 0) {
      steps.splice(j, 1);
      steps.push(state);
    }
  }
  s.steps = steps;
  if (e.status === "running") {
    s.step = e.step;
    if (e.attempt > 0) s.attempt = e.attempt;
  }
  if (e.status !== "queued") begun(s);
  const outputs = (s.outputs ?? []).filter(
    (o) => !(o.step === e.step && (isTerminal(e.status) || o.attempt !== (e.attempt ?? 0))),
  );
  setOutputs(s, outputs);
}

// oldestFinished finds the finished step that changed first: it makes room.
function oldestFinished(steps) {
  let oldest = -1;
  steps.forEach((step, i) => {
    if (isTerminal(step.status) && (oldest < 0 || step.seq < steps[oldest].seq)) oldest = i;
  });
  return oldest;
}

function openOutput(s, e) {
  const outputs = [...(s.outputs ?? [])];
  const open = { step: text(e.step), from: e.seq, attempt: e.attempt ?? 0 };
  const i = outputs.findIndex((o) => o.step === open.step);
  if (i >= 0) {
    if (outputs[i].attempt === open.attempt) return;
    outputs[i] = open;
  } else if (outputs.length < MAX_STEPS) {
    outputs.push(open);
    outputs.sort((a, b) => byCodePoint(a.step, b.step));
  }
  setOutputs(s, outputs);
}

function setOutputs(s, outputs) {
  set(s, "outputs", outputs.length ? outputs : undefined);
  set(s, "output_from", outputs.length ? Math.min(...outputs.map((o) => o.from)) : undefined);
}

function begun(s) {
  if (s.status === "queued") s.status = "running";
}

// set leaves out what the wire form leaves out: what is empty or not known.
function set(object, key, value) {
  if (value === undefined || value === null || value === "" || (value === 0 && key === "attempt")) delete object[key];
  else object[key] = value;
}

function text(value) {
  return value ?? "";
}

// byCodePoint orders as UTF-8 bytes do, which "<" on UTF-16 does not.
function byCodePoint(a, b) {
  const x = [...a], y = [...b];
  for (let i = 0; i < x.length && i < y.length; i++) {
    const d = x[i].codePointAt(0) - y[i].codePointAt(0);
    if (d !== 0) return d;
  }
  return x.length - y.length;
}

/**
 * Follows one workflow.
 *
 * @param {string} url of its stream, with `?run=` where a certain run is meant
 * @param {object} handlers
 *   onSnapshot(snapshot, position), onUpdate(event, snapshot, position),
 *   onGap(gap), onEnd(event, snapshot, position): see the top of the file;
 *   onState(state): "connecting", "live", "reconnecting" or "ended"
 * @param {object} options  after: the position to go on from
 * @returns {{close: function(), snapshot: object|null, position: string}}
 */
export function follow(url, handlers = {}, options = {}) {
  let snapshot = null;
  const link = connect((position) => withQuery(url, position ? { after: position } : {}), {
    frame(kind, data, id) {
      switch (kind) {
        case "snapshot":
          snapshot = data;
          handlers.onSnapshot?.(snapshot, id);
          return true;
        case "update": {
          const next = fold(snapshot ?? emptySnapshot(), data);
          // Opened in the middle, by a position: there is no state to fold
          // into, only the events.
          if (!next && snapshot) return false;
          snapshot = next;
          handlers.onUpdate?.(data, snapshot, id);
          return true;
        }
        case "gap":
          handlers.onGap?.(data);
          return true;
        case "end":
          if (snapshot && data) snapshot = fold(snapshot, data) ?? snapshot;
          link.close("ended");
          handlers.onEnd?.(data, snapshot, id);
          return true;
      }
      return true;
    },
    state: (state) => handlers.onState?.(state),
  }, options.after);
  return {
    close: () => link.close(),
    get snapshot() { return snapshot; },
    get position() { return link.position; },
  };
}

/**
 * Follows up to 16 workflows on one connection. Handlers are those of
 * {@link follow}, with the workflow's ID as first argument; onState has none.
 */
export function followMany(url, workflows, handlers = {}) {
  const snapshots = new Map();
  const open = new Set(workflows);
  const link = connect((position) => withQuery(url, { workflow: workflows, ...(position ? { after: position } : {}) }), {
    frame(kind, wrapped, id) {
      const name = wrapped?.topic?.workflow;
      if (name === undefined) return true; // a tag's, or of a newer server
      const data = wrapped.data;
      switch (kind) {
        case "snapshot":
          snapshots.set(name, data);
          open.add(name);
          handlers.onSnapshot?.(name, data);
          return true;
        case "update": {
          const next = fold(snapshots.get(name) ?? emptySnapshot(), data);
          if (!next) return false;
          snapshots.set(name, next);
          handlers.onUpdate?.(name, data, next);
          return true;
        }
        case "gap":
          handlers.onGap?.(name, data);
          return true;
        case "end": {
          const before = snapshots.get(name);
          const last = before && data ? fold(before, data) ?? before : before;
          open.delete(name);
          if (open.size === 0) link.close("ended");
          handlers.onEnd?.(name, data, last);
          return true;
        }
      }
      return true;
    },
    state: (state) => handlers.onState?.(state),
  });
  return { close: () => link.close() };
}

// connect holds one EventSource open. The browser reconnects by itself while
// the server answers; when it has given up (an answer that is no stream), a
// new one is opened here, later and later, up to every 15 s. on.frame
// returns false when a frame does not follow: then the stream is read anew.
function connect(urlAt, on, after = "") {
  let source = null, timer = 0, tries = 0, closed = false;
  const asking = new AbortController();
  const link = { position: after, close };

  function open() {
    source = new EventSource(urlAt(link.position));
    source.onopen = () => on.state("live");
    source.onerror = () => {
      if (closed) return;
      on.state("reconnecting");
      if (source.readyState === EventSource.CLOSED) retry();
    };
    for (const kind of ["snapshot", "update", "gap", "end"]) {
      source.addEventListener(kind, (message) => receive(kind, message));
    }
  }

  function receive(kind, message) {
    if (closed) return;
    tries = 0;
    let data;
    try {
      data = JSON.parse(message.data);
    } catch {
      return reread();
    }
    if (!on.frame(kind, data, message.lastEventId)) return reread();
    if (message.lastEventId) link.position = message.lastEventId;
  }

  function reread() {
    source.close();
    link.position = "";
    on.state("reconnecting");
    retry();
  }

  function retry(atLeast = 0) {
    const wait = Math.min(15000, 500 * 2 ** tries++) * (0.5 + Math.random() / 2);
    clearTimeout(timer);
    timer = setTimeout(link.position ? ask : open, Math.max(wait, atLeast));
  }

  // ask finds out what EventSource does not tell: whether there is nothing
  // behind the position, since a run ended with it, or the server only could
  // not answer. In the first case the stream is had from its beginning, so
  // that the end still shows; in the second the position must be kept, or what
  // was logged meanwhile would be missing without a gap.
  async function ask() {
    const answer = new AbortController();
    const stop = () => answer.abort();
    asking.signal.addEventListener("abort", stop);
    let status = 0, atLeast = 0;
    try {
      const response = await fetch(urlAt(link.position), {
        headers: { Accept: "text/event-stream" }, cache: "no-store", signal: answer.signal,
      });
      status = response.status;
      atLeast = 1000 * Math.min(60, Number(response.headers.get("Retry-After")) || 0);
    } catch {
      // Nobody answered.
    }
    stop(); // the stream itself is EventSource's to read
    asking.signal.removeEventListener("abort", stop);
    if (closed) return;
    if (status === 204) link.position = "";
    if (status === 200 || status === 204) open();
    else retry(atLeast);
  }

  function close(state) {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    asking.abort();
    source?.close();
    if (state) on.state(state);
  }

  on.state("connecting");
  open();
  return link;
}

// withQuery appends parameters to a URL that may have some; a list gives one
// parameter per element.
function withQuery(url, parameters) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of [].concat(value)) query.append(key, one);
  }
  const added = query.toString();
  return added ? url + (url.includes("?") ? "&" : "?") + added : url;
}
