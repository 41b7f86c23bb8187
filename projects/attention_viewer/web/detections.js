"use strict";

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const centreOf = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];
const contains = ([x1, y1, x2, y2], [x, y]) => x >= x1 && x <= x2 && y >= y1 && y <= y2;

/** What each layer predicts from each query (view_data.py), by rows, the best first. */
class Detections {
  constructor(data, classes) {
    Object.assign(this, data, { classes });
    this.rows = [...data.queries.keys()];
    this.lastLayer = data.boxes.shape[0] - 1;
  }

  score(row, layer = this.lastLayer) {
    return Layer.at(this.scores, layer, row);
  }

  name(row, layer = this.lastLayer) {
    return this.classes[Layer.at(this.labels, layer, row)];
  }

  /** x1, y1, x2, y2 in pixels of the image. */
  box(row, layer) {
    return [0, 1, 2, 3].map((axis) => Layer.at(this.boxes, layer, row, axis));
  }

  caption(row, layer) {
    return `${this.name(row, layer)} ${this.score(row, layer).toFixed(2)}`;
  }

  /** Those that score and class let through. */
  shown({ score, hiddenClasses }) {
    return this.rows.filter((row) => this.score(row) >= score && !hiddenClasses.has(this.name(row)));
  }

  /** Of some rows the smallest box that a place lies in; -1 if there is none. */
  at(place, rows, layer) {
    const hit = rows.filter((row) => contains(this.box(row, layer), place));
    return hit.sort((a, b) => area(this.box(a, layer)) - area(this.box(b, layer)))[0] ?? -1;
  }

  /** Of some rows, or of all if there are none, the box whose centre is nearest to a place. */
  near([x, y], rows, layer) {
    const distance = (row) => {
      const [cx, cy] = centreOf(this.box(row, layer));
      return Math.hypot(cx - x, cy - y);
    };
    return [...(rows.length ? rows : this.rows)].sort((a, b) => distance(a) - distance(b))[0];
  }
}
