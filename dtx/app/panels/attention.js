// Maps of all heads on one scale, with a bar of what kind of token the looked-at state attends to under each.

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;

export const draw = (root, data, look) => {
  const {charts, html} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const readout = html("p", {class: "readout soft"}, "Point at a cell: which token (row) looks at which (column).");
  const figures = shown.flatMap((model) => {
    const sides = model.edited ? ["original", "edited"] : ["original"];
    const main = model.edited && look.shown === "edited" ? "edited" : "original";
    const name = (text) => (shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ${text}` : text);
    const figures = [charts.titled(name(`${main} run`), heads(model, model[main], main, look, readout), {colour: `var(--${main}-text)`})];
    if (sides.length > 1) {
      const difference = {shape: model.edited.shape, data: model.edited.data.map((value, j) => value - model.original.data[j])};
      figures.push(charts.titled(name("edited − original"), heads(model, difference, "signed", look, readout)));
    }
    return figures;
  });
  const strip = charts.legend([...new Set(shown[0].tokens.map(kindOf))].map((kind) => ({name: kind === "pad" ? "padding" : `${kind} tokens`, colour: shade(kind), kind: "box"})), 0, 28, look.width);
  figures.push(charts.figure(look.width, 28 + strip.height, "", charts.label(0, 11, `under each head: what kind of token ${shown[0].tokens.at(-1)} attends to`), strip.nodes));
  root.append(charts.stack("Attention of all heads", figures, 10), readout);
};

const heads = (model, values, kind, look, readout) => {
  const {charts, svg, number} = look;
  const [layers, count, rows, columns] = values.shape;
  const across = look.width / count >= 58 || count <= 4 ? count : Math.ceil(count / 2);
  const blocks = Array.from({length: layers * count}, (_, i) => ({title: `L${Math.floor(i / count)}H${i % count}`, values: values.data.subarray(i * rows * columns, (i + 1) * rows * columns)}));
  const most = kind === "signed" ? Math.max(0.01, ...blocks.map((block) => block.values.reduce((a, b) => Math.max(a, Math.abs(b)), 0))) : 1;
  const tell = (block, r, c, value) => `${blocks[block].title}, ${model.tokens[r]} → ${model.tokens[c]}: ${kind === "signed" && value > 0 ? "+" : ""}${number(value)}`;
  const map = charts.maps({title: `Attention, ${layers} layers of ${count} heads, ${kind === "signed" ? "edited minus original" : kind}`, width: look.width, blocks, rows: model.tokens, columns: model.tokens,
    kind, low: kind === "signed" ? -most : 0, high: most, across, most: look.width > 1000 ? 9 : 6, unit: kind === "signed" ? "" : "of a row", tell,
    moved: (block, r, c, text) => read(readout, text, model, r, c, look),
    below: kind === "signed" ? null : {height: 5, draw: (block, x, y, width) => byKind(model, blocks[block].values.subarray((rows - 1) * columns), x, y, width, svg)}});
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
    return step >= 0 && step < side.view.shape[0] ? look.picture(side.views, side.view.data[step], 42) : null;
  };
  const token = (name) => look.html("b", {class: `token ${name[0]}`, "data-token": name}, name);
  readout.replaceChildren(...[token(model.tokens[r]), view(model.tokens[r]), "→", token(model.tokens[c]), view(model.tokens[c]), look.html("span", {}, text)].filter(Boolean));
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
