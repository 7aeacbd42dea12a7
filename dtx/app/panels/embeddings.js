// State embeddings: cosines, shares of the components, one component on the grid of each channel, PC1 against PC2.

const CELLS = ["0", "1", "2", "3", "4", "5", "6"];
const list = (value) => (value?.data ? [...value.data] : value ?? []);
const limit = (values) => Math.max(...values.map((value) => (Number.isFinite(value) ? Math.abs(value) : 0)), 1e-9);
const names = (data) => data.channel.map((name, i) => `${name} (${data.column[i]},${data.row[i]})`);
const percent = (value) => `${(100 * value).toFixed(1)}%`;

const each = (root, data, look, one) => {
  const shown = data.map((item, i) => item.data && [item.data, look.models[i]?.title ?? `model ${i + 1}`]).filter(Boolean);
  const figures = shown.map(([value, title]) => (shown.length > 1 ? look.charts.titled(title, one(value)) : one(value)));
  root.append(figures.length > 1 ? look.charts.grid("State embeddings", figures) : figures[0]);
};

const components = (data) => {
  const share = list(data.share);
  const random = data.random_95;
  const two = share[0] + (share[1] ?? 0);
  return `PC1 ${percent(share[0])}, PC1+2 ${percent(two)} of the variance${random ? ` (random channels, as many: at most ${percent(random[0])}, ${percent(random[1])})` : ""}. `
    + `${data.antipodal.pairs} of ${data.antipodal.of} pairs of channels that exclude each other in one cell are opposite (Gaussian tables: at most ${data.antipodal.random_95.toFixed(0)}).`;
};

const grids = (data, look, width) => {
  const column = data.component - 1;
  const count = data.projection.shape[1];
  const blocks = [...new Set(data.channel)].map((title) => ({title, values: new Float32Array(49).fill(NaN)}));
  data.channel.forEach((name, i) => {
    blocks.find((block) => block.title === name).values[7 * data.row[i] + data.column[i]] = data.projection.data[i * count + column];
  });
  const high = limit(blocks.flatMap((block) => [...block.values]));
  return look.charts.titled(`PC${data.component} by cell of the view (the agent: column 3, row 6)`, look.charts.maps({
    title: `Principal component ${data.component} by channel and cell`, width, blocks, rows: CELLS, columns: CELLS, kind: "signed", low: -high, high,
    across: Math.max(2, Math.min(blocks.length, Math.floor(width / 104))), tokens: [], square: true, most: 14,
    tell: (b, r, c, value) => `${blocks[b].title} (${c},${r}): ${Number.isFinite(value) ? look.charts.number(value, 3) : "not in the training data"}`}), {width});
};

const scatter = (data, look, width) => {
  const {label, figure, ticks, tick, titled} = look.charts;
  const count = data.projection.shape[1];
  const points = data.channel.map((_, i) => [data.projection.data[i * count], data.projection.data[i * count + 1]]);
  const [w, h] = [width, Math.min(width, 300)];
  const range = (k) => [Math.min(...points.map((p) => p[k])), Math.max(...points.map((p) => p[k]))];
  const [[left, right], [low, high]] = [range(0), range(1)];
  const X = (value) => 40 + ((value - left) / (right - left || 1)) * (w - 60);
  const Y = (value) => h - 34 - ((value - low) / (high - low || 1)) * (h - 56);
  const told = names(data);
  const far = points.map(([x, y], i) => [x * x + y * y, i]).sort((a, b) => b[0] - a[0]).map(([, i]) => i);
  const taken = [];
  const labels = far.slice(0, 40).flatMap((i) => {
    const [x, y] = [X(points[i][0]), Y(points[i][1])];
    const size = look.charts.measure(told[i], 11);
    const at = x + size + 8 > w ? x - size - 5 : x + 5;
    if (taken.some(([a, b, c]) => at < c && at + size > a && Math.abs(y - b) < 13) || taken.length > 11) return [];
    taken.push([at, y, at + size]);
    return [label(at, y + 4, told[i], {size: 11, fill: "var(--ink)"})];
  });
  const axes = [...ticks(left, right, 4).map((value, _, all) => label(X(value), h - 16, tick(value, all), {anchor: "middle"})),
    ...ticks(low, high, 4).map((value, _, all) => label(34, Y(value) + 4, tick(value, all), {anchor: "end"}))];
  return titled("PC1 (across) and PC2 (up)", figure(w, h, "Channels by the first two principal components", axes,
    points.map(([x, y], i) => look.svg("circle", {cx: X(x).toFixed(1), cy: Y(y).toFixed(1), r: 2.6, fill: "var(--original)", opacity: 0.7}, look.svg("title", {}, told[i]))), labels));
};

export const draw = (root, data, look) => {
  for (const item of data) if (item.data) root.append(look.html("p", {}, components(item.data)));
  each(root, data, look, (value) => {
    const wide = look.width > 760;
    const half = wide ? Math.floor((look.width - 24) / 2) : look.width;
    const told = names(value);
    const cosine = look.charts.titled("Cosine of every two channels", look.charts.maps({title: "Cosine of every two channels", width: Math.min(half, 440), blocks: [{values: value.cosine.data}],
      rows: told, columns: told, kind: "signed", low: -1, high: 1, tokens: [], square: true, most: 16,
      tell: (_, r, c, x) => `${told[r]} and ${told[c]}: ${look.charts.number(x, 3)}`}), {width: half});
    const right = look.charts.grid("Principal components", [grids(value, look, half), value.projection.shape[1] > 1 ? scatter(value, look, half) : null]);
    return wide ? look.charts.grid("State embeddings", [cosine, right], 2) : look.charts.grid("State embeddings", [cosine, right]);
  });
};

export const table = (data, look) => ({
  columns: ["model", "channel", "column", "row", "PC1", "PC2", "PC3", "most similar", "cosine"],
  rows: data.flatMap((item, m) => {
    if (!item.data) return [];
    const {channel, column, row, projection, cosine} = item.data;
    const [told, count, n] = [names(item.data), projection.shape[1], channel.length];
    return channel.map((name, i) => {
      const other = told.map((_, j) => j).filter((j) => j !== i).reduce((best, j) => (cosine.data[i * n + j] > cosine.data[i * n + best] ? j : best), i ? 0 : 1);
      const pcs = [0, 1, 2].map((k) => (k < count ? projection.data[i * count + k] : null));
      return [look.models[m]?.title ?? m + 1, name, column[i], row[i], ...pcs, told[other], cosine.data[i * n + other]];
    });
  }),
});
