// What this browser can run.

import { adapterName } from "./gpu.js";

/** Why this browser cannot do a task, or "". */
export function obstacle(task, has) {
  if (task.threads === "all" && has.whyNoThreads) return has.whyNoThreads;
  if (task.backend === "webgpu" && !has.webgpu) return `this browser has no WebGPU${isSecureContext ? "" : " on a page that came over plain http"}`;
  if (task.backend === "webnn" && !navigator.ml) return "this browser has no WebNN";
  return "";
}

export async function abilities() {
  return { whyNoThreads: whyNoThreads(), webgpu: Boolean(await adapterName()) };
}

function whyNoThreads() {
  if (navigator.hardwareConcurrency < 2) return "this device has one processor";
  if (!isSecureContext) return "threads need https, or localhost; this page came over plain http";
  return globalThis.crossOriginIsolated && globalThis.SharedArrayBuffer ? "" : "this browser has no threads";
}
