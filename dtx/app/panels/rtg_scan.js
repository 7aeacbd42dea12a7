const VALUES = 21;

/** Logits (21, a), probabilities and logit difference of both sides, as if another return had been asked for at the
 * start; with parameters.attention how far each head's attention at the last state moves. See rtg_scan.py. */
export const compute = (moment, parameters) => {
  const {model, cfg} = moment, trained = moment.entry.about.reward_to_go;
  const low = Math.min(0, trained?.lowest ?? 0), high = Math.max(1, trained?.highest ?? 1);
  const values = Float32Array.from({length: VALUES}, (_, i) => low + (high - low) * i / (VALUES - 1));
  const names = parameters.attention
    ? Array.from({length: cfg.n_layers}, (_, i) => `blocks.${i}.attn.hook_pattern`) : [];
  let attention = null;
  const sides = moment.both((side) => {
    const start = side.played.rewardToGo[0], shifts = values.map((value) => value - start);
    const windows = [...shifts].map((shift) => ({...side.window, rewards: side.window.rewards.map((r) => Math.fround(r + shift))}));
    const run = model.forward(windows, names), a = run.logits.shape.at(-1);
    const rows = Array.from(values, (_, i) => run.logits.data.subarray(i * a, i * a + a));
    const probabilities = new Float32Array(VALUES * a);
    rows.forEach((row, i) => probabilities.set(moment.probabilities(row), i * a));
    if (names.length && side === moment.original) attention = moved(names.map((name) => run.values[name]), values, start);
    return {logits: {shape: [VALUES, a], data: run.logits.data}, probabilities: {shape: [VALUES, a], data: probabilities},
      ld: {shape: [VALUES], data: Float32Array.from(rows, (row) => moment.difference(row))}};
  });
  return {values: {shape: [VALUES], data: values}, ...sides, attention, trained: trained ?? null};
};

/** Total variation (21, l, h) of the last query's attention from that at the value nearest to what is asked. */
const moved = (layers, values, start) => {
  const distance = values.map((value) => Math.abs(value - start)), at = distance.indexOf(Math.min(...distance));
  const [count, heads, n, m] = layers[0].shape, out = new Float32Array(count * layers.length * heads);
  for (let i = 0; i < count; i++) layers.forEach(({data}, layer) => {
    for (let head = 0; head < heads; head++) {
      const row = (window) => ((window * heads + head) * n + n - 1) * m;
      let sum = 0;
      for (let j = 0; j < m; j++) sum += Math.abs(data[row(i) + j] - data[row(at) + j]);
      out[(i * layers.length + layer) * heads + head] = sum / 2;
    }
  });
  return {variation: {shape: [count, layers.length, heads], data: out}, at};
};
