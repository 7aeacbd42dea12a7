// Pointing at a token anywhere marks it everywhere: elements with data-token, and maps, which have mark(tokens).

let pointed = new Set();

/** The tokens that are pointed at, by name. */
export const current = () => pointed;

/** Mark what was redrawn since. */
export const mark = (root = document) => {
  for (const element of root.querySelectorAll("[data-token]")) element.classList.toggle("pointed", pointed.has(element.dataset.token));
  for (const map of root.querySelectorAll(".map")) map.mark?.(pointed);
};

/** Point at a token, at several, or at none (null). */
export const point = (tokens) => {
  const next = new Set(tokens === null ? [] : [tokens].flat());
  if (next.size === pointed.size && [...next].every((token) => pointed.has(token))) return;
  pointed = next;
  mark();
};

/** Listen to the mouse and the focus on elements with data-token. */
export const watch = (root) => {
  const over = (event) => {
    const element = event.target.closest?.("[data-token]");
    if (element) point(element.dataset.token);
    else if (!event.target.closest?.(".map")) point(null);
  };
  root.addEventListener("pointerover", over);
  root.addEventListener("focusin", over);
  root.addEventListener("pointerleave", () => point(null));
};
