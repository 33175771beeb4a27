// The clock, the batches and the samples. Times inside are in milliseconds, as performance.now() gives them.

const STEPS_PER_SAMPLE = 20; // a shorter sample measures the clock, not the model
const MOST_CALLS = 2 ** 19;
// 300 ms: browsers compile WebAssembly a second time, and better, while it runs.
const WARMUP = { most: 5_000, window: 5, like: 1.1, atLeastMs: 300, atMostMs: 5_000 };
const SAMPLES = { atMostMs: 30_000, least: 5 };

export const nanoseconds = (ms) => Math.max(1, Math.round(ms * 1e6));

/** The smallest observed step of the clock, in ms; browsers make it as coarse as 1 ms. */
export function clockStep(now = () => performance.now(), looks = 50) {
  let least = Infinity;
  for (let look = 0; look < looks; look++) {
    const start = now();
    let later = start;
    while (later === start) later = now();
    least = Math.min(least, later - start);
  }
  return least;
}

async function elapsed(run, calls = 1) {
  const start = performance.now();
  for (let call = 0; call < calls; call++) await run();
  return performance.now() - start;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(values.length - 1) >> 1] + sorted[values.length >> 1]) / 2;
}

/** Run until the median of the last runs is close to that of the runs before them; the number of runs, and the time. */
async function warmUp(run) {
  const { most, window, like, atLeastMs, atMostMs } = WARMUP;
  const times = [];
  const start = performance.now();
  const settled = () => {
    const [before, last] = [median(times.slice(-2 * window, -window)), median(times.slice(-window))];
    return times.length >= 2 * window && Math.max(before, last) <= like * Math.min(before, last);
  };
  for (let warmupMs = 0; ; warmupMs = performance.now() - start) {
    const enough = warmupMs >= atLeastMs && settled();
    if (enough || warmupMs > atMostMs || times.length >= most) return { warmup: times.length, warmupMs };
    times.push(await elapsed(run));
  }
}

/**
 * Measure `session.run`: the fields of a result, except those that the session and the page add.
 * `report(n)` is called after each sample. If a sample is shorter than twenty steps of the clock, all are taken again,
 * each with twice as many calls. It stops early when its time is up. A second case runs once after all that, and then
 * the first one again: state can leak from run to run on a GPU.
 */
export async function measure(session, runs, report) {
  const first_run_ns = nanoseconds(await elapsed(session.run));
  const first = await session.read();
  const { warmup, warmupMs } = await warmUp(session.run);
  const step = clockStep();
  const samples = [];
  let calls = 1;
  const start = performance.now();
  while (samples.length < runs) {
    const took = await elapsed(session.run, calls);
    if (took < STEPS_PER_SAMPLE * step && calls < MOST_CALLS) {
      calls *= 2;
      samples.length = 0;
      continue;
    }
    samples.push(nanoseconds(took / calls));
    report(samples.length);
    if (performance.now() - start > SAMPLES.atMostMs && samples.length >= SAMPLES.least) break;
  }
  let other = {};
  if (session.cases > 1) {
    await session.run(1);
    other = await session.read();
    await session.run(0);
  }
  return {
    first_run_ns,
    warmup,
    warmup_ns: Math.round(warmupMs * 1e6),
    clock_step_ns: nanoseconds(step),
    calls_per_sample: calls,
    samples_ns: samples,
    first,
    other,
    last: await session.read(),
  };
}
