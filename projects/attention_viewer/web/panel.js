"use strict";

const fixed = (numbers) => numbers.map((number) => number.toFixed(1)).join(", ");
const share = (part, whole) => `${(100 * part) / whole}%`;

/** How one model sees the image: the picture with what is drawn over it, and the same in words. */
class Panel {
  /**
   * @param model its name and classes; @param scales its colours;
   * @param settings what is chosen (page.js);
   * @param actions what a person does in it: hover(place), pick(panel, place), choose(panel, row),
   *   key(panel, event).
   */
  constructor(model, scales, settings, actions) {
    Object.assign(this, { model, scales, settings, actions });
    this.img = element("img", { alt: "" });
    this.canvas = element("canvas", { hidden: "" });
    this.svg = element("svg:svg", { tabindex: 0, role: "application", preserveAspectRatio: "none" });
    this.sheet = element("div", { class: "sheet" }, this.img, this.canvas, this.svg);
    this.tip = element("div", { class: "tip" });
    this.picture = element("div", { class: "picture" }, this.sheet, this.tip);
    this.cursorText = element("div", { class: "cursor" });
    this.list = element("select", { "aria-label": `Detection of ${model.name}` });
    this.summary = element("output", { "aria-live": "polite" });
    this.numbers = element("table");
    this.root = element("figure", { class: "panel" },
      element("figcaption", {}, model.name),
      this.picture,
      element("div", { class: "below" },
        this.cursorText,
        element("label", {}, "Detection ", this.list),
        this.summary,
        element("details", {}, element("summary", {}, "Numbers"), this.numbers)));
    this.listen();
  }

