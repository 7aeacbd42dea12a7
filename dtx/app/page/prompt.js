// What stands in the world's place for a model that reads text: the prompt, the edited prompt, and their tokens in the timeline.

import {html, replace} from "./dom.js";

/** Whether an answer is of a model that reads text. */
export const reads = ({play}) => play.kind === "tokens";

export class Prompt {
  constructor(app) {
    this.app = app;
    this.boxes = Object.fromEntries([["text", "original"], ["edited_text", "edited"]].map(([field, side]) => [field,
      html("textarea", {rows: 4, spellcheck: "false", "aria-label": `${side} prompt`, class: side,
        input: (event) => app.change({[field]: event.target.value, cursor: null}, {drag: field})})]));
    this.note = html("p", {class: "soft"});
    this.root = html("section", {class: "card world prompt", hidden: true, "aria-label": "Prompt"}, html("h2", {}, "Prompt"),
      html("label", {}, html("b", {class: "original"}, "original"), this.boxes.text), html("label", {}, html("b", {class: "edited"}, "edited"), this.boxes.edited_text), this.note);
  }

  draw(answer) {
    this.root.hidden = !reads(answer);
    if (this.root.hidden) return;
    const {play} = answer;
    for (const [field, side] of [["text", "original"], ["edited_text", "edited"]]) {
      const box = this.boxes[field];
      const value = this.app.scene[field] || (field === "text" ? play[side]?.text ?? "" : "");
      if (document.activeElement !== box && box.value !== value) box.value = value;
    }
    this.note.classList.toggle("bad", Boolean(play.impossible));
    const tokens = play.original.tokens.length;
    this.note.textContent = play.impossible ? `✗ ${play.impossible}` : play.edited ? (play.changed.length ? `tokens that differ: ${play.changed.join(", ")}` : "no token differs")
      : `${tokens} tokens${play.n_ctx ? ` of at most ${play.n_ctx}` : ""}; a second prompt of as many makes a pair`;
  }
}

/** The tokens of each prompt as a line of buttons: press one to look at its state. */
export const strip = (app, {play}) => ["original", "edited"].filter((name) => play[name]).map((name) => html("div", {class: `line words ${name}`, "data-side": name},
  play[name].tokens.map((token, i) => {
    const differs = name === "edited" && play.original.strings[i] !== play.edited.strings[i];
    const here = i + 1 === play.cursor;
    return html("button", {type: "button", class: `token T${differs ? " differs" : ""}`, "data-token": token, "data-id": `${name}-${i}`, "aria-pressed": String(here), tabindex: here ? 0 : -1,
      "aria-label": `token ${token}, ${name}${differs ? ", differs from the original" : ""}`, click: () => app.change({cursor: i + 1 === play[name].tokens.length ? null : i + 1, ...(play.edited ? {shown: name} : {})})},
    differs ? "≠ " : "", play[name].strings[i].replaceAll("\n", "⏎").replaceAll(" ", "·"));
  })));

/** The control of which two actions (or tokens) are compared. */
export class Contrast {
  constructor(app) {
    this.app = app;
    this.selects = [0, 1].map((place) => html("select", {"aria-label": place ? "action whose logit is taken away" : "action whose logit is compared", "data-id": `contrast-${place}`, change: (event) => this.#choose(place, event.target.value)}));
    this.root = html("div", {class: "parameters contrast"}, html("span", {class: "soft"}, "compare"), this.selects[0], "−", this.selects[1]);
  }

  draw(answer) {
    const policy = this.app.results.policy?.list?.find((item) => item.data)?.data;
    const names = this.names = answer.scene.contrast ?? policy?.contrast ?? []; // of a text that names none: the likeliest two
    const known = policy?.actions ?? [];
    const all = [...new Set([...known.filter((name) => name !== "other tokens"), ...names])];
    const key = JSON.stringify([all, names]);
    if (key === this.key) return;
    this.key = key;
    this.selects.forEach((select, place) => {
      replace(select, all.map((name) => html("option", {value: name}, name.replaceAll(" ", answer.play.kind === "tokens" ? "·" : " "))));
      select.value = names[place] ?? "";
    });
  }

  #choose(place, name) {
    const now = [...this.names];
    if (now[1 - place] === name) now.reverse();
    else now[place] = name;
    this.app.change({contrast: now});
  }
}
