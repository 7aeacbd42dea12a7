// The engine's work: opens what a file carries, checks itself against PyTorch, plays scenes and computes panels.
// It runs in a worker, or in the page where no worker can be made.
import {decode} from "../page/frames.js";
import {FIRST, read} from "../page/scene.js";
import {Growing} from "./growing.js";
import {Model} from "./model.js";
import {Moment} from "./moment.js";
import {Place, canonical, play, shown} from "./play.js";
import {kernelProduct, plainProduct} from "./product.js";
import {sha256} from "./sha256.js";

const bytesOf = (base64) => {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64.trim());
  const text = atob(base64.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
};

const unpacked = async (base64) => {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return decode(await new Response(stream).arrayBuffer());
};

const float16 = (bits) => {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, digits = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + digits / 1024) : 2 ** -14 * (digits / 1024));
};

const numbersOf = (bytes, precision) => {
  const buffer = bytes.slice().buffer;
  if (precision === "float32") return new Float32Array(buffer);
  return Float32Array.from(new Uint16Array(buffer), float16);
};

/** A model with its weights; with the kernel, if that can be had. */
const modelOf = async (given, kernel) => {
  let flat = numbersOf(given.weights.data, given.precision), product = plainProduct;
  if (kernel) {
    try {
      ({product, weights: flat} = await kernelProduct(kernel, flat));
    } catch { /* no WebAssembly, or none with SIMD: plain JS does the same */ }
  }
  const weights = {};
  let at = 0;
  for (const [name, shape] of given.shapes) {
    const size = shape.reduce((a, b) => a * b, 1);
    weights[name] = flat.subarray(at, at += size);
  }
  return new Model(given.cfg, weights, product);
};

/** The largest difference of this model's logits from those that PyTorch computed for some windows. */
const differenceFrom = (model, {views, windows, logits}) => {
  const a = logits.shape[1];
  let largest = 0;
  windows.forEach((window, i) => {
    const observations = window.view.map((number) => (number < 0 ? null : views.data.subarray(number * 147, number * 147 + 147)));
    const own = model.forward([{observations, actions: window.actions, rewards: window.rewards, timesteps: window.timesteps}]);
    own.logits.data.forEach((value, j) => {
      const difference = Math.abs(value - logits.data[i * a + j]);
      if (!(difference <= largest)) largest = difference; // also where it is not a number
    });
  });
  return largest;
};

const AT_FIRST = 1; // reward-to-go where nothing is known of the training data
const DAMAGED = "this file must not be believed";

export class Computing {
  /**
   * Open a file. base64: what it carries; panels: modules by name, of which some have compute; plain: no kernel;
   * checked: what check() said where the same was opened before.
   */
  static async open({base64, panels, plain = false, checked = null}) {
    const own = new Computing();
    own.panels = panels;
    try {
      own.given = await unpacked(base64);
    } catch (error) {
      throw new Error(`${DAMAGED}: it is damaged (${error.message}); ask for it again`);
    }
    const {given} = own;
    own.places = Object.fromEntries(given.places.map((place) => [place.id, new Place(place)]));
    own.entries = [];
    for (const model of given.models) {
      const made = await modelOf(model, plain ? null : given.kernel.data);
      own.entries.push({about: model.about, model: made, growing: new Growing(made)});
    }
    own.checked = checked ?? own.check();
    return own;
  }

  /** Whether the models of the file are those that PyTorch had: {error, tolerance, holds, windows, text}. */
  check() {
    let error = 0, windows = 0;
    const tolerance = Math.max(...this.given.models.map((model) => model.checked.tolerance));
    const changed = this.given.models.filter((model) => sha256(model.weights.data) !== model.sha256);
    this.entries.forEach(({model}, i) => {
      const {checked} = this.given.models[i], own = differenceFrom(model, checked);
      windows += checked.windows.length;
      error = Number.isNaN(own) ? Infinity : Math.max(error, own);
    });
    const text = changed.length ? `${DAMAGED}: weights of ${changed.map((m) => m.about.id).join(", ")} were changed`
      : error <= tolerance ? `checked against PyTorch here: ${error.toExponential(1)}`
        : `${DAMAGED}: logits here differ from PyTorch's by ${error.toExponential(1)}`;
    return {error, tolerance, holds: !changed.length && error <= tolerance, windows, text};
  }

  /** What there is. A panel that takes longer here than with a server says itself when it is computed. */
  about() {
    const panels = this.given.about.panels.map((panel) => ({...panel, when: this.panels[panel.name]?.when ?? panel.when}));
    return {...this.given.about, panels, checked: this.checked};
  }

