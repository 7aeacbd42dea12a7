// Circuits of heads: kinds of tokens, outputs, composition, singular values and vectors, distributions of parameters.

const CELLS = ["0", "1", "2", "3", "4", "5", "6"];
const list = (value) => (value?.data ? [...value.data] : value ?? []);
const limit = (values) => Math.max(...list(values).map((value) => (Number.isFinite(value) ? Math.abs(value) : 0)), 1e-9);

const each = (root, data, look, one) => {
  const shown = data.map((item, i) => item.data && [item.data, look.models[i]?.title ?? `model ${i + 1}`]).filter(Boolean);
  const figures = shown.map(([value, title]) => (shown.length > 1 ? look.charts.titled(title, one(value)) : one(value)));
  root.append(figures.length > 1 ? look.charts.grid("Circuits of heads", figures) : figures[0]);
};

const view = (look, title, part, width) => {
  const high = limit(part.maps);
  const blocks = part.blocks.map((name, i) => ({title: name, values: part.maps.data.subarray(49 * i, 49 * i + 49)}));
  return look.charts.titled(title, look.charts.maps({title, width, blocks, rows: CELLS, columns: CELLS, kind: "signed", low: -high, high, tokens: [], square: true, most: 14,
    across: Math.max(2, Math.min(blocks.length, Math.floor(width / 104))),
    tell: (b, r, c, x) => `${blocks[b].title}, cell (${c},${r}): ${Number.isFinite(x) ? look.charts.number(x, 3) : "not in the training data"}`}), {width});
};

const bars = (look, title, values, width) => {
  const found = Object.entries(values);
  const high = limit(found.map(([, value]) => value));
  return look.charts.titled(title, look.charts.bars({title, width: Math.min(width, 520), low: -high, high,
    rows: found.map(([name, value]) => ({name, bars: [{value, colour: "var(--original)", text: look.charts.number(value, 3), name: title}]}))}));
};

const map = (look, title, rows, columns, values, more = {}) => {
  const high = limit(values);
  return look.charts.titled(title, look.charts.maps({title, width: look.width, blocks: [{values}], rows, columns, kind: "signed", low: -high, high, axes: true, tokens: [], most: 24,
    tell: (_, r, c, x) => `${rows[r]}, ${columns[c]}: ${look.charts.number(x, 3)}`, ...more}), {width: look.width});
};

const DRAWN = {
  "queries and keys": (data, look) => map(look, "How much more a query scores one kind of key than all kinds (content alone)", data.heads, data.pairs, data.value.data),
  outputs: (data, look) => {
    const columns = data.kinds.flatMap((kind) => data.actions.map((action) => `${kind} ${action}`));
    return map(look, "By how much the logit differs between tokens of a kind that a head attends to", data.heads, columns, data.value.data, {kind: "original", low: 0, most: 22});
  },
  "outputs on the view": (data, look) => look.charts.grid("Outputs on the view", [
    view(look, `${data.head}: what attending to a state with this channel adds to the logit of ${data.action}`, data, look.width),
    bars(look, "The same of other tokens", data.beside, look.width)]),
  composition: (data, look) => map(look, `Composition: what the row's head writes and the column's head reads as ${data.reads_as}`, data.sources, data.targets, data.value.data, {kind: "original", low: 0, most: 30}),
  "singular values": (data, look) => look.charts.grid("Singular values", ["QK", "OV"].map((circuit) => {
    const rank = data[circuit].shape[1];
    const columns = Array.from({length: rank}, (_, i) => String(i + 1));
    return map(look, `Singular values of ${circuit} by rank`, data.heads, columns, data[circuit].data, {kind: "original", low: 0, most: 24});
  })),
  "singular vectors": (data, look) => {
    const [left, right] = data.circuit === "OV" ? ["reads", "writes, to the logits"] : ["query", "key"];
    const parts = [[left, data.left], [right, data.right]].flatMap(([name, part]) => [
      part.blocks.length ? view(look, `${data.head} ${data.circuit}, vector ${data.rank}: ${name}`, part, look.width) : null,
      bars(look, `${name}: ${data.circuit === "OV" && name !== "reads" ? "logits" : "other tokens"}`, part.beside, look.width)]);
    const values = list(data.values);
    const line = look.charts.lines({title: "Singular values", width: Math.min(look.width, 520), height: 150, zero: true, direct: false,
      series: [{name: `${data.head} ${data.circuit}`, x: values.map((_, i) => i + 1), y: values, colour: "var(--original)"}], x: {label: "rank"}, y: {label: "singular value"}});
    return look.charts.grid("Singular vectors", [...parts, line]);
  },
  parameters: (data, look) => {
    const untrained = list(data.untrained);
    const shown = data.name.map((name, i) => [name, i]).filter(([, i]) => data.numbers[i] > 1);
    const high = Math.max(...shown.flatMap(([, i]) => [data.spread[i], untrained[i] || 0]));
    const {legend, grid: placed, figure} = look.charts;
    const under = legend([{name: "this model", colour: "var(--original)", kind: "box"}, {name: "untrained", colour: "var(--soft)", kind: "box"}], 0, 12, look.width);
    return placed("Standard deviation of every parameter", [figure(Math.min(look.width, 640), under.height + 4, "legend", under.nodes),
      look.charts.bars({title: "Standard deviation of every parameter", width: Math.min(look.width, 640), low: 0, high, thick: 10, gap: 7,
        rows: shown.map(([name, i]) => ({name: name.replace("blocks.", "L"), bars: [
          {value: data.spread[i], colour: "var(--original)", text: look.charts.number(data.spread[i], 3), name: "this model"},
          {value: untrained[i], colour: "var(--soft)", text: look.charts.number(untrained[i], 3), name: "untrained"}]}))})]);
  },
};

