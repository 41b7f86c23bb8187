"use strict";

const $ = (id) => document.getElementById(id);
const page = JSON.parse($("data").textContent);

const STAGES = ["decoder", "encoder", "backbone"];
const SECONDS = 0.9; // for which a layer is shown when they are played

/** What is chosen in the page; all panels follow it. */
const settings = {
  stage: "decoder",
  layer: 0,
  place: null, // that is looked from, in pixels
  cursor: null, // where the pointer is, in pixels
  cellLevel: 0,
  hiddenHeads: new Set(),
  hiddenLevels: new Set(),
  hiddenClasses: new Set(),
  score: page.score_thr,
  zoom: 1,
  colour: "weight",
  show: { points: true, heat: false, boxes: true, truth: true, matches: false },
  playing: false,
};
const actions = { hover, pick, choose, key };
const panels = page.models.map((model) => new Panel(model, page.scales, settings, actions));
let timer = null;
let scoreFrom = page.score_thr; // where a person has set the slider

const layersOf = (stage) => panels.flatMap((panel) => panel.stages[stage]);
const most = (numbers) => Math.max(0, ...numbers);
const numLayers = (stage) => most(panels.map((panel) => panel.stages[stage].length));

/** Number of the image that is shown, from 0: it stands behind the # of the address; else the first. */
function imageNumber() {
  const number = Number(location.hash.slice(1));
  return number in page.images ? number : 0;
}

/** Offer an image. */
function listImage({ name }, number) {
  $("image").append(element("option", { value: number }, name));
  $("image-choice").hidden = number === 0;
}

/** Add an image to the page and show it. */
function addImage(image) {
  const number = page.images.push(image) - 1;
  listImage(image, number);
  if (number === imageNumber()) loadImage(); // the address does not change
  else location.hash = number;
}

async function loadImage() {
  const number = imageNumber(), image = page.images[number];
  document.body.classList.toggle("empty", !image);
  if (!image) return;
  const views = await Promise.all(image.views.map(unpackAll));
  if (number !== imageNumber()) return; // another one was chosen meanwhile
  panels.forEach((panel, i) => panel.load(image, views[i]));
  $("image").value = number;
  settings.cursor = null;
  offer(image);
  // Where nothing is certain the best detection is shown all the same.
  const best = (panel) => panel.detections.score(0);
  const [surest] = [...panels].sort((a, b) => best(b) - best(a));
  settings.score = Math.min(scoreFrom, Math.floor(100 * best(surest)) / 100);
  $("score").value = settings.score;
  choose(surest, 0);
}

/** Offer the controls that an image has a use for. */
function offer(image) {
  const box = (value) => document.querySelector(`[value="${value}"]`);
  for (const stage of STAGES) box(stage).closest("label").hidden = !numLayers(stage);
  box("truth").closest("label").hidden = !image.truth;
  box("matches").closest("label").hidden = !image.truth;
  if (STAGES.flatMap(layersOf).some((layer) => !layer.hasPoints)) {
    box("heat").checked = settings.show.heat = true; // without points there is nothing else to see
  }
  const names = panels.flatMap(({ detections }) => detections.rows.map((row) => detections.name(row)));
  fillClasses($("classes"), [...new Set(names)].sort(), settings.hiddenClasses, render);
  setStage(STAGES.find(numLayers));
}

/** Draw the page as the settings say. */
function render() {
  panels.forEach((panel) => panel.render());
  const layer = `${settings.layer} (0 to ${numLayers(settings.stage) - 1})`;
  $("layer").value = settings.layer;
  $("layer").setAttribute("aria-valuetext", layer);
  $("layer-name").textContent = layer;
  $("zoom-value").textContent = `${settings.zoom} x`;
  $("score-value").textContent = settings.score.toFixed(2);
  const byWeight = settings.show.points && settings.colour === "weight";
  const pointed = panels.filter((panel) => byWeight && panel.samples.length);
  showScale($("weight-scale"), page.scales.weights, pointed.map((panel) => panel.largest.toFixed(3)));
  const hot = panels.filter((panel) => panel.heat);
  showScale($("heat-scale"), page.scales.heat, hot.map((panel) => panel.heat.largest.toFixed(1)), " x even");
  document.body.classList.toggle("by-head", settings.colour === "head");
}

