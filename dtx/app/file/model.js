// The forward pass of a Decision Transformer or behaviour clone, with its activations under the names that
// dtx/dt/model.py gives them. Letters: b windows of one length, t timesteps, n tokens, d model, h heads,
// e head width, f MLP width, a actions. A tensor is {shape, data} with a Float32Array, row-major.
import { gelu } from "./gelu.js";

const EPSILON = 1e-5;
const CELLS = 49;
const OFFSETS = [0, 11, 17]; // first channel of object, colour and state; see dtx/env/encoding.py

export const tensor = (...shape) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) });

export class Model {
  // cfg: a ModelConfig as written in model.json. weights: name to Float32Array, as dtx/app/file/weights.py lays
  // them out. product(a, b, c, n, k, m): see product.js.
  constructor(cfg, weights, product) {
    this.cfg = cfg;
    this.weights = weights;
    this.product = product;
    this.kinds = cfg.reward_to_go ? "RSA" : "SA";
    this.activation = cfg.act_fn === "gelu" ? gelu : (x) => (x > 0 || x !== x ? x : 0);
  }

  tokens(steps) {
    return steps * this.kinds.length - 1;
  }

  // windows: a list of {observations, actions, rewards, timesteps}, one entry a timestep: an observation is a
  // Uint8Array of 7*7*3 indices, or null in padding. names: activations that are wanted. edit(name, tensor): called
  // at every point, may change the numbers in place.
  // past: what a run of the first tokens of the one window left (see growing.js): {tokens, layers: [{k, v}]}; only the
  // others are computed, and activations are theirs.
  // Returns logits (b, a) at the last state, the wanted activations by name, and keys and values of all tokens by layer.
  forward(windows, names = [], edit = null, past = null) {
    const { cfg } = this, wanted = new Set(names), values = {}, layers = [], known = past?.tokens ?? 0;
    const point = (name, value) => {
      if (edit) edit(name, value);
      if (wanted.has(name)) values[name] = { shape: value.shape, data: value.data.slice() };
      return value;
    };
    let stream = this.embed(windows, point, known);
    for (let layer = 0; layer < cfg.n_layers; layer++) {
      // Of the last block only the last token is needed, unless somebody looks at it.
      const inside = `blocks.${layer}.`;
      const alone = layer === cfg.n_layers - 1 && !edit && ![...wanted].some((name) => name.startsWith(inside));
      layers.push({ k: past?.layers[layer].k ?? null, v: past?.layers[layer].v ?? null });
      stream = this.block(layer, stream, point, alone, layers[layer]);
    }
    return { logits: this.read(lastTokens(stream)), values, layers };
  }

  // Logits (..., a) that the last normalisation and the unembedding read in streams (..., d).
  read(stream) {
    const { data, shape } = this.norm(stream, "ln_final", (name, value) => value);
    return this.linear({ data, shape }, "unembed.W_U", "unembed.b_U");
  }

  embed(windows, point, known = 0) {
    const { cfg, weights } = this, d = cfg.d_model, per = this.kinds.length;
    const n = this.tokens(windows[0].timesteps.length), out = tensor(windows.length, n - known, d);
    windows.forEach((window, b) => {
      for (let i = known; i < n; i++) {
        const t = Math.floor(i / per), at = (b * (n - known) + i - known) * d, row = out.data.subarray(at, at + d);
        row.set(this.time(window.timesteps[t]));
        this.addContent(row, this.kinds[i % per], window, t);
      }
    });
    point("hook_embed", out);
    if (!cfg.positional_embedding) return out;
    const place = tensor(...out.shape), rows = weights["pos_embed.W_pos"].subarray(known * d, n * d);
    for (let b = 0; b < windows.length; b++) place.data.set(rows, b * rows.length);
    return sum(out, point("hook_pos_embed", place));
  }

  time(timestep) {
    const table = this.weights["embed.W_time"], d = this.cfg.d_model;
    if (this.cfg.time_embedding !== "learned") return table.map((x) => timestep * x);
    return table.subarray(timestep * d, timestep * d + d);
  }