  listen() {
    this.list.addEventListener("change", () => this.actions.choose(this, Number(this.list.value)));
    this.svg.addEventListener("click", (event) => this.actions.pick(this, this.placeOf(event)));
    this.svg.addEventListener("keydown", (event) => this.actions.key(this, event));
    this.svg.addEventListener("pointermove", (event) => {
      this.actions.hover(this.placeOf(event));
      this.showTip(event);
    });
    this.svg.addEventListener("pointerleave", () => {
      this.actions.hover(null);
      this.tip.textContent = "";
    });
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  /** Show another image; `view` is its unpacked `view_data`. */
  load(image, view) {
    const layers = (stage) => view[stage].map((data) => new Layer(data));
    this.image = image;
    this.stages = { decoder: layers("decoder"), encoder: layers("encoder"), backbone: layers("backbone") };
    this.detections = new Detections(view.detections, this.model.classes);
    this.matches = view.matches;
    this.row = -1; // of the detection that is looked from
    this.img.src = image.source;
    // A high image is seen whole, unless it would be too narrow to click.
    this.picture.style.maxWidth = `max(12rem, ${(90 * image.width) / image.height}vh)`;
    this.svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
    this.svg.setAttribute("aria-label", `${image.name} as ${this.model.name} sees it. The arrow keys ` +
      "move the cursor, Enter looks there, Escape lets go.");
  }

  // What the settings (page.js) say of this panel.

  get layers() {
    return this.stages[this.settings.stage];
  }

  /** Number of the layer; of fewer than the settings say, the last one. */
  get layerNumber() {
    return Math.min(this.settings.layer, this.layers.length - 1);
  }

  /** The layer whose boxes are shown: the decoder's own, else the last one. */
  get boxLayer() {
    const isDecoder = this.settings.stage === "decoder" && this.layers.length > 0;
    return isDecoder ? this.layerNumber : this.detections.lastLayer;
  }

  get shown() {
    return this.detections.shown(this.settings);
  }

  box(row) {
    return this.detections.box(row, this.boxLayer);
  }

  detectionAt(place) {
    return this.detections.at(place, this.shown, this.boxLayer);
  }

  /** The detection at a place or, if there is none, the nearest one. */
  detectionNear(place) {
    const row = this.detectionAt(place);
    return row < 0 ? this.detections.near(place, this.shown, this.boxLayer) : row;
  }

  /** The row of a layer that is looked from: a detection's or, outside the decoder, a token's; or -1. */
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

  // The picture.

  /** Show what the settings say. */
  render() {
    this.layer = this.layers[this.layerNumber] ?? null; // a model may lack the stage
    this.lookingFrom = this.layer ? this.rowIn(this.layer) : -1;
    this.samples = this.layer ? this.samplesOf(this.layer) : [];
    // One scale for all layers of a query, so that they can be compared.
    const weights = this.layers.flatMap((layer) => this.samplesOf(layer).map((sample) => sample.weight));
    this.largest = Math.max(1 / 255, ...weights);
    this.drawHeat();
    this.draw();
    this.fillList();
    this.describe();
  }

  /** The heat map of what is looked from or, if that is nothing, of all detections. */
  drawHeat() {
    const { layer, lookingFrom, settings: { show, stage } } = this;
    const rows = lookingFrom >= 0 ? [lookingFrom] : stage === "decoder" ? this.shown : [];
    const heads = layer ? this.headsOf(layer) : [];
    const visible = show.heat && rows.length > 0 && heads.length > 0;
    this.heat = visible ? layer.heat(rows, heads, this.levelsOf(layer)) : null;
    this.canvas.hidden = !visible;
    this.sheet.classList.toggle("dim", visible);
    if (!visible) return;
    const { h, w, values } = this.heat, pixels = new ImageData(w, h);
    this.heat.largest = values.reduce((a, b) => Math.max(a, b), 0);
    values.forEach((value, i) => {
      const part = value / (this.heat.largest || 1), opacity = 255 * Math.min(0.75, 2.5 * part);
      pixels.data.set([...colourOn(this.scales.heat, part), opacity], 4 * i);
    });
    Object.assign(this.canvas, { width: w, height: h });
    this.canvas.getContext("2d").putImageData(pixels, 0, 0);
    const [[x0, y0], [x1, y1]] = layer.corners, { width, height } = this.image;
    Object.assign(this.canvas.style, {
      left: share(Math.min(x0, x1), width), width: share(Math.abs(x1 - x0), width),
      top: share(Math.min(y0, y1), height), height: share(Math.abs(y1 - y0), height),
      transform: `scale(${Math.sign(x1 - x0)}, ${Math.sign(y1 - y0)})`,
    });
  }

  /** Boxes, cell, reference and points. */
  draw() {
    if (!this.samples) return; // it is too early
    this.zoomIn();
    const { settings: { show, stage }, unit } = this, parts = [];
    const chosen = stage === "decoder" ? this.row : -1;
    const faded = this.lookingFrom >= 0 ? " faded" : "";
    if (show.boxes) {
      const others = this.shown.filter((row) => row !== chosen);
      parts.push(...others.flatMap((row) => boxParts(this.box(row), `found${faded}`)));
    }
    if (show.truth) parts.push(...this.truthParts(faded));
    if (show.matches) {
      const pairs = this.matches[this.boxLayer].map((row, i) => [row, this.image.truth[i].box]);
      const kept = pairs.filter(([row]) => row >= 0);
      parts.push(...kept.flatMap(([row, trueBox]) => pairParts(trueBox, this.box(row))));
    }
    if (chosen >= 0) {
      const caption = this.detections.caption(chosen, this.boxLayer);
      parts.push(...boxParts(this.box(chosen), "chosen"), labelPart(this.box(chosen), caption, unit));
    }
    if (this.lookingFrom >= 0) parts.push(...this.lookingParts());
    this.lines = ["x", "y"].map((axis) => element("svg:line", { class: `cursor ${axis}` }));
    this.svg.replaceChildren(...parts, ...this.lines);
    this.showCursor(this.settings.cursor);
  }

  /** Enlarge what is around the place that is looked from. */
  zoomIn() {
    const { zoom, place } = this.settings, { width, height } = this.image;
    const start = (at, size) => Math.min(Math.max(at / size - 0.5 / zoom, 0), 1 - 1 / zoom);
    const [x, y] = place ?? [0, 0];
    this.sheet.style.setProperty("--zoom", zoom);
    this.sheet.style.transform =
      `scale(${zoom}) translate(${-100 * start(x, width)}%, ${-100 * start(y, height)}%)`;
    this.unit = width / this.picture.clientWidth / zoom; // a pixel of the screen in pixels of the image
    this.radius = this.unit * Math.min(Math.max(this.picture.clientWidth / 220, 2.4), 4);
  }

  truthParts(faded) {
    return (this.image.truth ?? []).flatMap(({ box, name }) => {
      const label = faded ? [] : [labelPart(box, name, this.unit, true)];
      return [...boxParts(box, `true${faded}`), ...label];
    });
  }

  /** From where the row looks, and its points, the heaviest on top. */
  lookingParts() {
    const { layer, lookingFrom: row, settings: { show, stage, colour } } = this, parts = [];
    if (stage !== "decoder") parts.push(...boxParts(layer.cell(row).box, "cell"));
    if (show.points) {
      const fill = ({ head, weight }) => colour === "head"
        ? headColour(parseInt(head))
        : `rgb(${colourOn(this.scales.weights, weight / this.largest)})`;
      const sorted = [...this.samples].sort((a, b) => a.weight - b.weight);
      parts.push(...sorted.map((sample) => pointPart(sample, fill(sample), this.radius)));
    }
    const reference = layer.reference(row);
    return reference ? [...parts, ...crossParts(reference, this.unit)] : parts;
  }

  // Words and numbers.

  fillList() {
    const { detections, row, shown } = this;
    const rows = row < 0 || shown.includes(row) ? shown : [...shown, row];
    const option = (value, text) => element("option", { value }, text);
    const none = shown.length ? `none of ${shown.length}` : "none has this score";
    const captions = rows.map((one) => option(one, `${one + 1}. ${detections.caption(one)}`));
    this.list.replaceChildren(option(-1, none), ...captions);
    this.list.value = row;
  }

  describe() {
    const { layer, lookingFrom: row, settings: { stage, playing } } = this;
    const lacking = stage === "backbone" ? "deformable attention in its backbone" : stage;
    let text = `${this.shown.length} detections. Nothing is looked from.`;
    if (!layer) text = `This model has no ${lacking}.`;
    else if (row >= 0) text = `${this.subject()}; ${this.seen()}`;
    this.summary.textContent = text;
    this.summary.setAttribute("aria-live", playing ? "off" : "polite");
    this.fillNumbers(row < 0 ? [] : layer.hasPoints ? this.samples : layer.cells(row, this.headsOf(layer)));
  }

  /** What is looked from. */
  subject() {
    const { layer, lookingFrom: row, settings: { stage }, detections } = this;
    const number = `layer ${this.layerNumber} of the ${stage}${layer.name ? ` (${layer.name})` : ""}`;
    if (stage !== "decoder") {
      const { level, row: line, column } = layer.cell(row);
      return `${number}: cell of level ${level}, row ${line}, column ${column}`;
    }
    const pair = this.matches ? this.matches[this.boxLayer].indexOf(row) : -1;
    const matched = pair < 0 ? "" : `, matched with the true ${this.image.truth[pair].name}`;
    return `${number}: ${detections.caption(row, this.boxLayer)}, box ${fixed(this.box(row))}, ` +
      `query ${detections.queries[row]}${matched}`;
  }

  /** What is looked at. */
  seen() {
    const { layer, samples } = this;
    if (!layer.hasPoints) return `dense attention over ${layer.levels[0].join(" x ")} cells`;
    const heaviest = samples.reduce((most, { weight }) => Math.max(most, weight), 0);
    return `reference ${fixed(layer.reference(this.lookingFrom))}; ${samples.length} points, ` +
      `the heaviest ${heaviest.toFixed(3)}`;
  }

  /** A table of the heaviest points, or cells of dense attention. */
  fillNumbers(all) {
    const heaviest = [...all].sort((a, b) => b.weight - a.weight).slice(0, 20);
    const names = Object.keys(heaviest[0] ?? {}).filter((name) => name !== "heads");
    const digits = { x: 1, y: 1, weight: 3 };
    const text = (number, name) => (name in digits ? number.toFixed(digits[name]) : String(number));
    const line = (cells, kind) => element("tr", {}, ...cells.map((cell) => element(kind, {}, cell)));
    const caption = heaviest.length ? `The ${heaviest.length} heaviest of ${all.length}` : "There are none.";
    this.numbers.replaceChildren(
      element("caption", {}, caption),
      line(names, "th"),
      ...heaviest.map((one) => line(names.map((name) => text(one[name], name)), "td")));
  }

  // The pointer.

  /** The place of a pointer event, in pixels of the image. */
  placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.svg.getBoundingClientRect();
    return [((clientX - left) / width) * this.image.width, ((clientY - top) / height) * this.image.height];
  }

