// Maps of all heads on one scale, with a bar of what kind of token the looked-at state attends to under each.

const patternNames = ({n_layers: layers}) => Array.from({length: layers}, (_, i) => `blocks.${i}.attn.hook_pattern`);

/** What compute reads of the model, so that one forward pass serves all panels. */
export const hooks = patternNames;

/** Patterns (l, h, n, m) of both sides, and of the original their sums over keys of a kind; see attention.py. */
export const compute = (moment) => {
  const names = patternNames(moment.cfg), layers = names.length, {tokens} = moment.original;
  const patterns = (side) => {
    const known = side.activations(names), [, heads, n, m] = known[names[0]].shape;
    const data = new Float32Array(layers * heads * n * m);
    names.forEach((name, layer) => data.set(known[name].data, layer * heads * n * m));
    return {shape: [layers, heads, n, m], data};
  };
  const sides = moment.both(patterns), kinds = ["R", "S", "A", "pad"];
  const {shape: [, heads, n, m], data} = sides.original;
  const byKind = new Float32Array(layers * heads * n * kinds.length);
  for (let row = 0; row < layers * heads * n; row++) for (let j = 0; j < m; j++) {
    byKind[row * kinds.length + kinds.indexOf(tokens.kinds[j])] += data[row * m + j];
  }
  return {tokens: tokens.names, ...sides, kinds, by_kind: {shape: [layers, heads, n, kinds.length], data: byKind}};
};

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;

export const draw = (root, data, look) => {
  const {charts, html} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const readout = html("p", {class: "readout soft"}, "Point at a cell: which token (row) looks at which (column).");
  const several = shown.length > 1;
  const columns = several && look.width >= 640 ? 2 : 1;
  const width = (look.width - 20 * (columns - 1)) / columns;
  const figures = shown.map((model) => {
    const main = model.edited && look.shown === "edited" ? "edited" : "original";
    const text = several ? `${model.i + 1} ${title(look, model.i)}, ${main}` : `${main} run`;
    return charts.titled(text, heads(model, model[main], main, look, width, readout), {colour: `var(--${main}-text)`, width});
  });
  if (!several && shown[0].edited) figures.push(charts.titled("edited − original", heads(shown[0], minus(shown[0].edited, shown[0].original), "signed", look, width, readout), {width}));
  const other = shown.length === 2 ? matched(shown[0], shown[1], look) : null;
  if (other) figures.push(charts.titled(`${shown[1].i + 1} − ${shown[0].i + 1}, tokens matched by name`, heads(other.model, other.values, "signed", look, width, readout), {width}));
  if (!shown[0].kinds.includes("S")) return void root.append(charts.grid("Attention of all heads", figures, columns, 10), readout);
  const strip = charts.legend([...new Set(shown[0].tokens.map(kindOf))].map((kind) => ({name: kind === "pad" ? "padding" : `${kind} tokens`, colour: shade(kind), kind: "box"})), 0, 28, width);
  figures.push(charts.figure(width, 28 + strip.height, "", charts.label(0, 11, `under each head: what kind of token ${shown[0].tokens.at(-1)} attends to`), strip.nodes));
  root.append(charts.grid("Attention of all heads", figures, columns, columns > 1 ? 20 : 10), readout);
};

const minus = (a, b) => ({shape: a.shape, data: a.data.map((value, i) => value - b.data[i])});

/** The difference of two models' heads at the tokens that both have; null where they have other heads. */
const matched = (first, second, look) => {
  const side = (model) => (model.edited && look.shown === "edited" ? model.edited : model.original);
  const [a, b] = [side(first), side(second)];
  if (a.shape[0] !== b.shape[0] || a.shape[1] !== b.shape[1]) return null;
  const tokens = first.tokens.filter((token, i) => second.tokens.includes(token) && first.tokens.indexOf(token) === i);
  const taken = ({shape: [layers, heads, rows, columns], data}, names) => {
    const places = tokens.map((token) => names.indexOf(token));
    const found = new Float32Array(layers * heads * tokens.length ** 2);
    let at = 0;
    for (let block = 0; block < layers * heads; block++) for (const r of places) for (const c of places) found[at++] = data[(block * rows + r) * columns + c];
    return {shape: [layers, heads, tokens.length, tokens.length], data: found};
  };
  return {model: {...first, tokens}, values: minus(taken(b, second.tokens), taken(a, first.tokens))};
};

