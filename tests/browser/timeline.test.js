// @ts-check
// The timeline of a profile: which spans a range shows, and moving, scaling and searching by keyboard, wheel, pointer
// and touch. The run is the example in docs/, stored as if it had been measured here.

import assert from "node:assert/strict";
import { assertAccessible } from "./accessibility.js";
import { DESKTOP, download, onePage, repositoryFile, setWidth, SITE, switchLanguage, test } from "./harness.js";

/** @import { Page } from "playwright-core" */
/** @import { Run } from "../../www/engine/zamba2.d.ts" */

/** @type {Run} */
const RUN = JSON.parse(repositoryFile("docs/example/run.json").toString());
const [{ spans: SPANS }] = RUN.runs;
const ZERO_US = SPANS.start_us[0];
const END_US = SPANS.start_us.reduce((most, start, row) => Math.max(most, start + SPANS.duration_us[row]), 0) - ZERO_US;

const CARD = "#chart-timeline";
const PLACE = `${CARD} .drawing`;
const FIELD = `${CARD} input[type=search]`;
const RANGE = `${CARD} .timeline-state p:first-child`;
const MATCH = `${CARD} .timeline-state p:last-child`;

const withTimeline = onePage(
  async (page) => {
    await page.goto(`${SITE}/pkg/zamba2.js`);
    await page.evaluate(async (run) => {
      const { storeRun } = await import(/** @type {any} */ ("/www/profile/run_store.js"));
      await storeRun(run);
    }, RUN);
    await page.goto(`${SITE}/#profile`);
    await page.waitForSelector(`${CARD} .plot`);
    await page.locator(CARD).scrollIntoViewIfNeeded();
  },
  async (page) => {
    if (page.viewportSize()?.width !== DESKTOP.width) await page.setViewportSize(DESKTOP);
    if ((await page.getAttribute("html", "lang")) === "ru") await switchLanguage(page);
    await page.fill(FIELD, "");
    await page.focus(PLACE);
    await page.keyboard.press("0");
    // The range is said some time after it is drawn: without this a test would begin with that of the one before.
    await page.locator(RANGE, { hasText: "the whole run" }).waitFor();
  },
);

/** Times as the page shows them, in µs. @param {string} text */
const timesIn = (text) =>
  [...text.matchAll(/([\d.,]+) (µs|ms|s)\b/g)].map(
    ([, value, unit]) => Number(value.replace(/,/g, "")) * { µs: 1, ms: 1e3, s: 1e6 }[/** @type {"s"} */ (unit)],
  );

/** The range that the page says it shows. @param {Page} page */
async function rangeOf(page) {
  const text = (await page.textContent(RANGE)) ?? "";
  if (/whole/.test(text)) return { from: 0, to: END_US, length: END_US };
  const [from, to, length] = timesIn(text);
  return { from, to, length };
}

/** Three significant digits of a range are shown, of both ends and of its length. */
const ROUNDING = 0.01;

/** On a busy machine an input, or the last of several, is drawn late: a range is awaited for so long. */
const PATIENCE_MS = 10_000;

/**
 * Acts until the page shows a range that is as expected, and gives it.
 * @param {Page} page @param {() => Promise<unknown>} act
 * @param {(shown: { from: number, to: number, length: number }) => boolean} isExpected
 */
async function rangeAfter(page, act, isExpected) {
  await act();
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    await drawn(page);
    const shown = await rangeOf(page);
    if (isExpected(shown)) return shown;
    assert.ok(performance.now() < end, JSON.stringify(shown));
  }
}

/**
 * Acts, and the page shows this range then.
 * @param {Page} page @param {() => Promise<unknown>} act @param {[number, number]} expected
 */
async function assertRange(page, act, [from, to]) {
  const most = ROUNDING * (to - from);
  const isNear = (/** @type {number} */ shown, /** @type {number} */ expected) => Math.abs(shown - expected) <= most;
  await rangeAfter(page, act, (shown) => isNear(shown.from, from) && isNear(shown.to, to));
}

/** Waits for two frames, in which the picture is drawn. @param {Page} page */
const drawn = (page) =>
  page.evaluate(async () => {
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  });

/** The place of the picture, once it stays there. @param {Page} page */
async function area(page) {
  await page.locator(PLACE).hover({ trial: true });
  const box = await page.locator(PLACE).boundingBox();
  assert.ok(box);
  return { ...box, middle: box.x + box.width / 2, top: box.y + 40 };
}

