// A mark in every pose of the world: it stands where the agent looks to and points to the best action.

const KINETIC = [2, 0, 1]; // forward, left, right: the order in which dtx/analysis/psychology/poses.py searches

/** Poses that turns and steps lead to, each by its shortest way: [{state, views, actions}]. */
const posesOf = ({place, table, view}, longest) => {
  const pose = (state) => table.agent.data.subarray(3 * state, 3 * state + 3).join();
  const found = [{state: 0, views: [view(0)], actions: []}], known = new Set([pose(0)]);
  for (const {state, views, actions} of found) for (const action of actions.length < longest ? KINETIC : []) {
    const next = table.next.data[state * place.n_actions + action];
    const over = table.next.data[next * place.n_actions] < 0 || actions.length + 1 >= place.horizon;
    if (over || known.has(pose(next))) continue;
    known.add(pose(next));
    found.push({state: next, views: [...views, view(next)], actions: [...actions, action]});
  }
  return found;
};

/** The policy in every pose of both worlds, at the reward-to-go that each run is asked for at its start; see policy_field.py. */
export const compute = (moment) => {
  const tolerance = 1e-5, a = moment.actions.length;
  let error = 0, size = null;
  const sides = moment.both((side) => {
    const start = side.played.rewardToGo[0], world = side.world(), poses = posesOf(world, moment.cfg.n_steps - 1), p = poses.length;
    const rewards = new Float32Array(moment.cfg.n_steps).fill(start), probability = new Float32Array(p * a);
    for (const length of new Set(poses.map(({views}) => views.length))) {
      const alike = poses.map((pose, i) => ({...pose, i})).filter(({views}) => views.length === length);
      const windows = alike.map((pose) => side.windowOf({...pose, rewardToGo: rewards.subarray(0, length)}));
      const {data} = moment.model.forward(windows).logits;
      alike.forEach(({i}, row) => probability.set(moment.probabilities(data.subarray(row * a, row * a + a)), i * a));
    }
    const rows = poses.map((_, i) => probability.subarray(i * a, i * a + a));
    const own = moment.probabilities(moment.model.forward([side.windowOf({views: [world.view(0)], actions: [], rewardToGo: Float32Array.of(start)})]).logits.data);
    const there = rows[poses.findIndex(({actions}) => !actions.length)];
    error = Math.max(error, ...there.map((x, i) => Math.abs(x - own[i])));
    size = {width: world.grid.shape[0], height: world.grid.shape[1]};
    const column = (Kind, of) => ({shape: [p], data: Kind.from(poses, (pose, i) => of(pose, rows[i]))});
    return {reward_to_go: start, grid: world.grid, probability: {shape: [p, a], data: probability},
      pose: {shape: [p, 3], data: Int32Array.from(poses.flatMap(({state}) => [...world.table.agent.data.subarray(3 * state, 3 * state + 3)]))},
      steps: column(Int32Array, ({actions}) => actions.length),
      best: column(Int32Array, (_, row) => row.indexOf(Math.max(...row))),
      entropy: column(Float32Array, (_, row) => -row.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0)),
      decision: column(Uint8Array, ({state}) => world.decides(state))};
  });
  const check = {name: "where the run starts it is the model's policy there", error, tolerance, holds: error <= tolerance};
  return {actions: moment.actions, ...size, ...sides, check};
};

const title = (look, i) => look.models[i]?.title ?? `model ${i + 1}`;
const sides = (data) => ["original", "edited"].filter((name) => data[name]);
const side = (model, look) => (model.edited && look.shown === "edited" ? "edited" : "original");
const AHEAD = [[1, 0], [0, 1], [-1, 0], [0, -1]];
const WORDS = ["right", "down", "left", "up"];
const COLOURS = {left: "var(--c2)", right: "var(--c4)", forward: "var(--c3)"};
const colour = (action) => COLOURS[action] ?? "var(--c6)";

