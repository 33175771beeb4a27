// onnxruntime-web: WASM, WebGPU and WebNN. Everything is fetched before the clock starts.

import { adapterName } from "./gpu.js";
import { placed } from "./placement.js";

const log = { lines: null };

export async function prepare({ base, backend, threads }) {
  const wasm = backend === "wasm";
  const name = `${base}ort/ort-wasm-simd-threaded${wasm ? "" : ".asyncify"}`;
  listen();
  const ort = await import(`${base}ort/ort.${wasm ? "wasm" : "webgpu"}.min.mjs`);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: `${name}.mjs`, wasm: `${name}.wasm` };
  ort.env.wasm.wasmBinary = await (await fetch(`${name}.wasm`)).arrayBuffer();
  return (model, cases) => open(ort, backend, model, cases);
}

/** Before its WebAssembly starts, which binds the console: then its words can be read, where they are asked for. */
function listen() {
  const say = console.error.bind(console);
  console.error = (...words) => (log.lines ? log.lines.push(words.join(" ")) : say(...words));
}

async function open(ort, backend, model, cases) {
  const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
  const session = await ort.InferenceSession.create(model, options);
  const given = (inputs) =>
    Object.fromEntries(inputs.map(({ name, dtype, shape, data }) => [name, new ort.Tensor(dtype, data, shape)]));
  const feeds = cases.map(given);
  let outputs = {};
  return {
    threads: backend === "wasm" ? ort.env.wasm.numThreads : 1,
    details: { simd: "fixed", ...(backend === "webgpu" && { adapter: await adapterName() }) },
    run: async (number = 0) => {
      outputs = await session.run(feeds[number]);
    },
    feed: (inputs) => {
      feeds[0] = given(inputs);
    },
    read: async () => Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, bytes(data)])),
    placement: async () => {
      await session.release();
      return placement(ort, backend, model, options);
    },
  };
}

/** Who ran what, of a session that is made once more to be asked: what it says at length would slow down the first. */
async function placement(ort, backend, model, options) {
  log.lines = [];
  try {
    await (await ort.InferenceSession.create(model, { ...options, logSeverityLevel: 0 })).release();
    const found = placed(log.lines, backend);
    if (found) return found;
    // It says so in other words than it did. A session that must not use the CPU still tells all from not all.
    const strict = { ...options, extra: { session: { disable_cpu_ep_fallback: "1" } } };
    const made = await ort.InferenceSession.create(model, strict).catch(() => null);
    await made?.release();
    return { full: Boolean(made), taken: null, left: null, words: [] };
  } finally {
    log.lines = null;
  }
}

const bytes = (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