  /** What a point under the pointer is, in numbers. */
  showTip({ target, clientX, clientY }) {
    const { head, level, point, x, y, weight } = target.dataset;
    this.tip.textContent = weight === undefined ? "" : `head ${head}, level ${level}, point ${point}\n` +
      `weight ${Number(weight).toFixed(3)} at ${fixed([Number(x), Number(y)])}`;
    const { left, top, width } = this.picture.getBoundingClientRect(), at = clientX - left;
    Object.assign(this.tip.style, {
      top: `${clientY - top + 14}px`,
      left: at > width / 2 ? "" : `${at + 14}px`,
      right: at > width / 2 ? `${width - at + 14}px` : "",
    });
  }

  /** The cursor, which all panels share, and how much attention is there; null: it is outside. */
  showCursor(place) {
    const { lines, image: { width, height }, heat } = this;
    for (const line of lines) line.style.display = place ? "" : "none";
    this.cursorText.textContent = "";
    if (!place) return;
    const [x, y] = place, ends = [[x, 0, x, height], [0, y, width, y]];
    lines.forEach((line, i) => {
      ["x1", "y1", "x2", "y2"].forEach((name, end) => line.setAttribute(name, ends[i][end]));
    });
    const attention = heat && interpolate(heat.values, heat.h, heat.w, ...this.layer.inCells(0, ...place));
    const said = heat ? `: attention ${attention.toFixed(2)} (1 = even over the image)` : "";
    this.cursorText.textContent = `x ${x.toFixed(1)}, y ${y.toFixed(1)}${said}`;
  }
}
