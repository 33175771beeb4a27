// LiteRT.js: WASM and WebGPU. Everything is fetched before the clock starts.

import { adapterName } from "./gpu.js";
import { delegated, inWords } from "./placement.js";

const MOST_LINES = 1_000;

export async function prepare({ base, backend, threads, precision }) {
  const folder = `${base}litert/`;
  const litert = await import(`${folder}index.js`);
  const relaxed = await litert.supportsFeature("relaxedSimd");
  if (threads > 1 && !relaxed) throw new Error("LiteRT.js has threads only where there is relaxed SIMD");
  // With JSPI, operators that the GPU lacks run on the CPU; without, the GPU runs all of a model or nothing.
  const jspi = backend === "webgpu" && relaxed && (await litert.supportsFeature("jspi"));
  const build = !relaxed ? "compat_" : jspi ? "jspi_" : threads > 1 ? "threaded_" : "";
  const lines = [];
  // For Emscripten's start-up: in a worker it cannot locate its own script.
  self.Module = {
    printErr(line) {
      if (lines.length < MOST_LINES) lines.push(line);
      console.error(line);
    },
    locateFile: (file) => folder + file,
    mainScriptUrlOrBlob: `${folder}litert_wasm_${build}internal.js`,
    wasmBinary: await (await fetch(`${folder}litert_wasm_${build}internal.wasm`)).arrayBuffer(),
  };
  return async (model, cases) => {
    await litert.loadLiteRt(folder, { threads: threads > 1, jspi });
    return open(litert, { backend, threads, relaxed, jspi, precision, lines }, model, cases);
  };
}

async function open(litert, { backend, threads, relaxed, jspi, precision, lines }, model, cases) {
  const compiled = await litert.loadAndCompile(model, {
    accelerator: backend,
    cpuOptions: { numThreads: threads },
    gpuOptions: { precision: precision === "fp16" ? "fp16" : "fp32" },
  });
  const placement = () => delegated(lines, compiled.options.accelerator === backend && compiled.isFullyAccelerated, model);
  if (backend === "webgpu" && !jspi && !placement().full) {
    const left = inWords(placement(), backend);
    throw new Error(`this browser has no JSPI, and LiteRT.js runs all of a model on ${backend} there or nothing: ${left}`);
  }
  const given = (inputs) =>
    Object.fromEntries(inputs.map(({ name, shape, data }) => [name, new litert.Tensor(data, [...shape])]));
  const tensors = cases.map(given);
  let outputs = {};
  return {
    threads,
    details: {
      simd: relaxed ? "relaxed" : "fixed",
      ...(backend !== "wasm" && { adapter: await adapterName() }),
    },
    run: async (number = 0) => {
      const results = await compiled.run(tensors[number]);
      const read = Object.entries(results).map(async ([name, tensor]) => [name, await tensor.data()]);
      outputs = Object.fromEntries(await Promise.all(read));
      for (const tensor of Object.values(results)) tensor.delete();
    },
    feed: (inputs) => {
      for (const tensor of Object.values(tensors[0])) tensor.delete();
      tensors[0] = given(inputs);
    },
    read: async () =>
      Object.fromEntries(
        Object.entries(outputs).map(([name, data]) => [
          name,
          new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(),
        ]),
      ),
    placement: async () => placement(),
  };
}
