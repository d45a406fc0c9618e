// @ts-check
// WebKitGTK's MiniBrowser over WebDriver. It has no headless mode, so it gets a display of its own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Builder, By, Capabilities, Key } from "selenium-webdriver";
import { required } from "../browser/browsers.js";

/** @import { WebDriver } from "selenium-webdriver" */
/** @import { DrivenPage } from "./driven.d.ts" */

const HEIGHT = 900;
const KEYS = { Enter: Key.ENTER, Escape: Key.ESCAPE };

/** A port that was free a moment ago: the driver takes a number and reports none. @returns {Promise<number>} */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  server.close();
  await once(server, "close");
  return port;
}

/** Starts a display without a screen. Xvfb chooses the number and writes it to the given file descriptor. */
async function startDisplay() {
  const display = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", `1400x1000x24`, "-nolisten", "tcp"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const failed = once(display, "error").then(([error]) => Promise.reject(error));
  const ended = once(display, "exit").then(([code]) => Promise.reject(new Error(`Xvfb ended with status ${code}`)));
  const output = /** @type {import("node:stream").Readable} */ (display.stdio[3]);
  const [number] = await Promise.race([once(output, "data"), failed, ended]);
  return { display, name: `:${String(number).trim()}` };
}

/** Asks until the driver answers. @param {string} address */
async function untilAnswered(address) {
  const give_up_ms = Date.now() + 30_000;
  for (;;) {
    const response = await fetch(`${address}/status`).catch(() => null);
    if (response?.ok) return;
    if (Date.now() > give_up_ms) throw new Error(`WebKitWebDriver does not answer on ${address}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Runs in the page once it has loaded: the driver reports neither errors nor requests. Earlier errors, and requests of
 * workers, are not seen.
 */
function observe() {
  /** @type {string[]} */
  const faults = [];
  /** @type {any} */ (globalThis).observed_faults = faults;
  addEventListener("error", ({ message }) => faults.push(`uncaught: ${message}`));
  addEventListener("unhandledrejection", ({ reason }) => faults.push(`uncaught: ${reason}`));
  addEventListener("securitypolicyviolation", ({ blockedURI }) => faults.push(`blocked: ${blockedURI}`));
  const log = console.error;
  console.error = (...values) => {
    faults.push(`console: ${values.join(" ")}`);
    log(...values);
  };
}

/** Runs in the page. */
function takeObserved() {
  const scope = /** @type {any} */ (globalThis);
  const faults = scope.observed_faults?.splice(0) ?? [];
  return { faults, requests: performance.getEntriesByType("resource").map(({ name }) => name) };
}

/** Runs in the page: waits until an element has stood still for two frames, in view. @param {string} selector */
async function stillInView(selector) {
  const element = /** @type {HTMLElement} */ (document.querySelector(selector));
  let last_top = NaN;
  for (let n_still = 0; n_still < 2;) {
    element.scrollIntoView({ block: "center" });
    await new Promise(requestAnimationFrame);
    const { top } = element.getBoundingClientRect();
    n_still = top === last_top ? n_still + 1 : 0;
    last_top = top;
  }
}

/**
 * What Safari has and WebKitGTK 2.50 has turned off: shared memory, and the origin's private files. A driven browser
 * refuses such files, as Safari does in a private window.
 */
const AS_SAFARI = {
  arguments: ["--features=StorageAPI,FileSystem,AccessHandle"],
  environment: { JSC_useSharedArrayBuffer: "1" },
};

/** @returns {Promise<DrivenPage>} */
export const openWebKit = () => open(AS_SAFARI);

/** WebKitGTK with its own settings. @returns {Promise<DrivenPage>} */
export const openPlainWebKit = () => open({ arguments: [], environment: {} });

/** @param {{ arguments: string[], environment: Record<string, string> }} kind @returns {Promise<DrivenPage>} */
async function open(kind) {
  const binary = required("ZAMBA2_WEBKIT");
  const home = mkdtempSync(join(tmpdir(), "zamba2-webkit-"));
  const { display, name } = await startDisplay();
  const port = await freePort();
  const env = { ...process.env, DISPLAY: name, HOME: home, GDK_BACKEND: "x11", ...kind.environment };
  const driver = spawn("WebKitWebDriver", [`--port=${port}`], { env, stdio: "ignore" });
  const end = async () => {
    for (const child of [driver, display]) {
      const ended = child.exitCode !== null || once(child, "exit");
      child.kill();
      await ended;
    }
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const browser = await startSession(`http://127.0.0.1:${port}`, binary, ["--automation", ...kind.arguments]);
    return drivenPage(browser, home, end);
  } catch (error) {
    await end();
    throw error;
  }
}

/** @param {string} address @param {string} binary @param {string[]} args */
async function startSession(address, binary, args) {
  await untilAnswered(address);
  return new Builder()
    .disableEnvironmentOverrides()
    .usingServer(address)
    .withCapabilities(new Capabilities({ browserName: "MiniBrowser", "webkitgtk:browserOptions": { binary, args } }))
    .build();
}

/**
 * @param {WebDriver} browser @param {string} downloads @param {() => Promise<void>} end
 * @returns {Promise<DrivenPage>}
 */
async function drivenPage(browser, downloads, end) {
  /** @type {string[]} */
  const faults = [];
  /** @type {string[]} */
  const requests = [];
  /** Takes what has been observed, before the page is left. */
  const collect = async () => {
    const observed = await browser.executeScript(takeObserved);
    faults.push(...observed.faults);
    requests.push(...observed.requests);
  };
  const find = (/** @type {string} */ selector) => browser.findElement(By.css(selector));
  return {
    version: `WebKitGTK ${(await browser.getCapabilities()).get("browserVersion")}`,
    requests,
    faults: async () => {
      await collect();
      return faults;
    },
    downloads,
    goto: async (address) => {
      await collect();
      await browser.get(address);
      await browser.executeScript(observe);
    },
    evaluate: (body, ...values) => browser.executeScript(`return (${body})(...arguments)`, ...values),
    click: async (selector) => {
      await browser.executeScript(stillInView, selector);
      await find(selector).click();
    },
    press: (selector, key, held) => find(selector).sendKeys(...(held ? [Key.CONTROL] : []), KEYS[key]),
    setWidth: async (width) => void (await browser.manage().window().setRect({ width, height: HEIGHT })),
    close: async () => {
      await browser.quit();
      await end();
    },
  };
}