function setStage(stage) {
  const layers = layersOf(stage), numLevels = most(layers.map((layer) => layer.numLevels));
  settings.stage = stage;
  settings.layer = numLayers(stage) - 1;
  settings.cellLevel = Math.min(settings.cellLevel, numLevels - 1);
  document.querySelector(`[name="stage"][value="${stage}"]`).checked = true;
  $("layer").max = settings.layer;
  $("cell-level-choice").hidden = stage === "decoder" || numLevels < 2;
  $("cell-level").replaceChildren(...range(numLevels).map((level) => element("option", {}, String(level))));
  $("cell-level").value = settings.cellLevel;
  const numHeads = most(layers.map((layer) => layer.heads));
  fillToggles($("heads"), "head", numHeads, settings.hiddenHeads, render, swatch);
  fillToggles($("levels"), "level", numLevels, settings.hiddenLevels, render, (level) => legendMark(level));
}

// What a panel reports.

function hover(place) {
  settings.cursor = place;
  panels.forEach((panel) => panel.showCursor(place));
}

/** Look from a place: from the detection there or, if there is none, from the encoder's cell. */
function pick(panel, place) {
  if (settings.stage === "decoder") {
    const row = panel.detectionAt(place);
    if (row >= 0) return choose(panel, row, place);
    setStage("encoder");
  }
  settings.place = place;
  render();
}

/** Look from a detection, -1 for none; other panels take the one at the same place. */
function choose(panel, row, place = null) {
  settings.place = row < 0 ? null : place ?? centreOf(panel.box(row));
  for (const other of panels) {
    if (other === panel || row < 0) other.row = row;
    else other.row = other.detectionNear(settings.place);
  }
  if (row >= 0 && settings.stage !== "decoder" && panel.stages.decoder.length) setStage("decoder");
  render();
}

/** The image's keys: arrows move the cursor, Enter looks there, Escape lets go. */
function key(panel, event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const { width, height } = panel.image, [x, y] = settings.cursor ?? [width / 2, height / 2];
  if (event.key in moves) {
    const step = event.shiftKey ? 1 : Math.max(width, height) / 50, [dx, dy] = moves[event.key];
    const within = (number, size) => Math.min(Math.max(number, 0), size);
    hover([within(x + dx * step, width), within(y + dy * step, height)]);
  } else if (event.key === "Enter" || event.key === " ") pick(panel, [x, y]);
  else if (event.key === "Escape") choose(panel, -1);
  else return;
  event.preventDefault();
}

// What the controls do.

/** Play the layers, one after the other, or stop. */
function setPlaying(playing) {
  clearInterval(timer);
  settings.playing = playing;
  $("play").textContent = playing ? "Stop" : "Play";
  if (!playing) return;
  settings.layer = 0;
  timer = setInterval(() => {
    settings.layer = (settings.layer + 1) % numLayers(settings.stage);
    render();
  }, 1000 * SECONDS);
}

function listen() {
  const on = (control, event, change) => control.addEventListener(event, () => {
    change(control);
    render();
  });
  on($("layer"), "input", (slider) => {
    setPlaying(false);
    settings.layer = Number(slider.value);
  });
  on($("play"), "click", () => setPlaying(!settings.playing));
  on($("score"), "input", (slider) => settings.score = scoreFrom = Number(slider.value));
  on($("zoom"), "input", (slider) => settings.zoom = Number(slider.value));
  on($("cell-level"), "change", (choice) => settings.cellLevel = Number(choice.value));
  on($("colour"), "change", (choice) => settings.colour = choice.value);
  for (const box of document.getElementsByName("show")) {
    on(box, "change", () => settings.show[box.value] = box.checked);
  }
  for (const radio of document.getElementsByName("stage")) {
    on(radio, "change", () => {
      const { width, height } = panels[0].image;
      settings.place ??= [width / 2, height / 2];
      setStage(radio.value);
    });
  }
  $("image").addEventListener("change", () => location.hash = $("image").value);
  window.addEventListener("hashchange", loadImage);
}

$("panels").append(...panels.map((panel) => panel.root));
$("image-choice").hidden = true;
page.images.forEach(listImage);
listen();
loadImage();
