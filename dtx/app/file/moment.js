// What a panel computes from: a model and both sides of a played scene up to the cursor. dtx/app/moment.py has the
// same names where they mean the same.
import {softmax} from "./model.js";

/** What a model reads of a run at a step, as dtx/dt/history.py has it: padded windows are as long as the model's. */
const windowOf = (cfg, side, cursor) => {
  const begin = Math.max(0, cursor - cfg.n_steps), missing = cfg.left_padding ? cfg.n_steps - (cursor - begin) : 0;
  const padded = (values, value) => [...Array(missing).fill(value), ...values];
  const rewards = [...side.rewardToGo.subarray(begin, cursor)];
  return {
    observations: padded(side.views.slice(begin, cursor), null),
    actions: padded([...side.actions.slice(begin, cursor - 1), cfg.n_actions], cfg.n_actions),
    rewards: padded(rewards, rewards[0]),
    timesteps: padded(rewards.map((_, i) => begin + i), 0),
    missing, begin,
  };
};

/** {names, kinds} of a window's tokens; steps count from the start of the episode. */
const tokensOf = (kinds, {timesteps, missing, begin}) => {
  const names = [];
  for (let t = 0; t < timesteps.length; t++) for (const kind of kinds) {
    names.push(t < missing ? "pad" : `${kind}${begin + t - missing + 1}`);
  }
  names.length -= kinds.length - 1 - kinds.indexOf("S");
  return {names, kinds: names.map((name) => (name === "pad" ? name : name[0]))};
};

class Side {
  constructor({model, growing}, place, played, cursor) {
    this.model = model;
    this.growing = growing;
    this.place = place;
    this.played = played;
    this.window = windowOf(model.cfg, played, cursor);
    this.tokens = tokensOf(model.kinds, this.window);
    this.run = null; // of the last forward pass
  }

  /** The window that ends with the last state of a run {views, actions, rewardToGo}. */
  windowOf(run) {
    return windowOf(this.model.cfg, run, run.views.length);
  }

  /** The table of its world; grid: at the start, view(state): what is seen, decides(state): whether the agent decides. */
  world() {
    const {place, played: {table}} = this, {pool} = place;
    const row = ({shape, data}, i) => data.subarray(i * data.length / shape[0], (i + 1) * data.length / shape[0]);
    return {place, table, grid: {shape: pool.grids.shape.slice(1), data: row(pool.grids, table.grid.data[0])},
      view: (state) => row(pool.views, table.view.data[state]), decides: (state) => pool.decides.data[table.view.data[state]]};
  }

  /** Logits (a) at the last state. */
  get logits() {
    this.run ??= this.growing.forward(this.window);
    return this.run.logits.data;
  }

  /** Activations (1, n, ...) by name; those that other panels of the answer want come with one forward pass. */
  activations(names) {
    const known = Object.keys(this.run?.values ?? {});
    if (names.some((name) => !known.includes(name))) this.run = this.growing.forward(this.window, [...new Set([...known, ...names])]);
    return this.run.values;
  }
}

export class Moment {
  /** entry: {about, model}; contrast: two numbers of actions; environment: what ABOUT says of it. */
  constructor(entry, played, contrast, environment) {
    this.entry = entry;
    this.model = entry.model;
    this.cfg = entry.model.cfg;
    this.scene = played.scene;
    this.actions = played.place.actions;
    this.contrast = contrast;
    this.gap = environment.gap;
    this.decision = played.place.decision;
    this.original = new Side(entry, played.place, played.original, played.cursor);
    const there = played.edited && played.edited.states.length >= played.cursor;
    this.edited = there ? new Side(entry, played.place, played.edited, played.cursor) : null;
    this.sides = this.edited ? {original: this.original, edited: this.edited} : {original: this.original};
  }

  /** What compute(side) gives for each side; null for a side that is not there. */
  both(compute) {
    return {original: compute(this.original), edited: this.edited && compute(this.edited)};
  }

  /** Logit difference of the contrast's two actions, of logits (a). */
  difference(logits) {
    return logits[this.contrast[0]] - logits[this.contrast[1]];
  }

  /** Probabilities (a) of logits (a). */
  probabilities(logits) {
    return softmax(Float32Array.from(logits));
  }
}
