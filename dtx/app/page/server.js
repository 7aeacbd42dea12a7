// The engine over HTTP: dtx/app/server.py answers. It keeps nothing; each request carries its scene.

import {decode, stream} from "./frames.js";

const AGAIN = [300, 700, 1500, 3000]; // ms until a server that is away is asked again; the last one repeats

/** Take `token=...` out of the URL's fragment: the secret of a server that is open to others. */
const secret = () => {
  const kept = "dtx-explorer-token";
  const found = /(?:^#|&)token=([^&]*)/.exec(location.hash);
  try {
    if (!found) return sessionStorage.getItem(kept) ?? "";
    sessionStorage.setItem(kept, found[1]);
  } catch { /* storage is forbidden here; the token lives as long as the page */ }
  if (!found) return "";
  history.replaceState(null, "", location.hash.replace(/(^#|&)token=[^&]*/, (_, before) => (before === "#" ? "#" : "")).replace(/^#&/, "#"));
  return found[1];
};

const wait = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, {once: true});
});

/** Answers of dtx/app/server.py. `onstate(text or null)` is told when the server is away, and when it is back. */
export class Server {
  name = "server";

  constructor() {
    this.token = secret();
    this.onstate = () => {};
  }

  /** What there is: models, environments, panels. */
  async about(options = {}) { return decode(await (await this.#post("about", {}, options)).arrayBuffer()); }

  /** The answer to a scene: what was played, and the data of some panels. */
  async ask(scene, panels, options = {}) {
    return decode(await (await this.#post("ask", {scene, panels}, options)).arrayBuffer());
  }

  /** The last answer of a long panel; `progress(answer so far, share)` gets the earlier ones. */
  async long(scene, panel, {signal, progress = () => {}} = {}) {
    const response = await this.#post("long", {scene, panel}, {signal});
    let last = null;
    for await (const answer of stream(response.body.getReader())) progress((last = answer), answer.share ?? 0);
    if (!last) throw new Error("the server sent nothing");
    return last;
  }

  /** A scene as text: yaml, command. */
  async text(scene, what, options = {}) { return (await this.#post("text", {scene, what}, options)).text(); }

  /** One HTML file that plays a scene without a server. */
  async save(scene, options = {}) { return (await this.#post("save", {scene}, options)).blob(); }

  /** The drawing half of a panel. */
  panel(name) { return import(`./panels/${encodeURIComponent(name)}.js`); }

  async #post(path, body, {signal} = {}) {
    for (let attempt = 0; ; attempt++) {
      const pause = AGAIN[Math.min(attempt, AGAIN.length - 1)];
      let response;
      try {
        const headers = {"Content-Type": "application/json", ...(this.token && {Authorization: `Bearer ${this.token}`})};
        response = await fetch(path, {method: "POST", headers, body: JSON.stringify(body), signal, cache: "no-store"});
      } catch (problem) {
        if (signal?.aborted) throw problem;
        this.onstate("The server does not answer. Start dtx app again; this page goes on by itself.");
        await wait(pause, signal);
        continue;
      }
      if (response.status === 503) {
        this.onstate("The server is busy; asking again.");
        await wait(1000 * Number(response.headers.get("Retry-After")) || pause, signal);
        continue;
      }
      this.onstate(null);
      if (response.ok) return response;
      const told = await response.json().catch(() => ({}));
      throw new Error(told.error ?? `the server answered ${response.status}`);
    }
  }
}
