// The frame around a panel: title, key, what it shows, its check, control, source, parameters, table, files, enlarge.

import {html, svg, replace, button, number, brief, say} from "./dom.js";
import * as charts from "./charts.js";
import {point, current, mark} from "./pointing.js";
import {picture} from "./tiles.js";
import {address} from "./scene.js";
import {svgText, png, csv, json, save} from "./export.js";

/** What a panel's JS gets beside its data. */
export const look = (app, name, width, play) => ({
  charts, html, svg, number, point, picture, width, play,
  scene: app.scene, about: app.about, models: (app.answer?.models ?? []).map((model) => ({...model, title: `${brief(model.title ?? model.id)}${model.step === null || model.step === undefined ? "" : ` @${model.step}`}`})), pointed: current(),
  theme: document.documentElement.dataset.colours,
  contrast: app.answer?.scene.contrast ?? [], shown: app.scene.shown, reward_to_go: app.reward(),
  parameters: {...Object.fromEntries((app.panelOf(name)?.parameters ?? []).map((p) => [p.name, p.default])), ...app.panels().find((p) => p.name === name)?.parameters},
  set: (parameter, value) => app.parameter(name, parameter, value),
});

export class Panel {
  constructor(app, info, key) {
    this.app = app;
    this.info = info;
    this.key = key;
    this.tabled = false;
    const {name, title, size} = info;
    const tool = (text, label, click, more = {}) => button(text, click, {class: "tool", "aria-label": `${label}: ${title}`, title: label, "data-id": `${name}-${label}`, ...more});
    this.table = tool("table", "as table", () => this.#table(), {"aria-pressed": "false"});
    this.files = html("details", {class: "menu", keydown: (event) => event.key === "Escape" && (this.files.open = false)}, html("summary", {class: "tool", "aria-label": `files: ${title}`, "data-id": `${name}-files`}, "save"),
      html("div", {class: "menu-list"}, ["SVG", "PNG", "CSV", "JSON"].map((kind) => button(kind, () => this.file(kind), {class: "tool", "aria-label": `${kind} of ${title}`}))));
    this.tools = html("div", {class: "tools"}, this.table, this.files, tool("⤢", "enlarge (f)", () => this.enlarge()), name === "policy" ? null : tool("×", "close", () => app.toggle(name, false)));
    this.heading = html("h2", {id: `panel-${name}`}, title, key ? html("kbd", {}, key) : null);
    this.parameters = html("div", {class: "parameters"});
    this.verdict = html("p", {class: "verdict", hidden: true});
    this.body = html("div", {class: "body"});
    this.progress = html("progress", {max: 1, hidden: true, "aria-label": `progress of ${title}`});
    this.root = html("section", {class: `card panel ${size}`, tabindex: -1, "data-panel": name, "aria-labelledby": `panel-${name}`},
      html("div", {class: "card-head"}, this.heading, this.tools), html("p", {class: "help"}, info.help), this.parameters, this.progress, this.verdict, this.body, this.#about());
    this.size = new ResizeObserver(() => this.#resized());
    this.size.observe(this.body);
  }

  #about() {
    const {control, source, doc} = this.info;
    return html("details", {class: "about"}, html("summary", {}, "control and source"), html("p", {}, html("b", {}, "Control. "), control),
      html("p", {}, html("b", {}, "Source. "), html("code", {}, source), " · ", html("span", {}, `docs/${doc}`)));
  }

  /** Draw with the newest result. */
  draw() {
    const {app, info} = this;
    const result = app.results[info.name];
    this.#controls();
    this.stale = !result || (info.when === "once" ? result.once !== app.models(info.name) : result.asked !== address(app.scene));
    this.root.classList.toggle("stale", this.stale && info.when !== "key");
    const share = result?.share ?? 0;
    this.progress.hidden = info.when !== "long" || !(result ? share < 1 || this.stale : true);
    if (!this.progress.hidden) {
      if (this.stale || !result) this.progress.removeAttribute("value");
      else this.progress.value = share;
    }
    if (!result) return replace(this.body, html("p", {class: "soft"}, info.when === "key" ? "…" : "is computed …"));
    this.list = result.list;
    this.width = this.body.clientWidth;
    if (!this.width) return null;
    return this.#content();
  }

  #content() {
    const {app, info, list} = this;
    const usable = list.filter((item) => item.data);
    const trouble = list.map((item, i) => [item, brief(app.answer.models[i]?.title ?? `model ${i + 1}`)]).filter(([item]) => !item.data && !item.waits);
    const notes = trouble.map(([item, title]) => html("p", {class: "note"}, list.length > 1 ? `${title}: ` : "", item.needs ? `Needs ${item.error}.` : item.error ?? "nothing to show"));
    const failed = usable.map(({data}) => data.check).filter((check) => check && !check.holds);
    const checks = usable.map(({data}) => data.check).filter(Boolean);
    this.verdict.hidden = !checks.length;
    this.verdict.className = failed.length ? "verdict bad" : "verdict good";
    const worst = failed[0] ?? checks.sort((a, b) => b.error - a.error)[0];
    if (worst) this.verdict.textContent = `${failed.length ? "✗ not established: " : "✓ "}${worst.name} (error ${number(worst.error)}${failed.length ? ">" : " ≤"} ${number(worst.tolerance)})`.replace(")>", ") >");
    this.body.classList.toggle("unestablished", failed.length > 0);
    this.unusable = !usable.length;
    if (this.unusable) return replace(this.body, notes);
    const see = look(app, info.name, this.width, app.answer.play);
    const holder = html("div", {class: "drawn"});
    try {
      if (this.tabled) holder.append(tableOf(app.modules[info.name].table(list, see), info.title));
      else app.modules[info.name].draw(holder, list, see);
    } catch (problem) {
      console.error(problem);
      replace(holder, html("p", {class: "bad"}, `This panel failed: ${problem.message}`));
    }
    const focused = this.body.querySelector(".map:focus") ? [...this.body.querySelectorAll(".map")].indexOf(document.activeElement) : -1;
    replace(this.body, holder, notes);
    if (focused >= 0) this.body.querySelectorAll(".map")[focused]?.focus({preventScroll: true});
    return mark(this.body);
  }

  #controls() {
    const {app, info} = this;
    const now = look(app, info.name, 0, null).parameters;
    const key = JSON.stringify(now);
    if (key === this.shownParameters) return;
    this.shownParameters = key;
    replace(this.parameters, info.parameters.map((parameter) => {
      const {name, kind, help} = parameter;
      const text = name.replaceAll("_", " ");
      const set = (value, options) => app.parameter(info.name, name, value, options);
      const more = {"data-id": `${info.name}-${name}`, title: help};
      if (kind === "flag") return html("label", {title: help}, html("input", {type: "checkbox", ...more, checked: now[name], change: (event) => set(event.target.checked)}), ` ${text}`);
      if (kind === "choice") return html("label", {title: help}, `${text} `, html("select", {...more, change: (event) => set(event.target.value)},
        parameter.choices.map((choice) => html("option", {value: choice, selected: choice === now[name]}, choice.replaceAll("_", " ")))));
      if (kind === "text") return html("label", {title: help}, `${text} `, html("input", {type: "text", ...more, value: now[name], change: (event) => set(event.target.value)}));
      const {low, high} = parameter;
      const whole = Number.isInteger(parameter.default) && Number.isInteger(low) && Number.isInteger(high) && high - low > 2;
      const out = html("output", {}, String(now[name]));
      return html("label", {title: help}, `${text} `, html("input", {type: "range", ...more, min: low, max: high, step: whole ? 1 : (high - low) / 200, value: now[name],
        input: (event) => { out.textContent = event.target.value; set(Number(event.target.value), {drag: `${info.name}.${name}`}); }}), " ", out);
    }));
  }

