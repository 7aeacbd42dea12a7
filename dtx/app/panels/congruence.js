// Congruence: what is written in a direction that something else reads, as a map of the strongest or on the view.

const CELLS = ["0", "1", "2", "3", "4", "5", "6"];
const limit = (values) => Math.max(...[...values].map((value) => (Number.isFinite(value) ? Math.abs(value) : 0)), 1e-9);

const each = (root, data, look, one) => {
  const shown = data.map((item, i) => item.data && [item.data, look.models[i]?.title ?? `model ${i + 1}`]).filter(Boolean);
  const figures = shown.map(([value, title]) => (shown.length > 1 ? look.charts.titled(title, one(value)) : one(value)));
  root.append(figures.length > 1 ? look.charts.grid("Congruence", figures) : figures[0]);
};

const sizes = ({sizes: {model, untrained}}, number) =>
  `Sizes: mean ${number(model.mean, 3)}, 99th percentile ${number(model.tail, 3)}; untrained model: ${number(untrained.mean, 3)}, ${number(untrained.tail, 3)}. Folded weights, logits or input per unit.`;

export const draw = (root, data, look) => {
  const {maps, number, titled} = look.charts;
  for (const item of data) if (item.data) root.append(look.html("p", {}, sizes(item.data, number)));
  each(root, data, look, (value) => {
    const high = limit((value.value ?? value.maps).data);
    if (value.value) {
      return titled(`${value.product}: the strongest`, maps({title: value.product, width: look.width, blocks: [{values: value.value.data}], rows: value.rows, columns: value.columns,
        kind: "signed", low: -high, high, axes: true, tokens: [], most: 26,
        tell: (_, r, c, x) => `${value.rows[r]} to ${value.columns[c]}: ${number(x, 3)}`}), {width: look.width});
    }
    const blocks = value.blocks.map((title, i) => ({title, values: value.maps.data.subarray(49 * i, 49 * i + 49)}));
    const text = value.neuron ? `What each channel of the view adds to the input of ${value.neuron}` : `What ${look.parameters.channel} in each cell of the view adds to each logit`;
    return titled(text, maps({title: text, width: look.width, blocks, rows: CELLS, columns: CELLS, kind: "signed", low: -high, high, tokens: [], square: true, most: 14,
      across: Math.max(2, Math.min(blocks.length, Math.floor(look.width / 104))),
      tell: (b, r, c, x) => `${blocks[b].title}, cell (${c},${r}): ${Number.isFinite(x) ? number(x, 3) : "not in the training data"}`}), {width: look.width});
  });
};

export const table = (data, look) => ({
  columns: ["model", "from", "to", "value"],
  rows: data.flatMap((item, m) => {
    if (!item.data) return [];
    const {value, maps, rows, columns, blocks, neuron} = item.data;
    const title = look.models[m]?.title ?? m + 1;
    if (value) return rows.flatMap((from, r) => columns.map((to, c) => [title, from, to, value.data[r * columns.length + c]]));
    const cells = blocks.flatMap((name, b) => Array.from({length: 49}, (_, i) => [name, `(${i % 7},${Math.floor(i / 7)})`, maps.data[49 * b + i]]));
    return cells.filter(([, , x]) => Number.isFinite(x)).map(([name, cell, x]) => [title, neuron ? `${name} ${cell}` : `${look.parameters.channel} ${cell}`, neuron ?? name, x]);
  }),
});
