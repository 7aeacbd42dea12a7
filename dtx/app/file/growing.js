// Windows that grow by a key. A token sees none that come later, so what was computed of the tokens that a window shares
// with an earlier one stays: of a key in an episode three tokens are new, not all.
import { tensor } from "./model.js";

const KEPT = 4; // windows: the original and the edited run, and those before

export class Growing {
  constructor(model) {
    this.model = model;
    this.runs = [];
  }

  // As Model.forward of this one window, with activations at all tokens.
  forward(window, names = []) {
    const { model } = this, n = model.tokens(window.timesteps.length), width = model.cfg.n_heads * model.cfg.d_head;
    const kept = this.runs.filter((run) => names.every((name) => run.values[name]));
    const counts = kept.map((run) => Math.min(this.shared(run.window, window), n - 1)); // the last token gives the logits
    const known = Math.max(0, ...counts), past = known ? kept[counts.indexOf(known)] : null;
    const wanted = past ? Object.keys(past.values) : names;
    const run = model.forward([window], wanted, null, past && { tokens: known, layers: past.layers.map(({ k, v }) => ({ k: k.subarray(0, known * width), v: v.subarray(0, known * width) })) });
    const values = Object.fromEntries(wanted.map((name) => [name, past ? grown(past.values[name], run.values[name], known, name) : run.values[name]]));
    this.runs = [{ window, values, layers: run.layers, n }, ...this.runs.filter((other) => other !== past || known < other.n - 1)].slice(0, KEPT);
    return { logits: run.logits, values: Object.fromEntries(names.map((name) => [name, values[name]])) };
  }

  // How many tokens of two windows are the same, from the first on.
  shared(a, b) {
    const { kinds } = this.model, steps = Math.min(a.timesteps.length, b.timesteps.length);
    const same = {
      R: (t) => a.rewards[t] === b.rewards[t],
      S: (t) => equal(a.observations[t], b.observations[t]),
      A: (t) => t < steps - 1 && a.actions[t] === b.actions[t],
    };
    for (let i = 0; i < steps * kinds.length; i++) {
      const t = Math.floor(i / kinds.length);
      if (a.timesteps[t] !== b.timesteps[t] || !same[kinds[i % kinds.length]](t)) return i;
    }
    return steps * kinds.length;
  }
}

const equal = (a, b) => a === b || (a !== null && b !== null && a.every((x, i) => x === b[i]));

// Activations of all tokens of a window: of the first `known` as an earlier run had them, and of those that are new.
const grown = (before, now, known, name) => {
  const square = name.endsWith("hook_pattern") || name.endsWith("hook_attn_scores");
  if (!square) {
    const per = now.data.length / now.shape[1], out = tensor(1, known + now.shape[1], ...now.shape.slice(2));
    out.data.set(before.data.subarray(0, known * per));
    out.data.set(now.data, known * per);
    return out;
  }
  const [, h, rows, n] = now.shape, earlier = before.shape[3], out = tensor(1, h, n, n);
  if (name.endsWith("scores")) out.data.fill(-Infinity); // of later tokens
  for (let head = 0; head < h; head++) {
    for (let i = 0; i < known; i++) {
      const from = (head * before.shape[2] + i) * earlier;
      out.data.set(before.data.subarray(from, from + i + 1), (head * n + i) * n);
    }
    out.data.set(now.data.subarray(head * rows * n, (head + 1) * rows * n), (head * n + known) * n);
  }
  return out;
};
