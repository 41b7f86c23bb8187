"use strict";

const BYTES = { uint8: 1, int16: 2, int32: 4 };

/** The numbers that Python's `pack` (layer_data.py) has packed: their values in one row, and their shape. */
async function unpack({ dtype, shape, step, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(inflated).arrayBuffer());
  const size = BYTES[dtype];
  const values = new Float32Array(planes.length / size);
  const unused = dtype === "uint8" ? 0 : 32 - 8 * size; // bits to the left of the sign
  for (let i = 0; i < values.length; i++) {
    let number = 0;
    for (let byte = 0; byte < size; byte++) number |= planes[byte * values.length + i] << (8 * byte);
    values[i] = ((number << unused) >> unused) * step;
  }
  return { values, shape };
}

/** A copy of some JSON in which every packed array is unpacked. */
async function unpackAll(json) {
  if (Array.isArray(json)) return Promise.all(json.map(unpackAll));
  if (json === null || typeof json !== "object") return json;
  if ("dtype" in json) return unpack(json);
  const entries = Object.entries(json).map(async ([key, value]) => [key, await unpackAll(value)]);
  return Object.fromEntries(await Promise.all(entries));
}
