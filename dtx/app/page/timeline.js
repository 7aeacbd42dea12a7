// One timeline for everything: what the agent saw, the tokens by name, the cursor; the original over the edited run.

import {html, number, replace} from "./dom.js";
import {picture} from "./tiles.js";
import {digits} from "./scene.js";
import {mark} from "./pointing.js";
import {reads, strip} from "./prompt.js";

export const SIGNS = {left: "↶", right: "↷", forward: "↑", pickup: "pick", drop: "drop", toggle: "tog", done: "done"};
const SIDE = 58;

export class Timeline {
  constructor(app, editor) {
    this.app = app;
    this.editor = editor;
    this.columns = [];
    this.strip = html("div", {class: "strip"});
    this.heads = html("div", {class: "heads"}, ["original", "edited"].map((name) => html("button", {type: "button", class: `side ${name}`, "data-side": name, title: "key c", click: () => app.change({shown: name})}, name)));
    this.root = html("section", {class: "timeline card", "aria-label": "Timeline"}, this.heads, this.strip);
  }

  draw(answer) {
    const {app} = this;
    const {play} = answer;
    const sides = ["original", "edited"].filter((name) => play[name]);
    this.heads.hidden = sides.length < 2;
    for (const head of this.heads.children) head.setAttribute("aria-pressed", String(head.dataset.side === app.scene.shown));
    this.strip.classList.toggle("reading", reads(answer));
    if (reads(answer)) {
      this.columns = [];
      replace(this.strip, strip(app, answer));
      return mark(this.root);
    }
    if (!this.columns.length) this.strip.replaceChildren();
    const steps = Math.max(...sides.map((name) => play[name].grid.shape[0]));
    this.root.classList.toggle("pair", sides.length > 1);
    for (let i = 0; i < steps; i++) {
      const key = JSON.stringify([document.documentElement.dataset.colours, ...sides.map((name) => signature(play[name], i)), sides.length > 1 && this.#differing(play, i)]);
      let column = this.columns[i];
      if (column?.key !== key) {
        const focused = column?.element.contains(document.activeElement) ? document.activeElement.dataset.id : null;
        const element = html("div", {class: "step", role: "group", "aria-label": `step ${i + 1}`}, sides.map((name) => this.#side(play, name, i)));
        if (column) column.element.replaceWith(element);
        else this.strip.append(element);
        column = this.columns[i] = {key, element};
        if (focused) element.querySelector(`[data-id="${focused}"]`)?.focus();
      }
      const here = i + 1 === play.cursor;
      column.element.classList.toggle("here", here);
      for (const control of column.element.querySelectorAll("button")) {
        control.tabIndex = here ? 0 : -1;
        if (control.classList.contains("thumb")) control.setAttribute("aria-pressed", String(here));
      }
    }
    for (const {element} of this.columns.splice(steps)) element.remove();
    const column = this.columns[play.cursor - 1]?.element;
    if (column) {
      const [left, width, room] = [column.offsetLeft - this.strip.offsetLeft, column.offsetWidth, this.strip.clientWidth];
      if (left < this.strip.scrollLeft) this.strip.scrollLeft = left - width / 2;
      else if (left + width > this.strip.scrollLeft + room) this.strip.scrollLeft = left + 1.5 * width - room;
    }
    return mark(this.root);
  }

  #differing({original, edited}, i) {
    return {S: i < edited.view.shape[0] && !sameView(original, edited, i), R: i < edited.reward_to_go.shape[0] && original.reward_to_go.data[i] !== edited.reward_to_go.data[i],
      A: i < edited.actions.shape[0] && original.actions.data[i] !== edited.actions.data[i]};
  }

  #side(play, name, i) {
    const {app, editor} = this;
    const side = play[name];
    if (i >= side.view.shape[0]) return html("div", {class: `line ${name} ended`, "data-side": name}, html("span", {class: "soft"}, side.over ? `over: ${side.over}` : "–"));
    const differs = name === "edited" ? this.#differing(play, i) : {};
    const n = i + 1;
    const given = side.reward_to_go.data[i];
    const reward = Math.abs(given) < 1e-6 ? 0 : given; // float32 of what remains after the last reward
    const action = i < side.actions.shape[0] ? app.about.actions[side.actions.data[i]] : null;
    const token = (kind, text, about, click) => html("button", {type: "button", class: `token ${kind}${differs[kind] ? " differs" : ""}`, "data-token": `${kind}${n}`, "data-id": `${name}-${kind}${n}`, tabindex: -1,
      "aria-label": `${kind}${n} ${name}: ${about}${differs[kind] ? ", differs from the original" : ""}. Edit`, title: `${kind}${n}: ${about}`, click}, html("b", {}, `${kind}${n}`), ` ${text}`);
    const unusual = side.unusual.data[i];
    return html("div", {class: `line ${name}`, "data-side": name},
      html("button", {type: "button", class: `thumb${differs.S ? " differs" : ""}`, "data-token": `S${n}`, "data-id": `${name}-S${n}`, tabindex: -1, "aria-label": `S${n} ${name}${differs.S ? ", differs from the original" : ""}${unusual ? ", out of distribution" : ""}: look at this state`,
        click: () => app.change({cursor: n === app.length() ? null : n, ...(play.edited ? {shown: name} : {})})}, html("span", {class: "token S"}, html("b", {}, `S${n}`), differs.S ? html("span", {}, "≠") : null, unusual ? html("span", {class: "warn"}, "!") : null), picture(side.views, side.view.data[i], SIDE)),
      html("div", {class: "tokens"}, token("R", `${differs.R ? "≠ " : ""}${digits(Number(number(reward, 2).replace("−", "-")))}`, `reward-to-go ${number(reward, 3)}`, (event) => editor.reward(i, event.currentTarget)),
        action ? token("A", `${differs.A ? "≠ " : ""}${SIGNS[action] ?? action}`, action, (event) => editor.action(i, event.currentTarget)) : html("span", {class: "token none", "aria-hidden": "true"}, " ")));
  }
}

const viewBytes = (side, i) => {
  const size = side.views.data.length / side.views.shape[0];
  return side.views.data.subarray(side.view.data[i] * size, (side.view.data[i] + 1) * size);
};

const sameView = (a, b, i) => {
  const other = viewBytes(b, i);
  return viewBytes(a, i).every((value, j) => value === other[j]);
};

const signature = (side, i) => (i < side.view.shape[0]
  ? [String.fromCharCode(...viewBytes(side, i)), side.reward_to_go.data[i], i < side.actions.shape[0] ? side.actions.data[i] : -1, side.unusual.data[i]] : [side.over]);
