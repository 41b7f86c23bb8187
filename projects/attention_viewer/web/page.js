"use strict";

/** What is chosen in the page; all panels follow it. */
const settings = {
  stage: "decoder",
  layer: 0,
  place: null, // that was clicked, in pixels
  cursor: null, // where the pointer is, in pixels
  cellLevel: 0,
  hiddenHeads: new Set(),
  hiddenLevels: new Set(),
  hiddenClasses: new Set(),
  score: 0.3,
  zoom: 1,
  colour: "weight",
  show: { points: true, heat: false, boxes: true, truth: true, matches: false },
  playing: false,
};
const STAGES = ["decoder", "encoder", "backbone"];
const SECONDS = 0.9; // for which a layer is shown when they are played

const $ = (id) => document.getElementById(id);
const page = JSON.parse($("data").textContent);
const actions = { hover, pick, choose, key };
const panels = page.models.map((model) => new Panel(model, page.scales, actions));
let timer = null;

/** Show another image of the page. */
async function loadImage(number) {
  const image = page.images[number];
  const views = await Promise.all(image.views.map(unpackAll));
  panels.forEach((panel, i) => panel.load(image, views[i]));
  const has = (stage) => panels.some((panel) => panel.stages[stage].length);
  for (const radio of document.getElementsByName("stage")) {
    radio.closest("label").hidden = !has(radio.value);
  }
  document.querySelector('[value="truth"]').closest("label").hidden = !image.truth;
  document.querySelector('[value="matches"]').closest("label").hidden = !views.some((view) => view.matches);
  settings.cursor = null;
  if (STAGES.some((stage) => panels.some((panel) => panel.stages[stage].some((layer) => !layer.hasPoints)))) {
    document.querySelector('[value="heat"]').checked = settings.show.heat = true; // there are no points to see
  }
  fillClasses();
  setStage(STAGES.find(has));
  panels.forEach((panel) => panel.settings = settings);
  // Where nothing is certain the best detection is shown all the same.
  const [surest] = [...panels].sort((a, b) => b.score(0) - a.score(0));
  settings.score = Math.min(settings.score, Math.floor(100 * surest.score(0)) / 100);
  $("score").value = settings.score;
  choose(surest, 0);
}

/** Draw the page as the settings say. */
function render() {
  panels.forEach((panel) => panel.render(settings));
  $("layer").value = settings.layer;
  $("layer").setAttribute("aria-valuetext", layerName());
  $("layer-name").textContent = layerName();
  $("zoom-value").textContent = `${settings.zoom} x`;
  $("score-value").textContent = settings.score.toFixed(2);
  showScales();
}

const layersOf = (stage) => Math.max(...panels.map((panel) => panel.stages[stage].length));

function layerName() {
  return `${settings.layer} (0 to ${layersOf(settings.stage) - 1})`;
}

