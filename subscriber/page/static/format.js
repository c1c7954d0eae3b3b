// Words and numbers for people. Nothing here touches the page.

import { isTerminal } from "./runcast.js";

const STATUS = {
  queued: { label: "Queued", tone: "queued" },
  running: { label: "Running", tone: "running" },
  completed: { label: "Completed", tone: "completed" },
  failed: { label: "Failed", tone: "failed" },
  canceled: { label: "Canceled", tone: "stopped" },
  terminated: { label: "Terminated", tone: "failed" },
  timed_out: { label: "Timed out", tone: "failed" },
  unknown: { label: "Unknown", tone: "stopped" },
};

/** How a status is called and colored. */
export function statusOf(status) {
  return STATUS[status] ?? { label: status ? String(status) : "Waiting", tone: "queued" };
}

/**
 * How far a run or step is, from 0 to 100, or null where it does not say.
 * What completed is at its end, whatever it last reported.
 */
export function percentOf(thing) {
  if (thing.status === "completed") return 100;
  if (typeof thing.percent === "number") return Math.min(100, Math.max(0, thing.percent));
  if (thing.total > 0 && typeof thing.current === "number") return Math.min(100, Math.max(0, (100 * thing.current) / thing.total));
  return null;
}

/** The percent as text: never "100 %" before the end. */
export function percentText(thing) {
  const percent = percentOf(thing);
  if (percent === null) return isTerminal(thing.status) ? "–" : "";
  return `${percent === 100 ? 100 : Math.min(99, Math.floor(percent))} %`;
}

/** A length of time, from milliseconds: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min". */
export function duration(ms) {
  if (!(ms >= 0)) return "";
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return s % 60 >= 1 ? `${min} min ${Math.floor(s % 60)} s` : `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  return `${Math.floor(h / 24)} days`;
}

/** How long ago, from milliseconds: "now", "12 s ago", "3 min ago". */
export function age(ms) {
  if (!(ms > -Infinity)) return "";
  const s = ms / 1000;
  if (s < 3) return "now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

/** How long a run took, or has taken until now. */
export function took(run, now) {
  const from = Date.parse(run.started_at);
  const to = run.closed_at ? Date.parse(run.closed_at) : now;
  return Number.isNaN(from) ? "" : duration(Math.max(0, to - from));
}

/** The time of day, to the second, in the viewer's own zone. */
export function clock(time) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "";
  return at.toLocaleTimeString([], { hour12: false });
}

/** Day and time, in the viewer's own zone. */
export function moment(time) {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

/** "4 of 10" where a run counts, otherwise nothing. */
export function counted(thing) {
  if (typeof thing.current !== "number") return "";
  return typeof thing.total === "number" ? `${thing.current} of ${thing.total}` : String(thing.current);
}

const GAPS = {
  trimmed: "Older events are no longer held.",
  foreign: "The stream was made anew; what came before is unknown.",
  forked: "The history changed behind this viewer.",
  future: "The stream has gone back behind what was seen here.",
  bad_position: "The place to go on from was not understood.",
  slow: "This viewer was too slow.",
  lost: "Events were lost on the way.",
  stale: "No worker answers; this is how it was.",
  degraded: "It is followed in another way than was asked for.",
};

/** Why a gap came about. */
export function gapReason(reason) {
  return GAPS[reason] ?? "Events were missed.";
}