const control = (data, number) => {
  if (data.show === "parameters") return "Grey: one untrained model of the same shape.";
  if (data.show === "singular values") {
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    return `Effective rank, mean over heads: QK ${number(mean(data.ranks.QK), 1)} (untrained ${number(data.untrained.QK, 1)}), OV ${number(mean(data.ranks.OV), 1)} (untrained ${number(data.untrained.OV, 1)}).`;
  }
  const what = data.show === "singular vectors" ? "the same singular value" : "the largest size";
  return `Untrained model: ${what} ${number(data.untrained, 3)}.${data.states ? ` States ${data.states}.` : ""}`;
};

export const draw = (root, data, look) => {
  for (const item of data) if (item.data) root.append(look.html("p", {}, control(item.data, look.charts.number)));
  each(root, data, look, (value) => DRAWN[value.show](value, look));
};

const grid = (rows, columns, values) => rows.flatMap((row, r) => columns.map((column, c) => [row, column, values[r * columns.length + c]]));
const cells = (part) => part.blocks.flatMap((name, b) => Array.from({length: 49}, (_, i) => [`${name} (${i % 7},${Math.floor(i / 7)})`, part.maps.data[49 * b + i]]));

const ROWS = {
  "queries and keys": (data) => grid(data.heads, data.pairs, data.value.data),
  outputs: (data) => grid(data.heads, data.kinds.flatMap((kind) => data.actions.map((action) => `${kind}, ${action}`)), data.value.data),
  "outputs on the view": (data) => [...cells(data), ...Object.entries(data.beside)].map(([name, value]) => [data.head, name, value]),
  composition: (data) => grid(data.sources, data.targets, data.value.data),
  "singular values": (data) => ["QK", "OV"].flatMap((circuit) => grid(data.heads, Array.from({length: data[circuit].shape[1]}, (_, i) => `${circuit} ${i + 1}`), data[circuit].data)),
  "singular vectors": (data) => ["left", "right"].flatMap((side) => [...cells(data[side]), ...Object.entries(data[side].beside)].map(([name, value]) => [side, name, value])),
  parameters: (data) => data.name.flatMap((name, i) => ["numbers", "mean", "spread", "least", "most", "norm"].map((what) => [name, what, data[what][i]])),
};

export const table = (data, look) => ({
  columns: ["model", "of", "to", "value"],
  rows: data.flatMap((item, m) => (item.data ? ROWS[item.data.show](item.data).filter((row) => Number.isFinite(row[2])).map((row) => [look.models[m]?.title ?? m + 1, ...row]) : [])),
});
