// @ts-check
// The browsers of the suite, for run.js, which starts those that all files share, and for the harness, which uses them.

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

/** Arguments, and the variable in which run.js names the endpoint of one that runs. */
export const BROWSERS = {
  cpu: { args: [NO_SANDBOX], variable: "ZAMBA2_BROWSER" },
  webgpu: { args: [NO_SANDBOX, SOFTWARE_ADAPTER], variable: "ZAMBA2_WEBGPU_BROWSER" },
};

/** @typedef {keyof typeof BROWSERS} BrowserKind */
