// The clock, the batches and the samples. Times inside are in milliseconds, as performance.now() gives them.

const STEPS_PER_SAMPLE = 20; // a shorter sample measures the clock, not the model
const MOST_CALLS = 2 ** 19;
// 300 ms: browsers compile WebAssembly a second time, and better, while it runs.
const WARMUP = { most: 5_000, window: 5, like: 1.1, atLeastMs: 300, atMostMs: 5_000 };
const SAMPLES = { atMostMs: 30_000, least: 5 };
const STRETCH = { longestMs: 60_000, inAll: 10 }; // a minute; of a time of less than ten minutes a tenth

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

/** The stretches of a run for a time: how many runs each had, and how many samples of these are kept. */
class Stretches {
  ended = [];
  #runs = 0;
  #before = 0;

  constructor(ms) {
    this.length = Math.min(STRETCH.longestMs, ms / STRETCH.inAll);
    this.end = this.length;
  }

  /** A run ended at `now`, in ms from the beginning; so many samples are kept in all. `last` ends the stretch too. */
  add(now, kept, last) {
    this.#runs += 1;
    if (now < this.end && !last) return;
    this.ended.push({ end_s: now / 1000, runs: this.#runs, samples: kept - this.#before });
    this.end = (Math.floor(now / this.length) + 1) * this.length;
    [this.#runs, this.#before] = [0, kept];
  }
}

/**
 * Run for so many seconds without a rest. At most `runs` samples are kept, evenly over the time; `calls` are those of a
 * sample, as many as take twenty steps of the clock.
 */
async function sustain(session, runs, report, seconds, calls) {
  const [total, samples] = [seconds * 1000, []];
  const stretches = new Stretches(total);
  const start = performance.now();
  for (let now = 0, next = 0; now < total; ) {
    const took = await elapsed(session.run, calls);
    now = performance.now() - start;
    if (now >= next && samples.length < runs) {
      samples.push(nanoseconds(took / calls));
      next = now + total / runs;
      report(samples.length);
    }
    stretches.add(now, samples.length, now >= total);
  }
  return { samples, stretches: stretches.ended };
}

/** The calls that together take twenty steps of the clock. */
async function callsOfSample(session, step) {
  let calls = 1;
  while (calls < MOST_CALLS && (await elapsed(session.run, calls)) < STEPS_PER_SAMPLE * step) calls *= 2;
  return calls;
}

/**
 * Measure `session.run`: the fields of a result, except those that the session and the page add.
 * `report(n)` is called after each sample. If a sample is shorter than twenty steps of the clock, all are taken again,
 * each with twice as many calls. It stops early when its time is up. With `seconds` it runs for so long. A second case runs once after all that, and then
 * the first one again: state can leak from run to run on a GPU.
 */
export async function measure(session, runs, report, seconds = 0) {
  const first_run_ns = nanoseconds(await elapsed(session.run));
  const first = await session.read();
  const { warmup, warmupMs } = await warmUp(session.run);
  const step = clockStep();
  let samples = [];
  let stretches = [];
  let calls = seconds ? await callsOfSample(session, step) : 1;
  if (seconds) ({ samples, stretches } = await sustain(session, runs, report, seconds, calls));
  const start = performance.now();
  while (!seconds && samples.length < runs) {
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
    stretches,
    first,
    other,
    last: await session.read(),
  };
}
