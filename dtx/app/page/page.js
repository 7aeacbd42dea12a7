// The page: its parts put together around an engine. dtx app starts it with the server, the one file with a worker.

import {html, say} from "./dom.js";
import {address} from "./scene.js";
import {App} from "./app.js";
import {Header} from "./header.js";
import {Timeline} from "./timeline.js";
import {World} from "./world.js";
import {Editor} from "./editor.js";
import {Panels, look} from "./panels.js";
import {Find, Help, commands, listen} from "./keys.js";
import {Prompt, Contrast} from "./prompt.js";
import {watch} from "./pointing.js";

/** Colours by the system, or as the reader switched them before. */
const dress = () => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  try { root.dataset.theme = localStorage.getItem("dtx-explorer-theme") ?? ""; } catch { root.dataset.theme = ""; }
  const colours = () => { root.dataset.colours = root.dataset.theme || (dark.matches ? "dark" : "light"); };
  colours();
  return (redraw) => dark.addEventListener("change", () => { colours(); redraw(); });
};

/** What an engine that checks itself found. */
const checked = (found) => found && html("span", {class: found.holds ? "good" : "bad", id: "checked"}, `${found.holds ? "✓" : "✗"} ${found.text} · `);

/** Start the page with an engine; resolves when the first scene is drawn. */
export const start = async (engine) => {
  const dressed = dress();
  const holder = document.getElementById("page");
  const app = new App(engine);
  engine.onstate = (text) => {
    if (app.header) app.header.state(text);
    else holder.textContent = text ?? "Reading the store …";
  };
  try {
    app.about = await engine.about();
    // Those of the first page come first, those about the weights alone last: number keys and places follow this order.
    const rank = ({first, when}) => (first ? 0 : when === "once" ? 2 : 1);
    app.about.panels.sort((a, b) => rank(a) - rank(b));
    await Promise.all(app.about.panels.map(async ({name}) => { app.modules[name] = await engine.panel(name); }));
  } catch (problem) {
    holder.textContent = `The explorer cannot start: ${problem.message}`;
    throw problem;
  }
  const panels = new Panels(app);
  const find = new Find(app, panels);
  const help = new Help();
  const header = (app.header = new Header(app, find));
  const editor = new Editor(app);
  const timeline = new Timeline(app, editor);
  const world = new World(app, editor);
  const prompt = new Prompt(app);
  const contrast = new Contrast(app);
  const named = {
    shown: () => app.scene.edits.length && app.change({shown: app.scene.shown === "edited" ? "original" : "edited"}),
    field: () => app.toggle("policy_field"),
    help: () => help.open(),
  };
  app.look = (name, width, play) => look(app, name, width, play);
  app.command = (name) => named[name]?.();
  const list = commands({app, panels, header, find, help});
  find.commands = list;
  help.fill(list);
  listen(app, list);
  watch(document);
  const spoken = {draw: ({ms}) => {
    say(app.summary());
    if (ms) document.getElementById("took").textContent = `computed in ${Math.round(Object.values(ms).reduce((a, b) => a + b, 0))} ms`;
  }};
  app.parts.push(header, timeline, world, prompt, contrast, panels, spoken);
  panels.policy?.parameters.after(contrast.root);
  for (const part of app.parts) part.tell ??= () => {};
  holder.replaceChildren(header.root, timeline.root,
    html("div", {class: "stage"}, html("div", {class: "left"}, world.root, prompt.root), html("div", {class: "middle"}, panels.policy?.root, panels.middle), html("div", {class: "right"}, panels.shelf, panels.root)),
    html("footer", {class: "soft"}, `dtx explorer · ${app.about.where} · `, checked(app.about.checked), html("span", {id: "took"}), " · keys: ?"));
  dressed(() => app.redraw());
  // A store changes while the page is open: what is new is there when one comes back to it.
  document.addEventListener("visibilitychange", async () => {
    if (document.hidden || engine.name === "file") return;
    const about = await engine.about().catch(() => null);
    if (!about || JSON.stringify(about.models) === JSON.stringify(app.about.models)) return;
    app.about = {...app.about, models: about.models, envs: about.envs};
    app.redraw();
  });
  addEventListener("hashchange", () => location.hash !== address(app.scene) && app.open(location.hash));
  app.open(location.hash);
  await app.settled();
  return app;
};
