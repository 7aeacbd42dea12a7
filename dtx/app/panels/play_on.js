// One line a run: who plays, the actions from here on, how the episode ends.

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const GLYPHS = {l: "↶", r: "↷", f: "↑", p: "P", d: "D", t: "T", n: "N"};
const ENDS = {success: "✓ success", failure: "✗ failure", limit: "out of time"};
const end = (run) => (run.over ? `${ENDS[run.over] ?? run.over}, return ${run.return.toFixed(3)}, ${run.steps} steps` : "the model knows no later step");
const BOX = 18;

const line = (look, run, width) => {
  const {figure, label} = look.charts;
  const {svg} = look;
  const across = Math.max(1, Math.floor(width / BOX));
  const rows = Math.max(1, Math.ceil(run.actions.length / across));
  const colour = `var(--${run.side})`;
  const boxes = [...run.actions].map((letter, i) => {
    const [x, y] = [(i % across) * BOX, 20 + Math.floor(i / across) * BOX];
    return [svg("rect", {x, y, width: BOX - 3, height: BOX - 3, rx: 3, fill: "none", stroke: colour}),
      label(x + (BOX - 3) / 2, y + 12, GLYPHS[letter], {anchor: "middle", fill: "var(--ink)", size: 11})];
  });
  return figure(width, 24 + rows * BOX, `${run.side}, ${run.who}: ${run.actions}, ${end(run)}`,
    label(0, 12, `${run.control ? "control: " : ""}${run.who}: ${end(run)}`, {fill: run.control ? "var(--soft)" : "var(--ink)", weight: run.control ? null : 600}), ...boxes);
};

export const draw = (root, data, look) => {
  const {charts, html} = look;
  const figures = data.flatMap((item, i) => (item.data ? ["original", "edited"].flatMap((side) => {
    const runs = item.data.runs.filter((run) => run.side === side);
    if (!runs.length) return [];
    const heading = `${data.length > 1 ? `${i + 1} ${title(look, i)}: ` : ""}${side} run`;
    return [charts.titled(heading, charts.stack(heading, runs.map((run) => line(look, run, look.width))), {colour: `var(--${side})`, width: look.width})];
  }) : []));
  root.append(charts.stack("Play on", figures), html("p", {class: "note"}, "Actions from the cursor on, each the likeliest one."));
};

export const table = (data, look) => ({
  columns: ["model", "side", "who", "control", "actions", "end", "return", "steps"],
  rows: data.flatMap((item, i) => (item.data ? item.data.runs.map((run) =>
    [title(look, i), run.side, run.who, run.control ? "yes" : "no", run.actions, run.over ?? "", run.return, run.steps]) : [])),
});
