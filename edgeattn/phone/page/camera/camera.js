// The flow: the model and the camera are opened on a tap, and frame after frame is answered until the next. Nothing of
// a frame leaves the page: it sends no request but those that load it.

import { abilities, obstacle } from "../abilities.js";
import { plain } from "../device.js";
import { get } from "../server.js";
import { NAMES, notice, title } from "../view.js";
import { open } from "./model.js";
import { answers, clear, eye } from "./screen.js";

const CAMERA = { audio: false, video: { facingMode: { ideal: "environment" } } };
const NOT_SECURE =
  "Browsers give the camera only to pages that came over https or from localhost: on the computer start edgeattn phone " +
  "again without --http, or, for an Android phone on a cable, with --adb.";
const WHY = {
  NotAllowedError: "The browser refused the camera: allow it for this page in the browser's settings, and tap the button again.",
  NotFoundError: "The browser finds no camera: connect one, or open this address on a phone.",
  NotReadableError: "Another program has the camera: close it, and tap the button again.",
};
const base = new URL(".", location.href).href;
const [video, button, choice] = ["video", "switch", "choice"].map((id) => document.getElementById(id));
let running = null; // ends what is running when it is aborted

/** When the next frame is on the screen. */
const nextFrame = () =>
  new Promise((resolve) => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(resolve) : requestAnimationFrame(resolve)));

/** Answer one frame after the other until `signal` is aborted, which frees the camera and the model. */
async function watch(task, plan, camera, signal) {
  const atEnd = (free) => (signal.aborted ? free() : signal.addEventListener("abort", free));
  const stream = await navigator.mediaDevices.getUserMedia(CAMERA).catch((error) => {
    throw new Error(WHY[error.name] ?? error.message);
  });
  atEnd(() => stream.getTracks().forEach((track) => track.stop()));
  stream.getVideoTracks()[0].onended = () => fail("The camera has gone: tap the button to start it again.");
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  atEnd(() => lock?.release());
  if (signal.aborted) return;
  video.srcObject = stream;
  await video.play();
  const [artifact, view] = [plan.artifacts[task.artifact], camera.artifacts[task.artifact]];
  const threads = task.threads === "all" ? navigator.hardwareConcurrency : 1;
  clear("Loading the model …");
  const model = await open({ base, task, artifact, view, kind: camera.kind, threads }).catch((error) => {
    throw new Error(`It does not run so, ${error.message}: choose another way to run it.`);
  });
  atEnd(model.end);
  const [look, show] = [eye(video, camera.fit), answers(camera.labels)];
  while (!signal.aborted) {
    await nextFrame();
    const seen = await model.see(look());
    if (!signal.aborted) show(seen);
  }
}

async function start(task, plan, camera) {
  const mine = new AbortController();
  running = mine;
  button.textContent = "Stop the camera";
  notice("");
  await watch(task, plan, camera, mine.signal).catch((error) => mine.signal.aborted || fail(error.message));
}

function stop() {
  running?.abort();
  running = null;
  video.srcObject = null;
  button.textContent = "Start the camera";
  clear();
}

function fail(reason) {
  stop();
  notice(plain(reason));
}

/** A way to run the model, for people. */
function label(task, plan) {
  const threads = { one: "1 thread", all: `${navigator.hardwareConcurrency} threads` }[task.threads];
  const where = task.backend === "wasm" ? `${NAMES.wasm}, ${threads}` : NAMES[task.backend];
  return `${plan.artifacts[task.artifact].name} · ${NAMES[task.runtime]} · ${where}`;
}

async function main() {
  const [plan, camera, has] = await Promise.all([get("plan.json"), get("camera.json"), abilities()]);
  title(plan.model, "What the model sees, and what it makes of it.");
  const tasks = plan.tasks.filter((task) => camera.artifacts[task.artifact] && !obstacle(task, has));
  choice.append(...tasks.map((task) => new Option(label(task, plan), task.key)));
  choice.value = (tasks.find((task) => task.threads === "all") ?? tasks[0]).key;
  const begin = () => start(tasks.find((task) => task.key === choice.value), plan, camera);
  if (!isSecureContext || !navigator.mediaDevices) return notice(NOT_SECURE);
  button.onclick = () => (running ? stop() : begin());
  choice.onchange = () => {
    if (!running) return;
    stop();
    begin();
  };
  addEventListener("pagehide", stop);
  button.disabled = false;
}

main().catch((error) => notice(plain(error.message)));
