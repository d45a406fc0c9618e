// Runs a wasm32-wasip1 program, here a Rust test binary, in Node's WASI.
//
// .cargo/config.toml names it as the runner of that target, so `cargo test --target wasm32-wasip1`
// runs tests as it does anywhere else. The program sees the current folder and nothing above it,
// and no network.

import { readFile } from 'node:fs/promises';
import { cwd, env, exit } from 'node:process';
import { WASI } from 'node:wasi';

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node tools/wasi/run.mjs PROGRAM.wasm [ARGUMENT]...');
  exit(2);
}

const here = cwd();
const wasi = new WASI({
  version: 'preview1',
  args: [file, ...args],
  env,
  // Tests name fixtures by a relative path or by CARGO_MANIFEST_DIR.
  preopens: { '.': here, [here]: here },
  returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(file));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
exit(wasi.start(instance));
