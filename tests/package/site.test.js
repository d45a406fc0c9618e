// @ts-check
// The site that `cargo xtask dist` makes, on servers as its hosts are: in a sub-path without any headers, with
// compressed files, without a network, and deployed again under an open page. `cargo xtask test --only package` makes
// it.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT, WORK } from "./consumers.js";
import { browser, closing, served } from "./harness.js";
import { ISOLATION } from "./servers.js";

/** @import { BrowserContextOptions, Page } from "playwright-core" */

const SITE = join(ROOT, "target/site");

/** @param {(page: Page) => Promise<void>} body @param {BrowserContextOptions} [options] */
async function withPage(body, options) {
  const context = await browser.newContext(options);
  try {
    await body(await context.newPage());
  } finally {
    await context.close();
  }
}

/** @param {Page} page @param {string} beginning */
const status = (page, beginning) =>
  page.waitForFunction((text) => document.getElementById("status")?.textContent?.startsWith(text), beginning);

/** Text from the embedded model. @param {Page} page */
async function generate(page) {
  await page.evaluate(() => document.getElementById("sampling")?.setAttribute("open", ""));
  await page.fill("#sampling [name=max_tokens]", "8");
  await page.click("#run");
  await status(page, "Done");
  assert.notEqual(await page.textContent("#output > span:last-child"), "");
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (probe.address());
      probe.close(() => resolve(port));
    });
  });
}

/** @param {string} program */
const isInstalled = (program) => spawnSync(program, ["--version"]).error === undefined;

/** A server as a program, once it answers. @param {string} program @param {string[]} words @param {number} port */
async function started(program, words, port) {
  const server = spawn(program, words, { stdio: "ignore" });
  const ended = new Promise((resolve) => server.on("close", resolve));
  const close = () => {
    server.kill();
    return ended;
  };
  closing.push(close);
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(url).catch(() => null)) return { url, close };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${program} does not answer`);
}

/** A host without any settings, as GitHub Pages and Spaces are; serves `folder`. @param {string} folder */
async function pythonServer(folder) {
  const port = await freePort();
  const words = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, String(port)];
  return started("python3", words, port);
}

/** The site in a sub-path of a folder. @param {string} name */
function inSubPath(name) {
  const folder = join(WORK, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "some"), { recursive: true });
  cpSync(SITE, join(folder, "some/path"), { recursive: true });
  return folder;
}

test("in a sub-path of Python's server it isolates itself and runs, and then does so without a network", (t) => {
  if (!isInstalled("python3")) return t.skip("Python is not installed");
  return withPage(async (page) => {
    const server = await pythonServer(inSubPath("site-python"));
    // Without the final slash, as links often are.
    await page.goto(`${server.url}/some/path`);
    await status(page, "Ready");
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    await generate(page);
    await keptOffline(page);
    await server.close();
    await page.reload();
    await status(page, "Ready");
    await generate(page);
    // Reports are computed by the same build of the engine.
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference tbody tr");
    await page.click("#language");
    await page.waitForSelector("html[lang=ru]");
  });
});

/** nginx with the configuration of docs/deploy.md; gives its address. */
async function nginxServer() {
  const folder = join(WORK, "site-nginx");
  mkdirSync(folder, { recursive: true });
  const [, location] = /```nginx\n([^]*?)```/.exec(readFileSync(join(ROOT, "docs/deploy.md"), "utf8")) ?? [];
  assert.ok(location?.includes("/srv/site/"), "docs/deploy.md has no configuration for nginx");
  const port = await freePort();
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/tmp;`);
  const configuration = `daemon off; pid ${folder}/pid; error_log stderr crit; events {}
    http {
      include /etc/nginx/mime.types; access_log off; ${paths.join(" ")} absolute_redirect off;
      server { listen 127.0.0.1:${port}; ${location.replaceAll("/srv/site/", `${SITE}/`)} }
    }`;
  writeFileSync(join(folder, "nginx.conf"), configuration);
  return started("nginx", ["-c", join(folder, "nginx.conf")], port);
}

test("on nginx with the documented settings it is isolated by the headers and fetches compressed files", async (t) => {
  if (!isInstalled("nginx") || !existsSync("/etc/nginx/mime.types")) return t.skip("nginx is not installed");
  const { url } = await nginxServer();
  await withPage(
    async (page) => {
      /** @type {Map<string, string | undefined>} */
      const encodings = new Map();
      page.on("response", (reply) => encodings.set(new URL(reply.url()).pathname, reply.headers()["content-encoding"]));
      await page.goto(`${url}/zamba2`);
      await status(page, "Ready");
      assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      await generate(page);
      const assets = [...encodings].filter(([path]) => /\/assets\/.*\.(?:js|css|json)$/.test(path));
      assert.ok(assets.length >= 3);
      for (const [path, encoding] of assets) assert.equal(encoding, "gzip", path);
    },
    { serviceWorkers: "block" },
  );
});

/**
 * Waits until the service worker has kept everything of the present build, and only of this one. The page itself is
 * kept together with all files that are missing until then.
 * @param {Page} page
 */
const keptOffline = (page) =>
  page.evaluate(async () => {
    const { build } = document.documentElement.dataset;
    const is_kept = async () => {
      const [name, ...others] = await caches.keys();
      const has_page = name?.endsWith(` ${build}`) && (await caches.match(new URL("./", document.baseURI)));
      const kept = has_page ? await (await caches.open(name)).keys() : [];
      return others.length === 0 && kept.some(({ url }) => url.endsWith(".wasm"));
    };
    while (!(await is_kept())) await new Promise((go) => setTimeout(go, 50));
  });

