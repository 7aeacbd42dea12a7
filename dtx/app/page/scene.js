// The scene: all that the page shows, and its only state. dtx/app/scene.py and address.py read and write the same.

export const LETTERS = "lrfpdtn";
const VERSION = 1;
const LARGEST = 1e6;
const MOST = {models: 4, actions: 2000, edits: 16, panels: 24, unknown: 8, text: 2000, name: 80};
const MODEL = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}(@[0-9]{1,9})?$/;
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,39}$/;
const PLACE = /^[A-Za-z0-9_][A-Za-z0-9_.,=/:-]{0,99}$/;
const UNKNOWN = /^[A-Za-z][A-Za-z0-9_]{0,19}$/;
const RAW = /^[A-Za-z0-9_.~%/,:;=@*'()!-]{0,200}$/;
const PRINTABLE = /^(?:[^\p{C}\p{Z}]| )*$/u;
const NUMBER = /^-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/;
const WHOLE = /^-?[0-9]{1,15}$/;
const CELL = /^[0-9]{1,4}(,[0-9]{1,4})+$/;

/** The scene in which nothing is chosen. */
export const FIRST = Object.freeze({version: VERSION, models: [], env: "", world: "", actions: "", reward_to_go: null,
  tokens: {}, edits: [], cursor: null, contrast: null, panels: null, shown: "original", text: "", edited_text: "", unknown: {}});

const mapping = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const short = (value) => String(typeof value === "object" ? JSON.stringify(value) : value).slice(0, 40);

/** Whether a value can stand in an edit or a panel's parameter. */
const plain = (value, depth) => {
  if (typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value) && Math.abs(value) <= LARGEST;
  if (typeof value === "string") return [...value].length <= 200 && PRINTABLE.test(value);
  if (Array.isArray(value)) return value.length >= 2 && value.length <= 8 && value.every((x) => Number.isInteger(x) && x >= 0 && x <= 1000);
  if (!mapping(value) || depth <= 0) return false;
  const entries = Object.entries(value);
  return entries.length > 0 && entries.length <= 12 && entries.every(([k, v]) => NAME.test(k) && plain(v, depth - 1));
};

const size = (value, part, tell) => {
  if (value === null) return null;
  if (typeof value !== "number" || !Number.isFinite(value)) return tell(part, `a number is wanted, not '${short(value)}'`), null;
  if (Math.abs(value) > LARGEST) return tell(part, `${value} is larger than ${LARGEST}; that is taken`), Math.sign(value) * LARGEST;
  return value + 0 || 0;
};

const text = (wanted) => (value, tell, part) =>
  value === "" || (typeof value === "string" && PLACE.test(value)) ? value : (tell(part, `${wanted} is wanted, not '${short(value)}'`), "");

const list = (value, tell, part) => Array.isArray(value) ? value : (tell(part, "a list is wanted"), null);

const cut = (values, tell, part) => {
  if (values.length > MOST[part]) tell(part, `at most ${MOST[part]} are taken`);
  return values.slice(0, MOST[part]);
};

/** A text without lone surrogates, which no address can hold. */
const sound = (value) => value.replace(/\p{Cs}/gu, "");

const prompt = (value, tell, part) => {
  if (typeof value !== "string") return tell(part, "a text is wanted"), "";
  const kept = sound(value);
  if (kept !== value) tell(part, "has halves of characters, which are left out");
  const characters = [...kept];
  if (characters.length > MOST.text) tell(part, `only the first ${MOST.text} characters are read`);
  return characters.slice(0, MOST.text).join("");
};

const READERS = {
  models(value, tell) {
    const good = (list(value, tell, "models") ?? []).filter((m) =>
      (typeof m === "string" && MODEL.test(m)) || (tell("models", `'${short(m)}' is no model's name; it is left out`), false));
    return cut(good, tell, "models");
  },
  env: text("a config's name, as in door_key,size=6,"),
  world: text("a layout's name or seed:17"),
  actions(value, tell) {
    if (typeof value !== "string") return tell("actions", "letters are wanted"), "";
    const good = [...value].filter((c) => LETTERS.includes(c)).join("");
    if (good !== value) tell("actions", `only ${[...LETTERS].join(" ")} are actions; others are left out`);
    return cut(good, tell, "actions");
  },
  reward_to_go: (value, tell) => size(value, "reward_to_go", tell),
  tokens(value, tell) {
    if (!mapping(value)) return tell("tokens", "a mapping of steps to numbers is wanted"), {};
    const found = {};
    for (const [step, raw] of Object.entries(value)) {
      const number = size(raw, `tokens.${step.slice(0, 10)}`, tell);
      if (!/^[1-9][0-9]{0,3}$/.test(step)) tell("tokens", `'${step.slice(0, 20)}' is no step; steps count from 1`);
      else if (number !== null) found[step] = number;
    }
    return found;
  },
  edits(value, tell) {
    const found = [];
    cut(list(value, tell, "edits") ?? [], tell, "edits").forEach((edit, i) => {
      if (mapping(edit) && typeof edit.op === "string" && NAME.test(edit.op) && plain(edit, 3)) found.push({op: edit.op, ...edit});
      else tell(`edits[${i}]`, "is no operation of a pairs file; it is left out");
    });
    return found;
  },
  cursor(value, tell) {
    if (value === null || (Number.isInteger(value) && value >= 1 && value <= MOST.actions + 1)) return value;
    return tell("cursor", "the number of a step is wanted, from 1; the last is shown"), null;
  },
  contrast(value, tell) {
    if (value === null) return null;
    if (Array.isArray(value) && value.length === 2 && value.every((x) => typeof x === "string" && x !== "" && [...x].length <= MOST.name && sound(x) === x) && value[0] !== value[1]) return [...value];
    return tell("contrast", "two different actions are wanted, as in left-right"), null;
  },
  panels(value, tell) {
    if (value === null) return null;
    const panels = list(value, tell, "panels");
    if (!panels) return null;
    const found = [];
    for (const panel of panels) {
      const name = mapping(panel) ? panel.name : null;
      const parameters = mapping(panel) ? panel.parameters ?? {} : null;
      if (typeof name !== "string" || !NAME.test(name)) tell("panels", `'${short(name)}' is no panel's name`);
      else if (found.some((other) => other.name === name)) tell("panels", `${name} is named twice; the first is shown`);
      else if (mapping(parameters) && (!Object.keys(parameters).length || plain(parameters, 1))) found.push({name, parameters: {...parameters}});
      else tell(`panels.${name}`, "its parameters are not plain values"), found.push({name, parameters: {}});
    }
    return cut(found, tell, "panels");
  },
  shown: (value, tell) => ["original", "edited"].includes(value) ? value : (tell("shown", "original or edited is wanted"), "original"),
  text: (value, tell) => prompt(value, tell, "text"),
  edited_text: (value, tell) => prompt(value, tell, "edited_text"),
  unknown(value, tell) {
    if (!mapping(value)) return tell("unknown", "a mapping is wanted"), {};
    const kept = Object.entries(value).slice(0, MOST.unknown).filter(([k, v]) => UNKNOWN.test(k) && !Object.hasOwn(PARTS, k) && typeof v === "string" && RAW.test(v));
    for (const [name] of kept) tell(name, "this version does not know this part; it is kept in the URL");
    const dropped = Object.keys(value).find((name) => !kept.some(([other]) => other === name));
    if (dropped !== undefined) tell("unknown", `'${dropped.slice(0, 40)}' is no part of a link; it is left out`);
    return Object.fromEntries(kept);
  },
};

/** {scene, messages}: the scene that plain values describe, whatever they are, and what was wrong with them. */
export const read = (raw) => {
  const messages = [];
  const tell = (part, problem) => messages.push({part, problem});
  const scene = {...FIRST};
  if (!mapping(raw)) tell("scene", "is no mapping; the first scene is shown");
  else for (const [name, value] of Object.entries(raw)) {
    if (Object.hasOwn(READERS, name)) scene[name] = READERS[name](value, tell, name);
    else if (name !== "version") tell(name.slice(0, 40), "is no part of a scene; it is left out");
  }
  return {scene, messages};
};

// --- as an address

const PARTS = {m: "models", env: "env", w: "world", a: "actions", r: "reward_to_go", e: "edits", t: "cursor", c: "contrast", p: "panels", v: "shown", x: "text", y: "edited_text"};
const percent = (character) => [...new TextEncoder().encode(character)].map((b) => `%${b.toString(16).toUpperCase().padStart(2, "0")}`).join("");
const quoted = (value, more = "") => [...value].map((c) => (/[A-Za-z0-9\-_./@*'()!]/.test(c) || more.includes(c) ? c : percent(c))).join("");

const decoded = (value) => {
  try { return decodeURIComponent(value); } catch { return value; }
};

const valued = (value) => {
  if (value === "true" || value === "false") return value === "true";
  if (NUMBER.test(value)) return Number(value);
  return CELL.test(value) ? value.split(",").map(Number) : decoded(value);
};

/** The shortest text that reads back to the number, without a 0 before the dot. */
export const digits = (value) => String(value).replace(/^(-?)0\./, "$1.");

const written = (value) => {
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") return digits(value);
  if (Array.isArray(value)) return value.join(",");
  const out = quoted(value);
  return typeof valued(out) === "string" ? out : percent(out[0]) + out.slice(1); // a text that reads as something else
};

const fields = (part, first) => {
  const [word, ...rest] = part.split(":");
  const found = Object.assign(Object.create(null), {[first]: decoded(word)});
  for (const entry of rest) {
    const equals = entry.includes("=") ? entry.indexOf("=") : entry.length;
    const outer = entry.slice(0, equals).split(".");
    const last = outer.pop();
    let inside = found;
    for (const step of outer) inside = mapping(inside[step] ??= Object.create(null)) ? inside[step] : Object.create(null);
    inside[last] = valued(entry.slice(equals + 1));
  }
  return found;
};

const entries = (values, before = "") => Object.entries(values).flatMap(([name, value]) =>
  mapping(value) ? entries(value, `${before}${name}.`) : [`${before}${name}=${written(value)}`]);

const split = (value, separator) => (value ? value.split(separator) : []);

const put = (raw, name, value) => {
  const field = PARTS[name];
  if (name === "m") raw[field] = split(value, "~").map(decoded);
  else if (name === "r") {
    const [start, ...rest] = value.split(",");
    raw[field] = start ? valued(start) : null;
    raw.tokens = Object.create(null);
    for (const token of rest) {
      const colon = token.includes(":") ? token.indexOf(":") : token.length;
      raw.tokens[decoded(token.slice(0, colon))] = valued(token.slice(colon + 1));
    }
  } else if (name === "e") raw[field] = split(value, ";").map((edit) => fields(edit, "op"));
  else if (name === "t") raw[field] = WHOLE.test(value) ? Number(value) : value;
  else if (name === "c") raw[field] = value.split("-").map(decoded);
  else if (name === "p") raw[field] = split(value, "~").map((panel) => {
    const {"": word, ...parameters} = fields(panel, "");
    return {name: word, parameters};
  });
  else raw[field] = decoded(value);
};

/** {scene, messages} of an address, whatever text it is; with or without # and what stands before it. */
export const parse = (address) => {
  const fragment = address.includes("#") ? address.slice(address.indexOf("#") + 1) : address;
  const raw = {};
  const unknown = Object.create(null);
  const early = [];
  fragment.split("&").forEach((part, i) => {
    const equals = part.indexOf("=");
    const name = equals < 0 ? part : part.slice(0, equals);
    if (i === 0 && equals < 0 && /^[0-9]*$/.test(name)) {
      if (!["", String(VERSION)].includes(name)) early.push({part: "version", problem: `this is version ${VERSION}, the link has ${name}`});
    } else if (Object.hasOwn(PARTS, name)) put(raw, name, equals < 0 ? "" : part.slice(equals + 1));
    else if (part) unknown[name] = equals < 0 ? "" : part.slice(equals + 1);
  });
  if (Object.keys(unknown).length) raw.unknown = unknown;
  const {scene, messages} = read(raw);
  return {scene, messages: [...early, ...messages]};
};

/** The address of a scene, from # on; parts at their defaults are left out. */
export const address = (scene) => {
  const rewards = [scene.reward_to_go === null ? "" : digits(scene.reward_to_go),
    ...Object.entries(scene.tokens).map(([step, value]) => `${step}:${digits(value)}`)].join(",");
  const parts = {m: scene.models.join("~"), env: scene.env, w: scene.world, a: scene.actions, r: rewards,
    e: scene.edits.map(({op, ...rest}) => [op, ...entries(rest)].join(":")).join(";"),
    t: scene.cursor === null ? "" : String(scene.cursor), c: (scene.contrast ?? []).map((name) => quoted(name, "~").replaceAll("-", "%2D")).join("-"),
    p: (scene.panels ?? []).map((panel) => [panel.name, ...entries(panel.parameters)].join(":")).join("~"),
    v: scene.shown === "original" ? "" : scene.shown, x: quoted(scene.text, ",:;~="), y: quoted(scene.edited_text, ",:;~=")};
  const out = Object.entries(parts).filter(([, value]) => value).map(([name, value]) => `${name}=${value}`);
  if (scene.panels?.length === 0) out.push("p=");
  out.push(...Object.entries(scene.unknown).map(([name, value]) => `${name}=${value}`));
  return `#${[VERSION, ...out].join("&")}`;
};