  #table() {
    this.tabled = !this.tabled;
    this.table.setAttribute("aria-pressed", String(this.tabled));
    this.draw();
  }

  #resized() {
    if (this.list && Math.abs(this.body.clientWidth - this.width) > 2) requestAnimationFrame(() => this.draw());
  }

  /** Show the panel on the whole page, and back. */
  enlarge() {
    if (this.root.parentElement?.tagName === "DIALOG") return this.root.parentElement.close();
    const place = document.createComment("");
    this.root.replaceWith(place);
    const dialog = html("dialog", {class: "enlarged", "aria-label": this.info.title, close: () => {
      place.replaceWith(this.root);
      dialog.remove();
      this.draw();
      this.root.focus();
    }}, this.root);
    document.body.append(dialog);
    dialog.showModal();
    return this.draw();
  }

  /** Save what is drawn as a file: SVG, PNG, CSV, JSON. */
  async file(kind) {
    const {app, info} = this;
    this.files.open = false;
    const scene = address(app.scene);
    const see = look(app, info.name, this.width, app.answer.play);
    const figure = this.body.querySelector("svg.figure");
    if (this.unusable || !this.list || (["SVG", "PNG"].includes(kind) && !figure)) return say("There is nothing drawn to save.");
    const text = figure && svgText(figure, scene);
    const content = {SVG: () => text, PNG: () => png(text), CSV: () => csv(app.modules[info.name].table(this.list, see), scene),
      JSON: () => json({dtx: "explorer", scene, panel: info.name, title: info.title, source: info.source, control: info.control, parameters: see.parameters, models: app.answer.models.map(({id, title}) => ({id, title})), data: this.list})}[kind];
    const type = {SVG: "image/svg+xml", PNG: "image/png", CSV: "text/csv", JSON: "application/json"}[kind];
    save(`${info.name}.${kind.toLowerCase()}`, await content(), type);
    return say(`${info.title} saved as ${kind}.`);
  }
}

