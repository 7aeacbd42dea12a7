// Stored results: the analyses with their verdicts, and one node's effects with their intervals.

const list = (value) => (value?.data ? [...value.data] : value ?? []);
const MARKS = {established: "✓", "not established": "✗"};

const files = (look, label, names) => names.flatMap((name, i) => [i ? ", " : "", look.about.files
  ? look.html("a", {href: `/artefact/${encodeURIComponent(label)}/figures/${encodeURIComponent(name)}`, target: "_blank", rel: "noopener noreferrer"}, name) : name]);

const analysis = (look, found) => look.html("details", {}, look.html("summary", {}, `${MARKS[found.status] ?? "·"} ${found.name}: ${found.status}`, found.reads === "dt" ? "" : ` (as ${found.reads})`),
  found.why.length ? look.html("p", {class: "bad"}, found.why.join("; ")) : null,
  look.html("p", {}, found.finding),
  found.numbers.length ? look.html("p", {class: "soft"}, found.numbers.map(({name, value}) => `${name.replaceAll("_", " ")} ${look.charts.number(value, 3)}`).join(" · ")) : null,
  found.claims.length ? look.html("ul", {}, found.claims.map((claim) => look.html("li", {}, `${claim.text}: `, look.html("b", {}, claim.verdict), ` (${claim.evidence})`))) : null,
  look.html("p", {class: "soft"}, `${found.label}, ${found.finished.slice(0, 10)}. `, files(look, found.label, found.figures)));

const groups = (effects) => {
  const rows = effects.analysis.map((name, i) => ({name, where: effects.where[i], what: effects.what[i], interval: effects.interval[i],
    ...Object.fromEntries(["value", "low", "high", "n"].map((key) => [key, list(effects[key])[i]]))}));
  return [...new Set(rows.map((row) => `${row.name}: ${row.what}`))].map((title) => ({title, rows: rows.filter((row) => `${row.name}: ${row.what}` === title)}));
};

/** A group of effects with their intervals over one scale; intervals beyond it end in an arrow. */
const forest = ({title, rows}, look) => {
  const {figure, inside, label, measure, ticks, tick, number, titled} = look.charts;
  const largest = Math.max(...rows.map((row) => Math.abs(row.value)), 1e-9);
  const close = (value) => Number.isFinite(value) && Math.abs(value) <= 2.5 * largest;
  const all = rows.flatMap((row) => [row.value, row.low, row.high]).filter(close);
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const narrow = look.width < 560;
  const wanted = Math.max(...rows.map((row) => measure(row.where))) + 12;
  const left = narrow ? 4 : Math.min(wanted, look.width * 0.55);
  const step = narrow ? 32 : 18;
  const right = 54;
  const X = (value) => left + ((Math.min(high, Math.max(low, value)) - low) / (high - low || 1)) * (look.width - left - right - 8);
  const height = rows.length * step + 22;
  const grid = ticks(low, high, narrow ? 3 : 5);
  const nodes = rows.flatMap((row, i) => {
    const y = i * step + (narrow ? 24 : 10);
    const text = `${row.where}: ${number(row.value, 3)}${Number.isFinite(row.low) ? ` [${number(row.low, 3)}, ${number(row.high, 3)}]` : ""}${row.interval ? ` (${row.interval})` : ""}`;
    const ends = Number.isFinite(row.low) ? look.svg("line", {x1: X(row.low), x2: X(row.high), y1: y, y2: y, stroke: "var(--original)", "stroke-width": 2}) : null;
    const beyond = [[row.low, low, "◂"], [row.high, high, "▸"]].filter(([value, end]) => Number.isFinite(value) && (end === low ? value < low : value > high));
    return [label(narrow ? 0 : left - 8, narrow ? y - 10 : y + 4, row.where, {anchor: narrow ? "start" : "end", fill: "var(--ink)"}), ends,
      ...beyond.map(([value, , mark]) => label(X(value), y + 4, mark, {anchor: "middle", fill: "var(--original)"})),
      look.svg("circle", {cx: X(row.value), cy: y, r: 3.5, fill: "var(--original)"}, look.svg("title", {}, text)),
      label(look.width, y + 4, number(row.value, 2), {anchor: "end", fill: "var(--ink)"})];
  });
  return titled(title.replaceAll("_", " "), figure(look.width, height, title, grid.map((value, _, every) => [
    look.svg("line", {x1: X(value), x2: X(value), y1: 0, y2: height - 16, stroke: value === 0 ? "var(--soft)" : "var(--line)"}),
    inside(X(value), height - 2, tick(value, every), 0, look.width)]), nodes.filter(Boolean)));
};

const nodes = (data, look) => look.html("label", {}, "or choose ", look.html("select", {"data-id": "stored-choice", change: (event) => look.set("node", event.target.value)},
  data.nodes.map((name) => look.html("option", {value: name, selected: name === data.node}, name))));

export const draw = (root, data, look) => data.forEach((item, m) => {
  if (!item.data) return;
  const value = item.data;
  const several = data.length > 1 ? look.html("h3", {}, look.models[m]?.title ?? "") : null;
  const reports = value.reports.map((report) => look.html("p", {}, `Report ${report.label}: `, files(look, report.label, report.figures)));
  root.append(...[several, ...reports, value.others ? look.html("p", {class: "soft"}, `${value.others} more are of other steps of training.`) : null].filter(Boolean),
    look.html("div", {}, value.analyses.map((found) => analysis(look, found))));
  if (value.node === null) return;
  const found = groups(value.effects);
  root.append(look.html("h3", {}, `What they say of ${value.node}`), nodes(value, look), look.charts.grid(`Effects of ${value.node}`, found.map((group) => forest(group, look))));
});

export const table = (data, look) => ({
  columns: ["model", "analysis", "node", "where", "what", "value", "low", "high", "n", "interval"],
  rows: data.flatMap((item, m) => (item.data ? item.data.effects.analysis.map((name, i) => {
    const {where, what, interval, value, low, high, n} = item.data.effects;
    const number = (values) => (Number.isFinite(list(values)[i]) ? list(values)[i] : null);
    return [look.models[m]?.title ?? m + 1, name, item.data.node, where[i], what[i], number(value), number(low), number(high), number(n), interval[i]];
  }) : [])),
});
