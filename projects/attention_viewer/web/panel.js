"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MARKS = [ // of the levels: circle, square, triangle, diamond, cross; radius about 1
  "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0Z",
  "M-0.9 -0.9H0.9V0.9H-0.9Z",
  "M0 -1.2L1.15 0.9H-1.15Z",
  "M0 -1.3L1.3 0L0 1.3L-1.3 0Z",
  "M-0.4 -1.2H0.4V-0.4H1.2V0.4H0.4V1.2H-0.4V0.4H-1.2V-0.4H-0.4Z",
];
const HEAD_COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#cccccc"];

/** An element with attributes and children; `svg:` begins the name of one of a drawing. */
function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The mark of a level. */
function markOf(level) {
  return MARKS[level % MARKS.length];
}

/** The colour of a value in [0, 1]: red, green, blue, between the colours of a scale. */
function colourOn(scale, value) {
  const place = Math.min(Math.max(value, 0), 1) * (scale.length - 1), first = Math.floor(place);
  const [from, to] = [scale[first], scale[Math.min(first + 1, scale.length - 1)]].map((hex) =>
    [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16)));
  return from.map((part, i) => Math.round(part + (to[i] - part) * (place - first)));
}

function inside([x, y], [x1, y1, x2, y2]) {
  return x >= x1 && x <= x2 && y >= y1 && y <= y2;
}

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const centreOf = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];
const fixed = (numbers, digits = 1) => numbers.map((number) => number.toFixed(digits)).join(", ");

/** How one model sees the image: the picture with what is drawn over it, and the same in words and numbers. */
class Panel {
  /**
   * @param model `model_data` of page.py; @param scales its colours;
   * @param actions what the panel reports: hover(place), pick(panel, place), choose(panel, row), letGo().
   */
  constructor(model, scales, actions) {
    Object.assign(this, { model, scales, actions, row: -1 });
    this.img = element("img", { alt: "" });
    this.canvas = element("canvas", { hidden: "" });
    this.svg = element("svg:svg", { tabindex: 0, role: "application", preserveAspectRatio: "none" });
    this.tip = element("div", { class: "tip" });
    this.sheet = element("div", { class: "sheet" }, this.img, this.canvas, this.svg);
    this.picture = element("div", { class: "picture" }, this.sheet, this.tip);
    this.list = element("select", { "aria-label": `Detection of ${model.name}` });
    this.cursorText = element("div", { class: "cursor" });
    this.summary = element("output", { "aria-live": "polite" });
    this.numbers = element("table");
    const details = element("details", {}, element("summary", {}, "Numbers"), this.numbers);
    const choice = element("label", {}, "Detection ", this.list);
    this.root = element("figure", { class: "panel" }, element("figcaption", {}, model.name), this.picture,
      element("div", { class: "below" }, this.cursorText, choice, this.summary, details));
    this.listen();
  }

