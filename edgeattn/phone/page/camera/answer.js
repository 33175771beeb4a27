// What a model's outputs say: the best five classes, or the class of each pixel.

import { ARRAYS } from "../arrays.js";

const BEST = 5;

/** The numbers of an output, of its bytes. */
export function numbers(bytes, { dtype, scale, zero_point: zero }) {
  const Kind = dtype === "float16" ? globalThis.Float16Array : ARRAYS[dtype];
  if (!Kind) throw new Error(`an output of type ${dtype} cannot be read in this browser`);
  const values = Array.from(new Kind(bytes.buffer, bytes.byteOffset, bytes.byteLength / Kind.BYTES_PER_ELEMENT), Number);
  return scale === null || zero === null ? values : values.map((step) => scale * (step - zero));
}

export function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** The largest shares with their classes, the largest first. */
export function best(shares, classes = shares.map((_, index) => index)) {
  const all = shares.map((share, place) => ({ share, index: classes[place] }));
  return all.sort((a, b) => b.share - a.share).slice(0, BEST);
}

/** The class of each pixel, of logits [1, classes, H, W], or [1, H, W, classes] where the channels are `last`. */
export function classesOf(logits, { shape, last }) {
  const [height, width, classes] = last ? shape.slice(1) : [shape[2], shape[3], shape[1]];
  const [ofPixel, ofClass] = last ? [classes, 1] : [1, height * width];
  const map = new Int32Array(height * width);
  for (let pixel = 0; pixel < map.length; pixel++) {
    let most = pixel * ofPixel;
    for (let each = 1; each < classes; each++) {
      const at = pixel * ofPixel + each * ofClass;
      if (logits[at] > logits[most]) most = at;
    }
    map[pixel] = (most - pixel * ofPixel) / ofClass;
  }
  return { width, height, map };
}

/** `{ best }` of classes; `{ best, pixels }` where each pixel has its own, and the share is of the pixels. */
export function answered(kind, outputs, described) {
  if (kind === "none") return { best: [] };
  const [first, second] = described;
  const values = numbers(outputs[first.name], first);
  if (kind === "top5") return { best: best(values, numbers(outputs[second.name], second)) };
  if (kind !== "pixels") return { best: best(kind === "logits" ? softmax(values) : values) };
  const pixels = classesOf(values, first);
  const counts = new Map();
  for (const index of pixels.map) counts.set(index, (counts.get(index) ?? 0) + 1);
  const shares = [...counts.values()].map((count) => count / pixels.map.length);
  return { best: best(shares, [...counts.keys()]), pixels };
}
