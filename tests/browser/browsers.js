// @ts-check
// Launch options of the browsers under test, for run.js, which starts the shared one, and for the harness.

/** @param {string} name */
export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the browser tests with \`cargo xtask test\``);
  return value;
}

export const chromiumPath = () => required("ZAMBA2_CHROMIUM");

/** Chromium's sandbox does not run as root, which is the usual user in a container. */
const NO_SANDBOX = "--no-sandbox";

/** Enables the software adapter; without the flag Chromium has no adapter on a machine without a GPU. */
const SOFTWARE_ADAPTER = "--enable-unsafe-webgpu";

/**
 * Workgroup memory is not zeroed before a shader runs. Zeroing is four fifths of what the software adapter compiles,
 * and no kernel reads such memory before writing it: one that did would read arbitrary values and fail its test.
 */
const NO_ZEROING = "--enable-dawn-features=disable_workgroup_init,disable_robustness";

/**
 * A host name of this machine for which a page is neither on https nor on localhost, like the address of a machine in a
 * local network.
 */
export const LAN_HOST = "lan.test";

/** Command-line arguments of each kind of browser. */
export const BROWSERS = {
  cpu: [NO_SANDBOX],
  lan: [NO_SANDBOX, `--host-resolver-rules=MAP ${LAN_HOST} 127.0.0.1`],
  webgpu: [NO_SANDBOX, SOFTWARE_ADAPTER, NO_ZEROING],
  webgpuAsItComes: [NO_SANDBOX, SOFTWARE_ADAPTER],
};

/** @typedef {keyof typeof BROWSERS} BrowserKind */

/** The environment variable with the endpoint of the shared browser, set by run.js. */
export const SHARED = "ZAMBA2_BROWSER";
