// Change of the logit difference without each node, both runs, with the median of its kind and random directions.

const HOOKS = {head: "attn.hook_z", attention: "hook_attn_out", mlp: "hook_mlp_out"};

/** All heads and outputs, layer by layer: [{name, kind, hook, unit}]. */
const nodesOf = ({n_layers: layers, n_heads: heads}) => Array.from({length: layers}, (_, layer) => {
  const node = (kind, name, unit = 0) => ({kind, name, unit, hook: `blocks.${layer}.${HOOKS[kind]}`});
  const each = Array.from({length: heads}, (__, head) => node("head", `L${layer}H${head}`, head));
  return [...each, node("attention", `L${layer} attention`), node("mlp", `L${layer} MLP`)];
}).flat();

/** Without a server: every node's output set to 0, each in a row of one forward pass; see ablation.py. */
export const compute = (moment, {method, tokens, directions}) => {
  if (method !== "zero") throw new Error("the mean over training episodes is not in this file: dtx app has it");
  if (directions) throw new Error("random directions are not in this file: dtx app has them");
  const nodes = nodesOf(moment.cfg), tolerance = 1e-3, best = (row) => row.indexOf(Math.max(...row));
  const logs = (row) => Array.from(moment.probabilities(row), Math.log);
  let error = 0;
  const sides = moment.both((side) => {
    const places = side.tokens.kinds.flatMap((kind, n) => (kind === "pad" || (tokens === "last" && n < side.tokens.kinds.length - 1) ? [] : [n]));
    const silence = (name, {shape: [, n, ...rest], data}) => nodes.forEach(({hook, kind, unit}, row) => {
      if (hook !== name) return;
      const width = rest.at(-1), step = rest.reduce((a, b) => a * b, 1), from = kind === "head" ? unit * width : 0;
      for (const place of places) data.fill(0, (row * n + place) * step + from, (row * n + place) * step + from + width);
    });
    const {data} = moment.model.forward(nodes.map(() => side.window), [], silence).logits, a = moment.actions.length;
    const whole = moment.model.forward([side.window], [], () => {}).logits.data, log = logs(whole), ld = moment.difference(whole);
    whole.forEach((value, i) => { error = Math.max(error, Math.abs(value - side.logits[i])); });
    const rows = nodes.map((_, i) => data.subarray(i * a, i * a + a));
    const column = (Kind, of) => ({shape: [nodes.length], data: Kind.from(rows, of)});
    const kl = (row) => { const other = logs(row); return Math.max(0, log.reduce((sum, x, i) => sum + Math.exp(x) * (x - other[i]), 0)); };
    return {ld, ablated: column(Float32Array, (row) => moment.difference(row)), change: column(Float32Array, (row) => moment.difference(row) - ld),
      kl: column(Float32Array, kl), flip: column(Uint8Array, (row) => best(row) !== best(whole)), random: null};
  });
  const check = {name: "the whole model's logits are those of the page", error, tolerance, holds: error <= tolerance};
  return {nodes: nodes.map(({name}) => name), kinds: nodes.map(({kind}) => kind), method, tokens, ...sides, check};
};

const MOST = 16;
const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const sides = (data) => ["original", "edited"].filter((name) => data[name]);
const signed = (value, number) => `${value > 0 ? "+" : ""}${number(value)}`;
const median = (values) => {
  const ordered = [...values].sort((a, b) => a - b);
  const half = ordered.length / 2;
  return ordered.length % 2 ? ordered[Math.floor(half)] : (ordered[half - 1] + ordered[half]) / 2;
};
/** Median size of the change by the other nodes of a node's kind. */
const others = (model, side, p) => {
  const values = model.nodes.flatMap((_, q) => (q !== p && model.kinds[q] === model.kinds[p] ? [Math.abs(model[side].change.data[q])] : []));
  return values.length ? median(values) : null;
};

export const draw = (root, data, look) => {
  const {charts, html, number} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const figures = shown.map((model) => {
    const here = sides(model);
    const size = (p) => Math.max(...here.map((side) => Math.abs(model[side].change.data[p])));
    const order = model.nodes.map((_, p) => p).sort((a, b) => size(b) - size(a)).slice(0, MOST);
    const rows = order.map((p) => ({name: model.nodes[p], bars: here.map((side) => {
      const random = model[side].random ? ` (±${number(model[side].random.data[p])})` : "";
      return {name: side, value: model[side].change.data[p], colour: `var(--${side})`, text: `${signed(model[side].change.data[p], number)}${model[side].flip.data[p] ? " flips" : ""}${random}`};
    })}));
    const most = Math.max(1e-9, ...order.map(size));
    const words = `${model.method === "mean" ? "at its mean: " : ""}change of logit ${look.contrast.join(" − ")} (${here.map((side) => `${side} ${number(model[side].ld)}`).join(", ")})`;
    return charts.titled(shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ${words}` : words, charts.bars({title: `Ablation: ${words}`, width: look.width, rows, low: -most, high: most, thick: 9, gap: 6}), {width: look.width});
  });
  root.append(charts.stack("Ablation of every head, attention and MLP", figures),
    html("p", {class: "note"}, shown.map((model) => sides(model).map((side) => `${side}: median size of heads ${number(median(model.nodes.flatMap((_, p) => (model.kinds[p] === "head" ? [Math.abs(model[side].change.data[p])] : []))))}`).join(", ")).join(" · "),
      "; “flips”: another action is best without it", shown[0].original.random ? "; (±): pushes in random directions" : ""));
};

export const table = (data, look) => ({
  columns: ["model", "side", "node", "kind", "LD without it", "change of LD", "median size of others of its kind", "random directions (rms)", "KL, nats", "best action changes"],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((side) => item.data.nodes.map((node, p) => {
    const {ablated, change, kl, flip, random} = item.data[side];
    return [title(look, i), side, node, item.data.kinds[p], ablated.data[p], change.data[p], others(item.data, side, p), random ? random.data[p] : null, kl.data[p], flip.data[p] ? "yes" : "no"];
  })) : [])),
});
