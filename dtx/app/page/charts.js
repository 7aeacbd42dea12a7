// Charts of panels, as SVG: bars in pairs, lines with labels at their ends, legends. Maps are in maps.js.

import {svg, number} from "./dom.js";
import {figure, label, measure, inside, SIZE, LINE} from "./figures.js";

export {maps, share, ramp, legend as colourScale} from "./maps.js";
export {number} from "./dom.js";
export {figure, label, measure, inside} from "./figures.js";

/** About `count` round numbers from low to high. */
export const ticks = (low, high, count = 4) => {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
};

/** A tick's number, with as many digits as its neighbours need. */
export const tick = (value, all) => {
  const gap = all.length > 1 ? Math.abs(all[1] - all[0]) : Math.abs(value) || 1;
  return number(value, Math.max(0, Math.min(6, -Math.floor(Math.log10(gap) + 1e-9))));
};

/** Places for labels near wanted ones: at least `gap` apart, inside low..high; in the order given. */
export const spread = (wanted, low, high, gap = LINE) => {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const placed = order.map((i) => Math.min(Math.max(wanted[i], low), high));
  for (let i = 1; i < placed.length; i++) placed[i] = Math.max(placed[i], placed[i - 1] + gap);
  if (placed.length) placed[placed.length - 1] = Math.min(placed.at(-1), high);
  for (let i = placed.length - 2; i >= 0; i--) placed[i] = Math.min(placed[i], placed[i + 1] - gap);
  const out = [];
  order.forEach((i, place) => { out[i] = placed[place]; });
  return out;
};

/** Entries of a legend in rows that fit; returns {nodes, height}. Each entry: {name, colour, dash, kind: line | box}. */
export const legend = (entries, x, y, width) => {
  let left = x;
  let top = y;
  const nodes = entries.flatMap(({name, colour, dash, kind = "line"}) => {
    const needs = 26 + measure(name);
    if (left > x && left + needs > x + width) [left, top] = [x, top + LINE + 2];
    const mark = kind === "box"
      ? svg("rect", {x: left, y: top - 9, width: 14, height: 9, rx: 2, fill: colour})
      : svg("line", {x1: left, x2: left + 16, y1: top - 4, y2: top - 4, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash});
    const nodes = [mark, label(left + 21, top, name, {fill: "var(--ink)"})];
    left += needs + 10;
    return nodes;
  });
  return {nodes, height: entries.length ? top - y + LINE + 4 : 0};
};

/**
 * Lines over an x axis.
 *
 * series: [{name, x: numbers, y: numbers, colour, dash, token}]. x, y: {label, low, high, ticks: [[value, text]]}.
 * marks: [{x, text}] upright lines. zero: whether 0 is drawn as a line. The labels at the ends never overlap and
 * never leave the figure; where they would take more than a third of it they become a legend.
 */
export const lines = ({title, width, height = 220, series, x = {}, y = {}, marks = [], zero = true, direct = true}) => {
  const finite = series.flatMap((line) => [...line.y].filter(Number.isFinite));
  let low = y.low ?? Math.min(...finite, zero ? 0 : Infinity);
  let high = y.high ?? Math.max(...finite, zero ? 0 : -Infinity);
  if (!Number.isFinite(low) || !Number.isFinite(high)) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 1, high + 1];
  const pad = y.low === undefined ? 0.06 * (high - low) : 0;
  const [bottomValue, topValue] = [low - pad, high + (y.high === undefined ? 0.06 * (high - low) : 0)];
  const xs = series.flatMap((line) => [...line.x]);
  const [first, last] = [x.low ?? Math.min(...xs), x.high ?? Math.max(...xs)];
  const yTicks = ticks(bottomValue, topValue, Math.max(2, Math.round(height / 55)));
  const written = yTicks.map((value) => tick(value, yTicks));
  const widest = Math.max(...series.map((line) => measure(line.name, SIZE, 650)));
  const ends = direct && widest + 16 <= width / 3 && series.length * LINE <= height - 50;
  const left = Math.max(...written.map((text) => measure(text))) + 8;
  const right = ends ? widest + 20 : 10;
  const top = 10 + (y.label ? LINE : 0) + (marks.some((mark) => mark.text) ? LINE : 0);
  const below = LINE + 6 + (x.label ? LINE : 0);
  const base = height - below;
  const X = (value) => left + ((value - first) / (last - first || 1)) * (width - left - right);
  const Y = (value) => base - ((value - bottomValue) / (topValue - bottomValue)) * (base - top);
  const nodes = [];
  if (y.label) nodes.push(label(0, SIZE, y.label));
  yTicks.forEach((value, i) => nodes.push(
    svg("line", {x1: left, x2: width - right, y1: Y(value), y2: Y(value), stroke: value === 0 && zero ? "var(--soft)" : "var(--line)"}),
    label(left - 6, Y(value) + 4, written[i], {anchor: "end"})));
  nodes.push(...axis({x, first, last, X, y: base + LINE + 2, width, right, left}));
  if (x.label) nodes.push(label((left + width - right) / 2, height - 4, x.label, {anchor: "middle"}));
  for (const mark of marks) {
    if (mark.x < first || mark.x > last) continue;
    nodes.push(svg("line", {x1: X(mark.x), x2: X(mark.x), y1: top, y2: base, stroke: "var(--soft)", "stroke-dasharray": "3 3"}));
    if (mark.text) nodes.push(inside(X(mark.x), top - 4, mark.text, left, width - 2));
  }
  for (const line of series) nodes.push(...path(line, X, Y, Math.max(4, 10)));
  if (ends) nodes.push(...endLabels(series, X, Y, top, base, width - right));
  const under = ends ? {nodes: [], height: 0} : legend(series, left, height + SIZE, width - left);
  return figure(width, height + under.height, title, nodes, under.nodes);
};

