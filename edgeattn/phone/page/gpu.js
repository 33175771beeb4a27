// The browser's GPU.

/** A name for the adapter of WebGPU, or null if there is none. */
export async function adapterName() {
  const adapter = await globalThis.navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter) return null;
  const { vendor, architecture, device, description } = adapter.info ?? {};
  const words = [...new Set([vendor, architecture, device, description])].filter(Boolean);
  return words.join(" ") || "an adapter without a name";
}
