"use strict";

/**
 * The attention of one layer (layer_data.py). A row is a query of the decoder, or a token of encoder or
 * backbone, whose attention the page has. Positions are in pixels of the image.
 */
class Layer {
  constructor(data) {
    Object.assign(this, data);
    this.hasPoints = !("peaks" in data);
    this.numLevels = this.levels.length;
  }

  /** A number of a packed array by its indices. */
  static at({ values, shape }, ...indices) {
    return values[indices.reduce((flat, index, axis) => flat * shape[axis] + index, 0)];
  }

  /** Where the reference of a row is; null of dense attention in a decoder. */
  reference(row) {
    return this.references ? [0, 1].map((axis) => Layer.at(this.references, row, axis)) : null;
  }

  levelOf(row) {
    return this.token_levels ? this.token_levels.values[row] : 0;
  }

  /** The row of the token nearest to a place, among those of a level or, if it has none, of all. */
  nearest([x, y], level) {
    let best = -1, least = Infinity;
    for (let row = 0; row < this.references.shape[0]; row++) {
      const [cx, cy] = this.reference(row);
      const distance = (cx - x) ** 2 + (cy - y) ** 2 + (this.levelOf(row) === level ? 0 : 1e12);
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  /** The cell of the token of a row: level, row and column from 0, and its box. */
  cell(row) {
    const level = this.levelOf(row), [h, w] = this.levels[level], [[x0, y0], [x1, y1]] = this.corners;
    const [x, y] = this.reference(row), size = [Math.abs(x1 - x0) / w, Math.abs(y1 - y0) / h];
    const column = Math.floor(((x - x0) / (x1 - x0)) * w), line = Math.floor(((y - y0) / (y1 - y0)) * h);
    const box = [x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2];
    return { level, row: line, column, box };
  }

  /**
   * The sampling points of a row in some heads and levels, without those whose weight is 0: head, level,
   * point, x, y, weight. As many `heads` of a backbone as share a point are one, with their mean weight.
   */
  samples(row, heads, levels) {
    if (!this.hasPoints) return [];
    if (this.points) return this.sharedSamples(row, heads);
    const [, , , points] = this.weights.shape, [x, y] = this.reference(row), found = [];
    for (const head of heads) {
      for (const level of levels) {
        for (let point = 0; point < points; point++) {
          const weight = Layer.at(this.weights, row, head, level, point);
          if (!weight) continue;
          const [dx, dy] = [0, 1].map((axis) => Layer.at(this.offsets, row, head, level, point, axis));
          found.push({ head, level, point, x: x + dx, y: y + dy, weight, heads: 1 });
        }
      }
    }
    return found;
  }

  sharedSamples(row, heads) {
    const [groups, points] = this.points.shape, found = [];
    for (let group = 0; group < groups; group++) {
      const sharing = heads.filter((head) => Math.floor((head * groups) / this.heads) === group);
      if (!sharing.length) continue;
      for (let point = 0; point < points; point++) {
        const sum = sharing.reduce((total, head) => total + Layer.at(this.weights, row, head, point), 0);
        if (!sum) continue;
        const [x, y] = [0, 1].map((axis) => Layer.at(this.points, group, point, axis));
        const mean = sum / sharing.length, head = sharing.join(", ");
        found.push({ head, level: 0, point, x, y, weight: mean, heads: sharing.length });
      }
    }
    return found;
  }

  /** The cells that a row of dense attention gives weight to: row, column, x, y, weight (mean of heads). */
  cells(row, heads) {
    const { h, w, values } = this.heat([row], heads, [0]), [[x0, y0], [x1, y1]] = this.corners;
    return [...values].flatMap((value, i) => {
      const line = Math.floor(i / w), column = i % w;
      const x = x0 + ((column + 0.5) / w) * (x1 - x0), y = y0 + ((line + 0.5) / h) * (y1 - y0);
      return value ? [{ row: line, column, x, y, weight: value / (h * w) }] : [];
    });
  }

  /**
   * How much attention each place gets, on average over rows and heads, in multiples of attention that is
   * even over the image; as `attention_map` (heat.py): h, w, values. Levels are enlarged to the finest one
   * and added.
   */
  heat(rows, heads, levels) {
    const [h, w] = this.levels[0], values = new Float32Array(h * w);
    const share = 1 / (rows.length * heads.length);
    if (!this.hasPoints) {
      for (const row of rows) {
        for (const head of heads) {
          const peak = Layer.at(this.peaks, row, head) * share * h * w;
          const start = (row * this.heads + head) * h * w;
          for (let i = 0; i < h * w; i++) values[i] += this.weights.values[start + i] * peak;
        }
      }
      return { h, w, values };
    }
    const maps = this.levels.map(([rows, columns]) => new Float32Array(rows * columns));
    for (const row of rows) {
      for (const { level, x, y, weight, heads: sharing } of this.samples(row, heads, levels)) {
        this.addSample(maps[level], level, x, y, weight * sharing * share);
      }
    }
    for (const level of levels) this.addLevel(values, maps[level], level);
    return { h, w, values };
  }

  /** Column and row, in cells of a level, of a place: 0 is the centre of the first cell. */
  inCells(level, x, y) {
    const [h, w] = this.levels[level], [[x0, y0], [x1, y1]] = this.corners;
    return [((x - x0) / (x1 - x0)) * w - 0.5, ((y - y0) / (y1 - y0)) * h - 0.5];
  }

  /** Give a sample's weight to the four cells that it is interpolated from. */
  addSample(map, level, x, y, weight) {
    const [h, w] = this.levels[level], [column, row] = this.inCells(level, x, y);
    const left = Math.floor(column), top = Math.floor(row);
    for (const [r, part] of [[top, 1 - (row - top)], [top + 1, row - top]]) {
      for (const [c, other] of [[left, 1 - (column - left)], [left + 1, column - left]]) {
        if (r >= 0 && r < h && c >= 0 && c < w) map[r * w + c] += weight * part * other;
      }
    }
  }

  /** Enlarge the map of a level to the finest level, bilinearly, and add it. */
  addLevel(values, map, level) {
    const [h, w] = this.levels[0], [rows, columns] = this.levels[level];
    for (let r = 0; r < h; r++) {
      for (let c = 0; c < w; c++) {
        const place = [((c + 0.5) / w) * columns - 0.5, ((r + 0.5) / h) * rows - 0.5];
        values[r * w + c] += interpolate(map, rows, columns, ...place) * rows * columns;
      }
    }
  }
}

/** A map (h, w) between the centres of its cells; beyond the outer ones it stays as it is there. */
function interpolate(map, h, w, column, row) {
  const c = Math.min(Math.max(column, 0), w - 1), r = Math.min(Math.max(row, 0), h - 1);
  const left = Math.floor(c), top = Math.floor(r);
  const right = Math.min(left + 1, w - 1), bottom = Math.min(top + 1, h - 1);
  const upper = map[top * w + left] * (left + 1 - c) + map[top * w + right] * (c - left);
  const lower = map[bottom * w + left] * (left + 1 - c) + map[bottom * w + right] * (c - left);
  return upper * (top + 1 - r) + lower * (r - top);
}