  listen() {
    this.list.addEventListener("change", () => this.actions.choose(this, Number(this.list.value)));
    this.svg.addEventListener("click", (event) => this.actions.pick(this, this.placeOf(event)));
    this.svg.addEventListener("pointermove", (event) => {
      this.actions.hover(this.placeOf(event));
      this.showTip(event);
    });
    this.svg.addEventListener("pointerleave", () => {
      this.actions.hover(null);
      this.tip.textContent = "";
    });
    this.svg.addEventListener("keydown", (event) => this.actions.key(this, event));
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  /** Show another image; `view` is its unpacked `view_data`. */
  load(image, view) {
    const layers = (stage) => view[stage].map((data) => new Layer(data));
    this.image = image;
    this.view = view;
    this.stages = { decoder: layers("decoder"), encoder: layers("encoder"), backbone: layers("backbone") };
    this.img.src = image.source;
    this.svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
    this.svg.setAttribute("aria-label", `${image.name} as ${this.model.name} sees it. The arrow keys move the ` +
      "cursor, Enter looks there, Escape lets go.");
    this.numBoxLayers = view.detections.boxes.shape[0];
    this.row = -1;
  }

  // Detections, by their row.

  get rows() {
    return [...this.view.detections.queries.keys()];
  }

  score(row, layer = this.numBoxLayers - 1) {
    return Layer.at(this.view.detections.scores, layer, row);
  }

  name(row, layer = this.numBoxLayers - 1) {
    return this.model.classes[Layer.at(this.view.detections.labels, layer, row)];
  }

  box(row, layer = this.boxLayer) {
    return [0, 1, 2, 3].map((axis) => Layer.at(this.view.detections.boxes, layer, row, axis));
  }

  caption(row, layer) {
    return `${this.name(row, layer)} ${this.score(row, layer).toFixed(2)}`;
  }

  /** Rows of the detections that score and class let through, best first. */
  get shown() {
    const { score, hiddenClasses } = this.settings;
    return this.rows.filter((row) => this.score(row) >= score && !hiddenClasses.has(this.name(row)));
  }

  /** The smallest detection that a place lies in; -1 if there is none. */
  detectionAt(place) {
    const hit = this.shown.filter((row) => inside(place, this.box(row)));
    return hit.sort((a, b) => area(this.box(a)) - area(this.box(b)))[0] ?? -1;
  }

  /** The detection whose centre is nearest to a place; where none has the score, of all queries. */
  detectionNear(place) {
    const rows = this.shown.length ? this.shown : this.rows;
    const distance = (row) => Math.hypot(...centreOf(this.box(row)).map((number, i) => number - place[i]));
    return rows.sort((a, b) => distance(a) - distance(b))[0];
  }

  // What the settings say of this panel.

  get layers() {
    return this.stages[this.settings.stage];
  }

  /** Number of the layer; of fewer than the settings say, the last one. */
  get layerNumber() {
    return Math.min(this.settings.layer, this.layers.length - 1);
  }

  /** The layer whose boxes are shown: the decoder's own, else the last one. */
  get boxLayer() {
    return this.settings.stage === "decoder" && this.layers.length ? this.layerNumber : this.numBoxLayers - 1;
  }

  /** The row of a layer that is looked at: a detection's or, outside the decoder, that of a token; -1 for none. */
  rowIn(layer) {
    const { stage, place, cellLevel } = this.settings;
    if (stage === "decoder") return this.row;
    return place ? layer.nearest(place, Math.min(cellLevel, layer.numLevels - 1)) : -1;
  }

  headsOf(layer) {
    return [...Array(layer.heads).keys()].filter((head) => !this.settings.hiddenHeads.has(head));
  }

  levelsOf(layer) {
    return [...layer.levels.keys()].filter((level) => !this.settings.hiddenLevels.has(level));
  }

  samplesOf(layer) {
    const row = this.rowIn(layer);
    return row < 0 ? [] : layer.samples(row, this.headsOf(layer), this.levelsOf(layer));
  }

  // Drawing.

  /** Draw all of it; `settings` are page.js's. */
  render(settings) {
    this.settings = settings;
    const layer = this.layers[this.layerNumber];
    this.samples = layer ? this.samplesOf(layer) : [];
    // One scale for all layers of a query, so that they can be compared.
    this.largest = Math.max(1 / 255, ...this.layers.flatMap((other) => this.samplesOf(other).map((s) => s.weight)));
    this.drawHeat(layer);
    this.draw();
    this.fillList();
    this.describe(layer);
    this.showCursor(settings.cursor);
  }

  drawHeat(layer) {
    const rows = !layer ? [] : this.rowIn(layer) >= 0 ? [this.rowIn(layer)] : this.settings.stage === "decoder" ? this.shown : [];
    const heads = layer ? this.headsOf(layer) : [];
    const visible = this.settings.show.heat && rows.length > 0 && heads.length > 0;
    this.heat = visible ? layer.heat(rows, heads, this.levelsOf(layer)) : null;
    this.canvas.hidden = !visible;
    this.sheet.classList.toggle("dim", visible);
    if (!visible) return;
    const { h, w, values } = this.heat, [[x0, y0], [x1, y1]] = layer.corners;
    this.heat.layer = layer;
    this.heat.largest = values.reduce((a, b) => Math.max(a, b), 0);
    const pixels = new ImageData(w, h);
    values.forEach((value, i) => {
      const part = value / (this.heat.largest || 1);
      pixels.data.set([...colourOn(this.scales.heat, 0.25 + 0.75 * part), 255 * Math.min(0.75, 2.5 * part)], 4 * i);
    });
    Object.assign(this.canvas, { width: w, height: h });
    this.canvas.getContext("2d").putImageData(pixels, 0, 0);
    const { width, height } = this.image, percent = (number, whole) => `${(100 * number) / whole}%`;
    Object.assign(this.canvas.style, {
      left: percent(Math.min(x0, x1), width), width: percent(Math.abs(x1 - x0), width),
      top: percent(Math.min(y0, y1), height), height: percent(Math.abs(y1 - y0), height),
      transform: `scale(${Math.sign(x1 - x0)}, ${Math.sign(y1 - y0)})`,
    });
  }

  /** Boxes, cell, reference and points, whose sizes are pixels of the screen. */
  draw() {
    if (!this.settings || !this.picture.clientWidth) return;
    this.zoomIn();
    const parts = [], { show } = this.settings, layer = this.layers[this.layerNumber];
    const row = this.settings.stage === "decoder" ? this.row : -1;
    const faded = row >= 0 || this.samples.length ? " faded" : "";
    if (show.boxes) for (const other of this.shown) if (other !== row) parts.push(...this.boxParts(this.box(other), `found${faded}`));
    if (show.truth) for (const { box, name } of this.image.truth ?? []) parts.push(...this.boxParts(box, `true${faded}`, faded ? "" : name));
    if (show.matches) parts.push(...this.pairParts());
    if (row >= 0) parts.push(...this.boxParts(this.box(row), "chosen", this.caption(row, this.boxLayer)));
    if (layer && this.rowIn(layer) >= 0) parts.push(...this.lookingParts(layer));
    this.lines = ["x", "y"].map((axis) => element("svg:line", { class: `cursor ${axis}` }));
    this.svg.replaceChildren(...parts, ...this.lines);
    this.showCursor(this.settings.cursor);
  }

  /** Enlarge what is around the place that is looked from; `unit` is a pixel of the screen in pixels of the image. */
  zoomIn() {
    const { zoom, place } = this.settings, { width, height } = this.image;
    const [x, y] = [[place?.[0], width], [place?.[1], height]].map(([at = 0, size]) =>
      Math.min(Math.max(at / size - 0.5 / zoom, 0), 1 - 1 / zoom));
    this.sheet.style.setProperty("--zoom", zoom);
    this.sheet.style.transform = `scale(${zoom}) translate(${-100 * x}%, ${-100 * y}%)`;
    this.unit = width / this.picture.clientWidth / zoom;
    this.radius = this.unit * Math.min(Math.max(this.picture.clientWidth / 220, 2.4), 4);
  }

  boxParts([x1, y1, x2, y2], kind, text = "") {
    const rect = (name) => element("svg:rect", { class: `box ${name}`, x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) });
    const parts = [rect(`under ${kind.includes("faded") ? "faded" : ""}`), rect(kind)];
    return text ? [...parts, this.label(Math.max(x1, 0), y1, text, kind.startsWith("true"))] : parts;
  }

