// The camera's screen: what the model sees of a frame, its answer, and how fast it is. Text is set as text.

import { median } from "../measure.js";
import { milliseconds } from "../view.js";
import { part } from "./frame.js";

const KEPT = 30; // answers that the speed is taken over
const at = (id) => document.getElementById(id);

/** Red, green and blue of a class; classes that are neighbours in number differ most. */
const colour = (index) => [0, 1, 2].map((n) => Math.round(128 + 127 * Math.cos(2 * Math.PI * (0.382 * index + n / 3))));

/** Reads the frames of `video` as the model sees them, and shows that part of it. */
export function eye(video, fit) {
  const canvas = Object.assign(document.createElement("canvas"), { width: fit.width, height: fit.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = fit.smooth;
  context.imageSmoothingQuality = "high";
  at("stage").style.aspectRatio = `${fit.width} / ${fit.height}`;
  return () => {
    const frame = { width: video.videoWidth, height: video.videoHeight };
    const { left, top, width, height } = part(frame, fit);
    const percent = (share) => `${100 * share}%`;
    video.style.left = percent(-left / width);
    video.style.top = percent(-top / height);
    video.style.width = percent(frame.width / width);
    video.style.height = percent(frame.height / height);
    context.drawImage(video, left, top, width, height, 0, 0, fit.width, fit.height);
    return context.getImageData(0, 0, fit.width, fit.height).data;
  };
}

/** Shows answers, and the model's median time and the frame rate over the last of them. */
export function answers(labels) {
  const seen = [];
  return ({ ms, best, pixels }) => {
    seen.push({ ms, now: performance.now() });
    if (seen.length > KEPT) seen.shift();
    const rate = (1000 * (seen.length - 1)) / (seen.at(-1).now - seen[0].now || Infinity);
    const each = milliseconds(1e6 * median(seen.map((answer) => answer.ms)));
    at("speed").textContent = `${each} in the model · ${rate.toFixed(1)} frames a second`;
    at("best").replaceChildren(...best.map((one) => line(one, labels, Boolean(pixels))));
    if (pixels) paint(pixels);
  };
}

function line({ index, share }, labels, coloured) {
  const [item, name, value, bar] = ["li", "span", "span", "div"].map((tag) => document.createElement(tag));
  name.textContent = labels[index] ?? `class ${index}`;
  value.className = "value";
  value.textContent = `${(100 * share).toFixed(1)} %`;
  bar.className = "bar";
  bar.style.width = `${100 * share}%`;
  if (coloured) bar.style.background = `rgb(${colour(index)})`;
  item.append(name, value, bar);
  return item;
}

/** The classes of the pixels, in colours over the picture. */
function paint({ width, height, map }) {
  const canvas = at("map");
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const colours = new Map();
  map.forEach((index, pixel) => {
    if (!colours.has(index)) colours.set(index, [...colour(index), 255]);
    image.data.set(colours.get(index), 4 * pixel);
  });
  context.putImageData(image, 0, 0);
}

/** No answer is shown, but why there is none. */
export function clear(why = "No frame yet.") {
  at("map").width = at("map").width; // setting it empties it
  at("best").replaceChildren();
  at("speed").textContent = why;
}