const heads = (model, values, kind, look, width, readout) => {
  const {charts, svg, number} = look;
  const [layers, count, rows, columns] = values.shape;
  const across = width / count >= (look.width >= 640 ? 40 : 58) || count <= 4 ? count : Math.ceil(count / 2);
  const blocks = Array.from({length: layers * count}, (_, i) => ({title: `L${Math.floor(i / count)}H${i % count}`, values: values.data.subarray(i * rows * columns, (i + 1) * rows * columns)}));
  const most = kind === "signed" ? Math.max(0.01, ...blocks.map((block) => block.values.reduce((a, b) => Math.max(a, Math.abs(b)), 0))) : 1;
  const tell = (block, r, c, value) => `${model.tokens[r]} → ${model.tokens[c]}, ${blocks[block].title}: ${kind === "signed" && value > 0 ? "+" : ""}${number(value)}`;
  const map = charts.maps({title: `Attention, ${layers} layers of ${count} heads, ${kind === "signed" ? "edited minus original" : kind}`, width, blocks, rows: model.tokens, columns: model.tokens,
    kind, low: kind === "signed" ? -most : 0, high: most, across, most: (look.width > 1000 ? 140 : 84) / columns, unit: kind === "signed" ? "" : "of a row", tell,
    moved: (block, r, c, text) => read(readout, text, model, r, c, look),
    below: kind === "signed" || !model.kinds.includes("S") ? null : {height: 5, draw: (block, x, y, width) => byKind(model, blocks[block].values.subarray((rows - 1) * columns), x, y, width, svg)}});
  return map;
};

/** A bar of the last state's attention by kind of token. */
const byKind = (model, row, x, y, width, svg) => {
  const sums = Object.fromEntries(model.kinds.map((kind) => [kind, 0]));
  model.tokens.forEach((token, i) => { sums[kindOf(token)] = (sums[kindOf(token)] ?? 0) + row[i]; });
  let left = x;
  return Object.entries(sums).filter(([, share]) => share > 0.004).map(([kind, share]) => {
    const bar = svg("rect", {x: left, y, width: share * width, height: 4, fill: shade(kind)}, svg("title", {}, `${kind} ${share.toFixed(2)}`));
    left += share * width;
    return bar;
  });
};

const shade = (kind) => (kind.length === 1 ? `var(--token-${kind.toLowerCase()})` : "var(--line)");

const kindOf = (token) => (/^[RSA]\d+$/.test(token) ? token[0] : "pad");

/** The cell that is pointed at, with the views of both tokens' states. */
const read = (readout, text, model, r, c, look) => {
  const side = (look.shown === "edited" && look.play.edited) || look.play.original;
  const view = (token) => {
    const step = Number(/^[RSA](\d+)$/.exec(token)?.[1] ?? 0) - 1;
    return step >= 0 && side.view && step < side.view.shape[0] ? look.picture(side.views, side.view.data[step], 42) : null;
  };
  const token = (name) => look.html("b", {class: `token ${name[0]}`, "data-token": name}, name);
  readout.replaceChildren(...[token(model.tokens[r]), view(model.tokens[r]), "→", token(model.tokens[c]), view(model.tokens[c]), look.html("span", {}, text.slice(text.indexOf(",") + 1))].filter(Boolean));
};

export const table = (data, look) => ({
  columns: ["model", "side", "layer", "head", "from", "to", "attention"],
  rows: data.flatMap((item, i) => (item.data ? ["original", "edited"].filter((side) => item.data[side]).flatMap((side) => {
    const {shape: [layers, heads, rows, columns], data: values} = item.data[side];
    const found = [];
    for (let l = 0; l < layers; l++) for (let h = 0; h < heads; h++) for (let r = rows - 1; r >= 0; r--) for (let c = 0; c <= r && c < columns; c++) {
      found.push([title(look, i), side, l, h, item.data.tokens[r], item.data.tokens[c], values[((l * heads + h) * rows + r) * columns + c]]);
    }
    return found;
  }) : [])),
});
