// Which operators ran on a backend and which on the CPU, out of what a runtime says. Numbers that it does not say are null.

const MOST_WORDS = 4;

/** From onnxruntime's verbose log: nodes of the graph that it makes of the file; null if it holds no placements. */
export function placed(lines, backend) {
  let [taken, left, onCpu, seen] = [0, 0, false, false];
  const words = [];
  for (const line of lines) {
    const group = line.match(/placed on \[(\w+)\]\. Number of nodes: (\d+)/);
    const node = line.match(/VerifyEachNodeIsAssignedToAnEp\]\s+(\w+ \(.*\))\s*$/);
    if (group) {
      seen = true;
      onCpu = group[1] === "CPUExecutionProvider";
      if (onCpu) left += Number(group[2]);
      else taken += Number(group[2]);
    } else if (onCpu && node) words.push(node[1]);
  }
  // WebNN makes one node of all that it takes.
  return seen ? { full: left === 0, taken: backend === "webnn" ? null : taken, left, words: few(words) } : null;
}

/** From what LiteRT says while it compiles a file. Of a file that it takes whole it says no more than that. */
export function delegated(lines, fully, model) {
  const text = lines.join("\n");
  const [, some, rest] = text.match(/(\d+) operations will run on the GPU, and the remaining (\d+)/) ?? [];
  const [, none] = text.match(/No operations will run on the GPU, and all (\d+)/) ?? [];
  const refused = text.match(/not supported by GPU delegate:\n((?:[A-Z_0-9]+: .*\n?)*)/)?.[1] ?? "";
  const words = few(refused.split("\n").filter(Boolean));
  if (none !== undefined) return { full: false, taken: 0, left: Number(none), words };
  if (some !== undefined) return { full: false, taken: Number(some), left: Number(rest), words };
  // "Fully accelerated" counts XNNPACK, which is the CPU: it is believed only where nothing was refused.
  const full = fully && !refused;
  return { full, taken: full ? operators(model) : null, left: full ? 0 : null, words };
}

/** The number of operators in a .tflite file: those of its first subgraph, in a FlatBuffer. */
export function operators(model) {
  const view = new DataView(model.buffer, model.byteOffset, model.byteLength);
  const follow = (at) => at + view.getUint32(at, true);
  const field = (table, number) => follow(table + view.getUint16(table - view.getInt32(table, true) + 4 + 2 * number, true));
  const subgraphs = field(follow(0), 2);
  return view.getUint32(field(follow(subgraphs + 4), 3), true);
}

const few = (words) => words.slice(0, MOST_WORDS);

/** What is behind the name of a backend if the CPU has a part in its time, or may have. */
export const shared = (placement) => (placement?.full ? "" : placement ? " and CPU" : " or CPU");

/** For people. `name` is the backend's. */
export function inWords({ full, taken, left, words }, name) {
  if (full) return taken === null ? `all operators on ${name}` : `${taken} of ${taken} operators on ${name}`;
  const count = left === null ? "some" : taken === null ? left : `${left} of ${taken + left}`;
  return [`${count} operators on the CPU`, words.join("; ")].filter(Boolean).join(": ");
}
