// Labels of the page that are cut, leave their figure, or are too small; as texts.
() => {
  const cut = [];
  const name = (element) => `${element.tagName.toLowerCase()}.${element.className?.baseVal ?? element.className} in ${element.closest("[data-panel]")?.dataset.panel ?? element.closest("section, header, dialog")?.className}: ${element.textContent.trim().slice(0, 60)}`;
  for (const element of document.querySelectorAll("main *:not(svg *), dialog[open] *:not(svg *)")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || element.matches(".hidden, option, optgroup, textarea") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    if (style.display !== "inline" && style.overflowX !== "visible" && !["auto", "scroll"].includes(style.overflowX) && element.scrollWidth > element.clientWidth + 1) cut.push(`cut: ${name(element)}`);
    let box = element.parentElement;
    while (box && !["auto", "scroll"].includes(getComputedStyle(box).overflowX)) box = box.parentElement;
    const range = document.createRange();
    range.selectNodeContents(element);
    const {right, left} = range.getBoundingClientRect();
    if (!box && (right > innerWidth + 1 || left < -1)) cut.push(`outside the window: ${name(element)}`);
  }
  for (const figure of document.querySelectorAll("main svg.figure")) {
    if (figure.parentElement.closest("svg") || !figure.getClientRects().length) continue;
    const {left, right, top, bottom} = figure.getBoundingClientRect();
    const scale = (right - left) / (figure.viewBox.baseVal.width || 1);
    for (const text of figure.querySelectorAll("text")) {
      const box = text.getBBox();
      const matrix = text.getScreenCTM();
      const xs = [[box.x, box.y], [box.x + box.width, box.y], [box.x, box.y + box.height], [box.x + box.width, box.y + box.height]].map(([x, y]) => new DOMPoint(x, y).matrixTransform(matrix));
      if (!text.textContent.trim()) continue;
      if (Math.min(...xs.map((p) => p.x)) < left - 1.5 || Math.max(...xs.map((p) => p.x)) > right + 1.5) cut.push(`leaves its figure sideways by ${Math.max(left - Math.min(...xs.map((p) => p.x)), Math.max(...xs.map((p) => p.x)) - right).toFixed(1)}: ${name(text)}`);
      if (Math.min(...xs.map((p) => p.y)) < top - 3 || Math.max(...xs.map((p) => p.y)) > bottom + 4) cut.push(`leaves its figure upwards or downwards: ${name(text)}`);
      if (scale * parseFloat(getComputedStyle(text).fontSize) < 9) cut.push(`too small (${(scale * parseFloat(getComputedStyle(text).fontSize)).toFixed(1)} px): ${name(text)}`);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) cut.push(`the page scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`);
  return [...new Set(cut)];
}
