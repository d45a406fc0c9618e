// @ts-check
// Runs the tests of this folder: `node tests/package/run.js [FILE ...]`.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runFiles } from "../run_files.js";
import { install } from "./consumers.js";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const named = process.argv.slice(2);
const files = readdirSync(HERE).filter(
  (name) => name.endsWith(".test.js") && (named.length === 0 || named.some((part) => name.startsWith(part))),
);

install();
await runFiles(files.map((name) => join(HERE, name)));
