// Probabilities of the likeliest actions, and the logit difference, over 21 values of reward-to-go.

const VALUES = 21;

/** When it is computed without a server, where it takes some 100 ms: not with every key. */
export const when = "idle";

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

const DASHES = [null, "6 3", "2 3", "8 3 2 3"];
const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const sides = (data) => ["original", "edited"].filter((name) => data[name]);

export const draw = (root, data, look) => {
  const {charts} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const beside = look.width >= 640;
  const width = beside ? (look.width - 24) / 2 : look.width;
  const x = {label: "reward-to-go at the start"};
  const marks = [{x: look.reward_to_go, text: "now"}];
  const trained = shown[0].trained;
  if (trained && Math.abs(trained.highest - look.reward_to_go) > 1e-3) marks.push({x: trained.highest, text: ""});
  if (trained && Math.abs(trained.lowest - look.reward_to_go) > 1e-3) marks.push({x: trained.lowest, text: ""});
  const figures = shown.map((model) => {
    const main = model.edited && look.shown === "edited" ? "edited" : "original";
    const {shape: [, actions], data: values} = model[main].probabilities;
    const line = (a) => Array.from(model.values.data, (_, v) => values[v * actions + a]);
    const likely = Array.from({length: actions}, (_, a) => a).sort((a, b) => Math.max(...line(b)) - Math.max(...line(a))).slice(0, 4);
    const series = likely.map((a) => ({name: look.about.actions[a], colour: `var(--c${a + 1})`, x: [...model.values.data], y: line(a), dots: false}));
    const name = `${shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ` : ""}probability, ${main}`;
    return charts.lines({title: `Probabilities over reward-to-go, ${main} run of ${title(look, model.i)}`, width, height: 220, series, y: {label: name, low: 0, high: 1}, x, marks});
  });
  const series = shown.flatMap((model) => sides(model).map((name) => ({name: shown.length > 1 ? `${model.i + 1} ${name}` : name, colour: `var(--${name})`, dash: DASHES[model.i], x: [...model.values.data], y: [...model[name].ld.data], dots: false})));
  figures.push(charts.lines({title: "Logit difference over reward-to-go", width, height: 200, series, y: {label: `logit ${look.contrast.join(" − ")}`}, x, marks}));
  const variation = shown[0].attention?.variation;
  if (variation) {
    const [values, layers, heads] = variation.shape;
    const rows = Array.from({length: layers * heads}, (_, i) => `L${Math.floor(i / heads)}H${i % heads}`);
    const turned = Float32Array.from({length: values * rows.length}, (_, i) => variation.data[(i % values) * rows.length + Math.floor(i / values)]);
    figures.push(charts.titled("attention of the last state: total variation from now", charts.maps({title: "Total variation of attention by head and reward-to-go", width, blocks: [{values: turned}], rows,
      columns: Array.from(shown[0].values.data, (value) => look.number(value)), axes: true, tokens: [], high: 1, most: 16})));
  }
  root.append(charts.grid("Reward-to-go scan", figures, beside ? 2 : 1, 24));
};

export const table = (data, look) => {
  const first = data.find((item) => item.data)?.data;
  const names = (look.about.actions ?? []).slice(0, first?.original.logits.shape[1]);
  return {
    columns: ["model", "side", "reward-to-go", "logit difference", ...names.map((name) => `P(${name})`)],
    rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((side) => [...item.data.values.data].map((value, v) =>
      [title(look, i), side, value, item.data[side].ld.data[v], ...item.data[side].probabilities.data.subarray(v * names.length, (v + 1) * names.length)])) : [])),
  };
};
