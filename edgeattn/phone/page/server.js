// Talks to the computer in JSON. A message that cannot be delivered is sent again, for a while.

const TRIES = 30;
const PAUSE_MS = 2_000;

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export async function get(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Refused(response.status, `the computer answers ${response.status}`);
  return response.json();
}

/** Post; `lost` is called with true while the computer does not answer, and with false when it does. */
export async function post(path, message, { lost = () => {}, tries = TRIES } = {}) {
  const body = JSON.stringify(message);
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    } catch (error) {
      if (attempt >= tries) throw error;
      lost(true);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      continue;
    }
    lost(false);
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, answer.error ?? `the computer answers ${response.status}`);
    return answer;
  }
}

/** Bytes as base64. */
export async function base64(bytes) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([bytes]));
  });
  return url.slice(url.indexOf(",") + 1);
}
