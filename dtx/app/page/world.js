// The world and the agent's view: drawn, walked cell by cell, its cells opened in the pair editor.

import {svg, html, replace, button, say} from "./dom.js";
import {reads} from "./prompt.js";
import {cell, agent, words, at, DIRECTIONS} from "./tiles.js";

const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

/** A field of cells that can be walked with the arrow keys once it has the focus; Enter or a click opens a cell. */
export class Board {
  constructor({name, open}) {
    this.name = name;
    this.open = open;
    this.here = null;
    this.root = svg("svg", {class: "board", role: "application", "aria-roledescription": "map", tabindex: 0, "data-id": `board-${name}`,
      keydown: (event) => this.#key(event), click: (event) => this.#click(event), blur: () => this.#mark(null), focus: () => this.#arrive()});
    this.content = svg("g");
    this.focus = svg("rect", {class: "board-focus", width: 1, height: 1, visibility: "hidden", "pointer-events": "none"});
    this.root.append(this.content, this.focus);
  }

  /** Draw anew: width, height, cells(x, y) -> [object, colour, state], seen(x, y), edited(x, y), about(x, y) -> words, agent, overlay, title. */
  draw(drawn) {
    this.drawn = drawn;
    const {width, height} = drawn;
    this.root.setAttribute("viewBox", `-.04 -.04 ${width + 0.08} ${height + 0.08}`);
    this.root.setAttribute("aria-label", `${drawn.title}, ${width} by ${height} cells. Arrow keys walk, Enter edits, Escape leaves.`);
    const nodes = [svg("rect", {x: 0, y: 0, width, height, fill: "var(--mg-floor)"})];
    const lit = [];
    const lines = [];
    const marks = [];
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        if (drawn.seen(x, y)) nodes.push(svg("rect", {x, y, width: 1, height: 1, fill: "var(--mg-seen)"}));
        nodes.push(...cell(x, y, drawn.cells(x, y)));
        if (drawn.seen(x, y) && drawn.light) lit.push(svg("rect", {x, y, width: 1, height: 1, class: "lit"}));
        if (drawn.edited(x, y)) marks.push(svg("path", {d: `M${x + 0.03} ${y + 0.03}h.94v.94h-.94ZM${x + 0.03} ${y + 0.03}h.34l-.34 .34Z`, class: "edit-mark"}));
      }
    }
    for (let x = 0; x <= width; x++) lines.push(`M${x} 0V${height}`);
    for (let y = 0; y <= height; y++) lines.push(`M0 ${y}H${width}`);
    this.content.replaceChildren(...nodes, ...lit, svg("path", {d: lines.join(""), stroke: "var(--mg-line)", "stroke-width": 0.025, fill: "none"}),
      ...(drawn.overlay ?? []), agent(...drawn.agent), ...marks);
  }

  /** Put the keyboard's mark on a cell and say what is there. */
  at(x, y) {
    this.#mark([x, y]);
    say(this.words(x, y));
  }

  /** What a cell shows, in words. */
  words(x, y) {
    const [ax, ay, direction] = this.drawn.agent;
    const here = ax === x && ay === y ? [`the agent, facing ${DIRECTIONS[direction]}`] : [];
    return [`column ${x}, row ${y}: ${words(this.drawn.cells(x, y))}`, ...here, ...this.drawn.about(x, y)].join("; ");
  }

  /** Where a cell is on the screen. */
  box(x, y) {
    const {left, top, width} = this.root.getBoundingClientRect();
    const unit = width / (this.drawn.width + 0.08);
    return {left: left + x * unit, top: top + y * unit, size: unit};
  }

  #arrive() {
    if (!this.drawn || !this.root.matches(":focus-visible")) return;
    const [x, y] = this.here ?? this.drawn.agent;
    this.at(x, y);
  }

  #mark(here) {
    if (here) {
      this.here = here;
      this.focus.setAttribute("x", here[0]);
      this.focus.setAttribute("y", here[1]);
    }
    this.focus.setAttribute("visibility", here ? "visible" : "hidden");
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.drawn) return;
    const step = STEPS[event.key];
    const [x, y] = this.here ?? this.drawn.agent;
    if (step) this.at(Math.min(Math.max(x + step[0], 0), this.drawn.width - 1), Math.min(Math.max(y + step[1], 0), this.drawn.height - 1));
    else if (event.key === "Enter" && !event.shiftKey) this.open(x, y, this);
    else if (event.key === "Escape") this.root.blur();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #click(event) {
    if (!this.drawn) return;
    const {left, top, width} = this.root.getBoundingClientRect();
    const unit = width / (this.drawn.width + 0.08);
    const [x, y] = [Math.floor((event.clientX - left) / unit), Math.floor((event.clientY - top) / unit)];
    if (x < 0 || y < 0 || x >= this.drawn.width || y >= this.drawn.height) return;
    this.here = [x, y];
    this.open(x, y, this);
  }
}

