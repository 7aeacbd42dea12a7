// Probabilities of the likeliest actions, and the logit difference, over 21 values of reward-to-go.

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
