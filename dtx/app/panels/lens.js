// The logit difference that the residual stream is read as after each part, as lines: one for each run and model.

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

export const table = (data, look) => ({
  columns: ["model", "side", "point", "logit difference", ...(look.about.actions ?? []).slice(0, data.find((item) => item.data)?.data.original.logits.shape[1])],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((name) => item.data.points.map((point, p) => {
    const {logits, ld} = item.data[name];
    const wide = logits.shape[1];
    return [title(look, i), name, point, ld.data[p], ...logits.data.subarray(p * wide, (p + 1) * wide)];
  })) : [])),
});
