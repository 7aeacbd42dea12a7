// MiniGrid's objects on a cell of size one, after its own drawings, for SVG and for canvas.

import {svg, colour} from "./dom.js";

export const OBJECTS = ["unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent"];
export const COLOURS = ["red", "green", "blue", "purple", "yellow", "grey"];
export const STATES = ["open", "closed", "locked"];
export const DIRECTIONS = ["right", "down", "left", "up"];

const rect = (x0, x1, y0, y1) => `M${x0} ${y0}H${x1}V${y1}H${x0}Z`;
const disc = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
const wave = (y) => `M.1 ${y + 0.1}L.3 ${y}L.5 ${y + 0.1}L.7 ${y}L.9 ${y + 0.1}V${y + 0.17}L.7 ${y + 0.07}L.5 ${y + 0.17}L.3 ${y + 0.07}L.1 ${y + 0.17}Z`;
const WHOLE = rect(0, 1, 0, 1);
const AGENT = "M.12 .19L.87 .5L.12 .81Z";

/** Shapes of a cell: [path, colour of the style sheet, opacity], from the back to the front. */
const shapes = (object, hue, state) => {
  const c = `mg-${COLOURS[hue] ?? "grey"}`;
  switch (OBJECTS[object]) {
    case "unseen": return [[WHOLE, "mg-unseen", 1]];
    case "wall": return [[WHOLE, c, 1]];
    case "floor": return [[WHOLE, c, 0.5]];
    case "goal": return [[WHOLE, c, 1]];
    case "lava": return [[WHOLE, "mg-lava", 1], ...[0.22, 0.42, 0.62].map((y) => [wave(y), "mg-floor", 1])];
    case "ball": return [[disc(0.5, 0.5, 0.31), c, 1]];
    case "box": return [[rect(0.12, 0.88, 0.12, 0.88) + rect(0.18, 0.82, 0.18, 0.82), c, 1], [rect(0.18, 0.82, 0.47, 0.53), c, 1]];
    case "key": return [[disc(0.56, 0.28, 0.19) + disc(0.56, 0.28, 0.064), c, 1],
      [rect(0.5, 0.63, 0.45, 0.88), c, 1], [rect(0.38, 0.5, 0.59, 0.66), c, 1], [rect(0.38, 0.5, 0.81, 0.88), c, 1]];
    case "door":
      if (state === 0) return [[rect(0.88, 1, 0, 1) + rect(0.92, 0.96, 0.04, 0.96), c, 1]];
      if (state === 2) return [[WHOLE, c, 0.45], [WHOLE + rect(0.06, 0.94, 0.06, 0.94), c, 1], [rect(0.52, 0.75, 0.5, 0.56), c, 1]];
      return [[WHOLE + rect(0.04, 0.96, 0.04, 0.96), c, 1], [rect(0.08, 0.92, 0.08, 0.92) + rect(0.12, 0.88, 0.12, 0.88), c, 1], [disc(0.75, 0.5, 0.08), c, 1]];
    case "agent": return [[AGENT, "mg-agent", 1]];
    default: return [];
  }
};

/** SVG elements of one cell at a column and row; each cell is one unit wide. */
export const cell = (x, y, [object, hue, state]) => shapes(object, hue, state).map(([d, fill, opacity]) =>
  svg("path", {d, fill: `var(--${fill})`, opacity: opacity < 1 ? opacity : null, "fill-rule": "evenodd", transform: `translate(${x} ${y})`}));

/** SVG of the agent, turned to a direction (0 right, 1 down, 2 left, 3 up). */
export const agent = (x, y, direction) =>
  svg("path", {d: AGENT, fill: "var(--mg-agent)", stroke: "var(--mg-floor)", "stroke-width": 0.03, transform: `translate(${x} ${y}) rotate(${90 * direction} .5 .5)`});

/** What a cell shows, in words: "yellow door, locked". */
export const words = ([object, hue, state]) => {
  const name = OBJECTS[object] ?? `object ${object}`;
  if (["unseen", "empty", "agent", "lava"].includes(name)) return name === "unseen" ? "not seen" : name;
  if (name === "wall" && COLOURS[hue] === "grey") return "wall";
  return `${COLOURS[hue] ?? `colour ${hue}`} ${name}${name === "door" ? `, ${STATES[state] ?? state}` : ""}`;
};

/** The entry of an array of cells (..., w, h, 3) at an index, column and row. */
export const at = ({shape, data}, index, x, y) => {
  const from = ((index * shape[1] + x) * shape[2] + y) * 3;
  return [data[from], data[from + 1], data[from + 2]];
};

const pictures = new Map();

/** A picture of one view (7x7, agent below in the middle), side in CSS pixels; the same view is drawn once. */
export const picture = (views, index, side) => {
  const [, width, height] = views.shape;
  const size = width * height * 3;
  const bytes = views.data.subarray(index * size, (index + 1) * size);
  const scale = Math.max(1, Math.round(Math.min(devicePixelRatio, 2) * side));
  const key = `${document.documentElement.dataset.colours}/${scale}/${String.fromCharCode(...bytes)}`;
  let drawn = pictures.get(key);
  if (!drawn) {
    drawn = new OffscreenCanvas(scale, scale);
    paint(drawn.getContext("2d"), views, index, scale / width);
    if (pictures.size > 600) pictures.clear();
    pictures.set(key, drawn);
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = scale;
  canvas.style.width = canvas.style.height = `${side}px`;
  canvas.getContext("2d").drawImage(drawn, 0, 0);
  canvas.setAttribute("aria-hidden", "true");
  return canvas;
};

const paint = (context, views, index, unit) => {
  const [, width, height] = views.shape;
  const fills = {};
  const fill = (name) => (fills[name] ??= colour(name));
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      context.setTransform(unit, 0, 0, unit, x * unit, y * unit);
      const [object, hue, state] = at(views, index, x, y);
      context.globalAlpha = 1;
      context.fillStyle = fill(object === 0 ? "mg-unseen" : "mg-seen");
      context.fillRect(0, 0, 1, 1);
      for (const [d, name, opacity] of shapes(object, hue, state)) {
        context.globalAlpha = opacity;
        context.fillStyle = fill(name);
        context.fill(new Path2D(d), "evenodd");
      }
      if (unit > 4) {
        context.globalAlpha = 1;
        context.fillStyle = fill("mg-line");
        context.fillRect(0, 0, 1, 1 / unit);
        context.fillRect(0, 0, 1 / unit, 1);
      }
    }
  }
  context.setTransform(unit, 0, 0, unit, Math.floor(width / 2) * unit, (height - 1) * unit);
  context.translate(0.5, 0.5);
  context.rotate(-Math.PI / 2);
  context.translate(-0.5, -0.5);
  context.globalAlpha = 1;
  context.fillStyle = fill("mg-agent");
  context.fill(new Path2D(AGENT));
};
