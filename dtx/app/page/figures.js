// What all figures are made of: the root, texts, and how wide a text is.

import {svg} from "./dom.js";

export const SIZE = 12;
export const LINE = 15;
let ruler = null;

/** Width of a text in pixels as the page writes it. */
export const measure = (text, size = SIZE, weight = 400) => {
  ruler ??= new OffscreenCanvas(1, 1).getContext("2d");
  ruler.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  return Math.ceil(ruler.measureText(text).width) + 1;
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
