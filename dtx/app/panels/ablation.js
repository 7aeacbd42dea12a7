// Change of the logit difference without each node, both runs, with the median of its kind and random directions.

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
