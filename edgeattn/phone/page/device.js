// What the browser reveals about the phone. Hints, no more: browsers hide much of it.

import { adapterName } from "./gpu.js";

const BROWSERS = [
  [/Edg(?:A|iOS)?\/(\d+)/, "Edge"],
  [/SamsungBrowser\/(\d+)/, "Samsung Internet"],
  [/(?:Firefox|FxiOS)\/(\d+)/, "Firefox"],
  [/(?:Chrome|CriOS)\/(\d+)/, "Chrome"],
  [/Version\/(\d+).*Safari/, "Safari"],
];

function browserName(agent) {
  for (const [pattern, name] of BROWSERS) {
    const match = agent.match(pattern);
    if (match) return `${name} ${match[1]}`;
  }
  return "unknown browser";
}

function kindOf(agent, platform, touchPoints) {
  if (/iPhone/.test(agent)) return "iPhone";
  // iPadOS says that it is a Mac; no Mac has a touch screen.
  if (/iPad/.test(agent) || (platform === "MacIntel" && touchPoints > 1)) return "iPad";
  const model = agent.match(/Android [\d.]+; ([^;)]+)/)?.[1];
  if (/Android/.test(agent)) return model && model !== "K" && model !== "Mobile" ? model : "Android phone";
  return agent.match(/Macintosh|Windows|CrOS|Linux/)?.[0] ?? "device";
}

function renderer() {
  try {
    const gl = new OffscreenCanvas(1, 1).getContext("webgl");
    const exposed = gl.getExtension("WEBGL_debug_renderer_info");
    return gl.getParameter(exposed ? exposed.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  } catch {
    return "";
  }
}

/** The device, as the page describes it when it joins. */
export async function describe() {
  const { userAgent: agent, userAgentData: hints, maxTouchPoints: touchPoints = 0 } = navigator;
  const platform = navigator.platform || "";
  const known = await hints?.getHighEntropyValues?.(["model", "platformVersion", "architecture"]).catch(() => null);
  const kind = known?.model || kindOf(agent, platform, touchPoints);
  const pad = kind === "iPad";
  const details = {
    browser: browserName(agent),
    user_agent: agent,
    processors: navigator.hardwareConcurrency,
    memory_gib: navigator.deviceMemory,
    screen: `${screen.width} x ${screen.height} at ${devicePixelRatio}`,
    system: known?.platformVersion && `${hints.platform} ${known.platformVersion}`,
    architecture: known?.architecture,
    gpu: renderer(),
    webgpu_adapter: await adapterName(),
    secure_context: isSecureContext,
    cross_origin_isolated: globalThis.crossOriginIsolated ?? false,
  };
  return {
    name: plain(`${kind}, ${details.browser}`),
    platform: pad ? "iPad" : plain(platform),
    mobile: hints?.mobile ?? (pad || /Mobi|Android|iPhone/.test(agent)),
    details: asText(details),
  };
}

/** The battery, where the browser reveals it. */
export async function state() {
  const battery = await navigator.getBattery?.().catch(() => null);
  return asText({
    battery: battery && `${Math.round(battery.level * 100)} %, ${battery.charging ? "charging" : "not charging"}`,
  });
}

/** The known values of an object, as text. */
export function asText(details) {
  const known = Object.entries(details).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return Object.fromEntries(known.map(([key, value]) => [key, plain(String(value))]));
}

/** One line of plain characters, of a length that the server accepts. */
export const plain = (text) => text.replace(/[^\x20-\x7e]+/g, " ").trim().slice(0, 300);
