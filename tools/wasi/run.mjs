// Runs a wasm32-wasip1 program, here a Rust test binary, in Node's WASI.
//
// .cargo/config.toml sets it as the runner of that target, so `cargo test --target wasm32-wasip1` runs tests as for
// other targets. The program has access to the current folder only, and not to the network.

import { readFile } from "node:fs/promises";
import { cwd, env, exit } from "node:process";
import { setFlagsFromString } from "node:v8";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node tools/wasi/run.mjs PROGRAM.wasm [ARGUMENT]...");
  exit(2);
}

// Uses i8x16.relaxed_swizzle on two splats.
const relaxedProbe = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
]);
// Node 20 has relaxed SIMD behind a flag, which newer versions lack. The flag affects modules compiled afterwards.
if (!WebAssembly.validate(relaxedProbe)) setFlagsFromString("--experimental-wasm-relaxed-simd");

// Node 20.20 crashed with "unreachable code" when growing memory finished a garbage collection early. Marking
// without steps avoids it, and a wasm program has almost nothing to mark.
setFlagsFromString("--no-incremental-marking");

// The baseline compiler of Node 20 computes the relaxed dot product of fours wrongly. trusted_width.rs keeps it from
// use in the product; the tests compare both forms.
setFlagsFromString("--no-liftoff");

const here = cwd();
const wasi = new WASI({
  version: "preview1",
  args: [file, ...args],
  env,
  // Tests locate fixtures by a relative path or by CARGO_MANIFEST_DIR.
  preopens: { ".": here, [here]: here },
  returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(file));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
exit(wasi.start(instance));
