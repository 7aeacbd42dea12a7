// The page's scene, its history, and the questions to the engine: only the newest scene is asked and drawn.

import {address, parse, read, FIRST} from "./scene.js";
import {say, number} from "./dom.js";

const IDLE = 80; // ms without a key until panels are asked that are slower than a key
const OLD = 1000; // ms after which an answer to an older scene is no longer waited for; sooner, a held key would show nothing
const same = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
const sorted = (value) => (value === null || typeof value !== "object" ? value : Array.isArray(value) ? value.map(sorted)
  : Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])])));

/** The scene in the URL; a sandboxed frame may forbid that. */
const show = (scene) => {
  try { history.replaceState(null, "", address(scene)); } catch { /* the link then comes from the page's button only */ }
};

export class App {
  constructor(engine) {
    this.engine = engine;
    this.scene = FIRST;
    this.answer = null;
    this.results = {}; // name of a panel -> {asked, list, share}
    this.modules = {};
    this.messages = [];
    this.past = [];
    this.future = [];
    this.parts = []; // what draws: {draw(answer)}
    this.waiting = []; // resolved when the newest scene is drawn
    this.asking = null;
    this.queue = Promise.resolve();
    this.later = {timer: 0, stop: new AbortController()};
  }

  // --- the scene

  /** Take over the scene of an address; what is wrong with it is told. */
  open(text) {
    const {scene, messages} = parse(text);
    const strange = (scene.panels ?? []).filter(({name}) => !this.panelOf(name)).map(({name}) => ({part: "panels", problem: `there is no panel '${name}'`}));
    this.go(scene, {record: this.answer !== null, messages: [...messages, ...strange]});
  }

  /** Change parts of the scene. */
  change(parts, options) { this.go({...this.scene, ...parts}, options); }

  /** Show a scene; `record`: it can be undone; all steps of one `drag` (a slider, a text box) are undone at once. */
  go(raw, {record = true, messages = [], drag = null} = {}) {
    const {scene} = read(raw);
    if (this.answer && address(scene) === address(this.scene) && !messages.length) return show(scene);
    const more = drag !== null && drag === this.drag;
    this.drag = drag;
    if (record && !more) {
      this.past.push(this.scene);
      this.future = [];
    }
    this.scene = scene;
    this.messages = messages;
    show(scene);
    return void this.#ask();
  }

  undo() { this.#travel(this.past, this.future); }

  redo() { this.#travel(this.future, this.past); }

  #travel(from, to) {
    if (!from.length) return;
    to.push(this.scene);
    this.go(from.pop(), {record: false});
  }

  restart() { this.change({actions: "", cursor: null, tokens: {}}); }

  // --- playing

  /** Take an action at the end of the run. */
  act(letter) {
    const number = this.about.letters.indexOf(letter);
    if (number >= (this.answer?.play.n_actions ?? 7)) return say(`There is no ${this.about.actions[number]} in this environment.`);
    if (this.answer?.play.kind === "tokens") return undefined;
    this.change({actions: this.scene.actions + letter, cursor: null});
    return undefined;
  }

  /** Take the action that the acting model likes best, or a sampled one; waits for its answer first. */
  best({sampled = false} = {}) {
    this.queue = this.queue.then(async () => {
      if (this.scene.cursor !== null) this.change({cursor: null}, {record: false});
      await this.settled();
      const letter = this.answer && this.#choice(sampled);
      if (letter) this.act(letter);
      return Boolean(letter);
    });
    return this.queue;
  }

  /** Let the model play until the episode is over, or any other command is given. */
  async toEnd() {
    const run = (this.run = {});
    while (this.run === run && await this.best());
    await this.settled();
  }

  /** The probabilities of the acting model at the cursor, on the side that is shown; null if there are none. */
  preference() {
    const data = this.results.policy?.list?.[0]?.data;
    return data ? (this.scene.shown === "edited" && data.edited) || data.original : null;
  }

  #choice(sampled) {
    const side = this.shown();
    const told = this.answer.play.kind === "tokens" ? null : this.preference();
    if (side.over) return say("The episode is over."), null;
    if (!told) return say("The model has no preference here."), null;
    const probabilities = [...told.probabilities.data];
    let rest = Math.random();
    const sample = probabilities.findIndex((p) => (rest -= p) < 0);
    return this.about.letters[sampled && sample >= 0 ? sample : probabilities.indexOf(Math.max(...probabilities))];
  }

  /** The side that is shown. */
  shown() {
    const {play} = this.answer;
    return (this.scene.shown === "edited" && play.edited) || play.original;
  }

  /** Steps of the run that is shown. */
  length() { return this.answer?.play.kind === "tokens" ? this.answer.play.original.tokens.length : this.scene.actions.length + 1; }

  /** Move the cursor by some steps. */
  move(by) {
    const last = this.length();
    const next = Math.min(Math.max((this.scene.cursor ?? last) + by, 1), last);
    this.change({cursor: next === last ? null : next});
  }

