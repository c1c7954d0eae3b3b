// The few things that list and detail draw alike. Text from outside reaches
// the page through textContent alone.

import { isTerminal } from "./runcast.js";
import { percentOf, statusOf } from "./format.js";

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Makes an element with a class and children (elements or text). */
export function el(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Sets the text where it changed, so that nothing else is touched. */
export function setText(node, text) {
  const value = text ?? "";
  if (node.textContent !== value) node.textContent = value;
}

/** Sets or removes an attribute where it changed. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Gives the node the color of a status. */
export function setTone(node, status) {
  const tone = `is-${statusOf(status).tone}`;
  for (const name of [...node.classList]) if (name.startsWith("is-") && name !== tone) node.classList.remove(name);
  node.classList.add(tone);
}

/** Makes a progress bar. */
export function makeBar() {
  const bar = el("div", "bar", el("span", "fill"));
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  return bar;
}

/** Moves a bar to where the run or step is. */
export function setBar(bar, thing) {
  const percent = percentOf(thing);
  bar.classList.toggle("unknown", percent === null && thing.status === "running");
  setAttribute(bar, "aria-valuenow", percent === null ? null : Math.floor(percent));
  setAttribute(bar, "aria-valuetext", `${percent === null ? "" : `${Math.floor(percent)} percent, `}${statusOf(thing.status).label.toLowerCase()}`);
  const fill = bar.firstElementChild;
  const at = percent === null ? (isTerminal(thing.status) ? 0 : null) : percent;
  // A bar that runs to and fro is moved by the style sheet.
  const move = at === null && thing.status === "running" ? "" : `translateX(${at > 0 ? at - 100 : -105}%)`;
  if (fill.style.transform !== move) fill.style.transform = move;
}

const MARKS = {
  queued: [["circle", { cx: 10, cy: 10, r: 7, "stroke-dasharray": "2 3.5" }]],
  running: [["circle", { cx: 10, cy: 10, r: 7, opacity: ".25" }], ["path", { d: "M10 3a7 7 0 0 1 7 7", class: "spin" }]],
  completed: [["circle", { cx: 10, cy: 10, r: 8, fill: "currentColor", stroke: "none" }], ["path", { d: "M6.4 10.3l2.5 2.5 4.8-5.4", stroke: "var(--surface)" }]],
  failed: [["circle", { cx: 10, cy: 10, r: 8, fill: "currentColor", stroke: "none" }], ["path", { d: "M7.2 7.2l5.6 5.6M12.8 7.2l-5.6 5.6", stroke: "var(--surface)" }]],
  stopped: [["circle", { cx: 10, cy: 10, r: 8, fill: "currentColor", stroke: "none" }], ["path", { d: "M6.5 10h7", stroke: "var(--surface)" }]],
};

/** Shows the sign of a status in the node; its name is there for readers of the page by ear. */
export function setMark(node, status) {
  if (node.dataset.status === String(status)) return;
  node.dataset.status = String(status);
  const { label, tone } = statusOf(status);
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 20 20", width: 20, height: 20, fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  for (const [tag, attributes] of MARKS[tone]) {
    const shape = document.createElementNS(namespace, tag);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  node.replaceChildren(svg, el("span", "sr", label));
  node.title = label;
}

/** Brings the children of a list into the given order with the fewest moves. */
export function arrange(list, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let at = list.firstElementChild;
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling;
    else list.insertBefore(node, at);
  }
}
