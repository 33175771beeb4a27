// onnxruntime-web: WASM, WebGPU and WebNN. Everything is fetched before the clock starts.

import { adapterName } from "./gpu.js";

export async function prepare({ base, backend, threads }) {
  const wasm = backend === "wasm";
  const name = `${base}ort/ort-wasm-simd-threaded${wasm ? "" : ".asyncify"}`;
  const ort = await import(`${base}ort/ort.${wasm ? "wasm" : "webgpu"}.min.mjs`);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: `${name}.mjs`, wasm: `${name}.wasm` };
  ort.env.wasm.wasmBinary = await (await fetch(`${name}.wasm`)).arrayBuffer();
  return (model, inputs) => open(ort, backend, model, inputs);
}

async function open(ort, backend, model, inputs) {
  const { session, note } = await create(ort, backend, model);
  const feeds = Object.fromEntries(
    inputs.map(({ name, dtype, shape, data }) => [name, new ort.Tensor(dtype, data, shape)]),
  );
  let outputs = {};
  return {
    threads: backend === "wasm" ? ort.env.wasm.numThreads : 1,
    details: { simd: "fixed", ...note, ...(backend === "webgpu" && { adapter: await adapterName() }) },
    run: async () => {
      outputs = await session.run(feeds);
    },
    read: async () => Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, bytes(data)])),
  };
}

/** A session; beyond WASM, first a strict one without CPU fallback: so a fallback is noticed and reported. */
async function create(ort, backend, model) {
  const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
  if (backend === "wasm") return { session: await ort.InferenceSession.create(model, options), note: {} };
  try {
    const strict = { ...options, extra: { session: { disable_cpu_ep_fallback: "1" } } };
    return { session: await ort.InferenceSession.create(model, strict), note: { accelerated: "all" } };
  } catch {
    const session = await ort.InferenceSession.create(model, options);
    return { session, note: { accelerated: "not all: some operators run on the CPU" } };
  }
}

const bytes = (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