  /** A text at the upper left corner of a box: above it, or inside where there is no room or it shall be `within`. */
  label(x, y, text, within = false) {
    const size = 13 * this.unit, below = within || y < 1.3 * size;
    return element("svg:text", { x: x + 0.2 * size, y: Math.max(y, 0) + (below ? 1.1 * size : -0.35 * size), "font-size": size }, text);
  }

  pairParts() {
    return (this.view.matches?.[this.boxLayer] ?? []).flatMap((row, i) => {
      if (row < 0) return [];
      const [x1, y1] = centreOf(this.image.truth[i].box), [x2, y2] = centreOf(this.box(row));
      const line = (name) => element("svg:line", { class: `box ${name}`, x1, y1, x2, y2 });
      return [...this.boxParts(this.box(row), "paired"), line("under"), line("paired")];
    });
  }

  /** From where a row looks, and its points, the heaviest on top. */
  lookingParts(layer) {
    const parts = [], row = this.rowIn(layer), reference = layer.reference(row), { unit } = this;
    if (this.settings.stage !== "decoder") {
      const [x, y, w, h] = layer.cell(row).box;
      parts.push(...this.boxParts([x, y, x + w, y + h], "cell"));
    }
    if (this.settings.show.points) {
      for (const sample of [...this.samples].sort((a, b) => a.weight - b.weight)) {
        const { head, level, point, x, y, weight } = sample;
        const colour = this.settings.colour === "head"
          ? HEAD_COLOURS[parseInt(head) % HEAD_COLOURS.length]
          : `rgb(${colourOn(this.scales.weights, weight / this.largest)})`;
        parts.push(element("svg:path", {
          class: "point", d: markOf(level), fill: colour, transform: `translate(${x} ${y}) scale(${this.radius * (1 + 0.12 * level)})`,
          "data-head": head, "data-level": level, "data-point": point, "data-weight": weight, "data-x": x, "data-y": y,
        }));
      }
    }
    if (reference) {
      const [x, y] = reference, d = `M${x - 9 * unit} ${y}h${18 * unit}M${x} ${y - 9 * unit}v${18 * unit}`;
      parts.push(...["reference under", "reference"].map((name) => element("svg:path", { class: name, d })));
    }
    return parts;
  }

  // Words and numbers.

  fillList() {
    const rows = this.shown.includes(this.row) || this.row < 0 ? this.shown : [this.row, ...this.shown];
    const options = rows.map((row) => element("option", { value: row }, `${this.rows.indexOf(row) + 1}. ${this.caption(row)}`));
    const none = element("option", { value: -1 }, rows.length ? `none of ${rows.length}` : "none has this score");
    this.list.replaceChildren(none, ...options);
    this.list.value = this.row;
  }