/** Marks of one run, in units of cells. */
const marks = (model, name, svg) => {
  const {pose, best, probability, decision, steps} = model[name];
  const wide = model.actions.length;
  return Array.from({length: pose.shape[0]}, (_, p) => {
    const [x, y, d] = pose.data.subarray(3 * p, 3 * p + 3);
    const action = model.actions[best.data[p]];
    const sure = probability.data[p * wide + best.data[p]];
    const [ax, ay] = AHEAD[d];
    const [cx, cy] = [x + 0.5 + 0.3 * ax, y + 0.5 + 0.3 * ay];
    const turn = {left: 3, right: 1, forward: 0}[action];
    const told = svg("title", {}, `column ${x}, row ${y}, facing ${WORDS[d]}: ${action} ${sure.toFixed(2)}, ${steps.data[p]} steps from the start${decision.data[p] ? ", where it decides" : ""}`);
    const shape = turn === undefined
      ? svg("circle", {cx, cy, r: 0.09, fill: colour(action), opacity: 0.35 + 0.65 * sure}, told)
      : svg("path", {d: arrow(cx, cy, AHEAD[(d + turn) % 4]), fill: colour(action), stroke: "var(--mg-floor)", "stroke-width": 0.02, opacity: 0.35 + 0.65 * sure}, told);
    return decision.data[p] ? [svg("circle", {cx, cy, r: 0.18, fill: "none", stroke: "var(--mg-yellow)", "stroke-width": 0.04}), shape] : [shape];
  }).flat();
};

/** A triangle around a point that points along a direction. */
const arrow = (x, y, [dx, dy]) => {
  const [sx, sy] = [-dy, dx];
  const at = (along, across) => `${(x + along * dx + across * sx).toFixed(3)} ${(y + along * dy + across * sy).toFixed(3)}`;
  return `M${at(0.14, 0)}L${at(-0.09, 0.1)}L${at(-0.09, -0.1)}Z`;
};

/** Over the world itself. */
export const overlay = (data, look) => {
  const model = data.find((item) => item.data)?.data;
  return model ? marks(model, side(model, look), look.svg) : [];
};

export const draw = (root, data, look) => {
  const {charts, svg, html, number} = look;
  const shown = data.flatMap((item, i) => (item.data ? [{...item.data, i}] : []));
  const figures = shown.flatMap((model) => {
    const {width, height} = model;
    const name = side(model, look);
    const size = Math.min(46, look.width / width);
    const {grid} = model[name];
    const cells = [];
    for (let x = 0; x < width; x++) for (let y = 0; y < height; y++) {
      const object = grid.data[3 * (x * height + y)];
      cells.push(svg("rect", {x, y, width: 1, height: 1, fill: object === 2 ? "var(--mg-grey)" : "var(--mg-floor)", stroke: "var(--mg-line)", "stroke-width": 0.02}));
      if (object > 3) cells.push(svg("circle", {cx: x + 0.5, cy: y + 0.5, r: 0.14, fill: "none", stroke: "var(--mg-lit)", "stroke-width": 0.04}));
    }
    const field = charts.figure(width * size, height * size, `Policy field, ${name} world`, svg("g", {transform: `scale(${size})`}, cells, marks(model, name, svg)));
    const used = [...new Set([...model[name].best.data].map((a) => model.actions[a]))];
    const legend = charts.legend(used.map((action) => ({name: action, colour: colour(action), kind: "box"})), 0, 12, look.width);
    const words = `${name} world, asked for ${number(model[name].reward_to_go)}`;
    return [charts.titled(shown.length > 1 ? `${model.i + 1} ${title(look, model.i)}: ${words}` : words, field, {width: look.width, colour: `var(--${name}-text)`}), charts.figure(look.width, legend.height + 4, "", legend.nodes)];
  });
  root.append(charts.stack("Best action in every pose", figures, 6), html("p", {class: "note"},
    "A mark stands on the side of the cell to which the agent looks; its point shows where it would turn or go; pale: unsure; ringed: where it decides."));
};

export const table = (data, look) => ({
  columns: ["model", "side", "column", "row", "facing", "steps", "best action", "probability", "entropy, nats", "decides"],
  rows: data.flatMap((item, i) => (item.data ? sides(item.data).flatMap((name) => {
    const {pose, best, probability, entropy, decision, steps} = item.data[name];
    const wide = item.data.actions.length;
    return Array.from({length: pose.shape[0]}, (_, p) => {
      const [x, y, d] = pose.data.subarray(3 * p, 3 * p + 3);
      return [title(look, i), name, x, y, WORDS[d], steps.data[p], item.data.actions[best.data[p]], probability.data[p * wide + best.data[p]], entropy.data[p], decision.data[p] ? "yes" : "no"];
    });
  }) : [])),
});