  // --- reward-to-go, training step, edits

  /** Reward-to-go at the start, as played. */
  reward() { return this.scene.reward_to_go ?? this.answer?.scene.reward_to_go ?? 0; }

  /** The returns of the acting model's training data, or null. */
  returns() { return this.answer?.models[0]?.reward_to_go ?? this.model()?.reward_to_go ?? null; }

  async nudge(by) {
    if (!this.answer) await this.settled();
    this.change({reward_to_go: Number((Math.round((this.reward() + by) * 1e6) / 1e6).toFixed(6))});
  }

  extreme(which) {
    const returns = this.returns();
    if (returns) this.change({reward_to_go: returns[which]});
  }

  /** Walk the kept checkpoints of the acting model; the last place is the finished model. */
  train(by) {
    const steps = [...(this.model()?.checkpoints ?? []), null];
    const now = this.step();
    this.trainAt(Math.min(Math.max(steps.indexOf(now) + by, 0), steps.length - 1));
  }

  /** The kept step of training that is shown; null: the finished model. */
  step() {
    const found = /@(\d+)$/.exec(this.scene.models[0] ?? "");
    return found ? Number(found[1]) : null;
  }

  trainAt(place, options) {
    const id = this.model()?.id;
    const step = [...(this.model()?.checkpoints ?? []), null][place];
    if (id) this.change({models: [step === null || step === undefined ? id : `${id}@${step}`, ...this.scene.models.slice(1)]}, options);
  }

  /** Whether the scene makes these operations. */
  has(operations) { return operations.every((wanted) => this.scene.edits.some((edit) => same(edit, wanted))); }

  /** Make a declared edit, or take it back. */
  declared(name) {
    const operations = this.env()?.edits.find((edit) => edit.name === name)?.operations;
    if (!operations) return;
    const edits = this.has(operations) ? this.scene.edits.filter((edit) => !operations.some((other) => same(edit, other))) : [...this.scene.edits, ...operations];
    this.edit(edits);
  }

  /** Make these edits and no others. */
  edit(edits, shown = this.scene.shown) { this.change({edits, shown: edits.length ? shown : "original"}); }

  // --- what there is

  /** What is known of the acting model (or the model at a place of the scene). */
  model(place = 0) {
    const id = (this.answer?.models[place]?.id ?? this.scene.models[place] ?? "").replace(/@\d+$/, "");
    return this.about.models.find((model) => model.id === id) ?? this.about.models.find((model) => id && model.label?.includes(id)) ?? null;
  }

  /** The environment that is played. */
  env() {
    const id = this.answer?.play.env || this.scene.env || this.model()?.env;
    return this.about.envs.find((env) => env.id === id) ?? null;
  }

  /** The models of the scene as the engine understood them. */
  ids() { return this.answer?.models.map(({id}) => id) ?? this.scene.models; }

  /** Show one more model beside the others; at most four. */
  compare(id) {
    const ids = this.ids();
    if (ids.length >= 4) return this.fail("four models are shown side by side at most; remove one first");
    if (!ids.includes(id)) this.change({models: [...ids, id]});
    return undefined;
  }

  panelOf(name) { return this.about.panels.find((panel) => panel.name === name) ?? null; }

  /** The panels that are open, in the order of the page: [{name, parameters}]. */
  panels() {
    const open = this.scene.panels ?? this.about.panels.filter((panel) => panel.first).map(({name}) => ({name, parameters: {}}));
    return this.about.panels.flatMap(({name}) => open.find((panel) => panel.name === name) ?? []);
  }

  isOpen(name) { return this.panels().some((panel) => panel.name === name); }

  /** Open or close a panel. */
  toggle(name, open = !this.isOpen(name)) {
    const others = (this.scene.panels ?? this.panels()).filter((panel) => panel.name !== name);
    this.change({panels: open ? [...others, {name, parameters: {}}] : others});
  }

  /** Set a parameter of an open panel; one at its default is left out. */
  parameter(name, key, value, options) {
    const standard = this.panelOf(name)?.parameters.find((parameter) => parameter.name === key)?.default;
    const panels = this.scene.panels ?? this.panels();
    const known = panels.some((panel) => panel.name === name) ? panels : [...panels, {name, parameters: {}}];
    this.change({panels: known.map((panel) => {
      if (panel.name !== name) return panel;
      const {[key]: _, ...rest} = panel.parameters;
      return {name, parameters: value === standard ? rest : {...rest, [key]: value}};
    })}, options);
  }

  // --- asking and drawing

  /** Resolves when the newest scene is drawn. */
  settled() {
    return document.documentElement.dataset.drawn === address(this.scene) && !this.asking ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }

  #wanted(when) {
    const open = this.panels();
    const every = open.some((panel) => panel.name === "policy") || !this.panelOf("policy") ? open : [{name: "policy", parameters: {}}, ...open];
    return every.filter((panel) => this.panelOf(panel.name).when === when);
  }

  async #ask() {
    this.later.stop.abort();
    clearTimeout(this.later.timer);
    if (this.asking) {
      const {stop, since} = this.asking;
      if (performance.now() - since > OLD) stop.abort();
      else this.asking.timer ??= setTimeout(() => stop.abort(), OLD - (performance.now() - since));
      return;
    }
    let failed = null;
    for (let drawn = null; drawn !== address(this.scene);) {
      const scene = this.scene;
      const asking = (this.asking = {stop: new AbortController(), since: performance.now()});
      try {
        const answer = await this.engine.ask(scene, this.#wanted("key"), {signal: asking.stop.signal});
        this.#take(answer, scene);
        drawn = address(this.scene === scene ? (this.scene = this.#corrected(answer, scene)) : scene);
        this.redraw();
        failed = null;
      } catch (problem) {
        if (!asking.stop.signal.aborted) {
          failed = problem.message;
          drawn = address(scene);
          console.info(problem);
        }
      }
      clearTimeout(asking.timer);
    }
    this.asking = null;
    if (failed !== null) this.fail(failed);
    show(this.scene);
    document.documentElement.dataset.drawn = address(this.scene);
    for (const resolve of this.waiting.splice(0)) resolve();
    if (failed === null) this.later = {stop: new AbortController(), timer: setTimeout(() => this.#afterwards(this.scene, this.later.stop.signal), IDLE)};
  }

  #take(answer, scene, share = 1) {
    if (answer.error) throw new Error(answer.error);
    this.answer = this.answer && !answer.play ? this.answer : answer;
    const asked = this.panels();
    for (const [name, list] of Object.entries(answer.panels)) {
      this.results[name] = {asked: address(scene), list, share, parameters: asked.find((panel) => panel.name === name)?.parameters ?? {}};
    }
  }

  /** The scene with the parts that the engine could not take as they were. */
  #corrected(answer, scene) {
    const told = [...this.messages, ...answer.messages];
    this.messages = told.filter((message, i) => told.findIndex((other) => same(other, message)) === i);
    const parts = answer.messages.map(({part}) => part.split(/[.[]/)[0]).filter((part) => part in FIRST && part !== "unknown" && part !== "version");
    if (!parts.length) return scene;
    return read({...scene, ...Object.fromEntries(parts.map((part) => [part, part === "cursor" ? null : answer.scene[part]]))}).scene;
  }

  /** What a panel of weights depends on: the models and its parameters. */
  models(name, scene = this.scene) {
    return JSON.stringify([scene.models, this.panels().find((panel) => panel.name === name)]);
  }

  /** Panels that are slower than a key, once no key has come for a while. */
  async #afterwards(scene, signal) {
    const ask = async (work) => {
      try { await work(); } catch (problem) { if (!signal.aborted) this.fail(problem.message); }
      if (!signal.aborted) this.redraw();
    };
    const due = (panel) => this.results[panel.name]?.asked !== address(scene);
    const idle = this.#wanted("idle").filter(due);
    if (idle.length) await ask(async () => this.#take(await this.engine.ask(scene, idle, {signal}), scene));
    for (const panel of this.#wanted("once")) {
      const key = this.models(panel.name, scene);
      if (signal.aborted || this.results[panel.name]?.once === key) continue;
      await ask(async () => {
        this.#take(await this.engine.ask(scene, [panel], {signal}), scene);
        this.results[panel.name].once = key;
      });
    }
    for (const panel of this.#wanted("long")) {
      if (signal.aborted || !due(panel)) continue;
      const progress = (answer, share) => {
        if (signal.aborted) return;
        this.#take(answer, scene, share);
        this.redraw([panel.name]);
      };
      await ask(async () => this.#take(await this.engine.long(scene, panel, {signal, progress}), scene));
    }
  }

  /** Overlays of panels over the world. */
  overlays(play) {
    return this.panels().flatMap(({name}) => {
      const result = this.results[name];
      const overlay = this.modules[name]?.overlay;
      return overlay && result?.list?.some((item) => item.data) ? overlay(result.list, this.look(name, 300, play)) : [];
    });
  }

  /** Draw everything, or some panels only. */
  redraw(names = null) { if (this.answer) for (const part of this.parts) part.draw(this.answer, names); }

  fail(text) {
    this.messages = [{part: "problem", problem: text}];
    for (const part of this.parts) part.tell?.();
  }

  /** In words, what the model would do. */
  summary() {
    const told = this.preference();
    const play = this.answer.play;
    const names = this.results.policy?.list?.[0]?.data?.actions ?? this.about.actions;
    const best = told ? [...told.probabilities.data].map((p, i) => [p, names[i]]).sort((a, b) => b[0] - a[0])[0] : null;
    const over = this.shown().over;
    return `${play.kind === "tokens" ? "token " : "S"}${play.cursor}${over && play.cursor === this.length() ? `, over: ${over}` : ""}${best ? `; ${best[1]} ${number(best[0])}` : ""}`;
  }
}
