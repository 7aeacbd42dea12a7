// The pair editor: a cell of the world or of a view, an action, a reward-to-go; each change is an operation of a pairs file.

import {html, svg, replace, button, number, say} from "./dom.js";
import {cell, words, at, OBJECTS, COLOURS, STATES, DIRECTIONS} from "./tiles.js";
import {SIGNS} from "./timeline.js";

const TYPES = ["ball", "key", "box", "door", "goal", "lava", "wall", "floor"];
const FIXED = {goal: "green", lava: "red", wall: "grey"};
const TURNS = {right: "→", down: "↓", left: "←", up: "↑"};

const icon = (type, colour, state = 1) => svg("svg", {viewBox: "0 0 1 1", class: "icon", "aria-hidden": "true"},
  svg("rect", {width: 1, height: 1, fill: "var(--mg-seen)"}), cell(0, 0, [OBJECTS.indexOf(type), COLOURS.indexOf(FIXED[type] ?? colour), state]));

const isAt = (select, x, y) => Array.isArray(select?.position) && select.position[0] === x && select.position[1] === y;

export class Editor {
  constructor(app) {
    this.app = app;
    this.content = html("div", {class: "editor"});
    this.element = html("dialog", {class: "popover", click: (event) => event.target === this.element && this.element.close()}, this.content);
    document.body.append(this.element);
    this.element.addEventListener("close", () => this.#closed());
    this.colour = "green";
    this.moving = null;
  }

  // --- a cell of the world

  /** Edit a cell of the world at its start. */
  cell(x, y, board) {
    const {app} = this;
    if (!app.answer) return undefined;
    const {play} = app.answer;
    if (this.moving) return this.#moveTo(x, y);
    const side = play.edited ?? play.original;
    const there = at(side.grids, side.grid.data[0], x, y);
    const [ax, ay, direction] = side.agent.data;
    const type = OBJECTS[there[0]];
    const edge = x === 0 || y === 0 || x === play.width - 1 || y === play.height - 1;
    const agent = ax === x && ay === y;
    const made = app.scene.edits.find((edit) => edit.op === "add" && edit.at?.[0] === x && edit.at?.[1] === y);
    const select = {position: [x, y]};
    const parts = [];
    if (edge) parts.push(html("p", {}, "The outer wall must stay."));
    else if (agent) {
      parts.push(this.#group("Turn the agent", DIRECTIONS.map((name, i) => button(TURNS[name], () => this.#put({op: "turn", to: name}), {"aria-label": `face ${name}`, title: `face ${name}`, "aria-pressed": String(i === direction)}))),
        this.#group("", [button("Move the agent …", () => this.#move({role: "agent"}, [x, y], board))]));
    } else if (type === "empty") {
      parts.push(this.#things("Add", (kind) => this.#put({op: "add", type: kind, at: [x, y], ...(FIXED[kind] ? {} : {colour: this.colour}), ...(kind === "door" ? {state: "closed"} : {})})),
        this.#colours("of the colour", (colour) => { this.colour = colour; this.cell(x, y, board); }, this.colour),
        this.#group("", [button("Move the agent here", () => this.#put({op: "move", select: {role: "agent"}, to: [x, y]}))]));
    } else {
      const colour = COLOURS[there[1]];
      parts.push(this.#things("Change into", (kind) => this.#put(made ? {...made, type: kind} : {op: "set_type", select, to: kind}, made), type, colour));
      if (!FIXED[type]) parts.push(this.#colours("Colour", (to) => this.#put(made ? {...made, colour: to} : {op: "set_colour", select, to}, made), colour));
      if (type === "door") parts.push(this.#group("Door", STATES.map((state, i) => button(state, () => this.#put(made ? {...made, state} : {op: "set_state", select, to: state}, made), {"aria-pressed": String(i === there[2])}))));
      parts.push(this.#group("", [button("Remove", () => (made ? this.#drop((edit) => edit === made) : this.#put({op: "remove", select}))), button("Move …", () => this.#move(select, [x, y], board))]));
    }
    const back = app.scene.edits.filter((edit) => isAt(edit.select, x, y) || edit === made);
    if (back.length) parts.push(this.#group("", [button("Take back the edits of this cell", () => this.#drop((edit) => back.includes(edit)))]));
    const now = side.grid.data[play.cursor - 1] === side.grid.data[0] ? "" : " at the start of the episode, where edits are made";
    return this.#show(`Cell (${x}, ${y}): ${agent ? "the agent" : words(there)}${now}`, parts, board.box(x, y), board.root);
  }

  #move(select, from, board) {
    this.moving = {select, from, board};
    this.element.close();
    board.root.classList.add("moving");
    board.root.focus();
    board.at(...from);
    say("Choose the cell to move to, Enter or a click; Escape: not.");
    const stop = (event) => {
      if (event.key !== "Escape" || !this.moving) return;
      this.#moved();
      event.preventDefault();
      event.stopPropagation();
    };
    board.root.addEventListener("keydown", stop, {capture: true});
    this.moving.stop = stop;
  }

  #moved() {
    this.moving.board.root.classList.remove("moving");
    this.moving.board.root.removeEventListener("keydown", this.moving.stop, {capture: true});
    this.moving = null;
  }

  #moveTo(x, y) {
    const {select, from} = this.moving;
    this.#moved();
    if (x !== from[0] || y !== from[1]) this.#put({op: "move", select, to: [x, y]});
  }

  // --- a cell of the view, an action, a reward-to-go

  /** Edit what the agent is shown at the cursor: no world need ever show it. */
  seen(x, y, board) {
    const {play} = this.app.answer;
    const side = this.app.shown();
    const frame = play.cursor - 1;
    const there = at(side.views, side.view.data[frame], x, y);
    const put = (fields) => this.#put({op: "obs_set", frame, view: [x, y], ...fields, ood: true});
    const mine = this.app.scene.edits.filter((edit) => edit.op.startsWith("obs_") && edit.view?.[0] === x && edit.view?.[1] === y && (edit.frame === frame || (edit.frame === "first" && frame === 0)));
    return this.#show(`View of S${frame + 1}, cell (${x}, ${y}): ${words(there)}`, [
      html("p", {class: "warn"}, "! Out of distribution: the model is shown what no world may show. The world stays as it is."),
      this.#things("Show", (kind) => put({type: kind, ...(FIXED[kind] ? {} : {colour: this.colour}), ...(kind === "door" ? {state: "closed"} : {})}), OBJECTS[there[0]], this.colour),
      this.#colours("of the colour", (colour) => { this.colour = colour; this.seen(x, y, board); }, this.colour),
      this.#group("", [button("Nothing there", () => put({type: "empty"})), button("Not seen", () => put({type: "unseen"})),
        ...(mine.length ? [button("Take back", () => this.#drop((edit) => mine.includes(edit)))] : [])]),
    ], board.box(x, y), board.root);
  }

  /** Another action at a step (from 0): what is seen after it follows from it. */
  action(step, anchor) {
    const {app} = this;
    const {play} = app.answer;
    const mine = (edit) => edit.op === "set_action" && edit.step === step;
    const now = (play.edited ?? play.original).actions.data[step];
    return this.#show(`A${step + 1}: another action`, [
      html("p", {class: "soft"}, "The edited run takes it; the original stays."),
      this.#group("", app.about.actions.slice(0, play.n_actions).map((name, i) => button(`${SIGNS[name]?.length === 1 ? `${SIGNS[name]} ` : ""}${name}`, () => this.#put({op: "set_action", step, to: name}), {"aria-pressed": String(i === now)}))),
      app.scene.edits.some(mine) ? this.#group("", [button("Take back", () => this.#drop(mine))]) : null,
    ], box(anchor), anchor);
  }

  /** Another reward-to-go at a single step (from 0), or at all. */
  reward(step, anchor) {
    const {app} = this;
    const {play} = app.answer;
    const value = (play.edited ?? play.original).reward_to_go.data[step] ?? play.original.reward_to_go.data[step];
    const input = html("input", {type: "number", step: 0.05, "aria-label": "reward-to-go", value: Number(value.toFixed(3)), keydown: (event) => event.key === "Enter" && one()});
    const asked = () => (Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : 0);
    const one = () => this.#put({op: "set_rtg", value: asked(), scope: "index", index: step});
    const mine = (edit) => edit.op === "set_rtg";
    return this.#show(`R${step + 1}: another reward-to-go`, [
      html("p", {class: "soft"}, `The edited run is given it; the original is given ${number(play.original.reward_to_go.data[step], 3)}.`),
      this.#group("", [input, button("only here", one), button("at all steps", () => this.#put({op: "set_rtg", value: asked(), scope: "all"})),
        ...(app.scene.edits.some(mine) ? [button("Take back", () => this.#drop(mine))] : [])]),
    ], box(anchor), anchor);
  }

  // --- the operations

  /** Add an operation; an earlier one of the same kind on the same thing is replaced, `instead` too. */
  #put(operation, instead = null) {
    const key = ({op, select, at: where, view, frame, step, scope, index}) => JSON.stringify([op, select, where, view, frame, step, scope, index]);
    const others = this.app.scene.edits.filter((edit) => edit !== instead && key(edit) !== key(operation));
    this.element.close();
    this.app.edit([...others, operation], "edited");
  }

  #drop(which) {
    const edits = this.app.scene.edits.filter((edit) => !which(edit));
    this.element.close();
    this.app.edit(edits);
  }

  // --- the dialog

  #group(title, controls) { return html("div", {class: "editor-group", role: "group", "aria-label": title || null}, title ? html("span", {class: "soft"}, title) : null, html("div", {class: "buttons"}, controls)); }

  #things(title, choose, now = "", colour = this.colour) {
    return this.#group(title, TYPES.map((type) => html("button", {type: "button", class: "thing", "aria-label": type, title: type, "aria-pressed": String(type === now), click: () => choose(type)}, icon(type, colour), html("small", {}, type))));
  }

  #colours(title, choose, now) {
    return this.#group(title, COLOURS.map((colour) => html("button", {type: "button", class: "thing", "aria-label": colour, title: colour, "aria-pressed": String(colour === now), click: () => choose(colour)}, icon("ball", colour), html("small", {}, colour))));
  }

  #show(title, parts, {left, top, size}, opener) {
    this.opener = opener;
    this.byKey = opener.matches(":focus-visible");
    this.element.setAttribute("aria-label", title);
    replace(this.content, html("div", {class: "card-head"}, html("h2", {}, title), button("×", () => this.element.close(), {class: "tool", "aria-label": "close"})), parts);
    if (!this.element.open) this.element.showModal();
    const {offsetWidth, offsetHeight, style} = this.element;
    if (innerWidth > 760) {
      style.left = `${Math.max(8, Math.min(left + size + 8, innerWidth - offsetWidth - 8))}px`;
      style.top = `${Math.max(8, Math.min(top, innerHeight - offsetHeight - 8))}px`;
    } else style.left = style.top = "";
    this.content.querySelector(".editor-group button, .editor-group input")?.focus();
  }

  /** The focus goes back to what opened the dialog, or to the page if that was the mouse. */
  #closed() {
    if (!this.byKey) document.activeElement?.blur();
    else if (this.opener?.isConnected) this.opener.focus();
  }
}

const box = (anchor) => {
  const {left, bottom} = anchor.getBoundingClientRect();
  return {left, top: bottom + 6, size: 0};
};
