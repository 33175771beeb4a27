// The flow: join, run one task after the other, send each result, report the end.

import { abilities, obstacle } from "./abilities.js";
import { asText, describe, plain, state } from "./device.js";
import { base64, get, post, Refused } from "./server.js";
import { advance, notice, rows, showStatus, title } from "./view.js";

const SILENCE_MS = 180_000; // a task that is silent for so long is given up
const REPORT_MS = 500;
const base = new URL(".", location.href).href;
const memory = `edgeattn${location.pathname}`;

const lost = (now) => now && showStatus("The computer does not answer", "What is done is kept; this page goes on trying.", "bad");

/** Keep the screen on, where the browser allows it. */
async function stayAwake() {
  const request = () => navigator.wakeLock?.request("screen").catch(() => null);
  document.addEventListener("visibilitychange", () => document.hidden || request());
  return Boolean(await request());
}

/** Run a task in a worker of its own: the measurement, and the samples during which the page was hidden. */
function run(task, plan, report) {
  const { runs, seconds } = plan;
  const artifact = plan.artifacts[task.artifact];
  const worker = new Worker(new URL("worker.js", import.meta.url));
  const hidden = [];
  let wasHidden = document.hidden;
  let listen = () => {};
  const changed = () => {
    wasHidden ||= document.hidden;
    listen(); // a phone may suspend a hidden page: the silence is timed again from here
  };
  document.addEventListener("visibilitychange", changed);
  return new Promise((resolve, reject) => {
    let silence;
    listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => reject(new Error(`it said nothing for ${SILENCE_MS / 1000} s`)), SILENCE_MS);
    };
    worker.onerror = (event) => reject(new Error(event.message || "the worker cannot be started"));
    worker.onmessage = ({ data: { kind, done, seen, reason } }) => {
      listen();
      if (kind === "failure") reject(new Error(reason));
      if (kind === "result") resolve({ ...seen, hidden });
      if (kind === "sample") {
        if (done === 1) hidden.length = 0; // the samples start again where they were too short
        if (wasHidden) hidden.push(done - 1);
        wasHidden = document.hidden;
        report(done);
      }
    };
    listen();
    worker.postMessage({ base, task, artifact, runs, seconds, threads: task.threads === "all" ? navigator.hardwareConcurrency : 1 });
  }).finally(() => {
    document.removeEventListener("visibilitychange", changed);
    worker.terminate();
  });
}

async function encoded(outputs) {
  const pairs = Object.entries(outputs).map(async ([name, bytes]) => [name, await base64(bytes)]);
  return Object.fromEntries(await Promise.all(pairs));
}

/** One task, from its start to the computer's answer. */
async function perform(task, plan, phone, row) {
  let reported_ms = 0;
  const report = (done) => {
    row.run(done);
    if (performance.now() - reported_ms < REPORT_MS) return;
    reported_ms = performance.now();
    post(`${phone}/progress`, { task: task.key, run: done }, { tries: 1 }).catch(() => {});
  };
  report(0);
  const before = await state();
  let seen;
  try {
    seen = await run(task, plan, report);
  } catch (error) {
    const failure = plain(error.message) || "an error without a message";
    row.fail(failure);
    await post(`${phone}/result`, { task: task.key, failure }, { lost });
    return;
  }
  const [first, other, last, after] = await Promise.all([...[seen.first, seen.other, seen.last].map(encoded), state()]);
  const details = asText(seen.details);
  const placement = seen.placement && { ...seen.placement, words: seen.placement.words.map(plain) };
  const sent = { ...seen, first, other, last, before, after, details, placement };
  const answer = await post(`${phone}/result`, { task: task.key, seen: sent }, { lost });
  row.finish(sent, answer.passed);
}

const aboutMinutes = (ms) => (ms < 50_000 ? "Less than a minute" : `About ${Math.ceil(ms / 60_000)} min`);

async function main() {
  const [plan, device, has, awake] = await Promise.all([get("plan.json"), describe(), abilities(), stayAwake()]);
  title(plan.model, device.name);
  const { session, number, done } = await post("join", { session: localStorage.getItem(memory), ...device }, { lost });
  localStorage.setItem(memory, session);
  const phone = `phones/${session}`;
  const hints = [plan.notice];
  if (!awake) hints.push("Keep the screen on until it is done: this browser cannot.");
  notice(hints.filter(Boolean).join(" "));
  const table = rows(plan);
  const start = performance.now();
  let measured = 0;
  for (const [index, task] of plan.tasks.entries()) {
    const row = table.get(task.key);
    const left = plan.tasks.slice(index).filter((later) => !done.includes(later.key) && !obstacle(later, has)).length;
    const each = measured ? (performance.now() - start) / measured : 6_000 + plan.seconds * 1000;
    showStatus(`${left} ${left === 1 ? "measurement" : "measurements"} to go`, `${aboutMinutes(left * each)}. Leave this page open and the phone in peace.`);
    advance(index / plan.tasks.length);
    if (done.includes(task.key)) {
      row.keep();
      continue;
    }
    const reason = obstacle(task, has);
    try {
      if (reason) {
        row.fail(reason);
        await post(`${phone}/result`, { task: task.key, failure: reason }, { lost });
      } else {
        await perform(task, plan, phone, row);
        measured += 1;
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      row.fail(`the computer refused the result: ${error.message}`);
    }
  }
  await post(`${phone}/done`, {}, { lost });
  advance(1);
  showStatus("Done. Look at your computer.", `This is phone ${number} there. You may close this page.`, "good");
}

main().catch((error) => showStatus("This did not work", plain(error.message), "bad"));
