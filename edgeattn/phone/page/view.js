// The screen. Text is set as text, never as markup.

import { median } from "./measure.js";
import { inWords, shared } from "./placement.js";

const at = (id) => document.getElementById(id);
export const NAMES = { "onnxruntime-web": "ONNX Runtime", "litert.js": "LiteRT", wasm: "CPU", webgpu: "WebGPU", webnn: "WebNN" };

function make(name, classes, text) {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function title(model, device) {
  document.title = `${model} · edgeattn`;
  at("model").textContent = model;
  at("device").textContent = device;
}

export function showStatus(headline, detail, kind = "") {
  at("headline").textContent = headline;
  at("detail").textContent = detail;
  at("status").className = kind;
}

export function advance(share) {
  at("progress").value = share;
}

export function notice(text) {
  at("notice").textContent = text;
  at("notice").hidden = !text;
}

export const milliseconds = (ns) => {
  const ms = ns / 1e6;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
};

/** The samples in the order in which they were taken, from zero to the slowest. */
function picture(samples) {
  const [width, height] = [120, 28];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const most = Math.max(...samples);
  const points = samples.map((sample, i) => [
    ((width * i) / Math.max(1, samples.length - 1)).toFixed(1),
    (height - 2 - ((height - 4) * sample) / most).toFixed(1),
  ]);
  line.setAttribute("points", points.join(" "));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${samples.length} samples, from ${milliseconds(Math.min(...samples))} to ${milliseconds(most)}`);
  svg.append(line);
  return svg;
}

/** Fastest and slowest sample, and the computer's verdict on the outputs. */
function verdict(samples, passed) {
  const range = `${milliseconds(Math.min(...samples))} to ${milliseconds(Math.max(...samples))}`;
  return `${range} · ${passed ? "✓ same outputs" : "✗ not the model's outputs"}`;
}

/** How many operators ran on the task's backend, with a warning if not all did. */
function onBackend(task, placement) {
  const name = NAMES[task.backend];
  if (!placement) return `⚠ ${NAMES[task.runtime]} does not say whether all operators ran on ${name}`;
  return `${placement.full ? "" : "⚠ "}${inWords(placement, name)}`;
}

/** Bars from zero to the slowest task, redrawn after each task. */
class Bars {
  #bars = new Map();

  add(ns) {
    const bar = make("div", "bar");
    this.#bars.set(bar, ns);
    const slowest = Math.max(...this.#bars.values());
    for (const [each, value] of this.#bars) each.style.width = `${Math.max(1, (100 * value) / slowest)}%`;
    return bar;
  }
}

/** A row for each task, by its key; each row has `run`, `fail`, `keep` and `finish`. */
export function rows(plan) {
  const bars = new Bars();
  return new Map(plan.tasks.map((task) => [task.key, row(task, plan, bars)]));
}

function row(task, plan, bars) {
  const threads = { one: "1 thread", all: `${navigator.hardwareConcurrency} threads` }[task.threads];
  const file = plan.artifacts[task.artifact].name;
  const item = make("li", "waiting");
  const name = make("strong", "", `${NAMES[task.runtime]} · ${NAMES[task.backend]}`);
  const what = make("span", "what", task.backend === "wasm" ? `${file} · ${threads}` : file);
  const value = make("span", "value", "");
  const more = make("div", "more");
  item.append(name, value, what, more);
  at("tasks").append(item);
  const show = (state, text, ...below) => {
    item.className = state;
    value.textContent = text;
    more.replaceChildren(...below);
  };
  let begun = 0;
  const progress = (done) => {
    if (done <= 1) begun = performance.now();
    return plan.seconds ? `${Math.round((performance.now() - begun) / 1000)} of ${plan.seconds} s` : `${done} of ${plan.runs}`;
  };
  return {
    run: (done) => show("running", done ? progress(done) : "loading"),
    fail: (reason) => show("failed", "not run", make("p", "reason", reason)),
    keep: () => show("finished", "done", make("p", "reason", "before this page was opened again")),
    finish({ samples_ns: samples, placement }, passed) {
      const below = [bars.add(median(samples)), picture(samples), make("p", "verdict", verdict(samples, passed))];
      const others = task.backend === "wasm" ? "" : shared(placement);
      name.textContent += others;
      if (task.backend !== "wasm") below.push(make("p", others ? "warning" : "verdict", onBackend(task, placement)));
      show(`${passed ? "finished" : "wrong"}${others ? " mixed" : ""}`, milliseconds(median(samples)), ...below);
    },
  };
}