function setStage(stage) {
  settings.stage = stage;
  settings.layer = layersOf(stage) - 1;
  const layers = panels.flatMap((panel) => panel.stages[stage]);
  const heads = Math.max(...layers.map((layer) => layer.heads));
  const levels = Math.max(...layers.map((layer) => layer.numLevels));
  document.querySelector(`[name="stage"][value="${stage}"]`).checked = true;
  $("layer").max = settings.layer;
  $("cell-level-choice").hidden = stage === "decoder" || levels < 2;
  $("cell-level").replaceChildren(...range(levels).map((level) => element("option", { value: level }, String(level))));
  settings.cellLevel = Math.min(settings.cellLevel, levels - 1);
  $("cell-level").value = settings.cellLevel;
  fillToggles($("heads"), heads, settings.hiddenHeads, (head) => swatch(HEAD_COLOURS[head % HEAD_COLOURS.length]));
  fillToggles($("levels"), levels, settings.hiddenLevels, (level) =>
    element("svg:svg", { class: "mark", viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": true }, element("svg:path", { d: markOf(level) })));
}

const range = (count) => [...Array(count).keys()];

/** A check box for each of a number of things, and buttons for all and for one alone. */
function fillToggles(root, count, hidden, sign) {
  const name = root.id.slice(0, -1);
  const boxes = range(count).map((number) => {
    const box = element("input", { type: "checkbox", "aria-label": `${name} ${number}` });
    box.checked = !hidden.has(number);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(number);
      else hidden.add(number);
      render();
    });
    return box;
  });
  const all = element("button", { type: "button", "aria-label": `all ${name}s` }, "All");
  const hint = `one ${name} alone; once more: the next one`;
  const next = element("button", { type: "button", "aria-label": hint, title: hint }, "One");
  const show = (shown) => {
    range(count).forEach((number) => {
      boxes[number].checked = shown.includes(number);
      if (shown.includes(number)) hidden.delete(number);
      else hidden.add(number);
    });
    render();
  };
  all.addEventListener("click", () => show(range(count)));
  next.addEventListener("click", () => {
    const shown = range(count).filter((number) => !hidden.has(number));
    show([shown.length === 1 ? (shown[0] + 1) % count : 0]);
  });
  root.replaceChildren(...boxes.map((box, number) => element("label", {}, box, sign(number), ` ${number}`)), all, next);
}

function swatch(colour) {
  const mark = element("svg:path", { d: markOf(1) });
  mark.style.fill = colour;
  return element("svg:svg", { class: "mark swatch", viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": true }, mark);
}

/** A check box for each class of which something may be shown. */
function fillClasses() {
  const found = panels.flatMap((panel) => panel.rows.map((row) => panel.name(row)));
  const boxes = [...new Set(found)].sort().map((name) => {
    const box = element("input", { type: "checkbox" });
    box.checked = !settings.hiddenClasses.has(name);
    box.addEventListener("change", () => {
      if (box.checked) settings.hiddenClasses.delete(name);
      else settings.hiddenClasses.add(name);
      render();
    });
    return element("label", {}, box, ` ${name}`);
  });
  $("classes").replaceChildren(...boxes);
}

/** What the colours mean, of each panel. */
function showScales() {
  const bar = (scale) => {
    const made = element("i");
    made.style.background = `linear-gradient(to right, ${scale.join(",")})`;
    return made;
  };
  const list = (numbers) => [...new Set(numbers)].join(" | ");
  const pointed = panels.filter((panel) => panel.samples.length);
  $("weight-scale").hidden = !(settings.show.points && settings.colour === "weight" && pointed.length);
  $("weight-scale").replaceChildren("0", bar(page.scales.weights), list(pointed.map((panel) => panel.largest.toFixed(3))));
  const hot = panels.filter((panel) => panel.heat);
  $("heat-scale").hidden = !hot.length;
  $("heat-scale").replaceChildren("0", bar(page.scales.heat.slice(4)), `${list(hot.map((panel) => panel.heat.largest.toFixed(1)))} x even`);
  for (const mark of document.querySelectorAll(".swatch")) mark.style.display = settings.colour === "head" ? "" : "none";
}

// What a panel reports.

function hover(place) {
  settings.cursor = place;
  panels.forEach((panel) => panel.showCursor(place));
}

/** Look from a place: from the detection there or, if there is none, from the encoder's cell. */
function pick(panel, place) {
  settings.place = place;
  if (settings.stage === "decoder") {
    const row = panel.detectionAt(place);
    if (row >= 0) return choose(panel, row, place);
    setStage("encoder");
  }
  render();
}

/** Look from a detection, -1 for none; other panels take the one at the same place. */
function choose(panel, row, place = null) {
  panel.row = row;
  settings.place = row < 0 ? null : place ?? centreOf(panel.box(row));
  for (const other of panels) {
    if (other !== panel) other.row = row < 0 ? -1 : nearbyRow(other, settings.place);
  }
  if (row >= 0 && settings.stage !== "decoder" && panel.stages.decoder.length) setStage("decoder");
  render();
}

function nearbyRow(panel, place) {
  const row = panel.detectionAt(place);
  return row < 0 ? panel.detectionNear(place) : row;
}

/** The image's keys: arrows move the cursor, Enter looks there, Escape lets go. */
function key(panel, event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const { width, height } = panel.image, at = settings.cursor ?? [width / 2, height / 2];
  if (event.key in moves) {
    const step = event.shiftKey ? 1 : Math.max(width, height) / 50, [dx, dy] = moves[event.key];
    hover([Math.min(Math.max(at[0] + dx * step, 0), width), Math.min(Math.max(at[1] + dy * step, 0), height)]);
  } else if (event.key === "Enter" || event.key === " ") pick(panel, at);
  else if (event.key === "Escape") choose(panel, -1);
  else return;
  event.preventDefault();
}

// Controls.

function stopPlaying() {
  clearInterval(timer);
  settings.playing = false;
  $("play").textContent = "Play";
  $("play").setAttribute("aria-pressed", false);
}

function play() {
  if (settings.playing) {
    stopPlaying();
    return render();
  }
  settings.playing = true;
  $("play").textContent = "Stop";
  $("play").setAttribute("aria-pressed", true);
  settings.layer = 0;
  render();
  timer = setInterval(() => {
    settings.layer = (settings.layer + 1) % layersOf(settings.stage);
    render();
  }, SECONDS * 1000);
}

function listen() {
  const on = (id, event, change) => $(id).addEventListener(event, () => {
    change($(id));
    render();
  });
  on("layer", "input", (slider) => {
    stopPlaying();
    settings.layer = Number(slider.value);
  });
  on("score", "input", (slider) => settings.score = Number(slider.value));
  on("zoom", "input", (slider) => settings.zoom = Number(slider.value));
  on("cell-level", "change", (choice) => settings.cellLevel = Number(choice.value));
  on("colour", "change", (choice) => settings.colour = choice.value);
  $("play").addEventListener("click", play);
  $("image").addEventListener("change", () => loadImage(Number($("image").value)));
  for (const box of document.getElementsByName("show")) {
    box.addEventListener("change", () => {
      settings.show[box.value] = box.checked;
      render();
    });
  }
  for (const radio of document.getElementsByName("stage")) {
    radio.addEventListener("change", () => {
      const { width, height } = panels[0].image;
      settings.place ??= [width / 2, height / 2];
      setStage(radio.value);
      render();
    });
  }
  $("controls").addEventListener("submit", (event) => event.preventDefault());
}

$("panels").append(...panels.map((panel) => panel.root));
$("image").append(...page.images.map((image, number) => element("option", { value: number }, image.name)));
$("image-choice").hidden = page.images.length < 2;
listen();
loadImage(0);