/** The pad of keys, for fingers and the mouse; actions that an environment lacks are not there. */
const PAD = [["l", "left", "↶", "←"], ["f", "forward", "↑", "↑"], ["r", "right", "↷", "→"],
  ["p", "pick up", "P", "p"], ["d", "drop", "D", "d"], ["t", "toggle", "T", "t"], ["n", "done", "N", "n"]];

/** The world of the side that is shown, the view of its agent, the edits, and the pad. */
export class World {
  constructor(app, editor) {
    this.app = app;
    this.board = new Board({name: "world", open: (x, y, board) => editor.cell(x, y, board)});
    this.view = new Board({name: "view", open: (x, y, board) => editor.seen(x, y, board)});
    this.title = html("h2", {id: "world-title"});
    this.side = html("button", {type: "button", class: "side", title: "key c", click: () => app.command("shown")});
    this.state = html("p", {class: "soft", id: "world-state"});
    this.edits = html("div", {class: "buttons", role: "group", "aria-label": "Edits"});
    this.made = html("ul", {class: "made", "aria-label": "Edits that are made"});
    this.distance = html("p", {class: "soft"});
    this.field = button("Policy field", () => app.command("field"), {key: "g", class: "toggle", "data-id": "field"});
    this.pad = html("div", {class: "pad", role: "group", "aria-label": "Actions"},
      ...PAD.map(([letter, name, sign, key]) => html("button", {type: "button", title: `${name}: key ${key}`, "aria-label": name, "data-letter": letter, click: () => app.act(letter)},
        html("span", {"aria-hidden": "true"}, sign), html("small", {}, name))),
      html("button", {type: "button", title: "what the model likes best: Enter", "aria-label": "best action of the model", click: () => app.best()}, html("span", {"aria-hidden": "true"}, "▶"), html("small", {}, "best")),
      html("button", {type: "button", title: "undo: u", "aria-label": "undo", click: () => app.undo()}, html("span", {"aria-hidden": "true"}, "↩"), html("small", {}, "undo")),
      html("button", {type: "button", title: "restart: r", "aria-label": "restart", click: () => app.restart()}, html("span", {"aria-hidden": "true"}, "↺"), html("small", {}, "restart")));
    this.root = html("section", {class: "card world", "aria-labelledby": "world-title"},
      html("div", {class: "card-head"}, this.title, this.side), this.board.root, this.pad, this.state, this.edits, this.made,
      html("h3", {}, "What the agent sees"), html("div", {class: "view"}, this.view.root, this.distance));
  }

  draw(answer) {
    const {app} = this;
    const {play} = answer;
    this.root.hidden = reads(answer);
    if (this.root.hidden) return;
    const name = play.edited && app.scene.shown === "edited" ? "edited" : "original";
    const side = play[name];
    const other = play.edited && play[name === "edited" ? "original" : "edited"];
    const step = Math.min(play.cursor, side.grid.shape[0]) - 1;
    const others = other ? Math.min(step, other.grid.shape[0] - 1) : -1;
    this.title.textContent = `World at S${step + 1}`;
    this.side.hidden = !play.edited;
    this.side.textContent = name;
    this.side.className = `side ${name}`;
    this.#board(play, side, other, step, others);
    this.#view(side, other, step, others);
    this.state.textContent = this.#state(side, step);
    this.#edits(answer);
    for (const key of this.pad.querySelectorAll("[data-letter]")) key.hidden = app.about.letters.indexOf(key.dataset.letter) >= play.n_actions;
    const unusual = side.unusual.data[step] ? "This view was edited: no world shows it (out of distribution). " : "";
    const near = side.distance ? `${side.distance.data[step] === 1 ? "1 cell differs" : `${side.distance.data[step]} cells differ`} from the nearest view in the training data` : "";
    const beside = near && other?.distance ? ` (${name === "edited" ? "original" : "edited"}: ${other.distance.data[others]})` : "";
    this.distance.textContent = unusual + near + beside;
    this.distance.classList.toggle("warn", Boolean(unusual));
  }