  addContent(row, kind, window, t) {
    const { weights } = this, d = row.length;
    const add = (table, index, factor = 1) => {
      const from = index * d;
      for (let j = 0; j < d; j++) row[j] += factor * table[from + j];
    };
    if (kind === "R") add(weights["embed.W_R"], 0, window.rewards[t]);
    else if (kind === "A") add(weights["embed.W_A"], window.actions[t]);
    else {
      const seen = window.observations[t];
      for (let i = 0; seen && i < 3 * CELLS; i++) {
        const cell = Math.floor(i / 3), channel = seen[i] + OFFSETS[i % 3];
        add(weights["embed.W_S"], channel * CELLS + cell);
      }
      if (this.cfg.state_bias) add(weights["embed.b_S"], 0);
    }
  }

  block(layer, stream, point, alone, past) {
    const name = `blocks.${layer}`;
    point(`${name}.hook_resid_pre`, stream);
    const normal = this.norm(stream, `${name}.ln1`, point);
    const attended = point(`${name}.hook_attn_out`, this.attention(layer, normal, point, alone, past));
    const middle = point(`${name}.hook_resid_mid`, sum(alone ? lastTokens(stream) : stream, attended));
    const written = point(`${name}.hook_mlp_out`, this.mlp(`${name}.mlp`, this.norm(middle, `${name}.ln2`, point), point));
    return point(`${name}.hook_resid_post`, sum(middle, written));
  }

  // past: {k, v} of the tokens before, which become those of all tokens.
  attention(layer, normal, point, alone, past) {
    const { cfg } = this, name = `blocks.${layer}.attn`, h = cfg.n_heads, e = cfg.d_head, width = h * e;
    const b = normal.shape[0], known = past.k ? past.k.length / width : 0, n = known + normal.shape[1];
    const first = alone ? n - 1 : known;
    const heads = (part, x) => {
      const y = this.linear(x, `${name}.W_${part}`, `${name}.b_${part}`);
      y.shape = [b, x.shape[1], h, e];
      return point(`${name}.hook_${part.toLowerCase()}`, y);
    };
    const q = heads("Q", alone ? lastTokens(normal) : normal).data;
    const k = (past.k = joined(past.k, heads("K", normal).data)), v = (past.v = joined(past.v, heads("V", normal).data));
    const scores = tensor(b, h, n - first, n).data, scale = 1 / Math.sqrt(e);
    scores.fill(-Infinity);
    for (let window = 0; window < b; window++) for (let head = 0; head < h; head++) for (let i = first; i < n; i++) {
      const asking = (window * (n - first) + i - first) * width + head * e;
      const row = ((window * h + head) * (n - first) + i - first) * n;
      for (let j = 0; j <= i; j++) scores[row + j] = dot(q, asking, k, (window * n + j) * width + head * e, e) * scale;
    }
    const shape = [b, h, n - first, n];
    point(`${name}.hook_attn_scores`, { shape, data: scores });
    for (let row = 0, i = first; row < scores.length; row += n, i = i + 1 < n ? i + 1 : first) softmax(scores, row, i + 1, n);
    point(`${name}.hook_pattern`, { shape, data: scores });
    const z = tensor(b, n - first, h, e), sums = z.data;
    for (let window = 0; window < b; window++) for (let head = 0; head < h; head++) for (let i = first; i < n; i++) {
      const to = (window * (n - first) + i - first) * width + head * e;
      const row = ((window * h + head) * (n - first) + i - first) * n;
      for (let j = 0; j <= i; j++) {
        const weight = scores[row + j], of = (window * n + j) * width + head * e;
        for (let c = 0; c < e; c++) sums[to + c] += weight * v[of + c];
      }
    }
    point(`${name}.hook_z`, z);
    return this.linear({ shape: [b, n - first, width], data: z.data }, `${name}.W_O`, `${name}.b_O`);
  }

