// Parts of the logit difference: bars of components or neurons, maps of heads by token or of the view's cells.

const MOST = 16;
const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const sides = (data) => ["original", "edited"].filter((name) => data[name]);
const signed = (value, number) => `${value > 0 ? "+" : ""}${number(value)}`;
const largest = (...arrays) => Math.max(1e-9, ...arrays.flatMap((values) => [...values]).filter(Number.isFinite).map(Math.abs));

export const draw = (root, data, look) => {
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const {part} = shown[0];
  const figures = shown.flatMap((model) => {
    const own = {components, neurons}[part] ? [({components, neurons})[part](model, look)] : sides(model).map((name) => ({sources, view})[part](model, name, look));
    const all = own.length > 1 && side(look) < look.width ? [look.charts.beside("both runs", own)] : own;
    return shown.length > 1 ? [look.charts.titled(`${model.i + 1} ${title(look, model.i)}`, look.charts.stack(title(look, model.i), all), {width: look.width})] : all;
  });
  root.append(look.charts.stack(`Parts of logit ${look.contrast.join(" − ")}: ${part}`, figures));
};

/** The largest components, both runs; what the others add up to is the last bar. */
const components = (model, look) => {
  const {charts, number} = look;
  const here = sides(model);
  const size = (p) => Math.max(...here.map((name) => Math.abs(model[name].value.data[p])));
  const order = model.components.map((_, p) => p).sort((a, b) => size(b) - size(a));
  const [top, rest] = [order.slice(0, MOST), order.slice(MOST)];
  const bar = (name, value) => ({name, value, colour: `var(--${name})`, text: signed(value, number)});
  const rows = top.map((p) => ({name: model.components[p], bars: here.map((name) => bar(name, model[name].value.data[p]))}));
  if (rest.length) rows.push({name: `${rest.length} others`, bars: here.map((name) => bar(name, rest.reduce((sum, p) => sum + model[name].value.data[p], 0)))});
  rows.push({name: "sum", strong: true, bars: here.map((name) => bar(name, model[name].ld))});
  const most = largest(rows.flatMap((row) => row.bars.map(({value}) => value)));
  const words = here.map((name) => `${name} ±${number(model[name].random)}`).join(", ");
  return charts.titled(`random directions, largest component in 95%: ${words}`, charts.bars({title: `Components of logit ${look.contrast.join(" − ")}`, width: look.width, rows, low: -most, high: most, thick: 9, gap: 6}), {width: look.width, colour: "var(--soft)"});
};

const neurons = (model, look) => {
  const {charts, number} = look;
  const named = new Map();
  for (const side of sides(model)) {
    const {layer, neuron, value} = model[side].neurons;
    value.data.forEach((v, k) => {
      const name = `L${layer.data[k]}N${neuron.data[k]}`;
      named.set(name, {...named.get(name), [side]: v});
    });
  }
  const size = (values) => Math.max(...Object.values(values).map(Math.abs));
  const top = [...named].sort(([, a], [, b]) => size(b) - size(a)).slice(0, MOST);
  const rows = top.map(([name, values]) => ({name, bars: sides(model).map((side) => ({name: side, value: values[side] ?? 0, colour: `var(--${side})`,
    text: values[side] === undefined ? "smaller" : signed(values[side], number)}))}));
  const most = largest(top.map(([, values]) => size(values)));
  return charts.bars({title: `Neurons that add most to logit ${look.contrast.join(" − ")}`, width: look.width, rows, low: -most, high: most, thick: 9, gap: 6});
};

/** Width of one of two maps, which stand side by side where there is room. */
const side = (look) => (look.width >= 560 ? (look.width - 18) / 2 : look.width);

/** Heads by the token that they read. */
const sources = (model, name, look) => {
  const {charts, number} = look;
  const most = largest(...sides(model).map((side) => model[side].source.data));
  const tell = (block, r, c, value) => `${model.heads[r]} from ${model.tokens[c]}: ${signed(value, number)}`;
  return charts.titled(`${name} run`, charts.maps({title: `What each head adds, by the token it reads, ${name}`, width: side(look), blocks: [{title: "", values: model[name].source.data}],
    rows: model.heads, columns: model.tokens, kind: "signed", low: -most, high: most, axes: true, tokens: ["columns"], tell}), {width: side(look), colour: `var(--${name}-text)`});
};

/** Cells of the view as the agent sees them: it stands in the middle of the lowest row. */
const view = (model, name, look) => {
  const {charts, number} = look;
  const [width, height] = model[name].cells.shape;
  const turned = (values) => Float32Array.from({length: width * height}, (_, i) => values[(i % width) * height + Math.floor(i / width)]);
  const most = largest(...sides(model).map((side) => model[side].cells.data));
  const names = [...Array(width).keys()].map(String);
  const top = model[name].channels.name.slice(0, 3).map((channel, k) => `${channel} ${signed(model[name].channels.value.data[k], number)}`).join(", ");
  return charts.titled(`${name} run; most: ${top}`, charts.maps({title: `What each cell of the view adds, ${name}`, width: Math.min(side(look), 300), blocks: [{title: "", values: turned(model[name].cells.data)}],
    rows: names, columns: names, kind: "signed", low: -most, high: most, axes: true, tokens: [], square: true, tell: (block, r, c, value) => `cell (${c}, ${r}): ${signed(value, number)}`}), {width: side(look), colour: `var(--${name}-text)`});
};

export const table = (data, look) => ({
  columns: ["model", "side", "component", "part", "value"],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((side) => {
    const {components: names, heads, tokens} = item.data;
    const {value, source, neurons: of, channels, random} = item.data[side];
    const row = (...rest) => [title(look, i), side, ...rest];
    return [...names.map((name, p) => row(name, "", value.data[p])), row("random directions", "largest in 95%", random),
      ...heads.flatMap((head, h) => tokens.map((token, m) => row(head, token, source.data[h * tokens.length + m]))),
      ...[...of.value.data].map((v, k) => row(`L${of.layer.data[k]} MLP`, `neuron ${of.neuron.data[k]}`, v)),
      ...channels.name.map((name, k) => row("state embedding", name, channels.value.data[k]))];
  }) : [])),
});
