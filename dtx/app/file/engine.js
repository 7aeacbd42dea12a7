// The engine without a server: what page/server.js is with one. Its work is done by worker.js.
import {address} from "../page/scene.js";

const PATIENCE = 5000; // ms for a worker to start; it takes some tens
const ABORTED = "AbortError";

const inPage = async (url) => {
  const {answer} = await import(url);
  return {answer, where: "page"};
};

const inWorker = (url) => new Promise((resolve, reject) => {
  const worker = new Worker(url, {type: "module"}), waiting = new Map();
  const late = setTimeout(() => reject(new Error("the worker does not start")), PATIENCE);
  worker.onerror = (event) => {
    clearTimeout(late);
    reject(new Error(event.message));
  };
  worker.onmessage = ({data: {here, id, value, error}}) => {
    if (here) {
      clearTimeout(late);
      resolve({where: "worker", answer: (message) => new Promise((done, failed) => {
        const number = waiting.size ? Math.max(...waiting.keys()) + 1 : 0;
        waiting.set(number, {done, failed});
        worker.postMessage({id: number, message});
      })});
      return;
    }
    const {done, failed} = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) done(value);
    else failed(new Error(error));
  };
});

/** Work that is done one after the other, the newest first, in a place of its own. */
class Lane {
  #queue = [];
  #busy = false;
  #open;
  #place = null;

  /** open: makes the place; called with the first work. */
  constructor(open) {
    this.#open = open;
  }

  get place() {
    return this.#place ??= this.#open();
  }

  /** The answer to a message; of those that wait only the newest are worked on, for aborted ones are left out. */
  ask(message, signal) {
    return new Promise((done, failed) => {
      signal?.addEventListener("abort", () => failed(new DOMException("a newer scene", ABORTED)), {once: true});
      this.#queue.push({message, done, failed, signal});
      this.#next();
    });
  }

  async #next() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      const {answer} = await this.place;
      for (let job = this.#queue.pop(); job; job = this.#queue.pop()) {
        if (!job.signal?.aborted) await answer(job.message).then(job.done, job.failed);
      }
    } catch (error) {
      for (const job of this.#queue.splice(0)) job.failed(error);
    } finally {
      this.#busy = false;
    }
  }
}

export class File {
  name = "file";
  #keys;
  #slow;
  #opened;

  /**
   * worker: URL of worker.js; panels: URLs by name; base64: what the file carries; plain: without the kernel; alone:
   * without workers.
   */
  constructor({worker, panels, base64, plain = false, alone = false}) {
    this.panels = panels;
    this.onstate = null;
    const carried = {base64, panels, plain};
    this.#opened = this.#open(worker, carried, alone);
    this.#keys = new Lane(async () => (await this.#opened).place);
    // What takes longer than a key has a worker of its own, with its own copy of the models, so that no key waits for it.
    this.#slow = new Lane(() => this.#second(worker, carried));
  }

  async #open(worker, carried, alone) {
    const place = alone ? await inPage(worker) : await inWorker(worker).catch(() => inPage(worker));
    this.where = place.where;
    const about = await place.answer({open: carried});
    return {place, about};
  }

  /** A second worker; the first place where there can be none. */
  async #second(worker, carried) {
    const {place, about} = await this.#opened;
    if (place.where !== "worker") return place;
    try {
      const second = await inWorker(worker);
      await second.answer({open: {...carried, checked: about.checked}});
      return second;
    } catch {
      return place;
    }
  }

  /** What there is; `checked` says whether the file may be believed. */
  async about() {
    return (await this.#opened).about;
  }

  /** The module of a panel. */
  panel(name) {
    return import(this.panels[name]);
  }

  /** The answer to a scene. */
  async ask(scene, panels, {signal} = {}) {
    const {about} = await this.#opened, slow = about.panels.filter(({when}) => when !== "key").map(({name}) => name);
    const lane = panels.length && panels.every(({name}) => slow.includes(name)) ? this.#slow : this.#keys;
    return lane.ask({ask: {scene, panels}}, signal);
  }

  /** The same for a panel that takes long with a server: here its numbers are in the file or quickly computed. */
  async long(scene, panel, {signal, progress} = {}) {
    const answer = await this.ask(scene, [panel], {signal});
    progress?.(answer, 1);
    return answer;
  }

  /** What dtx app does with its save button. */
  async save() {
    throw new Error("this page is the file: copy it, and add the address behind # to open it at this scene");
  }

  /** A scene as text: its link; of what only Python writes, the command that does. */
  async text(scene, what) {
    const fragment = address(scene);
    if (what === "link") return location.href.split("#")[0] + fragment;
    return `dtx app --scene '${fragment.replaceAll("'", "'\\''")}' --yaml`;
  }
}
