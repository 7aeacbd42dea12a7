// Heat maps as one <image> in an SVG: walked with the mouse or cell by cell with the keyboard, and exported with it.

import {svg, html, number, say, colour} from "./dom.js";
import {point, current} from "./pointing.js";
import {figure, label, measure} from "./figures.js";

const STOPS = {
  original: ["background", "seq-original-1", "seq-original-2"],
  edited: ["background", "seq-edited-1", "seq-edited-2"],
  signed: ["negative-2", "negative-1", "background", "positive-1", "positive-2"],
};
const ramps = new Map();

const rgb = (name) => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  context.fillStyle = colour(name);
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
};

/** 256 colours (Uint32 of RGBA) of a scale: original, edited (0 = background), signed (0 in the middle). */
export const ramp = (kind) => {
  const key = `${document.documentElement.dataset.colours}/${kind}`;
  if (ramps.has(key)) return ramps.get(key);
  const stops = STOPS[kind].map(rgb);
  const made = new Uint32Array(256);
  const bytes = new Uint8ClampedArray(made.buffer);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const before = Math.min(Math.floor(at), stops.length - 2);
    for (let c = 0; c < 3; c++) bytes[4 * i + c] = stops[before][c] + (at - before) * (stops[before + 1][c] - stops[before][c]);
    bytes[4 * i + 3] = 255;
  }
  ramps.set(key, made);
  return made;
};

/** Place of a value on a scale, 0..1. */
export const share = (value, low, high) => Math.min(1, Math.max(0, (value - low) / (high - low || 1)));

/** A colour scale with its numbers: {nodes, width, height}. */
export const legend = (kind, low, high, x, y, {width = 120, unit = ""} = {}) => {
  const canvas = html("canvas", {width: 256, height: 1});
  const context = canvas.getContext("2d");
  const data = context.createImageData(256, 1);
  new Uint32Array(data.data.buffer).set(ramp(kind));
  context.putImageData(data, 0, 0);
  const [from, to] = [number(low), `${number(high)}${unit ? ` ${unit}` : ""}`];
  const left = x + measure(from) + 6;
  const nodes = [label(x, y + 9, from),
    svg("image", {href: canvas.toDataURL(), x: left, y, width, height: 10, preserveAspectRatio: "none"}),
    svg("rect", {x: left, y, width, height: 10, fill: "none", stroke: "var(--line)"}),
    ...(kind === "signed" ? [svg("line", {x1: left + width / 2, x2: left + width / 2, y1: y - 2, y2: y + 12, stroke: "var(--soft)"})] : []),
    label(left + width + 6, y + 9, to)];
  return {nodes, width: left + width + 6 + measure(to) - x, height: 16};
};

/**
 * One or several maps on one scale.
 *
 * blocks: [{title, values: numbers of (r, c), row by row}]; rows, columns: names (tokens are marked when pointed at).
 * kind: original | edited | signed. low, high: of the scale. across: blocks in a row. axes: whether names are written
 * at the edges (for a single map). tokens: which axes are tokens, any of "rows", "columns". tell(block, r, c): what a cell shows, in words.
 * chosen: a cell was pressed. unit: what the numbers are.
 * below: {height, draw(block, x, y, width) -> elements}, a strip under each block.
 */
