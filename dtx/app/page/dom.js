// Elements of HTML and SVG. Text becomes text nodes only, so nothing that a store holds is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

const filled = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
};

/** An HTML element. An attribute that is a function is a listener, named by its event; `style` is a mapping. */
export const html = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

/** An SVG element; see html. */
export const svg = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

/** Replace what an element holds; the focus stays on the element with the same data-id. */
export const replace = (root, ...children) => {
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
  root.replaceChildren(...children.flat(3).filter(Boolean));
  if (focused !== undefined) root.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({preventScroll: true});
};

/** A labelled button; `key` is its key, shown in the tooltip. */
export const button = (text, click, {key = "", ...attributes} = {}) =>
  html("button", {type: "button", click, title: key ? `key ${key}` : null, ...attributes}, text);

/** A number for people: three significant digits, a true minus sign. */
export const number = (value, digits = 2) => {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "undefined" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e5) ? value.toExponential(1) : value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
};

/** A model's title without what its group says already. */
export const brief = (title) => title.replace(/^Decision Transformer /, "DT ").replace(/^behaviour clone /, "clone ");

/** A colour of the style sheet, as CSS writes it. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Say something to people who do not see the page. */
export const say = (text) => {
  const region = document.getElementById("said");
  if (region && region.textContent !== text) region.textContent = text;
};
