// The engine's work in a worker of its own, so that the page stays quick; or in the page: there `answer` is called.
// Imports of a worker know no import map, so this module comes as one data: URL in which each import is the data:
// URL of the module that it names (onefile.py), and panels come by their URLs with the first message.
import {Computing} from "./computing.js";

let computing = null;

/** The answer to one message: {open}, {about} or {ask}. */
export const answer = async ({open, ask}) => {
  if (open) {
    const modules = await Promise.all(Object.entries(open.panels).map(async ([name, url]) => [name, await import(url)]));
    computing = await Computing.open({...open, panels: Object.fromEntries(modules)});
    return computing.about();
  }
  return computing.ask(ask.scene, ask.panels);
};

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  self.onmessage = async ({data: {id, message}}) => {
    try {
      self.postMessage({id, value: await answer(message)});
    } catch (error) {
      self.postMessage({id, error: error.message});
    }
  };
  self.postMessage({here: true});
}
