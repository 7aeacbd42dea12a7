// The line at the top: models, world, reward-to-go, step of training; on a phone all but two are in a sheet.

import {html, replace, button, brief, say} from "./dom.js";
import {dialog} from "./keys.js";
import {save} from "./export.js";
import {address, digits} from "./scene.js";
import {reads} from "./prompt.js";

const KINDS = {dt: "Decision Transformers", clone: "Behaviour clones", agent: "Teachers", planted: "Planted circuits", imported: "Imported", tokens: "Token models"};

export class Header {
  constructor(app, find) {
    this.app = app;
    this.find = find;
    this.model = html("select", {"aria-label": "model", class: "model", change: (event) => app.change({models: [event.target.value, ...app.scene.models.slice(1)]})});
    this.world = html("select", {"aria-label": "world", change: (event) => this.#world(event.target.value)});
    this.seed = html("input", {type: "number", "aria-label": "seed of the world", min: 0, max: 999999999, hidden: true, class: "seed", change: (event) => this.#seed(event.target.value)});
    this.slider = html("input", {type: "range", "aria-label": "reward-to-go at the start", step: "any", input: (event) => app.change({reward_to_go: Number(Number(event.target.value).toFixed(3))}, {drag: "rtg"})});
    this.value = html("input", {type: "number", "aria-label": "reward-to-go at the start, as a number", step: 0.05, class: "value", change: (event) => event.target.value !== "" && app.change({reward_to_go: Number(event.target.value)})});
    this.ticks = html("span", {class: "ticks"});
    this.training = html("input", {type: "range", "aria-label": "step of training", min: 0, step: 1, input: (event) => app.trainAt(Number(event.target.value), {drag: "training"})});
    this.step = html("output", {class: "step-of"});
    this.trainingLabel = html("label", {class: "group training"}, html("span", {class: "soft"}, "training"), this.training, this.step);
    this.rest = html("div", {class: "rest"},
      button("+ compare", () => this.find.open("compare "), {class: "tool"}),
      (this.rtg = html("div", {class: "group rtg"}, html("span", {class: "soft", title: "reward-to-go"}, "RTG"), html("span", {class: "ticked"}, this.slider, this.ticks), this.value)), this.trainingLabel,
      html("div", {class: "group end"},
        button("YAML", () => this.yaml(), {class: "tool", title: "copy as YAML"}), button("link", () => this.link(), {class: "tool", title: "copy the link"}),
        app.engine.name === "file" ? null : button("save", () => this.save(), {class: "tool", title: "save as one HTML file"}), button("◐", () => this.theme(), {class: "tool", "aria-label": "light or dark", title: "light or dark"})),
    );
    this.help = button("?", () => app.command("help"), {class: "tool keys-button", "aria-label": "keys", title: "keys: ?"});
    this.more = button("⋯", () => this.sheet.showModal(), {class: "tool more-button", "aria-label": "reward-to-go, training step, YAML, link, save"});
    this.bar = html("header", {class: "bar"}, html("h1", {}, html("span", {class: "brand"}, "dtx"), html("span", {class: "brand-rest"}, " explorer")), this.model, this.world, this.seed, this.rest, this.help, this.more);
    this.columns = html("div", {class: "columns", role: "group", "aria-label": "models side by side"});
    this.messages = html("div", {class: "messages", role: "status"});
    this.root = html("div", {class: "top"}, this.bar, this.columns, this.messages);
    this.sheet = dialog("Scene");
    const narrow = matchMedia("(max-width: 760px)");
    const place = () => (narrow.matches ? this.sheet.firstElementChild.append(this.rest) : this.bar.insertBefore(this.rest, this.help), narrow.matches || this.sheet.close());
    narrow.addEventListener("change", place);
    place();
  }

  draw(answer) {
    const {app} = this;
    this.#models(answer);
    this.#worlds(answer);
    const text = reads(answer);
    this.world.hidden = this.rtg.hidden = text;
    const value = app.reward();
    const returns = app.returns();
    const [low, high] = returns ? [returns.lowest, returns.highest] : [0, 1];
    const span = high - low || 1;
    const [from, to] = [Math.min(low - 0.15 * span, value), Math.max(high + 0.15 * span, value)];
    this.slider.min = from;
    this.slider.max = to;
    if (document.activeElement !== this.slider || Math.abs(this.slider.value - value) > 1e-3) this.slider.value = value;
    if (document.activeElement !== this.value) this.value.value = Number(value.toFixed(3));
    replace(this.ticks, returns ? [["lowest", low], ["highest", high]].map(([name, at]) => {
      const tick = button(digits(Number(at.toFixed(3))), () => app.extreme(name), {class: "tick", title: `${name} return of the training data`, "data-id": `tick-${name}`, tabindex: -1});
      tick.style.left = `${8 + (84 * (at - from)) / (to - from)}%`;
      return tick;
    }) : []);
    const kept = app.model()?.checkpoints ?? [];
    const place = [...kept, null].indexOf(app.step());
    this.trainingLabel.hidden = !kept.length;
    this.training.max = kept.length;
    this.training.value = place < 0 ? kept.length : place;
    this.step.textContent = app.step() === null ? "last" : String(app.step());
    document.title = `${brief(app.answer.models[0]?.title ?? "")} · ${text ? "prompt" : answer.scene.world} · dtx explorer`;
    this.tell();
  }

  tell() {
    replace(this.messages, this.away ? html("p", {class: "bad"}, `✗ ${this.away}`) : null, this.app.messages.map(({part, problem}) => html("p", {class: part === "problem" ? "bad" : ""}, part === "problem" ? `✗ ${problem}` : `${part}: ${problem}`)));
  }

  /** The engine is away (text), or back (null). */
  state(text) {
    this.away = text;
    this.tell();
  }

  #models(answer) {
    const {app} = this;
    const acting = app.model()?.id ?? "";
    if (this.known !== app.about.models) {
      this.known = app.about.models;
      const kinds = Map.groupBy ? Map.groupBy(this.known, ({kind}) => kind) : this.known.reduce((map, model) => map.set(model.kind, [...(map.get(model.kind) ?? []), model]), new Map());
      replace(this.model, [...kinds].map(([kind, models]) => html("optgroup", {label: KINDS[kind] ?? kind}, models.map(({id, title, problem}) => html("option", {value: id, disabled: Boolean(problem)}, problem ? `${brief(title)} – ${problem}` : brief(title))))));
    }
    this.model.value = acting;
    this.columns.hidden = answer.models.length < 2;
    replace(this.columns, answer.models.length < 2 ? [] : answer.models.map((model, i) => html("span", {class: `column c${i}`}, html("b", {}, String(i + 1)), ` ${brief(model.title ?? model.id)}${/@\d+$/.test(model.id) ? ` at step ${model.id.split("@")[1]}` : ""}${i ? "" : " (acts)"}${model.problem ? ` – ${model.problem}` : ""}`,
      i ? button("acts", () => app.change({models: [model.id, ...app.ids().filter((_, j) => j !== i)]}), {class: "tool", title: "let this model act", "aria-label": `let ${model.title} act`, "data-id": `acts-${i}`}) : null,
      button("×", () => app.change({models: app.ids().filter((_, j) => j !== i)}), {class: "tool", "aria-label": `remove ${model.title}`, "data-id": `remove-${i}`}))));
  }

  #worlds(answer) {
    const {app} = this;
    if (reads(answer)) return;
    const own = app.model()?.env;
    const {env} = answer.play;
    const fits = app.about.envs.filter(({id, n_actions}) => id === env || id === own || n_actions === answer.play.n_actions);
    const known = fits.some(({id}) => id === env) ? fits : [...fits, {id: env, title: env, worlds: [], seeds: true}];
    const key = JSON.stringify([known.map(({id}) => id), env, own]);
    if (key !== this.worldsKey) {
      this.worldsKey = key;
      const ordered = [...known].sort((a, b) => Number(b.id === env) - Number(a.id === env));
      replace(this.world, ordered.map(({id, title, worlds, seeds}) => html("optgroup", {label: title},
        worlds.map((world) => html("option", {value: `${id}\n${world}`}, world)), seeds ? html("option", {value: `${id}\nseed:`}, worlds.length ? "a seed …" : id === env ? "a seed …" : `${title}, a seed …`) : null)));
    }
    const seeded = answer.scene.world.startsWith("seed:");
    this.world.value = `${env}\n${seeded ? "seed:" : answer.scene.world}`;
    this.seed.hidden = !seeded;
    if (document.activeElement !== this.seed) this.seed.value = seeded ? answer.scene.world.slice(5) : "";
  }

  #world(value) {
    const [env, world] = value.split("\n");
    const own = this.app.model()?.env;
    this.app.change({env: env === own ? "" : env, world: world === "seed:" ? "seed:0" : world, actions: "", cursor: null, tokens: {}, edits: env === this.app.answer.play.env ? this.app.scene.edits : []});
    if (world === "seed:") this.app.settled().then(() => this.seed.focus());
  }

  #seed(value) { if (/^\d{1,9}$/.test(value)) this.app.change({world: `seed:${Number(value)}`, actions: "", cursor: null}); }

  async #text(what, title) {
    try {
      const text = await this.app.engine.text(this.app.scene, what);
      const area = html("textarea", {readonly: true, rows: Math.min(24, text.split("\n").length + 1), "aria-label": title, spellcheck: "false"});
      area.value = text;
      const element = dialog(title, html("p", {class: "soft"}, "Reproduces what is on the page without it."), area, button("copy", () => this.#copy(text, `${title} copied`), {class: "tool"}));
      element.addEventListener("close", () => element.remove());
      element.showModal();
      area.select();
    } catch (problem) {
      this.app.fail(problem.message);
    }
  }

  async #copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      say(done);
      this.#toast(done);
    } catch {
      const area = html("textarea", {readonly: true, rows: 3, "aria-label": "to copy"});
      area.value = text;
      const element = dialog("Copy this", area);
      element.addEventListener("close", () => element.remove());
      element.showModal();
      area.select();
    }
  }

  #toast(text) {
    const element = html("div", {class: "toast"}, `✓ ${text}`);
    document.body.append(element);
    setTimeout(() => element.remove(), 2000);
  }

  yaml() { return this.#text("yaml", "As YAML"); }

  link() { return this.#copy(location.href.split("#")[0] + address(this.app.scene), "Link copied"); }

  async save() {
    try {
      save("explorer.html", await this.app.engine.save(this.app.scene), "text/html");
      say("saved");
    } catch (problem) {
      this.app.fail(problem.message);
    }
  }

  /** Switch between the colours of the system and the other ones. */
  theme() {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.colours === "dark" ? "light" : "dark";
    root.dataset.colours = root.dataset.theme;
    try { localStorage.setItem("dtx-explorer-theme", root.dataset.theme); } catch { /* storage is forbidden here */ }
    this.app.redraw();
  }
}