  describe(layer) {
    const { stage } = this.settings, row = layer ? this.rowIn(layer) : -1;
    if (!this.layers.length) this.summary.textContent = `This model has no ${stage === "backbone" ? "deformable attention in its backbone" : stage}.`;
    else if (row < 0) this.summary.textContent = `${this.shown.length} detections. Nothing is looked at.`;
    else this.summary.textContent = [this.subject(layer, row), this.seen(layer, row)].join("; ");
    this.summary.setAttribute("aria-live", this.settings.playing ? "off" : "polite");

    this.fillNumbers(row < 0 ? [] : layer.hasPoints ? this.samples : layer.cells(row, this.headsOf(layer)));
  }

  /** A table of the heaviest points, or cells of dense attention. */
  fillNumbers(all) {
    const heaviest = [...all].sort((a, b) => b.weight - a.weight).slice(0, 20);
    const line = (cells, kind) => element("tr", {}, ...cells.map((cell) => element(kind, {}, cell)));
    const names = Object.keys(heaviest[0] ?? {}).filter((name) => name !== "heads");
    const digits = { x: 1, y: 1, weight: 3 };
    this.numbers.replaceChildren(
      element("caption", {}, heaviest.length ? `The ${heaviest.length} heaviest of ${all.length}` : "There are none."),
      line(names, "th"),
      ...heaviest.map((one) => line(names.map((name) => name in digits ? one[name].toFixed(digits[name]) : String(one[name])), "td")));
  }

  subject(layer, row) {
    const number = `layer ${this.layerNumber} of the ${this.settings.stage}${layer.name ? ` (${layer.name})` : ""}`;
    if (this.settings.stage !== "decoder") {
      const { level, row: line, column } = layer.cell(row);
      return `${number}: cell of level ${level}, row ${line}, column ${column}`;
    }
    const pair = (this.view.matches?.[this.boxLayer] ?? []).indexOf(row);
    const matched = pair < 0 ? "" : `, matched with the true ${this.image.truth[pair].name}`;
    return `${number}: ${this.caption(row, this.boxLayer)}, box ${fixed(this.box(row))}, query ` +
      `${this.view.detections.queries[row]}${matched}`;
  }

  seen(layer, row) {
    if (!layer.hasPoints) return `dense attention over ${layer.levels[0].join(" x ")} cells`;
    const reference = layer.reference(row);
    const heaviest = this.samples.reduce((most, sample) => Math.max(most, sample.weight), 0);
    return `reference ${fixed(reference)}; ${this.samples.length} points, the heaviest ${heaviest.toFixed(3)}`;
  }

  /** The place of a pointer event, in pixels of the image. */
  placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.svg.getBoundingClientRect();
    return [((clientX - left) / width) * this.image.width, ((clientY - top) / height) * this.image.height];
  }

  /** What a point under the pointer is, in numbers. */
  showTip(event) {
    const { head, level, point, x, y, weight } = event.target.dataset ?? {};
    this.tip.textContent = weight === undefined ? "" : `head ${head}, level ${level}, point ${point}\n` +
      `weight ${Number(weight).toFixed(3)} at ${fixed([Number(x), Number(y)])}`;
    const { left, top, width } = this.picture.getBoundingClientRect();
    const right = event.clientX - left > width / 2;
    Object.assign(this.tip.style, {
      top: `${event.clientY - top + 14}px`,
      left: right ? "" : `${event.clientX - left + 14}px`,
      right: right ? `${left + width - event.clientX + 14}px` : "",
    });
  }

  /** The cursor, which all panels share, and how much attention is there; `place` is null outside the image. */
  showCursor(place) {
    if (!this.lines) return;
    const { width, height } = this.image;
    for (const line of this.lines) line.style.display = place ? "" : "none";
    this.cursorText.textContent = "";
    if (!place) return;
    const [x, y] = place, [vertical, horizontal] = this.lines;
    const set = (line, numbers) => Object.entries(numbers).forEach(([key, value]) => line.setAttribute(key, value));
    set(vertical, { x1: x, x2: x, y1: 0, y2: height });
    set(horizontal, { x1: 0, x2: width, y1: y, y2: y });
    this.cursorText.textContent = `x ${x.toFixed(1)}, y ${y.toFixed(1)}${this.heatAt(place)}`;
  }

  heatAt(place) {
    if (!this.heat) return "";
    const { h, w, values, layer } = this.heat;
    return `: attention ${interpolate(values, h, w, ...layer.inCells(0, ...place)).toFixed(2)} (1 = even over the image)`;
  }
}
