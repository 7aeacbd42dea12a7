// Neurons: which move the choice here, what drives one of them, where it fires, what it reads and writes.

const CELLS = ["0", "1", "2", "3", "4", "5", "6"];
const SIDES = ["original", "edited"];
const list = (value) => (value?.data ? [...value.data] : value ?? []);
const limit = (values) => Math.max(...list(values).map((value) => (Number.isFinite(value) ? Math.abs(value) : 0)), 1e-9);
const sides = (data) => SIDES.filter((name) => data[name]);

const each = (root, data, look, one) => {
  const shown = data.map((item, i) => item.data && [item.data, look.models[i]?.title ?? `model ${i + 1}`]).filter(Boolean);
  const figures = shown.map(([value, title]) => (shown.length > 1 ? look.charts.titled(title, one(value)) : one(value)));
  root.append(figures.length > 1 ? look.charts.grid("Neurons", figures) : figures[0]);
};

const bars = (look, title, names, values, width, bold = null) => {
  const high = Math.max(...Object.values(values).map(limit));
  return look.charts.titled(title, look.charts.bars({title, width, low: -high, high, thick: 10, gap: 6,
    rows: names.map((name, i) => ({name, strong: name === bold, bars: Object.entries(values).map(([side, found]) => ({value: list(found)[i], colour: `var(--${side})`, text: look.charts.number(list(found)[i], 2), name: side}))}))}));
};

const view = (look, title, blocks, width) => {
  const high = limit(blocks.flatMap((block) => [...block.values]));
  return look.charts.titled(title, look.charts.maps({title, width, blocks, rows: CELLS, columns: CELLS, kind: "signed", low: -high, high, tokens: [], square: true, most: 14,
    across: Math.max(1, Math.min(blocks.length, Math.floor(width / 104))),
    tell: (b, r, c, x) => `${blocks[b].title}, cell (${c},${r}): ${Number.isFinite(x) ? look.charts.number(x, 3) : "not in the training data"}`}), {width});
};

const figure = (data, look) => {
  const wide = look.width > 760;
  const width = wide ? Math.floor((look.width - 18) / 2) : look.width;
  const here = sides(data);
  const difference = `${look.contrast[0]} − ${look.contrast[1]}`;
  const strongest = bars(look, `Added to ${difference} here: the strongest neurons (untrained: at most ${look.charts.number(data.untrained, 2)})`, data.strongest, Object.fromEntries(here.map((side) => [side, data[side].effects])), width, data.neuron);
  const first = list(data.original.drivers);
  const order = first.map((_, i) => i).sort((a, b) => Math.abs(first[b]) - Math.abs(first[a])).slice(0, 12);
  const drivers = bars(look, `${data.neuron}: what its input here is made of`, order.map((i) => data.parts[i]), Object.fromEntries(here.map((side) => [side, order.map((i) => list(data[side].drivers)[i])])), width);
  const values = here.flatMap((side) => list(data[side].activation));
  const high = limit(values);
  const activation = look.charts.titled(`${data.neuron}: activation at every token`, look.charts.maps({title: `Activation of ${data.neuron}`, width: look.width, blocks: [{values: Float32Array.from(values)}],
    rows: here, columns: data.tokens, kind: "signed", low: -high, high, axes: true, tokens: ["columns"], most: 26,
    tell: (_, r, c, x) => `${data.neuron}, ${here[r]}, ${data.tokens[c]}: ${look.charts.number(x, 3)}`}), {width: look.width});
  const cells = here.filter((side) => data[side].cells).map((side) => ({title: side, values: data[side].cells.data}));
  const reads = data.reads.blocks.map((title, i) => ({title, values: data.reads.maps.data.subarray(49 * i, 49 * i + 49)}));
  const writes = bars(look, `${data.neuron} writes to the logits, per unit`, Object.keys(data.writes), {original: Object.values(data.writes)}, width);
  const other = bars(look, `${data.neuron} reads of other tokens, embedding alone`, Object.keys(data.reads.beside), {original: Object.values(data.reads.beside)}, width);
  const pair = (a, b) => (wide ? look.charts.grid("Neurons", [a, b], 2) : look.charts.grid("Neurons", [a, b].filter(Boolean)));
  return look.charts.grid("Neurons", [pair(strongest, drivers), activation,
    cells.length ? view(look, `${data.neuron}: what the view adds to its input here, by cell`, cells, look.width) : null,
    reads.length ? view(look, `${data.neuron} reads of the view, embedding alone`, reads, look.width) : null, pair(writes, other)].filter(Boolean));
};

const page = (look, {stored}) => {
  if (!stored) return null;
  const text = `Stored (${stored.label}): rank ${stored.rank}; best single feature ${stored.fact} (${(100 * stored.selectivity).toFixed(0)}% of its variance), most active at ${stored.peak}. ${stored.why.length ? `Not established: ${stored.why.join("; ")}. ` : ""}`;
  const links = look.about.files ? stored.pages.map((name) => [look.html("a", {href: `/artefact/${encodeURIComponent(stored.label)}/figures/${encodeURIComponent(name)}`, target: "_blank", rel: "noopener noreferrer"}, name), " "]) : stored.pages.join(", ");
  return look.html("p", {}, text, links);
};

export const draw = (root, data, look) => {
  for (const item of data) if (item.data?.stored) root.append(page(look, item.data));
  each(root, data, look, (value) => figure(value, look));
};

export const table = (data, look) => ({
  columns: ["model", "what", "name", "original", "edited"],
  rows: data.flatMap((item, m) => {
    if (!item.data) return [];
    const value = item.data;
    const both = (read, i) => SIDES.map((side) => (value[side] ? list(read(value[side]))[i] : null));
    const title = look.models[m]?.title ?? m + 1;
    return [...value.strongest.map((name, i) => [title, "effect on the logit difference", name, ...both((s) => s.effects, i)]),
      ...value.parts.map((name, i) => [title, `drives ${value.neuron}`, name, ...both((s) => s.drivers, i)]),
      ...value.tokens.map((name, i) => [title, `activation of ${value.neuron}`, name, ...both((s) => s.activation, i)]),
      ...Object.entries(value.writes).map(([name, x]) => [title, `${value.neuron} writes`, name, x, null])];
  }),
});