/** A table of numbers; long ones are cut, CSV holds all. */
export const tableOf = ({columns, rows}, title, most = 400) => html("div", {class: "box", tabindex: 0, role: "region", "aria-label": `${title} as a table`},
  html("table", {}, html("thead", {}, html("tr", {}, columns.map((name) => html("th", {scope: "col"}, name)))),
    html("tbody", {}, rows.slice(0, most).map((line) => html("tr", {}, line.map((value) => html("td", {class: typeof value === "number" ? "n" : null}, typeof value === "number" && !Number.isInteger(value) ? number(value, 4) : String(value ?? "–"))))))),
  rows.length > most ? html("p", {class: "soft"}, `${rows.length - most} more rows are in the CSV`) : null);

/** All panels of the page in their order; `policy` has a place of its own. */
export class Panels {
  constructor(app) {
    this.app = app;
    this.root = html("div", {class: "panels"});
    this.middle = html("div", {class: "panels one"});
    this.screen = matchMedia("(min-width: 1281px)");
    this.screen.addEventListener("change", () => app.redraw());
    this.shelf = html("div", {class: "shelf", role: "group", "aria-label": "Panels"});
    this.all = new Map();
    const numbered = app.about.panels.filter((panel) => panel.name !== "policy");
    for (const info of app.about.panels) {
      const place = numbered.indexOf(info) + 1;
      this.all.set(info.name, new Panel(app, info, place > 0 && place < 10 ? String(place) : ""));
    }
    this.policy = this.all.get("policy") ?? null;
    this.#shelf(numbered);
  }

  #shelf(numbered) {
    this.buttons = numbered.map((info) => button(info.title, () => this.app.toggle(info.name), {class: "toggle", title: info.help, "data-panel-button": info.name}));
    this.buttons.forEach((element, i) => i < 9 && element.append(html("kbd", {}, String(i + 1))));
    this.shelf.append(html("span", {class: "soft"}, "Panels"), ...this.buttons);
  }

  draw(answer, names = null) {
    const open = this.app.panels().map((panel) => panel.name).filter((name) => name !== "policy");
    const enlarged = document.querySelector("dialog.enlarged .panel")?.dataset.panel;
    if (!enlarged) this.#place(open);
    for (const element of this.buttons) element.setAttribute("aria-pressed", String(open.includes(element.dataset.panelButton)));
    for (const name of ["policy", ...open]) if (!names || names.includes(name)) this.all.get(name)?.draw();
  }

  /** On a wide screen every third half-wide panel stands under the policy; one that is alone in its row fills it. */
  #place(open) {
    const wide = this.screen.matches;
    const halves = open.filter((name) => this.all.get(name).info.size !== "wide");
    const middle = wide ? halves.filter((_, i) => i % 3 === 0) : [];
    const right = open.filter((name) => !middle.includes(name));
    const key = JSON.stringify([middle, right]);
    if (key === this.placed) return;
    this.placed = key;
    let waiting = null;
    for (const name of [...right, null]) {
      const panel = name && this.all.get(name);
      const half = panel && panel.info.size !== "wide";
      if (!half || waiting) {
        waiting?.root.classList.toggle("alone", !half);
        panel?.root.classList.remove("alone");
        waiting = null;
      } else waiting = panel;
    }
    for (const name of middle) this.all.get(name).root.classList.remove("alone");
    this.middle.replaceChildren(...middle.map((name) => this.all.get(name).root));
    this.root.replaceChildren(...right.map((name) => this.all.get(name).root));
  }

  /** The panel with a number key: open and go to it; close it if it has the focus. */
  press(number) {
    const name = this.buttons[number - 1]?.dataset.panelButton;
    if (!name) return;
    const {root} = this.all.get(name);
    if (this.app.isOpen(name) && root.contains(document.activeElement)) return this.app.toggle(name, false);
    this.go(name);
  }

  /** Open a panel and go to it. */
  async go(name) {
    if (!this.app.isOpen(name)) this.app.toggle(name, true);
    await this.app.settled();
    const {root} = this.all.get(name);
    root.focus({preventScroll: true});
    root.scrollIntoView({block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
  }

  /** Enlarge the panel that has the focus, or under the mouse, or the first. */
  enlarge() {
    const dialog = document.querySelector("dialog.enlarged");
    if (dialog) return dialog.close();
    const root = document.activeElement.closest?.(".panel") ?? document.querySelector(".panel:hover") ?? document.querySelector(".right .panel, .panel");
    return root && this.all.get(root.dataset.panel).enlarge();
  }
}