const path = ({x, y, colour, dash, name, dots = x.length <= 24}, X, Y) => {
  const points = [...x].map((value, i) => [X(value), Y(y[i]), y[i]]).filter(([, , value]) => Number.isFinite(value));
  const d = points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
  return [svg("path", {d, fill: "none", stroke: colour, "stroke-width": 2.25, "stroke-linejoin": "round", "stroke-dasharray": dash}),
    ...(dots ? points : []).map(([px, py, value]) => svg("circle", {cx: px.toFixed(1), cy: py.toFixed(1), r: 2.6, fill: colour}, svg("title", {}, `${name}: ${number(value, 3)}`)))];
};

const axis = ({x, first, last, X, y, width, right, left}) => {
  const values = x.ticks ? x.ticks.map(([value]) => value) : ticks(first, last, Math.max(2, Math.round((width - left - right) / 90)));
  const texts = x.ticks ? x.ticks.map(([, text]) => text) : values.map((value) => tick(value, values));
  let free = -Infinity;
  return values.flatMap((value, i) => {
    const half = measure(texts[i]) / 2;
    const place = Math.min(Math.max(X(value), half), width - half);
    if (place - half < free) return [];
    free = place + half + 6;
    return [label(place, y, texts[i], {anchor: "middle"})];
  });
};

const endLabels = (series, X, Y, top, base, edge) => {
  const ends = series.map((line) => {
    const last = [...line.y].findLastIndex(Number.isFinite);
    return last < 0 ? [edge, base] : [X(line.x[last]), Y(line.y[last])];
  });
  const placed = spread(ends.map(([, py]) => py), top, base);
  return series.flatMap((line, i) => [
    svg("path", {d: `M${ends[i][0] + 3} ${ends[i][1]}L${edge + 9} ${placed[i]}`, stroke: line.colour, "stroke-width": 0.8, fill: "none", opacity: 0.7}),
    label(edge + 12, placed[i] + 4, line.name, {fill: "var(--ink)", weight: 600}),
  ]);
};

/**
 * Bars in groups, from a common zero.
 *
 * rows: [{name, strong, note, bars: [{value, colour, text, name}]}]. low, high: of the scale; low < 0 draws to both sides.
 */
export const bars = ({title, width, rows, low = 0, high = 1, thick = 11, gap = 9, names = null, texts = null}) => {
  const left = names ?? Math.max(...rows.map((r) => measure(r.name, 13, 650))) + 10;
  const right = texts ?? Math.max(...rows.flatMap((r) => r.bars.map((bar) => measure(bar.text)))) + 8;
  const room = Math.max(40, width - left - right); // where names and numbers leave less, the figure is wider
  const edge = left + room + right;
  const X = (value) => left + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * room;
  let y = 4;
  const nodes = rows.flatMap((r) => {
    const height = r.bars.length * (thick + 3);
    const made = [label(0, y + height / 2 + 3, r.name, {fill: "var(--ink)", size: 13, weight: r.strong ? 700 : null, token: r.token ?? null})];
    r.bars.forEach((bar, i) => {
      const top = y + i * (thick + 3);
      const [from, to] = [X(0), X(bar.value)].sort((a, b) => a - b);
      made.push(svg("rect", {x: X(low), y: top, width: X(high) - X(low), height: thick, rx: 2, fill: "var(--track)"}),
        svg("rect", {x: from, y: top, width: Math.max(1, to - from), height: thick, rx: 2, fill: bar.colour}, svg("title", {}, `${r.name}, ${bar.name}: ${bar.text}`)),
        label(edge, top + thick - 1.5, bar.text, {anchor: "end", fill: "var(--ink)", weight: r.strong ? 700 : null, class: "digits"}));
    });
    y += height + gap;
    return made;
  });
  if (low < 0) nodes.push(svg("line", {x1: X(0), x2: X(0), y1: 0, y2: y - gap, stroke: "var(--soft)"}));
  return figure(edge, Math.max(y - gap + 2, 4), title, nodes);
};

/** Figures in rows of so many columns, as one. */
export const grid = (title, figures, columns = 1, gap = 16) => {
  const kept = figures.filter(Boolean);
  const size = (inner, name) => Number(inner.getAttribute(name));
  let [y, widest] = [0, 0];
  for (let from = 0; from < kept.length; from += columns) {
    const line = kept.slice(from, from + columns);
    let x = 0;
    for (const inner of line) {
      inner.setAttribute("x", x);
      inner.setAttribute("y", y);
      if (inner.getAttribute("role") === "img") inner.removeAttribute("role");
      widest = Math.max(widest, x + size(inner, "width"));
      x += size(inner, "width") + gap;
    }
    y += Math.max(...line.map((inner) => size(inner, "height"))) + gap;
  }
  return figure(widest, Math.max(y - gap, 1), title, kept);
};

/** Figures below one another, as one. */
export const stack = (title, figures, gap = 14) => grid(title, figures, 1, gap);

/** Figures beside one another, as one. */
export const beside = (title, figures, gap = 18) => grid(title, figures, Math.max(1, figures.length), gap);

/** A heading over a figure, as one; it breaks into lines where it is too long. */
export const titled = (text, inner, {colour = "var(--ink)", width = Number(inner.getAttribute("width"))} = {}) => {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (lines.at(-1) && measure(longer, SIZE, 650) > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  const head = LINE * lines.length + 5;
  inner.setAttribute("y", head);
  if (inner.getAttribute("role") === "img") inner.removeAttribute("role");
  return figure(Math.max(width, Number(inner.getAttribute("width"))), Number(inner.getAttribute("height")) + head, text,
    lines.map((line, i) => label(0, 12 + i * LINE, line, {fill: colour, weight: 650})), inner);
};