test("a version deployed after the first visit is kept at the second, and starts without a network", async () => {
  const changed = changedSite("site-newer");
  const folders = { "/": SITE };
  const server = await served(folders);
  await withPage(async (page) => {
    await page.goto(`${server.url}/`);
    await status(page, "Ready");
    await keptOffline(page);
    folders["/"] = changed;
    await page.reload();
    await status(page, "Ready");
    await keptOffline(page);
    await server.close();
    await page.reload();
    await status(page, "Ready");
    const { build } = JSON.parse(readFileSync(join(changed, "build.json"), "utf8"));
    assert.equal(await page.getAttribute("html", "data-build"), build);
    await generate(page);
  });
});

test("made with --base, it also runs without the final slash on a host that does not redirect", async () => {
  const folder = join(WORK, "site-base");
  const words = ["tools/site/make.js", folder, join(ROOT, "target/packs"), "--quick", "--base", "/app/"];
  execFileSync(process.execPath, words, { cwd: ROOT, stdio: "pipe" });
  const { url } = await served({ "/app/": folder, "/app": join(folder, "index.html") });
  await withPage(async (page) => {
    await page.goto(`${url}/app`);
    await status(page, "Ready");
    await generate(page);
  });
});

test("the deployed page has the policy of the source, and each allows its inline scripts by their hashes", () => {
  const [source, deployed] = [ROOT, SITE].map((folder) => {
    const html = readFileSync(join(folder, "index.html"), "utf8");
    const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(html) ?? [];
    const scripts = [...html.matchAll(/<script>([^]*?)<\/script>/g)].map(([, text]) => text);
    const hashes = scripts.map((text) => ` 'sha256-${createHash("sha256").update(text).digest("base64")}'`);
    // The deployed page has one more, which runs before anything is fetched.
    assert.equal(hashes.length, folder === SITE ? 2 : 1);
    for (const hash of hashes) assert.ok(policy.includes(hash), policy);
    return hashes.reduce((rest, hash) => rest.replace(hash, ""), policy);
  });
  assert.equal(deployed, source);
});

test("it can be installed as an application", () =>
  withPage(async (page) => {
    const { url } = await served({ "/some/path/": SITE });
    await page.goto(`${url}/some/path/`);
    // After the reload that isolates it.
    await status(page, "Ready");
    const client = await page.context().newCDPSession(page);
    const { errors, url: address, data } = await client.send("Page.getAppManifest");
    assert.deepEqual(errors, []);
    assert.equal(address, `${url}/some/path/app.webmanifest`);
    assert.equal(new URL(JSON.parse(data ?? "").start_url, address).href, `${url}/some/path/`);
    const { installabilityErrors } = await client.send("Page.getInstallabilityErrors");
    const errors_left = installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito");
    assert.deepEqual(errors_left, []);
  }));

/** Every file of the site with another hash in its name, as after a change. @param {string} name */
function changedSite(name) {
  const folder = join(WORK, name);
  rmSync(folder, { recursive: true, force: true });
  cpSync(SITE, folder, { recursive: true });
  const others = new Map();
  for (const old of readdirSync(join(folder, "assets"))) {
    const [hash] = /[0-9a-f]{10}(?=\.)/.exec(old) ?? [];
    if (hash) others.set(hash, [...hash].reverse().join(""));
  }
  const { build } = JSON.parse(readFileSync(join(folder, "build.json"), "utf8"));
  others.set(build, [...build].reverse().join(""));
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !/\.(?:css|html|js|json|webmanifest)$/.test(path) || path.includes("/models/")) continue;
    let text = readFileSync(path, "utf8");
    for (const [old, other] of others) text = text.replaceAll(old, other);
    writeFileSync(path, text);
  }
  for (const old of readdirSync(join(folder, "assets"))) {
    const other = old.replace(/[0-9a-f]{10}(?=\.)/, (hash) => others.get(hash));
    cpSync(join(folder, "assets", old), join(folder, "assets", other));
    if (other !== old) rmSync(join(folder, "assets", old));
  }
  return folder;
}

test("deployed again under an open page, it says so and offers to reload, whatever fails first", async () => {
  const changed = changedSite("site-changed");
  const folders = { "/": SITE };
  const { url } = await served(folders, ISOLATION);
  for (const [cause, act] of /** @type {[string, (page: Page) => Promise<unknown>][]} */ ([
    ["words of the other language", (page) => page.click("#language")],
    [
      "the engine's worker",
      async (page) => {
        // Otherwise its files come from there, and nothing fails.
        const browser_session = await page.context().newCDPSession(page);
        await browser_session.send("Network.clearBrowserCache");
        await page.click("#model-chip");
        await page.selectOption("#threads", "1");
        await page.click("#load-model");
      },
    ],
  ])) {
    await withPage(
      async (page) => {
        folders["/"] = SITE;
        await page.goto(`${url}/`);
        await status(page, "Ready");
        folders["/"] = changed;
        await act(page);
        const card = page.locator(".error-card[data-code=outdated]");
        await card.waitFor();
        assert.match((await card.textContent()) ?? "", /The site has been updated since this page was loaded/, cause);
        await card.getByRole("button", { name: "Reload the page" }).click();
        await page.waitForURL(`${url}/`);
        await status(page, "Ready");
        await generate(page);
      },
      // A service worker would have kept these files.
      { serviceWorkers: "block" },
    );
  }
});
