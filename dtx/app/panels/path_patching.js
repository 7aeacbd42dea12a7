// The strongest edges as a graph from below (embedding) to above (logits), and as bars beside their controls.

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const INPUTS = {q: "query", k: "key", v: "value", mlp: "input", logits: "input"};
const effect = (model, e) => (model.measurable ? model.edges.rho.data[e] : model.edges.change.data[e]);
const named = ({edges}, e) => `${edges.sender[e]} → ${edges.receiver[e]}${edges.input[e].length === 1 ? ` ${INPUTS[edges.input[e]]}` : ""}${edges.token[e] === "all" ? "" : ` at ${edges.token[e]}`}`;

export const draw = (root, data, look) => {
  const {charts, html, number} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const figures = shown.flatMap((model) => {
    const words = model.measurable ? `restored share of LD (rho), ${model.direction === "denoise" ? "original into edited" : "edited into original"}`
      : `change of LD: the edit moves LD by ${number(Math.abs(model.ld.original - model.ld.edited))}, under ${number(model.gap)}, so there is no rho`;
    const before = shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ` : "";
    return [charts.titled(`${before}${words}`, graph(model, look), {width: look.width}), bars(model, look)];
  });
  root.append(charts.stack("Path patching: the strongest edges", figures),
    html("p", {class: "note"}, shown.map((model) => `${model.measured} edges patched so far; equal runs: largest change ${number(model.null)}`).join(" · "), `. A line is as wide as its effect; ${shown[0].measurable ? "red: LD goes towards the run that is patched in, blue: away from it" : "red: LD rises, blue: LD falls"}.`));
};

/** Senders and receivers by layer; a line's width is the size of its effect, red restores, blue does the reverse. */
const graph = (model, look) => {
  const {charts, svg, number} = look;
  const {edges, layers, heads} = model;
  const count = edges.sender.length;
  const levels = 2 * layers + 2;
  const height = 34 * levels + 12;
  const left = charts.measure("embedding") + 10;
  const level = (name) => (name === "embed" ? 0 : name === "logits" ? levels - 1 : 2 * Number(/^L(\d+)/.exec(name)[1]) + (name.endsWith("MLP") ? 2 : 1));
  const place = (name) => {
    const head = /^L\d+H(\d+)$/.exec(name);
    const x = head ? left + ((Number(head[1]) + 0.5) / heads) * (look.width - left - 20) : left + (look.width - left - 20) / 2;
    return [x, height - 20 - 34 * level(name)];
  };
  const most = Math.max(1e-9, ...Array.from({length: count}, (_, e) => Math.abs(effect(model, e))).filter(Number.isFinite));
  const lines = Array.from({length: count}, (_, e) => e).filter((e) => Number.isFinite(effect(model, e))).reverse().map((e) => {
    const value = effect(model, e);
    const [[x1, y1], [x2, y2]] = [place(edges.sender[e]), place(edges.receiver[e])];
    const bend = y1 - y2 > 80 ? (x1 === x2 ? 60 : 18) * (e % 2 ? 1 : -1) : 0;
    return svg("path", {d: `M${x1.toFixed(1)} ${y1.toFixed(1)}Q${((x1 + x2) / 2 + bend).toFixed(1)} ${((y1 + y2) / 2).toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`, fill: "none",
      stroke: value > 0 ? "var(--positive-2)" : "var(--negative-2)", "stroke-width": (0.8 + 5 * Math.abs(value) / most).toFixed(2), opacity: (0.35 + 0.6 * Math.abs(value) / most).toFixed(2)},
    svg("title", {}, `${named(model, e)}: ${number(value)}`));
  });
  const nodes = [...new Set([...edges.sender, ...edges.receiver])].map((name) => {
    const [x, y] = place(name);
    const text = /H(\d+)$/.test(name) ? name.replace(/^L\d+/, "") : name === "embed" ? "embed" : name.replace(/^L\d+ /, "");
    const half = charts.measure(text, 11) / 2 + 3;
    return [svg("rect", {x: x - half, y: y - 9, width: 2 * half, height: 18, rx: 9, fill: "var(--background)", stroke: "var(--soft)"}),
      charts.label(x, y + 4, text, {anchor: "middle", size: 11, fill: "var(--ink)"})];
  });
  const names = Array.from({length: levels}, (_, step) => charts.label(0, height - 16 - 34 * step,
    step === 0 ? "embedding" : step === levels - 1 ? "logits" : step % 2 ? `L${(step - 1) / 2} heads` : `L${step / 2 - 1} MLP`));
  return charts.figure(look.width, height, `Graph of the ${count} strongest edges`, names, lines, nodes);
};

const bars = (model, look) => {
  const {charts} = look;
  const text = (value) => look.number(Math.abs(value) < 0.005 ? 0 : value);
  const {edges} = model;
  const shown = Array.from({length: Math.min(12, edges.sender.length)}, (_, e) => e);
  const rows = shown.map((e) => ({name: named(model, e), bars: [
    {name: "this edit", value: effect(model, e), colour: "var(--ink)", text: text(effect(model, e))},
    ...(model.measurable ? [["original's decision", edges.donor_clean], ["edited run's decision", edges.donor_corrupt]] : []).filter(([, rho]) => Number.isFinite(rho.data[e])).map(([name, rho]) =>
      ({name: `unrelated run, ${name}`, value: rho.data[e], colour: name.startsWith("original") ? "var(--original)" : "var(--edited)", text: text(rho.data[e])}))]}));
  const most = Math.max(1e-9, ...rows.flatMap((row) => row.bars.map(({value}) => Math.abs(value))).filter(Number.isFinite));
  if (!rows.length) return null;
  const entries = [{name: "this edit", colour: "var(--ink)", kind: "box"}, ...(rows.some((row) => row.bars.length > 1) ? [{name: "unrelated run, original's decision", colour: "var(--original)", kind: "box"}, {name: "unrelated run, edited run's decision", colour: "var(--edited)", kind: "box"}] : [])];
  const legend = charts.legend(entries, 0, 12, look.width);
  return charts.stack("Strongest edges beside their controls", [charts.figure(look.width, legend.height + 4, "", legend.nodes),
    charts.bars({title: "Strongest edges", width: look.width, rows, low: -most, high: most, thick: 10, gap: 8})], 4);
};

export const table = (data, look) => ({
  columns: ["model", "direction", "sender", "receiver", "input", "token", "change of LD", "rho", "rho unrelated, original's decision", "rho unrelated, edited's decision"],
  rows: data.flatMap((item, i) => {
    if (!item.data) return [];
    const {edges, direction} = item.data;
    const finite = ({data: values}, e) => (Number.isFinite(values[e]) ? values[e] : null);
    return edges.sender.map((sender, e) => [title(look, i), direction, sender, edges.receiver[e], edges.input[e], edges.token[e], finite(edges.change, e), finite(edges.rho, e), finite(edges.donor_clean, e), finite(edges.donor_corrupt, e)]);
  }),
});
