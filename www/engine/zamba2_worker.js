// @ts-check
// The script of every worker: it becomes the engine's worker (worker.js) or one of its threads (thread.js), by the
// worker's name. It is one script, so that bundlers and other origins have to provide only one file. First message to
// the page: `{ kind: "hello", scripts_id }`; before it the page sends nothing.

import { SCRIPTS_ID } from "./built.js";
import { THREAD } from "./module_worker.js";

const role = self.name.startsWith(THREAD) ? import("./thread.js") : import("./worker.js");
// Reported as an error of the worker, like a script that cannot be loaded.
role.then(() => postMessage({ kind: "hello", scripts_id: SCRIPTS_ID }), reportError);
