// @ts-check
// The script of every worker: it becomes the engine's own (worker.js) or one of its threads (thread.js), by the
// worker's name. One script for both, so that a bundler or another origin has one file to provide. First message to the
// page: `{ kind: "hello", scripts_id }`; before it the page sends nothing.

import { SCRIPTS_ID } from "./built.js";
import { THREAD } from "./module_worker.js";

const role = self.name.startsWith(THREAD) ? import("./thread.js") : import("./worker.js");
// An error of the worker, as a script that cannot be loaded is.
role.then(() => postMessage({ kind: "hello", scripts_id: SCRIPTS_ID }), reportError);
