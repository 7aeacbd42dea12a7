// The logit difference that the residual stream is read as after each part, as lines: one for each run and model.

const streamNames = ({n_layers: layers}) => ["blocks.0.hook_resid_pre",
  ...Array.from({length: layers}, (_, i) => [`blocks.${i}.hook_resid_mid`, `blocks.${i}.hook_resid_post`]).flat()];

/** What compute reads of the model, so that one forward pass serves all panels. */
export const hooks = streamNames;

/** Logits (p, a) and their difference (p) that each point of the last token's stream is read as; see lens.py. */
export const compute = (moment) => {
  const {cfg, model} = moment, names = streamNames(cfg), tolerance = 1e-4;
  let error = 0;
  const sides = moment.both((side) => {
    const known = side.activations(names), d = cfg.d_model, streams = new Float32Array(names.length * d);
    names.forEach((name, i) => streams.set(known[name].data.slice(-d), i * d));
    const logits = model.read({shape: [names.length, d], data: streams}), a = logits.shape[1];
    const rows = names.map((_, i) => logits.data.subarray(i * a, i * a + a));
    side.logits.forEach((value, i) => { error = Math.max(error, Math.abs(value - rows.at(-1)[i])); });
    return {logits, ld: {shape: [names.length], data: Float32Array.from(rows, (row) => moment.difference(row))}};
  });
  const layers = Array.from({length: cfg.n_layers}, (_, i) => [`L${i} attention`, `L${i} MLP`]).flat();
  const check = {name: "the last point is the model's output", error, tolerance, holds: error <= tolerance};
  return {points: ["embed", ...layers], ...sides, check};
};

const DASHES = [null, "6 3", "2 3", "8 3 2 3"];
const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const sides = (data) => ["original", "edited"].filter((name) => data[name]);
const short = (point) => point.replace(/^L(\d+) (?:attention|attn)$/i, "L$1 attn").replace(/^L(\d+) MLP$/i, "L$1 MLP");

export const draw = (root, data, look) => {
  const {charts} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const several = shown.length > 1;
  const longest = shown.reduce((a, b) => (b.points.length > a.points.length ? b : a));
  const series = shown.flatMap((model) => sides(model).map((name) => ({
    name: several ? `${model.i + 1} ${name}` : name, colour: `var(--${name})`, dash: DASHES[model.i],
    x: model.points.map((_, p) => p), y: [...model[name].ld.data],
  })));
  const contrast = look.contrast.length ? `logit ${look.contrast.join(" − ")}` : "logit difference";
  root.append(charts.lines({title: `Logit lens: ${contrast} after each part. ${series.map((line) => `${line.name} ends at ${line.y.at(-1).toFixed(2)}`).join(", ")}`,
    width: look.width, height: 240, series, y: {label: contrast}, x: {ticks: longest.points.map((point, p) => [p, short(point)])}}));
};

const names = (data, look) => {
  const first = data.find((item) => item.data)?.data;
  return (first?.actions ?? look.about.actions ?? []).slice(0, first?.original.logits.shape[1]);
};

export const table = (data, look) => ({
  columns: ["model", "side", "point", "logit difference", ...names(data, look)],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((name) => item.data.points.map((point, p) => {
    const {logits, ld} = item.data[name];
    const wide = logits.shape[1];
    return [title(look, i), name, point, ld.data[p], ...logits.data.subarray(p * wide, (p + 1) * wide)];
  })) : [])),
});
