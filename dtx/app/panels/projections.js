// Projections of the accumulated residual stream on one direction: at every token, and at the last one by layer.

const SIDES = ["original", "edited"];
const list = (value) => (value?.data ? [...value.data] : value ?? []);

const each = (root, data, look, one) => {
  const shown = data.map((item, i) => item.data && [item.data, look.models[i]?.title ?? `model ${i + 1}`]).filter(Boolean);
  const figures = shown.map(([value, title]) => (shown.length > 1 ? look.charts.titled(title, one(value)) : one(value)));
  root.append(figures.length > 1 ? look.charts.grid("Projections", figures) : figures[0]);
};

const figure = (data, look) => {
  const here = SIDES.filter((name) => data[name]);
  const n = data.tokens.length;
  const high = Math.max(...here.flatMap((side) => list(data[side].value).map(Math.abs)), 1e-9);
  const maps = here.map((side) => look.charts.titled(`${data.direction}: ${data.measure} with the stream, ${side}`, look.charts.maps({title: `Projection on ${data.direction}, ${side}`,
    width: look.width, blocks: [{values: data[side].value.data}], rows: data.points, columns: data.tokens, kind: "signed", low: -high, high, axes: true, tokens: ["columns"], most: 26,
    tell: (_, r, c, x) => `${side}, after ${data.points[r]}, ${data.tokens[c]}: ${look.charts.number(x, 3)}`}), {width: look.width}));
  const x = data.points.map((_, i) => i);
  const series = here.flatMap((side) => [
    {name: side, x, y: data.points.map((_, p) => data[side].value.data[p * n + n - 1]), colour: `var(--${side})`},
    {name: `random, ${side}`, x, y: list(data[side].random), colour: `var(--${side})`, dash: "3 4"}]);
  const lines = look.charts.titled(`At ${data.tokens[n - 1]}, after each part`, look.charts.lines({title: `Projection on ${data.direction} at the last token`, width: look.width, height: 200,
    series, x: {ticks: data.points.map((name, i) => [i, name])}, y: {label: data.measure}}));
  return look.charts.grid("Projections", [...maps, lines]);
};

export const draw = (root, data, look) => {
  const known = look.about.panels.find(({name}) => name === "projections")?.parameters.find(({name}) => name === "direction");
  if (known) root.append(look.html("p", {class: "soft"}, `Directions: ${known.help}.`));
  each(root, data, look, (value) => figure(value, look));
};

export const table = (data, look) => ({
  columns: ["model", "direction", "after", "token", "original", "edited"],
  rows: data.flatMap((item, m) => (item.data ? item.data.points.flatMap((point, p) => item.data.tokens.map((token, t) => {
    const at = p * item.data.tokens.length + t;
    return [look.models[m]?.title ?? m + 1, item.data.direction, point, token, ...SIDES.map((side) => item.data[side]?.value.data[at] ?? null)];
  })) : [])),
});
