// @ts-check
// The browsers of the suite, for run.js, which starts the one that all files share, and for the harness, which uses
// them.

/** @param {string} name */
export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the browser tests with \`cargo xtask test\``);
  return value;
}

export const chromiumPath = () => required("ZAMBA2_CHROMIUM");

/** Chromium refuses its sandbox to root, and the suite often runs as root in a container. */
const NO_SANDBOX = "--no-sandbox";

/** Gives Chromium without a graphics card its software adapter. Without the flag there is no adapter at all. */
const SOFTWARE_ADAPTER = "--enable-unsafe-webgpu";

/**
 * Workgroup memory is not set to zero before a shader runs. Zeroing it is four fifths of what the software adapter
 * compiles, and no kernel reads such memory before it has written it: one that did would read anything here, and fail
 * its test.
 */
const NO_ZEROING = "--enable-dawn-features=disable_workgroup_init";

/**
 * The name under which a page of this machine is neither on https nor on localhost, as by the address of a machine in a
 * local network.
 */
export const LAN_HOST = "lan.test";

/** The arguments of each kind of browser. */
export const BROWSERS = {
  cpu: [NO_SANDBOX],
  lan: [NO_SANDBOX, `--host-resolver-rules=MAP ${LAN_HOST} 127.0.0.1`],
  webgpu: [NO_SANDBOX, SOFTWARE_ADAPTER, NO_ZEROING],
  webgpuAsItComes: [NO_SANDBOX, SOFTWARE_ADAPTER],
};

/** @typedef {keyof typeof BROWSERS} BrowserKind */

/** The variable in which run.js names the endpoint of the browser that all files share. */
export const SHARED = "ZAMBA2_BROWSER";
