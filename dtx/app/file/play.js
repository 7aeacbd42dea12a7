// A scene played in worlds that are tables (tables.py): the original run and the edited one, as dtx/app/play.py
// plays them in minigrid. Letters: t states of a run, t - 1 actions.
import {LETTERS} from "../page/scene.js";

const ACTIONS = ["left", "right", "forward", "pickup", "drop", "toggle", "done"];
const OBJECTS = ["unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent"];
const COLOURS = ["red", "green", "blue", "purple", "yellow", "grey"];
const DOORS = ["open", "closed", "locked"];
const ONE_COLOUR = {goal: "green", lava: "red", wall: "grey", empty: "red", unseen: "red"};
const IN_WORLD = ["set_type", "set_colour", "set_state", "exchange", "move", "remove", "add"];
const VIEW = 7;

class Impossible extends Error {}

/** The same text for equal values, whatever the order of their fields. */
export const canonical = (value) => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((k) => `${JSON.stringify(k)}:${canonical(value[k])}`).join(",")}}`;
};

const part = ({shape, data}, index) => {
  const size = data.length / shape[0];
  return data.subarray(index * size, index * size + size);
};

/** An environment as the file carries it; see contents.py. */
export class Place {
  constructor(given) {
    Object.assign(this, given);
    for (const world of Object.values(this.worlds)) {
      world.known = new Map(world.edits.map((edit) => [canonical(edit.operations), edit]));
    }
    this.actions = ACTIONS.slice(0, given.n_actions);
  }

  /** The name of a world of the file; the first one where there is no such. */
  known(world, tell) {
    const names = Object.keys(this.worlds);
    if (Object.hasOwn(this.worlds, world)) return world;
    if (world) tell("world", `this file has no world ${world}; it has ${names.join(", ")}; dtx app has all`);
    return names[0];
  }

  /** The states of a run of a table up to the end of its episode: {states, rewards, over}. */
  run(table, actions) {
    const {curves} = this.pool, states = [0], rewards = [];
    let over = null;
    for (const action of actions) {
      if (over) break;
      const at = states.at(-1) * this.n_actions + action, next = table.next.data[at];
      const step = states.length, reward = part(curves, table.reward.data[at])[step];
      states.push(next);
      rewards.push(reward);
      if (table.next.data[next * this.n_actions] < 0) over = reward > 0 ? "success" : "failure";
      else if (step >= this.horizon) over = "limit";
    }
    return {states, rewards, over};
  }

  /** One side of a scene; views and reward-to-go are what the model is given. */
  side(table, actions, start, tokens) {
    const {states, rewards, over} = this.run(table, actions);
    const rewardToGo = new Float32Array(states.length);
    let sum = 0;
    states.forEach((_, t) => {
      if (t) sum += rewards[t - 1];
      rewardToGo[t] = Math.fround(start) - sum;
    });
    for (const [step, value] of Object.entries(tokens)) if (step <= states.length) rewardToGo[step - 1] = value;
    const views = states.map((state) => part(this.pool.views, table.view.data[state]));
    return {table, states, actions: actions.slice(0, states.length - 1), rewards, over, views, rewardToGo,
      unusual: new Uint8Array(states.length)};
  }

  edited(scene, world, original, start, cursor) {
    const inWorld = scene.edits.filter((edit) => IN_WORLD.includes(edit.op));
    const table = this.editedTable(world, inWorld);
    const actions = [...original.actions];
    for (const edit of scene.edits) if (edit.op === "set_action") {
      if (!this.actions.includes(edit.to)) throw new Impossible(`${this.id} has no action ${edit.to}`);
      actions[stepOf(edit, edit.step, Math.max(cursor - 2, 0), actions.length, "actions")] = ACTIONS.indexOf(edit.to);
    }
    const side = this.side(table, actions, start, scene.tokens);
    for (const edit of scene.edits) {
      if (edit.op === "obs_add" || edit.op === "obs_set") this.editView(edit, side, cursor);
      else if (edit.op === "set_rtg") editRewardToGo(edit, side.rewardToGo, cursor);
      else if (edit.op !== "set_action" && !IN_WORLD.includes(edit.op)) throw new Impossible(`no operation ${edit.op}`);
    }
    return side;
  }

  editedTable(world, edits) {
    const known = this.worlds[world];
    if (!edits.length) return this.tables[known.table];
    const found = known.known.get(canonical(edits));
    if (!found) throw new Impossible("this file has no table of the world so edited; dtx app plays it");
    if (found.impossible) throw new Impossible(found.impossible);
    return this.tables[found.table];
  }

  editView(edit, side, cursor) {
    const t = stepOf(edit, edit.frame, cursor - 1, side.views.length, "states");
    const [x, y] = Array.isArray(edit.view) ? edit.view : [];
    if (!(x < VIEW && y < VIEW)) throw new Impossible(`${edit.op}: view wants a cell [x, y] of the 7x7 view`);
    const view = side.views[t].slice(), at = (x * VIEW + y) * 3, there = OBJECTS[view[at]];
    if (edit.op === "obs_add" && !["empty", "unseen"].includes(there)) {
      throw new Impossible(`the view's cell (${x}, ${y}) at step ${t} is not free, it shows a ${there}`);
    }
    const kind = edit.type === "complement" ? side.table.complement : edit.type;
    const colour = edit.colour ?? (edit.op === "obs_set" ? ONE_COLOUR[kind] : undefined) ?? "green";
    const shown = [OBJECTS.indexOf(kind), COLOURS.indexOf(colour),
      edit.op === "obs_set" && kind === "door" ? DOORS.indexOf(edit.state ?? "closed") : 0];
    if (shown.includes(-1)) throw new Impossible(`${edit.op}: no such type, colour or state`);
    view.set(shown, at);
    if (view.some((value, i) => value !== side.views[t][i])) side.unusual[t] = 1;
    side.views[t] = view;
  }
}

