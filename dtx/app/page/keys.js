// All keys of the page, the list of them (?), and the search over panels, models and commands (/).

import {html, replace, button} from "./dom.js";

const TAKING = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";

/** Every command: the keys as the browser names them, how they are shown, what they do. */
export const commands = ({app, panels, header, find, help}) => [
  [["ArrowLeft"], "←", "turn left", () => app.act("l")],
  [["ArrowRight"], "→", "turn right", () => app.act("r")],
  [["ArrowUp"], "↑", "forward", () => app.act("f")],
  [["p"], "p", "pick up", () => app.act("p")],
  [["d"], "d", "drop", () => app.act("d")],
  [["t", " "], "t or space", "toggle (open a door)", () => app.act("t")],
  [["n"], "n", "done", () => app.act("n")],
  [["Enter"], "Enter", "the model's best action", () => app.best()],
  [["s"], "s", "an action sampled from the model", () => app.best({sampled: true})],
  [["Shift+Enter"], "Shift Enter", "let the model play to the end", () => app.toEnd()],
  [["u", "Backspace"], "u or ⌫", "undo", () => app.undo()],
  [["U"], "U", "redo", () => app.redo()],
  [["r"], "r", "restart the episode", () => app.restart()],
  [["["], "[", "cursor one state back", () => app.move(-1)],
  [["]"], "]", "cursor one state on", () => app.move(1)],
  [["{"], "{", "an earlier step of training", () => app.train(-1)],
  [["}"], "}", "a later step of training", () => app.train(1)],
  [[","], ",", "reward-to-go .05 lower", () => app.nudge(-0.05)],
  [["."], ".", "reward-to-go .05 higher", () => app.nudge(0.05)],
  [["<"], "<", "reward-to-go: lowest of the training data", () => app.extreme("lowest")],
  [[">"], ">", "reward-to-go: highest of the training data", () => app.extreme("highest")],
  [["i"], "i", "the first declared edit", () => app.declared(app.env()?.edits[0]?.name)],
  [["w"], "w", "the second declared edit", () => app.declared(app.env()?.edits[1]?.name)],
  [["c"], "c", "show the original or the edited run", () => app.command("shown")],
  [["g"], "g", "policy field over the world", () => app.command("field")],
  [["1", "2", "3", "4", "5", "6", "7", "8", "9"], "1 – 9", "open and go to a panel; again: close it", (key) => panels.press(Number(key))],
  [["f"], "f", "enlarge a panel, and back", () => panels.enlarge()],
  [["/"], "/", "find a panel, model, world or command", () => find.open()],
  [["?"], "?", "this list", () => help.open()],
  [[], "", "compare with another model", () => find.open("compare ")],
  [[], "", "copy as YAML", () => header.yaml()],
  [[], "", "copy the link", () => header.link()],
  [[], "", "save as one HTML file", () => header.save()],
  [[], "", "light or dark", () => header.theme()],
].map(([keys, shown, title, run]) => ({keys, shown, title, run}));

/** Listen to the keys. */
export const listen = (app, list) => {
  const byKey = new Map(list.flatMap((command) => command.keys.map((key) => [key, command])));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const {target} = event;
    const enlarged = target.closest?.("dialog.enlarged");
    if (event.key === "Escape" && target.matches?.(`${TAKING}, input`) && !target.closest("dialog")) return target.blur();
    if (target.matches?.(TAKING) || (target.closest?.("dialog") && !(enlarged && event.key === "f"))) return;
    if (target.matches?.("input[type=range]") && /^Arrow|^Home|^End|^Page/.test(event.key)) return;
    if (["Enter", " "].includes(event.key) && target.closest?.("button, summary, a, input")) return;
    const key = event.shiftKey && event.key === "Enter" ? "Shift+Enter" : event.key;
    const command = byKey.get(key);
    if (!command) return;
    event.preventDefault();
    app.run = null;
    command.run(event.key);
  });
  // After a press of the mouse the keys are the page's again, not the button's or the list's.
  let pressed = false;
  document.addEventListener("pointerdown", () => { pressed = true; app.run = null; }, true);
  document.addEventListener("keydown", () => { pressed = false; }, true);
  const leave = (event) => {
    const control = event.target.closest?.("button, select, input[type=range], input[type=checkbox]");
    if (pressed && control && !control.closest("dialog") && (event.type === "change" || control.tagName === "BUTTON")) control.blur();
  };
  document.addEventListener("click", leave);
  document.addEventListener("change", leave);
};

