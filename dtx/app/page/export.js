// What a panel shows, as a file: SVG and PNG of the figure that is on the page, CSV of its table, JSON of its data.

import {colour} from "./dom.js";

const STYLES = ["fill", "stroke", "stroke-width", "opacity", "font-size", "font-weight", "font-family", "font-variant-numeric", "text-anchor", "stroke-dasharray"];

/** The SVG of a figure as it is drawn: colours written out, a background, the scene as its description. */
export const svgText = (figure, scene) => {
  const copy = figure.cloneNode(true);
  const live = [figure, ...figure.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const computed = getComputedStyle(live[i]);
    for (const name of element.tagName === "text" ? STYLES : STYLES.slice(0, 4)) {
      const value = computed.getPropertyValue(name);
      if (value && element.tagName !== "svg" && element.tagName !== "image") element.setAttribute(name, value);
    }
    for (const name of ["class", "tabindex", "data-token"]) element.removeAttribute(name);
  });
  for (const name of ["role", "aria-roledescription", "style"]) copy.removeAttribute(name);
  const box = figure.viewBox.baseVal;
  const made = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const ground = made("rect");
  for (const [name, value] of Object.entries({x: box.x, y: box.y, width: box.width, height: box.height, fill: colour("background")})) ground.setAttribute(name, value);
  const about = made("desc");
  about.textContent = `dtx explorer ${scene}`;
  copy.prepend(about, ground);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  return new XMLSerializer().serializeToString(copy);
};

/** A PNG (Blob) of an SVG's text, at twice its size. */
export const png = async (text, scale = 2) => {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.width * scale;
  canvas.height = image.height * scale;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  // Not toBlob: Chromium does that when it is idle, which may take seconds.
  const packed = atob(canvas.toDataURL("image/png").split(",")[1]);
  return new Blob([Uint8Array.from(packed, (letter) => letter.charCodeAt(0))], {type: "image/png"});
};

/** A table as CSV, with its scene in a first line that starts with #. */
export const csv = ({columns, rows}, scene) => {
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [`# dtx explorer ${scene}`, ...[columns, ...rows].map((line) => line.map(field).join(","))].join("\n") + "\n";
};

/** Data as JSON: arrays become nested lists. */
export const json = (value) => JSON.stringify(value, (_, item) => (item?.data?.buffer instanceof ArrayBuffer && Array.isArray(item.shape) ? nested(item) : item), 1);

const nested = ({shape, data}) => {
  const plain = [...data].map((value) => (Number.isFinite(value) ? value : null));
  return shape.slice(1).reduceRight((list, size) => Array.from({length: list.length / size || 0}, (_, i) => list.slice(i * size, (i + 1) * size)), plain);
};

/** Hand a file to the reader. */
export const save = (name, content, type) => {
  const blob = content instanceof Blob ? content : new Blob([content], {type});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
