// The model, in a worker: a job first, then frame after frame. A classic worker, for the reason that ../worker.js has.

const RUNTIMES = { "onnxruntime-web": "../onnxruntime.js", "litert.js": "../litert.js" };
let see = null;

self.onmessage = async ({ data: { job, pixels } }) => {
  try {
    if (job) see = await open(job);
    self.postMessage({ seen: job ? null : await see(pixels) });
  } catch (error) {
    self.postMessage({ reason: String(error?.message ?? error) });
  }
};

async function open({ base, task, artifact, view, kind, threads }) {
  const [{ ARRAYS }, { fill }, { answered }] = await Promise.all(
    ["../arrays.js", "./frame.js", "./answer.js"].map((name) => import(name)),
  );
  const { prepare } = await import(RUNTIMES[task.runtime]);
  const response = await fetch(base + artifact.url);
  if (!response.ok) throw new Error(`${artifact.url} cannot be fetched: ${response.status}`);
  const model = new Uint8Array(await response.arrayBuffer());
  const { name, dtype, shape } = view.input;
  const input = { name, dtype, shape, data: new ARRAYS[dtype](shape.reduce((a, b) => a * b)) };
  const compile = await prepare({ base: `${base}runtimes/`, backend: task.backend, threads, precision: artifact.precision });
  const session = await compile(model, [[input]]);
  return async (pixels) => {
    fill(input.data, pixels, view.input);
    session.feed([input]);
    const start = performance.now();
    await session.run();
    const ms = performance.now() - start;
    return { ms, ...answered(kind, await session.read(), view.outputs) };
  };
}