/** A dialog in the middle with a heading and a button that closes it. */
export const dialog = (title, ...content) => {
  const element = html("dialog", {class: "sheet", "aria-label": title, click: (event) => event.target === element && element.close()},
    html("div", {class: "sheet-inner"}, html("div", {class: "card-head"}, html("h2", {}, title), button("×", () => element.close(), {class: "tool", "aria-label": "close"})), ...content));
  document.body.append(element);
  return element;
};

/** The list of keys. */
export class Help {
  constructor() { this.element = null; }

  fill(list) {
    this.element = dialog("Keys", html("p", {class: "soft"}, "Every key has a button too. In the world, the view and every map the arrows walk the cells once it has the focus (Tab); Escape gives the arrows back to the agent."),
      html("dl", {class: "keys"}, list.filter((command) => command.shown).map(({shown, title}) => html("div", {}, html("dt", {}, html("kbd", {}, shown)), html("dd", {}, title)))),
      html("p", {class: "soft"}, html("b", {class: "original"}, "■ blue"), ": original run · ", html("b", {class: "edited"}, "■ amber"), ": edited run · tokens ",
        html("b", {class: "token R"}, "R reward-to-go"), " ", html("b", {class: "token S"}, "S state"), " ", html("b", {class: "token A"}, "A action")));
  }

  open() { this.element.showModal(); }
}

/** The search over everything that can be opened or done. */
export class Find {
  constructor(app, panels) {
    this.app = app;
    this.panels = panels;
    this.list = html("ul", {class: "found", role: "listbox", id: "found", "aria-label": "what was found"});
    this.input = html("input", {type: "text", class: "find", placeholder: "panel, model, world or command", role: "combobox", "aria-controls": "found", "aria-expanded": "true", "aria-label": "find",
      autocomplete: "off", spellcheck: "false", input: () => this.#fill(0), keydown: (event) => this.#key(event)});
    this.element = dialog("Find", this.input, this.list);
    this.commands = [];
  }

  open(text = "") {
    this.input.value = text;
    this.element.showModal();
    this.#fill(0);
    this.input.focus();
  }

  #items() {
    const {app, panels} = this;
    const models = app.about.models;
    return [
      ...app.about.panels.filter(({name}) => name !== "policy").map(({name, title, help}) => ({kind: "panel", text: title, more: help, run: () => panels.go(name)})),
      ...this.commands.filter((command) => command.keys[0] !== "1" && command.keys[0] !== "/").map(({shown, title, run, keys}) => ({kind: "command", text: title, more: shown, run: () => run(keys[0])})),
      ...(app.env()?.edits ?? []).map(({name, title}) => ({kind: "edit", text: title, more: "", run: () => app.declared(name)})),
      ...(app.env()?.worlds ?? []).map((world) => ({kind: "world", text: world, more: "", run: () => app.change({world, actions: "", cursor: null})})),
      ...models.filter((model) => !model.problem).map(({id, title}) => ({kind: "model", text: title, more: id, run: () => app.change({models: [id, ...app.scene.models.slice(1)]})})),
      ...models.filter((model) => !model.problem).map(({id, title}) => ({kind: "compare", text: title, more: id, run: () => app.compare(id)})),
    ];
  }

  #fill(chosen) {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.items = this.#items().filter(({kind, text, more}) => words.every((word) => `${kind} ${text} ${more}`.toLowerCase().includes(word))).slice(0, 60);
    this.chosen = Math.min(Math.max(chosen, 0), Math.max(this.items.length - 1, 0));
    replace(this.list, this.items.map(({kind, text, more}, i) => html("li", {role: "option", id: `found-${i}`, "aria-selected": String(i === this.chosen), click: () => this.#run(i)},
      html("span", {class: "kind"}, kind), html("span", {}, text), html("span", {class: "soft more"}, more))), this.items.length ? null : html("li", {class: "soft"}, "nothing found"));
    this.input.setAttribute("aria-activedescendant", `found-${this.chosen}`);
    this.list.children[this.chosen]?.scrollIntoView({block: "nearest"});
  }

  #key(event) {
    const by = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8}[event.key];
    if (by) this.#fill(this.chosen + by);
    else if (event.key === "Enter") this.#run(this.chosen);
    else return;
    event.preventDefault();
  }

  #run(i) {
    const item = this.items[i];
    if (!item) return;
    this.element.close();
    item.run();
  }
}
