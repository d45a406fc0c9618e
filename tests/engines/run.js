// @ts-check
// Runs the tests in Firefox and WebKit. `cargo xtask test` sets the servers (ZAMBA2_URL, ZAMBA2_PLAIN_URL) and the
// browsers (ZAMBA2_FIREFOX, ZAMBA2_WEBKIT).

import { fileURLToPath } from "node:url";
import { runFiles } from "../run_files.js";

await runFiles([fileURLToPath(new URL("main_path.test.js", import.meta.url))]);