/** The number of a step that an edit names; `last` is that of the cursor, whatever comes after. */
const stepOf = (edit, asked, last, count, what) => {
  const number = {first: 0, last}[asked] ?? asked;
  if (Number.isInteger(number) && number >= 0 && number < count) return number;
  throw new Impossible(`${edit.op}: the run has ${count} ${what}, none is number ${asked}`);
};

const editRewardToGo = (edit, rewardToGo, cursor) => {
  if (typeof edit.value !== "number") throw new Impossible("set_rtg: value wants a number");
  const index = edit.scope === "last" ? "last" : edit.index;
  if (edit.scope === "all") rewardToGo.fill(edit.value);
  else rewardToGo[stepOf(edit, index, cursor - 1, rewardToGo.length, "states")] = edit.value;
};

/** Play a scene (as page/scene.js reads it) in a place: what dtx/app/play.py calls Played. */
export const play = (scene, place, best) => {
  const messages = [], tell = (part, problem) => messages.push({part, problem});
  const world = place.known(scene.world, tell);
  const numbers = [...scene.actions].map((letter) => LETTERS.indexOf(letter));
  const known = numbers.filter((number) => number < place.n_actions);
  const lacking = new Set(numbers.filter((number) => number >= place.n_actions).map((number) => ACTIONS[number]));
  if (lacking.size) tell("actions", `${place.id} has no ${[...lacking].sort().join(", ")}; left out`);
  if (known.length > place.horizon) tell("actions", `an episode has at most ${place.horizon}; the rest is left out`);
  const actions = known.slice(0, place.horizon), start = scene.reward_to_go ?? best;
  const original = place.side(place.tables[place.worlds[world].table], actions, start, scene.tokens);
  const t = original.states.length;
  if (t <= actions.length) tell("actions", `the episode ends after ${t - 1}; the rest is left out`);
  if (scene.cursor > t) tell("cursor", `there are ${t} states; the last is shown`);
  const cursor = Math.min(scene.cursor ?? t, t);
  let edited = null, impossible = null;
  if (scene.edits.length) {
    try {
      edited = place.edited(scene, world, original, start, cursor);
    } catch (error) {
      if (!(error instanceof Impossible)) throw error;
      impossible = error.message;
    }
  }
  const letters = original.actions.map((action) => LETTERS[action]).join("");
  return {place, world, original, edited, impossible, messages, cursor,
    scene: {...scene, env: scene.env && place.id, world, actions: letters, cursor, reward_to_go: start}};
};

const changed = ({original, edited, cursor}) => {
  if (!edited || edited.states.length < cursor) return [];
  const names = [];
  for (let t = 0; t < cursor; t++) {
    if (original.rewardToGo[t] !== edited.rewardToGo[t]) names.push(`R${t + 1}`);
    if (original.views[t].some((value, i) => value !== edited.views[t][i])) names.push(`S${t + 1}`);
    if (t < cursor - 1 && original.actions[t] !== edited.actions[t]) names.push(`A${t + 1}`);
  }
  return names;
};

/** The play part of an answer. */
export const shown = (played) => {
  const {place, original, edited} = played, [, width, height] = place.pool.grids.shape;
  return {env: place.id, width, height, n_actions: place.n_actions, horizon: place.horizon,
    original: sideShown(place, original), edited: edited && sideShown(place, edited), impossible: played.impossible,
    changed: changed(played), same_length: !edited || edited.states.length === original.states.length, cursor: played.cursor};
};

const sideShown = ({pool}, side) => {
  const {table, states} = side, t = states.length, [, width, height] = pool.grids.shape;
  const [grids, grid] = distinct(states.map((state) => part(pool.grids, table.grid.data[state])));
  const [views, view] = distinct(side.views);
  const distance = pool.distance && !side.unusual.includes(1)
    ? {shape: [t], data: Int32Array.from(states, (state) => pool.distance.data[table.view.data[state]])} : null;
  const rows = (of) => Int32Array.from(states.flatMap((state) => [...part(of, state)]));
  const joined = (list, ...shape) => {
    const data = new Uint8Array(list.reduce((total, one) => total + one.length, 0));
    list.forEach((one, i) => data.set(one, i * one.length));
    return {shape: [list.length, ...shape], data};
  };
  return {grids: joined(grids, width, height, 3), grid: {shape: [t], data: grid}, views: joined(views, VIEW, VIEW, 3),
    view: {shape: [t], data: view}, unusual: {shape: [t], data: side.unusual},
    seen: joined(states.map((state) => part(pool.seen, table.seen.data[state])), width, height),
    agent: {shape: [t, 3], data: rows(table.agent)}, carrying: {shape: [t, 3], data: rows(table.carrying)},
    actions: {shape: [t - 1], data: Int32Array.from(side.actions)}, rewards: {shape: [t - 1], data: Float32Array.from(side.rewards)},
    reward_to_go: {shape: [t], data: side.rewardToGo}, over: side.over, distance};
};

const distinct = (arrays) => {
  const known = new Map(), kept = [];
  const index = arrays.map((array) => {
    const key = array.join();
    if (!known.has(key)) known.set(key, kept.push(array) - 1);
    return known.get(key);
  });
  return [kept, Int32Array.from(index)];
};
