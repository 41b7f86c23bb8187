"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MARKS = [ // of the levels: circle, square, triangle, diamond, cross; radius about 1
  "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0Z",
  "M-0.9 -0.9H0.9V0.9H-0.9Z",
  "M0 -1.2L1.15 0.9H-1.15Z",
  "M0 -1.3L1.3 0L0 1.3L-1.3 0Z",
  "M-0.4 -1.2H0.4V-0.4H1.2V0.4H0.4V1.2H-0.4V0.4H-1.2V-0.4H-0.4Z",
];
const HEAD_COLOURS = [ // Okabe and Ito's, but for black
  "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#cccccc",
];

/** An element with attributes and children; `svg:` begins the name of one of a drawing. */
function element(name, attributes = {}, ...children) {
  const isDrawn = name.startsWith("svg:");
  const made = isDrawn ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function markOf(level) {
  return MARKS[level % MARKS.length];
}

function headColour(head) {
  return HEAD_COLOURS[head % HEAD_COLOURS.length];
}

/** The colour of a value in [0, 1]: red, green, blue, between the colours of a scale. */
function colourOn(scale, value) {
  const place = Math.min(Math.max(value, 0), 1) * (scale.length - 1), first = Math.floor(place);
  const [from, to] = [scale[first], scale[Math.min(first + 1, scale.length - 1)]].map((hex) =>
    [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16)));
  return from.map((part, i) => Math.round(part + (to[i] - part) * (place - first)));
}

/** A mark for a control, which the words beside it explain. */
function legendMark(level, kind = "") {
  const attributes = { class: `mark ${kind}`, viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": true };
  return element("svg:svg", attributes, element("svg:path", { d: markOf(level) }));
}

/** A line of some kind with a dark one under it, so that it is seen on every image. */
function outlined(name, kind, attributes) {
  const under = kind.includes("faded") ? "under faded" : "under";
  return [under, kind].map((style) => element(name, { class: `box ${style}`, ...attributes }));
}

function boxParts([x1, y1, x2, y2], kind) {
  const size = { width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
  return outlined("svg:rect", kind, { x: x1, y: y1, ...size });
}

/** A text at a box's upper left corner: above it, or inside where it shall be or there is no room. */
function labelPart([x1, y1], text, unit, within = false) {
  const size = 13 * unit, x = Math.max(x1, 0) + 0.2 * size;
  const y = Math.max(y1, 0) + (within || y1 < 1.3 * size ? 1.1 * size : -0.35 * size);
  return element("svg:text", { x, y, "font-size": size }, text);
}

/** The line from a true box to the box that it is matched with, and that box. */
function pairParts(trueBox, box) {
  const [x1, y1] = centreOf(trueBox), [x2, y2] = centreOf(box);
  return [...boxParts(box, "paired"), ...outlined("svg:line", "paired", { x1, y1, x2, y2 })];
}

function crossParts([x, y], unit) {
  const d = `M${x - 9 * unit} ${y}h${18 * unit}M${x} ${y - 9 * unit}v${18 * unit}`;
  return ["reference under", "reference"].map((name) => element("svg:path", { class: name, d }));
}

/** The mark of a sample (`Layer.samples`), which carries its numbers. */
function pointPart({ head, level, point, x, y, weight }, fill, radius) {
  const numbers = { head, level, point, weight, x, y };
  const transform = `translate(${x} ${y}) scale(${radius * (1 + 0.12 * level)})`;
  const made = element("svg:path", { class: "point", d: markOf(level), fill, transform });
  Object.assign(made.dataset, numbers);
  return made;
}