test("the timeline begins with the whole run, and its sentence has the run's own figures", () =>
  withTimeline(async (page) => {
    assert.match((await page.textContent(RANGE)) ?? "", /^Shown: the whole run, 1\.98 s\.$/);
    const finding = (await page.textContent(`${CARD} .finding`)) ?? "";
    assert.match(finding, new RegExp(`^${SPANS.name.length.toLocaleString("en")} spans in `));
    assert.match(finding, /16 decode steps/);
    assert.ok(Math.abs(timesIn(finding)[0] - END_US) < 0.005 * END_US);
    await page.selectOption(`${CARD} select`, "4");
    await drawn(page);
    const last = RUN.runs[4].spans;
    assert.match(
      (await page.textContent(`${CARD} .finding`)) ?? "",
      new RegExp(`^${last.name.length.toLocaleString("en")} `),
    );
    await page.selectOption(`${CARD} select`, "0");
  }));

test("keys and buttons zoom around the middle, move, and return to the whole run", () =>
  withTimeline(async (page) => {
    const press = (/** @type {string} */ key, /** @type {[number, number]} */ expected) =>
      assertRange(page, () => page.keyboard.press(key), expected);
    await press("+", [END_US / 4, (3 * END_US) / 4]);
    await press("ArrowRight", [0.3 * END_US, 0.8 * END_US]);
    await press("End", [END_US / 2, END_US]);
    await press("ArrowRight", [END_US / 2, END_US]);
    await press("Home", [0, END_US / 2]);
    await press("0", [0, END_US]);
    const click = (/** @type {string} */ name, /** @type {[number, number]} */ expected) =>
      assertRange(page, () => page.locator(CARD).getByRole("button", { name, exact: true }).click(), expected);
    await click("Zoom in", [END_US / 4, (3 * END_US) / 4]);
    await click("Move left", [0, END_US / 2]);
    await click("Zoom out", [0, END_US]);
    // The letter and digit keys of the page do not get these.
    assert.ok(await page.locator("#view-profile").isVisible());
  }));

test("Ctrl and the wheel zoom at the pointer, a plain wheel scrolls the page, and a drag moves the picture", () =>
  withTimeline(async (page) => {
    const { middle, top, width, x } = await area(page);
    await page.mouse.move(x + width / 4, top);
    const zoom = async () => {
      await page.keyboard.down("Control");
      await page.mouse.wheel(0, -200);
      await page.keyboard.up("Control");
    };
    const zoomed = await rangeAfter(page, zoom, ({ length }) => length < 0.6 * END_US);
    // What was under the pointer stays there.
    const under = zoomed.from + (zoomed.to - zoomed.from) / 4;
    assert.ok(Math.abs(under - END_US / 4) < ROUNDING * END_US, JSON.stringify(zoomed));
    const drag = async () => {
      await page.mouse.move(middle, top);
      await page.mouse.down();
      await page.mouse.move(middle - width / 10, top, { steps: 4 });
      await page.mouse.up();
    };
    const dragged = zoomed.length / 10;
    await assertRange(page, drag, [zoomed.from + dragged, zoomed.to + dragged]);
    const scroll = await page.evaluate(() => scrollY);
    await page.mouse.wheel(0, -100);
    await page.waitForFunction((before) => scrollY < before, scroll);
  }));

test("two fingers zoom and one moves the picture", () =>
  withTimeline(async (page) => {
    const { x, width, top } = await area(page);
    const session = await page.context().newCDPSession(page);
    const touch = (/** @type {string} */ type, /** @type {number[]} */ ...at) =>
      session.send("Input.dispatchTouchEvent", {
        type: /** @type {"touchMove"} */ (type),
        touchPoints: at.map((part, id) => ({ x: x + part * width, y: top, id })),
      });
    const pinch = async () => {
      await touch("touchStart", 0.4, 0.6);
      await touch("touchMove", 0.3, 0.7);
      await touch("touchEnd");
    };
    await assertRange(page, pinch, [END_US / 4, (3 * END_US) / 4]);
    const drag = async () => {
      await touch("touchStart", 0.6);
      for (const at of [0.55, 0.5, 0.4]) await touch("touchMove", at);
      await touch("touchEnd");
    };
    await assertRange(page, drag, [0.35 * END_US, 0.85 * END_US]);
    await session.detach();
  }));

