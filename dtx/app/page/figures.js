// What all figures are made of: the root, texts, and how wide a text is.

import {svg} from "./dom.js";

export const SIZE = 12;
export const LINE = 15;
let ruler = null;
const widths = new Map();

/** Width of a text in pixels as the page writes it. */
export const measure = (text, size = SIZE, weight = 400) => {
  const key = `${weight} ${size} ${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    ruler ??= new OffscreenCanvas(1, 1).getContext("2d");
    ruler.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
    if (widths.size > 5000) widths.clear();
    widths.set(key, (width = Math.ceil(ruler.measureText(text).width) + 1));
  }
  return width;
};

/** The root of a figure; `title` is what it shows in words. */
export const figure = (width, height, title, ...children) =>
  svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title, class: "figure"}, ...children);

/** A text; `anchor` start, middle, end. */
export const label = (x, y, content, {anchor = "start", fill = "var(--soft)", size = SIZE, weight = null, token = null, ...more} = {}) =>
  svg("text", {x, y, "text-anchor": anchor, fill, "font-size": size, "font-weight": weight, "data-token": token, ...more}, content);

/** A text centred at x, moved so that it stays between low and high. */
export const inside = (x, y, text, low, high, more = {}) => {
  const half = measure(text, more.size ?? SIZE) / 2;
  return label(Math.max(low + half, Math.min(high - half, x)), y, text, {anchor: "middle", ...more});
};