export const maps = ({title, width, blocks, rows, columns, kind = "original", low = 0, high = 1, across = blocks.length,
  axes = false, tokens = ["rows", "columns"], tell = null, chosen = null, moved = null, unit = "", most = 30, square = false, below = null}) => {
  const many = Math.ceil(blocks.length / across);
  const head = blocks.some((block) => block.title) ? 15 : 0;
  const left = axes ? Math.max(...rows.map((name) => measure(name))) + 6 : 0;
  // Gaps are whole cells, so that all blocks are one image of a pixel a cell.
  const between = across > 1 ? Math.max(1, Math.round((8 * across * columns.length) / Math.max(1, width - left))) : 0;
  const size = Math.max(1, Math.min(most, (width - left) / (across * columns.length + (across - 1) * between)));
  const tall = square || blocks.length > 1 ? size : Math.max(size, 15);
  const [blockWidth, blockHeight] = [size * columns.length, tall * rows.length];
  const under = many > 1 ? Math.ceil((head + 8 + (below?.height ?? 0)) / tall) : 0;
  const step = (rows.length + under) * tall;
  const turned = axes && columns.some((name) => measure(name) + 4 > size);
  const top = axes ? (turned ? Math.max(...columns.map((name) => measure(name))) + 6 : 16) : 0;
  const origin = (index) => [left + (index % across) * (columns.length + between) * size, top + head + Math.floor(index / across) * step];
  const [wide, deep] = [across * (columns.length + between) - between, many * (rows.length + under) - under];
  const whole = left + wide * size;
  const bottom = top + head + deep * tall + (below?.height ?? 0);
  const marks = svg("g", {"pointer-events": "none"});
  const scale = legend(kind, low, high, left, bottom + 6, {width: Math.min(120, whole / 3), unit});
  const root = figure(Math.max(whole, left + scale.width), bottom + 26, title,
    blocks.map((block, i) => {
      const [x, y] = origin(i);
      return [svg("rect", {x: x - 0.5, y: y - 0.5, width: blockWidth + 1, height: blockHeight + 1, fill: "var(--background)", stroke: "var(--line)"}),
        block.title ? label(x, y - 4, block.title, {size: 11}) : null,
        below ? below.draw(i, x, y + blockHeight + 2, blockWidth) : null];
    }),
    svg("image", {href: image(blocks, rows.length, columns.length, {across, between, under, wide, deep, kind, low, high}), x: left, y: top + head, width: wide * size, height: deep * tall, preserveAspectRatio: "none", "image-rendering": "pixelated"}),
    axes ? names(rows, columns, {left, top: top + head, size, tall, turned, tokens}) : null, marks, scale.nodes);
  root.classList.add("map");
  root.setAttribute("role", "application");
  root.setAttribute("aria-roledescription", "map");
  root.setAttribute("tabindex", "0");
  root.setAttribute("aria-label", `${title}. Arrow keys walk its cells.`);

  let here = null;
  const box = (block, r, c) => {
    const [x, y] = origin(block);
    return svg("rect", {x: x + c * size, y: y + r * tall, width: size, height: tall, class: "cell-mark"});
  };
  root.mark = (names) => {
    const found = [];
    if (names.size) for (let i = 0; i < blocks.length; i++) {
      const [x, y] = origin(i);
      if (tokens.includes("rows")) rows.forEach((name, r) => names.has(name) && found.push(svg("rect", {x, y: y + r * tall, width: blockWidth, height: tall, class: "token-mark"})));
      if (tokens.includes("columns")) columns.forEach((name, c) => names.has(name) && found.push(svg("rect", {x: x + c * size, y, width: size, height: blockHeight, class: "token-mark"})));
    }
    marks.replaceChildren(...found, ...(here ? [box(...here)] : []));
  };
  const go = (block, r, c, aloud) => {
    here = [block, r, c];
    const value = blocks[block].values[r * columns.length + c];
    const text = tell ? tell(block, r, c, value) : `${blocks[block].title ?? ""} ${rows[r]}, ${columns[c]}: ${number(value, 3)}`.trim();
    const names = [...(tokens.includes("rows") ? [rows[r]] : []), ...(tokens.includes("columns") ? [columns[c]] : [])];
    if (names.length) point(names);
    root.mark(current());
    moved?.(block, r, c, text);
    if (aloud) say(text);
  };
  root.addEventListener("pointermove", (event) => {
    const found = hit(event, root, blocks.length, origin, size, tall, rows.length, columns.length);
    if (found) go(...found, false);
  });
  root.addEventListener("pointerleave", () => { here = null; point(null); root.mark(current()); });
  root.addEventListener("click", () => here && chosen?.(...here));
  root.addEventListener("blur", () => { here = null; root.mark(current()); });
  root.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (step && !event.ctrlKey && !event.metaKey && !event.altKey) go(...walk(here, step, blocks.length, across, rows.length, columns.length), true);
    else if (event.key === "Enter" && here && chosen) chosen(...here);
    else if (event.key === "Escape" && !root.closest("dialog")) root.blur();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return root;
};

const hit = (event, root, count, origin, size, tall, rows, columns) => {
  const matrix = root.getScreenCTM()?.inverse();
  if (!matrix) return null;
  const {x, y} = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
  for (let i = 0; i < count; i++) {
    const [left, top] = origin(i);
    const [c, r] = [Math.floor((x - left) / size), Math.floor((y - top) / tall)];
    if (c >= 0 && c < columns && r >= 0 && r < rows) return [i, r, c];
  }
  return null;
};

/** The cell after a step of an arrow key; from a block's edge into the next block. */
const walk = (here, [down, right], count, across, rows, columns) => {
  if (!here) return [0, 0, 0];
  let [block, r, c] = here;
  [r, c] = [r + down, c + right];
  const to = block + (c < 0 ? -1 : c >= columns ? 1 : 0) + (r < 0 ? -across : r >= rows ? across : 0);
  const inside = r >= 0 && r < rows && c >= 0 && c < columns;
  if (!inside && (to < 0 || to >= count)) return here;
  return [inside ? block : to, (r + rows) % rows, (c + columns) % columns];
};

/** Names at the edges; where cells are narrower than a text is high, every second, third ... of them. */
const names = (rows, columns, {left, top, size, tall, turned, tokens}) => [
  ...rows.flatMap((name, r) => (r % Math.ceil(13 / tall) ? [] : label(left - 5, top + r * tall + tall / 2 + 4, name, {anchor: "end", token: tokens.includes("rows") ? name : null}))),
  ...columns.flatMap((name, c) => {
    if (turned && c % Math.ceil(13 / size)) return [];
    const x = left + (c + 0.5) * size;
    const token = tokens.includes("columns") ? name : null;
    return turned ? label(x + 4, top - 4, name, {transform: `rotate(-90 ${x + 4} ${top - 4})`, token}) : label(x, top - 4, name, {anchor: "middle", token});
  })];

/** All blocks as one picture, a pixel a cell; between them it is transparent. */
const image = (blocks, rows, columns, {across, between, under, wide, deep, kind, low, high}) => {
  const canvas = html("canvas", {width: wide, height: deep});
  const context = canvas.getContext("2d");
  const data = context.createImageData(wide, deep);
  const pixels = new Uint32Array(data.data.buffer);
  const colours = ramp(kind);
  blocks.forEach(({values}, block) => {
    const from = Math.floor(block / across) * (rows + under) * wide + (block % across) * (columns + between);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const value = values[r * columns + c];
        pixels[from + r * wide + c] = Number.isNaN(value) ? 0 : colours[Math.round(255 * share(value, low, high))];
      }
    }
  });
  context.putImageData(data, 0, 0);
  return canvas.toDataURL();
};