test("a search counts the spans of a module, and Enter visits one after another", () =>
  withTimeline(async (page) => {
    const rows = SPANS.name.flatMap((name, row) => (SPANS.names[name] === "mamba.ssm" ? [row] : []));
    await page.fill(FIELD, "SSM");
    assert.equal(await page.textContent(MATCH), `${rows.length} matches`);
    await drawn(page);
    assert.equal(await page.locator(`${CARD} .match`).count(), 1);
    for (const [n, key] of /** @type {const} */ ([
      [0, "Enter"],
      [1, "Enter"],
      [0, "Shift+Enter"],
      [rows.length - 1, "Shift+Enter"],
    ])) {
      const place = `${(n + 1).toLocaleString("en")} of ${rows.length}: layers.`;
      const from = SPANS.start_us[rows[n]] - ZERO_US;
      const to = from + SPANS.duration_us[rows[n]];
      const contains = (/** @type {{ from: number, to: number, length: number }} */ shown) =>
        shown.length < END_US && shown.from <= from && shown.to >= to;
      await rangeAfter(page, () => page.keyboard.press(key), contains);
      await page.locator(MATCH, { hasText: place }).waitFor();
      const said = (await page.textContent(MATCH)) ?? "";
      assert.ok(said.startsWith(place), said);
      assert.match(said, /\.mamba\.ssm, (Prefill|step \d+): /);
      assert.equal(await page.locator(`${CARD} .current`).count(), 1);
    }
    await assertAccessible(page, "a match");
    await page.fill(FIELD, "nothing");
    assert.equal(await page.textContent(MATCH), "No module matches.");
    assert.ok(await page.locator(CARD).getByRole("button", { name: "Next match" }).isDisabled());
    // Of a block that is found, what is nested in it does not count again.
    await page.fill(FIELD, "layers.37");
    assert.equal(await page.textContent(MATCH), `${1 + RUN.decode_tokens} matches`);
  }));

test("a click fills the width with a span, and the saved picture and the table have the visible range", () =>
  withTimeline(async (page) => {
    const { x, y } = await area(page);
    const prefill = SPANS.pass.flatMap((pass, row) => (pass === 0 ? [row] : []));
    const end_us = Math.max(...prefill.map((row) => SPANS.start_us[row] + SPANS.duration_us[row])) - ZERO_US;
    await assertRange(page, () => page.mouse.click(x + 60, y + 10), [0, end_us]);
    const svg = (await download(page, `${CARD} .chart-saves button:first-child`)).bytes.toString("utf8");
    const points = [...svg.matchAll(/>([\d.]+ (?:s|ms))</g)].map(([, text]) => timesIn(text)[0]);
    assert.ok(points.length >= 4 && Math.max(...points) <= end_us, `${points}`);
    await page.click(`${CARD} summary`);
    const rows = page.locator(`${CARD} tbody tr`);
    // The table is made when the browser says that it is open, which it may do later.
    await rows.first().waitFor();
    assert.deepEqual([...new Set(await rows.locator("td:nth-child(2)").allTextContents())], ["Prefill"]);
    assert.equal(await rows.count(), 60);
    await page.click(`${CARD} summary`);
  }));

test("a range has the spans that lie in it, and a picture of any run has no more boxes than pixels", () =>
  withTimeline(async (page) => {
    const found = await page.evaluate(async (run) => {
      const { timeSpans, visibleBoxes } = await import(/** @type {any} */ ("/www/charts/time_spans.js"));
      const { spans } = run.runs[0];
      const parts = spans.names.map(() => "other");
      const data = timeSpans(spans, { parts, blockOf: () => -1, hybrids: new Set() });
      const WIDTH = 1000;
      const widths = [data.length_us, data.length_us / 7, 40_000, 3_000, 200];
      return widths.map((length_us) => {
        const range = { from_us: 0.4 * (data.length_us - length_us), to_us: 0 };
        range.to_us = range.from_us + length_us;
        // By looking at each span.
        let n = 0;
        for (let row = 0; row < spans.name.length; row++) {
          const from_us = spans.start_us[row] - spans.start_us[0];
          n += Number(from_us < range.to_us && from_us + spans.duration_us[row] > range.from_us);
        }
        const boxes = data.lanes.map((/** @type {any} */ lane) => visibleBoxes(data, lane, range, length_us / WIDTH));
        return {
          expected: n,
          n: boxes
            .slice(1)
            .flat()
            .reduce((/** @type {number} */ sum, /** @type {any} */ box) => sum + box.n, 0),
          most: Math.max(...boxes.map((/** @type {any[]} */ lane) => lane.length)),
          limit: WIDTH + 2,
        };
      });
    }, RUN);
    for (const { expected, n, most, limit } of found) {
      assert.equal(n, expected);
      assert.ok(most <= limit, `${most} boxes`);
    }
    assert.ok(found[0].expected > 5000 && found[4].expected < 10);
  }));

test("the timeline fits a phone in both languages", () =>
  withTimeline(async (page) => {
    await page.fill(FIELD, "in_proj");
    await page.press(FIELD, "Enter");
    await setWidth(page, 390);
    for (const words of ["of 646: layers.", "из 646: layers."]) {
      assert.ok((await page.textContent(MATCH))?.includes(words));
      const [card, inner] = await page.locator(CARD).evaluate((card) => [card.clientWidth, card.scrollWidth]);
      assert.ok(inner <= card);
      await switchLanguage(page);
    }
  }));