  #board(play, side, other, step, others) {
    const {width, height} = play;
    const grid = side.grid.data[step];
    const cells = (x, y) => at(side.grids, grid, x, y);
    const before = other && ((x, y) => at(other.grids, other.grid.data[others], x, y));
    const differs = (x, y) => Boolean(before) && cells(x, y).some((value, i) => value !== before(x, y)[i]);
    const seen = (x, y) => side.seen.data[(step * width + x) * height + y] === 1;
    const overlay = this.app.overlays(play);
    this.field.setAttribute("aria-pressed", String(overlay.length > 0));
    this.board.draw({width, height, cells, seen, light: true, edited: differs, title: "World", agent: [0, 1, 2].map((i) => side.agent.data[3 * step + i]), overlay,
      about: (x, y) => [...(seen(x, y) ? ["seen by the agent"] : []), ...(differs(x, y) ? [`edited: the other side has ${words(before(x, y))}`] : [])]});
  }

  #view(side, other, step, others) {
    const [, width, height] = side.views.shape;
    const cells = (x, y) => at(side.views, side.view.data[step], x, y);
    const before = other && ((x, y) => at(other.views, other.view.data[others], x, y));
    const differs = (x, y) => Boolean(before) && cells(x, y).some((value, i) => value !== before(x, y)[i]);
    this.view.draw({width, height, cells, seen: (x, y) => cells(x, y)[0] !== 0, light: false, edited: differs, title: "What the agent sees", agent: [Math.floor(width / 2), height - 1, 3],
      about: (x, y) => (differs(x, y) ? [`edited: the other side shows ${words(before(x, y))}`] : [])});
  }

  #state(side, step) {
    const carrying = [0, 1, 2].map((i) => side.carrying.data[3 * step + i]);
    const said = [];
    if (carrying[0] >= 0) said.push(`carries a ${words(carrying)}`);
    const over = {success: "✓ the episode ended with success", failure: "✗ the episode ended with failure", limit: "■ the episode reached its step limit"}[side.over];
    if (over && step === side.grid.shape[0] - 1) said.push(over);
    said.push("press a cell to edit it");
    return said.join(" · ");
  }

  #edits({play, messages}) {
    const {app} = this;
    const env = app.env();
    const declared = (env?.edits ?? []).map(({name, title, operations}, i) =>
      button(title, () => app.declared(name), {key: ["i", "w"][i] ?? "", class: "toggle edit", "aria-pressed": String(app.has(operations)), "data-id": `edit-${name}`}));
    replace(this.edits, declared, app.panelOf("policy_field") ? this.field : null);
    replace(this.made, app.scene.edits.map((edit, i) => html("li", {}, html("span", {}, phrase(edit)),
      button("×", () => app.edit(app.scene.edits.filter((_, j) => j !== i)), {"aria-label": `take back: ${phrase(edit)}`, "data-id": `made-${i}`}))),
    play.impossible ? html("li", {class: "bad", role: "alert"}, `✗ ${play.impossible}`) : null,
    play.edited && play.changed ? html("li", {class: "note"}, play.changed.length ? `tokens that differ: ${play.changed.join(" ")}` : "no token differs up to here", play.same_length ? "" : " · the edited run has another length") : null);
  }
}

/** An operation in words. */
export const phrase = ({op, ...fields}) => {
  const which = (select) => Object.entries(select ?? {}).map(([k, v]) => (k === "position" ? `at (${v})` : k === "role" ? String(v).replaceAll("_", " ") : v)).join(" ");
  const to = fields.to !== null && typeof fields.to === "object" && !Array.isArray(fields.to) ? Object.entries(fields.to).map(([a, b]) => `${a} → ${b}`).join(", ") : fields.to;
  const step = (value) => (typeof value === "number" ? value + 1 : value);
  switch (op) {
    case "set_type": case "set_colour": case "set_state": return `${which(fields.select)}: ${to}`;
    case "exchange": return `exchange ${which(fields.a)} and ${which(fields.b)}`;
    case "move": return `move ${which(fields.select)} to (${fields.to})`;
    case "remove": return `remove ${which(fields.select)}`;
    case "add": return `add ${fields.colour ?? ""} ${fields.type} at (${fields.at})`.replace("  ", " ");
    case "turn": return `agent faces ${fields.to}`;
    case "obs_add": case "obs_set": return `view of ${typeof fields.frame === "number" ? `S${fields.frame + 1}` : `the ${fields.frame} state`} shows ${fields.colour ?? ""} ${fields.type} at (${fields.view})`.replace("  ", " ");
    case "set_action": return `A${step(fields.step)}: ${to}`;
    case "set_rtg": return fields.scope === "index" ? `R${fields.index + 1}: ${fields.value}` : `reward-to-go ${fields.scope === "all" ? "everywhere" : `of the ${fields.scope} step`}: ${fields.value}`;
    default: return [op, ...Object.entries(fields).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`)].join(" ");
  }
};
