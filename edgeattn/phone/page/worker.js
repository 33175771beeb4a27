// One task, in a worker of its own: it can be ended, which frees its memory, and the page stays responsive.
// A classic worker, as LiteRT.js loads its WebAssembly by importScripts; modules are imported dynamically.

const RUNTIMES = { "onnxruntime-web": "./onnxruntime.js", "litert.js": "./litert.js" };
const ANSWER_MS = 60_000;

self.onmessage = async ({ data: job }) => {
  try {
    self.postMessage({ kind: "result", seen: await work(job) });
  } catch (error) {
    self.postMessage({ kind: "failure", reason: String(error?.message ?? error) });
  }
};

async function work({ base, task, artifact, threads, runs, seconds }) {
  const { ARRAYS } = await import("./arrays.js");
  const { measure, nanoseconds } = await import("./measure.js");
  const { prepare } = await import(RUNTIMES[task.runtime]);
  const fetched = async (url) => {
    const response = await fetch(base + url);
    if (!response.ok) throw new Error(`${url} cannot be fetched: ${response.status}`);
    return response.arrayBuffer();
  };
  const model = new Uint8Array(await fetched(artifact.url));
  const { backend } = task;
  const loaded = (inputs) =>
    Promise.all(
      inputs.map(async (input) => {
        if (!ARRAYS[input.dtype]) throw new Error(`an input of type ${input.dtype} cannot be given in a browser`);
        return { ...input, data: new ARRAYS[input.dtype](await fetched(input.url)) };
      }),
    );
  const given = backend === "wasm" || !artifact.other.length ? [artifact.inputs] : [artifact.inputs, artifact.other];
  const cases = await Promise.all(given.map(loaded));
  const open = await prepare({ base: `${base}runtimes/`, backend, threads, precision: artifact.precision });
  const start = performance.now();
  const session = await open(model, cases);
  const load_ns = nanoseconds(performance.now() - start);
  const report = (done) => self.postMessage({ kind: "sample", done });
  const seen = await measure({ ...session, cases: cases.length }, runs, report, seconds);
  // After the clock: a runtime that is asked says much. An answer that does not come costs no measurement.
  const late = new Promise((resolve) => setTimeout(resolve, ANSWER_MS, null));
  const placement = backend === "wasm" ? null : await Promise.race([session.placement().catch(() => null), late]);
  return { ...seen, load_ns, threads: session.threads, details: session.details, placement };
}
