// The page: wires the list, the detail panel and the form together.

import { startDetail } from "./detail.js";
import { startForm } from "./start.js";
import { startList } from "./list.js";
import { smsForm } from "./sms.js";
import { byId, setText } from "./view.js";

const LINK = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline" };

// Times come from the servers, whose clock may not be this machine's.
let skew = 0;
const now = () => Date.now() + skew;

function onServerTime(header) {
  const at = Date.parse(header ?? "");
  // The header has whole seconds; a smaller difference tells nothing.
  if (!Number.isNaN(at)) skew = Math.abs(at - Date.now()) > 2000 ? at - Date.now() : 0;
}

function showLink(state) {
  const shown = navigator.onLine === false && state !== "live" ? "offline" : state;
  byId("link").dataset.state = shown;
  setText(byId("link-text"), LINK[shown]);
}

let api = "";
const list = startList({ now, onServerTime, onState: showLink, onCounts: showCounts, onItem: (item) => detail.notice(item) });
const detail = startDetail({
  now,
  onSnapshot: (id, snapshot) => list.update(id, snapshot),
  onFollowed: (id, live) => list.followed(id, live),
  onClose() {
    const { run } = route();
    history.replaceState(null, "", location.pathname + location.search);
    list.choose("");
    list.link(run)?.focus({ preventScroll: true });
  },
});

function showCounts(counts) {
  const parts = [];
  if (counts.running) parts.push(`${counts.running} running`);
  if (counts.completed) parts.push(`${counts.completed} completed`);
  if (counts.other) parts.push(`${counts.other} not completed`);
  setText(byId("counts"), parts.join(" · "));
  document.title = counts.running ? `${counts.running} running – Runcast` : "Runcast";
  const empty = byId("empty");
  empty.hidden = !counts.loaded || counts.shown > 0;
  if (empty.hidden) return;
  if (counts.all > 0 && counts.filtered) {
    setText(byId("empty-title"), "No run matches");
    setText(byId("empty-text"), "Change the text or the status above.");
    byId("paste").hidden = true;
    return;
  }
  setText(byId("empty-title"), "No runs yet");
  setText(byId("empty-text"), api
    ? "A run shows up here by itself as soon as it is started. Start one from a terminal:"
    : "A run shows up here by itself as soon as a worker with the Runcast plugin takes it.");
  byId("paste").hidden = !api;
  setText(byId("curl"), `curl --json '{"type":"ProgressiveWorkflow","id":"order-42","input":{"steps":10,"step_ms":600}}' ${api}/v1/workflows`);
}

// The address names the run that is open, so that it can be kept or sent.
function route() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  return { run: parameters.get("run") ?? "" };
}

function follow() {
  const { run } = route();
  list.choose(run);
  if (run) {
    detail.open(run);
    detail.focus();
  } else {
    detail.close();
  }
}

// A page that nobody sees asks for nothing and holds no connection.
function attend() {
  if (document.hidden) {
    list.pause();
    detail.pause();
  } else {
    list.resume();
    detail.resume();
  }
}

byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("curl").textContent);
    setText(byId("copy"), "Copied");
    setTimeout(() => setText(byId("copy"), "Copy"), 1500);
  } catch {
    getSelection().selectAllChildren(byId("curl"));
  }
});
addEventListener("hashchange", follow);
document.addEventListener("visibilitychange", attend);
addEventListener("online", () => list.read());
addEventListener("offline", () => showLink("offline"));

try {
  const response = await fetch("/config.json");
  api = (await response.json()).api_url ?? "";
} catch {
  api = ""; // the page still shows runs
}
startForm(api, (workflow, run) => {
  show(workflow, run);
  detail.focus();
});
// The focus stays in the box: the next message may follow.
smsForm(api, show);

function show(workflow, run) {
  history.pushState(null, "", `#run=${encodeURIComponent(workflow)}`);
  list.choose(workflow);
  detail.open(workflow, run);
  list.read();
}

showLink("connecting");
list.read();
follow();
attend();
