// What is on the screen. Text is set as text, never as markup.

const at = (id) => document.getElementById(id);
const WHERE = { wasm: "processor", webgpu: "WebGPU", webnn: "WebNN" };

function made(name, classes, text) {
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

export function say(headline, detail, kind = "") {
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

const milliseconds = (ns) => {
  const ms = ns / 1e6;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
};

export const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

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
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${samples.length} samples, from ${milliseconds(Math.min(...samples))} to ${milliseconds(most)}`);
  svg.append(line);
  return svg;
}

/** A row for each task; each gets `wait`, `run`, `fail`, `keep` and `finish`. */
export function rows(plan) {
  const results = new Map();
  const bars = new Map();
  const drawBars = () => {
    const slowest = Math.max(...results.values());
    for (const [key, ns] of results) bars.get(key).style.width = `${Math.max(2, (100 * ns) / slowest)}%`;
  };
  return new Map(
    plan.tasks.map((task) => {
      const threads = { one: "1 thread", all: `${navigator.hardwareConcurrency} threads` }[task.threads];
      const item = made("li", "waiting");
      const name = made("strong", "", `${task.runtime} · ${WHERE[task.backend]}`);
      const what = made("span", "what", task.backend === "wasm" ? `${plan.artifacts[task.artifact].name} · ${threads}` : plan.artifacts[task.artifact].name);
      const value = made("span", "value", "");
      const more = made("div", "more");
      item.append(name, value, what, more);
      at("tasks").append(item);
      const become = (state, text) => {
        item.className = state;
        value.textContent = text;
      };
      return [
        task.key,
        {
          run(done) {
            become("running", done ? `${done} of ${plan.runs}` : "loading");
          },
          fail(reason) {
            become("failed", "not run");
            more.replaceChildren(made("p", "reason", reason));
          },
          keep() {
            become("finished", "kept");
            more.replaceChildren(made("p", "reason", "This one was done before the page was opened again."));
          },
          finish(samples, { passed, noise_units: units }) {
            results.set(task.key, median(samples));
            become(passed ? "finished" : "wrong", milliseconds(median(samples)));
            const bar = made("div", "bar");
            bars.set(task.key, bar);
            const verdict = passed
              ? `✓ the same outputs as the model: ${units.toFixed(1)} times the noise of single precision`
              : "✗ not the model's outputs";
            more.replaceChildren(bar, picture(samples), made("p", "verdict", verdict));
            drawBars();
          },
        },
      ];
    }),
  );
}