  mlp(name, x, point) {
    const { weights, activation } = this;
    let post;
    if (this.cfg.gated_mlp) {
      post = point(`${name}.hook_pre`, this.linear(x, `${name}.W_gate`));
      post = { shape: post.shape, data: post.data.map(activation) };
      const linear = point(`${name}.hook_pre_linear`, this.linear(x, `${name}.W_in`)).data;
      const bias = weights[`${name}.b_in`], f = bias.length;
      for (let i = 0; i < linear.length; i++) post.data[i] = post.data[i] * linear[i] + bias[i % f];
    } else {
      const pre = point(`${name}.hook_pre`, this.linear(x, `${name}.W_in`, `${name}.b_in`));
      post = { shape: pre.shape, data: pre.data.map(activation) };
    }
    return this.linear(point(`${name}.hook_post`, post), `${name}.W_out`, `${name}.b_out`);
  }

  norm(x, name, point) {
    if (this.cfg.normalization_type !== "LN") return x;
    const d = x.shape.at(-1), w = this.weights[`${name}.w`], bias = this.weights[`${name}.b`];
    const out = tensor(...x.shape), scales = tensor(...x.shape.slice(0, -1), 1);
    for (let from = 0; from < x.data.length; from += d) {
      let mean = 0, variance = 0;
      for (let j = 0; j < d; j++) mean += x.data[from + j];
      mean /= d;
      for (let j = 0; j < d; j++) variance += (x.data[from + j] - mean) ** 2;
      const scale = Math.sqrt(variance / d + EPSILON);
      scales.data[from / d] = scale;
      for (let j = 0; j < d; j++) out.data[from + j] = (x.data[from + j] - mean) / scale * w[j] + bias[j];
    }
    point(`${name}.hook_scale`, scales);
    return point(`${name}.hook_normalized`, out);
  }

  // x W + b over the last axis.
  linear(x, weight, bias = null) {
    const k = x.shape.at(-1), rows = x.data.length / k, matrix = this.weights[weight], m = matrix.length / k;
    const out = tensor(...x.shape.slice(0, -1), m);
    this.product(x.data, matrix, out.data, rows, k, m);
    const b = bias && this.weights[bias];
    for (let i = 0; b && i < out.data.length; i += m) for (let j = 0; j < m; j++) out.data[i + j] += b[j];
    return out;
  }
}

// The last token's vectors (b, 1, d) of a stream (b, n, d).
export function lastTokens({ shape: [b, n, d], data }) {
  const out = tensor(b, 1, d);
  for (let i = 0; i < b; i++) out.data.set(data.subarray((i * n + n - 1) * d, (i * n + n) * d), i * d);
  return out;
}

// Softmax in place over the first `seen` of `n` numbers from `from` on; the others become 0.
export function softmax(data, from = 0, seen = data.length, n = seen) {
  let most = -Infinity, total = 0;
  for (let j = from; j < from + seen; j++) if (data[j] > most) most = data[j];
  for (let j = from; j < from + seen; j++) total += data[j] = Math.exp(data[j] - most);
  for (let j = from; j < from + seen; j++) data[j] /= total;
  data.fill(0, from + seen, from + n);
  return data;
}

// The dot product of e numbers of two arrays, each from its place on; four sums at a time, which is faster.
function dot(a, at, b, of, e) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, c = 0;
  for (; c + 4 <= e; c += 4) {
    s0 += a[at + c] * b[of + c];
    s1 += a[at + c + 1] * b[of + c + 1];
    s2 += a[at + c + 2] * b[of + c + 2];
    s3 += a[at + c + 3] * b[of + c + 3];
  }
  for (; c < e; c++) s0 += a[at + c] * b[of + c];
  return s0 + s1 + s2 + s3;
}

function joined(before, data) {
  if (!before) return data;
  const out = new Float32Array(before.length + data.length);
  out.set(before);
  out.set(data, before.length);
  return out;
}

function sum(a, b) {
  const out = { shape: a.shape, data: a.data.slice() };
  for (let i = 0; i < out.data.length; i++) out.data[i] += b.data[i];
  return out;
}