  /** The answer to a scene, whatever it is, and to a list of panels {name, parameters}. */
  ask(raw, panels) {
    const began = performance.now();
    let {scene, messages} = read(raw);
    if (canonical(scene) === canonical(FIRST)) scene = read(this.given.scene).scene; // nothing chosen: what the file is about
    const tell = (part, problem) => messages.push({part, problem});
    const entries = this.chosen(scene.models, tell);
    const place = this.placeOf(scene, entries[0], tell);
    const played = play(scene, place, entries[0].about.reward_to_go?.best ?? AT_FIRST);
    messages.push(...played.messages);
    if (!this.checked.holds) tell("file", this.checked.text);
    const about = this.given.about.envs.find((env) => env.id === place.id);
    const contrast = this.contrast(scene.contrast ?? about.contrast, about, place, tell);
    const known = {...played.scene, models: entries.map((entry) => entry.about.id), contrast: contrast.map((number) => place.actions[number])};
    const playedAt = performance.now();
    const answer = {scene: known, messages, play: shown(played), models: entries.map((entry) => entry.about), panels: {},
      ms: {play: playedAt - began}};
    const moments = entries.map((entry) => this.momentOf(entry, played, contrast, about));
    for (const moment of moments) this.prepare(moment, panels);
    for (const {name, parameters = {}} of panels) {
      answer.panels[name] = moments.map((moment, i) =>
        (moment.error ? moment : this.panel(name, parameters, moment, known, i)));
    }
    answer.ms.panels = performance.now() - playedAt;
    return answer;
  }

  chosen(names, tell) {
    const found = names.flatMap((name) => {
      const [base, step] = name.split("@");
      const there = this.entries.filter(({about}) => (about.step ?? "") === (step === undefined ? "" : Number(step)));
      const exact = there.filter(({about}) => about.id.split("@")[0] === base || about.label === base);
      const one = exact.length ? exact : there.filter(({about}) => about.id.startsWith(base) || about.label.startsWith(base));
      if (!one.length) tell("models", `this file has no model ${name}; dtx app shows all of a store`);
      return one.slice(0, 1);
    });
    return found.length ? [...new Set(found)] : [this.entries[0]];
  }

  placeOf(scene, entry, tell) {
    const own = this.places[entry.about.env];
    if (!scene.env || Object.hasOwn(this.places, scene.env)) return this.places[scene.env] ?? own;
    tell("env", `this file has no environment ${scene.env}; dtx app has all`);
    return own;
  }

  contrast(names, about, place, tell) {
    const numbers = names.map((name) => place.actions.indexOf(name));
    if (!numbers.includes(-1)) return numbers;
    tell("contrast", `${place.id} has no such actions; ${about.contrast.join("-")} is taken`);
    return about.contrast.map((name) => place.actions.indexOf(name));
  }

  /** A moment, or why there is none: {error}. */
  momentOf(entry, played, contrast, about) {
    const {cfg} = entry.model, {n_actions: actions, id} = played.place;
    if (cfg.n_actions !== actions) return {error: `has ${cfg.n_actions} actions, but ${id} has ${actions}`};
    if (cfg.time_embedding === "learned" && played.cursor > cfg.n_timesteps) {
      return {error: `the model knows ${cfg.n_timesteps} timesteps; this is state ${played.cursor}`};
    }
    return new Moment(entry, played, contrast, about);
  }

  /** One forward pass a side for all that the panels want of it. */
  prepare(moment, panels) {
    const names = panels.flatMap(({name}) => this.panels[name]?.hooks?.(moment.cfg) ?? []);
    if (names.length && !moment.error) for (const side of Object.values(moment.sides)) side.activations(names);
  }

  panel(name, parameters, moment, scene, i) {
    const module = this.panels[name], about = this.given.about.panels.find((panel) => panel.name === name);
    if (!about) return {error: `no panel ${name}`};
    if (!this.checked.holds) return {error: this.checked.text};
    const met = {world: true, pair: moment.edited, reward_to_go: moment.cfg.reward_to_go, decision: moment.decision};
    const missing = about.needs.find((need) => !met[need]);
    if (missing) return {needs: missing, error: this.given.about.needed[missing]};
    if (module?.compute) return this.attempt(() => ({data: module.compute(moment, {...defaults(about), ...parameters})}));
    return this.frozen(name, parameters, scene, i);
  }

  /** What Python computed for this scene when the file was written. */
  frozen(name, parameters, scene, i) {
    const asked = keyOf(scene, parameters), kept = this.given.frozen.filter((one) => one.panel === name);
    const found = kept.find((one) => keyOf(one.scene, one.parameters) === asked);
    if (found) return found.answers[i];
    const scenes = kept.length ? `; this file has its numbers for ${kept.map((one) => one.address).join("  ")}` : "";
    return {error: `this panel needs Python: open this scene by dtx app${scenes}`};
  }

  attempt(compute) {
    try {
      return compute();
    } catch (error) {
      return {error: error.message};
    }
  }
}

/** What the answer of a frozen panel depends on, as text. */
const keyOf = ({models, world, actions, reward_to_go, tokens, edits, cursor, contrast}, parameters) =>
  canonical({models, world, actions, reward_to_go, tokens, edits, cursor, contrast, parameters});

const defaults = (about) => Object.fromEntries(about.parameters.map((parameter) => [parameter.name, parameter.default]));
