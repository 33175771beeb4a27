// The page's side of the worker.

/** The model of `job`, once it is ready: `see(pixels)` is its answer to a frame, `end()` frees it. */
export async function open(job) {
  const worker = new Worker(new URL("worker.js", import.meta.url));
  const ask = (message, moved = []) =>
    new Promise((resolve, reject) => {
      worker.onerror = (event) => reject(new Error(event.message || "the worker cannot be started"));
      worker.onmessage = ({ data: { seen, reason } }) => (reason === undefined ? resolve(seen) : reject(new Error(reason)));
      worker.postMessage(message, moved);
    });
  try {
    await ask({ job });
  } catch (error) {
    worker.terminate();
    throw error;
  }
  return { see: (pixels) => ask({ pixels }, [pixels.buffer]), end: () => worker.terminate() };
}
