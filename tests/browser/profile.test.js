// @ts-check
// The Profile and Compare views from a user's point of view: measuring, reading, saving and comparing, by keyboard, in
// all themes, languages and widths. Figures on the page are compared with the module's summary of the saved run.

import assert from "node:assert/strict";
import { assertAccessible, atEveryWidth } from "./accessibility.js";
import {
  bytesOf,
  DESKTOP,
  download,
  drop,
  horizontalOverflow,
  loadWith,
  openDetails,
  openReadyPage,
  setWidth,
  SITE,
  switchLanguage,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import { measuredPage, profile } from "./page_runs.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */
/** @import { Run, Summary } from "../../www/engine/zamba2.d.ts" */

const withMeasured = measuredPage(async (page) => {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  if (page.viewportSize()?.width !== DESKTOP.width) await page.setViewportSize(DESKTOP);
  if ((await page.getAttribute("html", "lang")) === "ru") await switchLanguage(page);
  await page.click("#tab-profile");
  await page.locator("#profile-summary input[value=prefill]").check({ force: true });
});

/** @param {Page} page @returns {Promise<Run>} */
async function savedRun(page) {
  const { bytes } = await download(page, "[data-format=json]");
  return JSON.parse(bytes.toString("utf8"));
}

/**
 * The module's summary of a run.
 * @param {Page} page
 * @param {Run} run
 * @returns {Promise<Summary>}
 */
function summaryOf(page, run) {
  return page.evaluate(
    async ([address, given]) => (await import(String(address))).summarise(given),
    /** @type {const} */ ([`${SITE}/pkg/zamba2.js`, run]),
  );
}

/** @param {Page} page @param {string} selector */
async function figureOf(page, selector) {
  return Number.parseFloat(((await page.textContent(selector)) ?? "").replace(/,/g, "").replace("−", "-"));
}

/**
 * A rate or an amount without its prefix: 554 MFLOP is 554e6.
 * @param {Page} page @param {string} selector
 */
async function amountOf(page, selector) {
  const [, value, prefix] = /([\d.,]+) ([kMGTP]?)FLOP/.exec((await page.textContent(selector)) ?? "") ?? [];
  return Number.parseFloat(value.replace(/,/g, "")) * 1000 ** ["", "k", "M", "G", "T", "P"].indexOf(prefix);
}

/** A time in µs. @param {Page} page @param {string} selector */
async function microsecondsOf(page, selector) {
  const [, value, unit] = /([\d.,]+) (µs|ms|s)/.exec((await page.textContent(selector)) ?? "") ?? [];
  return Number.parseFloat(value.replace(/,/g, "")) * { µs: 1, ms: 1e3, s: 1e6 }[/** @type {"s"} */ (unit)];
}

/** The page shows three significant digits, so rounding changes at most half a unit of the third. */
const ROUNDING = 0.006;

/** @param {number} shown @param {number} expected @param {string} what */
function assertClose(shown, expected, what) {
  assert.ok(
    Math.abs(shown - expected) <= ROUNDING * Math.abs(expected) + 1e-9,
    `${what}: the page shows ${shown}, the summary has ${expected}`,
  );
}

test("before the first measurement the Profile view says what to do", () =>
  withReadyPage(async (page) => {
    await page.click("#tab-profile");
    assert.match((await page.textContent("#profile-empty")) ?? "", /Press Profile/);
    assert.ok(await page.locator("#profile-result").isHidden());
  }));

test("without a model Profile shows an explanation", () =>
  withPage(async (page) => {
    await page.route("**/config.json", (route) => route.fulfill({ status: 404 }));
    await page.goto(`${SITE}/#profile`);
    await waitForStatus(page, "Stopped by an error");
    await page.click("#profile-run");
    assert.match((await page.textContent("#profile-status")) ?? "", /No model is ready yet/);
  }));

test("every chart draws a part of the model in the colour of the legend", () =>
  withMeasured(async (page) => {
    const found = await page.evaluate(() => {
      /** @param {string} selector @param {"fill" | "backgroundColor"} property */
      const colours = (selector, property) => [
        ...new Set([...document.querySelectorAll(selector)].map((one) => getComputedStyle(one)[property])),
      ];
      return ["mamba", "attention", "ffn", "other"].map((part) => ({
        part,
        legend: colours(`.swatch.part-${part}`, "backgroundColor"),
        charts: {
          bars: colours(`#chart-blocks .bar .part-${part}`, "fill"),
          icicle: colours(`#chart-icicle .part-${part} > .node-box`, "fill"),
          roofline: colours(`#chart-roofline .point.part-${part}`, "fill"),
          timeline: colours(`#chart-timeline .span.part-${part}`, "fill"),
        },
      }));
    });
    const drawn = new Set(found.map(({ legend }) => legend.join()));
    assert.equal(drawn.size, 4, "four colours");
    for (const { part, legend, charts } of found) {
      assert.equal(legend.length, 1, part);
      for (const [chart, fills] of Object.entries(charts)) {
        if (fills.length > 0) assert.deepEqual(fills, legend, `${part} in ${chart}`);
      }
      if (part !== "other") assert.ok(charts.bars.length > 0 && charts.icicle.length > 0, part);
    }
  }));

test(
  "a profile of the embedded model fills every table and every chart",
  () =>
    withMeasured(async (page) => {
      const summary = await summaryOf(page, await savedRun(page));
      const n_blocks = summary.general.n_blocks;
      assert.equal(await page.locator("#chart-blocks .bar").count(), n_blocks);
      assert.equal(
        await page.locator("#chart-blocks .diamond").count(),
        summary.prefill.blocks.filter(({ kind }) => kind === "hybrid").length,
      );
      assert.equal(await page.locator("#chart-types tbody tr").count(), summary.prefill.types.length + 1);
      assert.ok((await page.locator("#chart-roofline .point.whole").count()) === 2);
      assert.equal(await page.locator("#chart-roofline .roof").count(), 1);
      assert.ok((await page.locator("#chart-icicle .node").count()) > n_blocks);
      assert.deepEqual(
        await page
          .locator("#chart-heat canvas")
          .evaluate((canvas) => [
            /** @type {HTMLCanvasElement} */ (canvas).width,
            /** @type {HTMLCanvasElement} */ (canvas).height,
          ]),
        [4, n_blocks],
      );
      assert.equal(await page.locator("#chart-memory .area").count(), 3);
      assert.equal(await page.locator("#profile-blocks tbody tr").count(), n_blocks);
      assert.equal(await page.locator("#profile-modules tbody tr").count(), 20);
      assert.equal(await page.locator("#profile-kinds tbody tr").count(), 4);
    }),
  { quick: true },
);

test("every chart has its finding as label and a table with the same figures", () =>
  withMeasured(async (page) => {
    for (const id of [
      "chart-blocks",
      "chart-roofline",
      "chart-icicle",
      "chart-timeline",
      "chart-heat",
      "chart-memory",
    ]) {
      const finding = await page.textContent(`#${id} .finding`);
      assert.ok((finding ?? "").length > 20, id);
      assert.equal(await page.getAttribute(`#${id} .drawing > *`, "aria-label"), finding, id);
      await page.evaluate((chart) => document.querySelector(`#${chart} details`)?.setAttribute("open", ""), id);
      await page.waitForSelector(`#${id} details tbody tr`);
    }
  }));

test("the page shows the summary's figures of both phases", () =>
  withMeasured(async (page) => {
    const summary = await summaryOf(page, await savedRun(page));
    for (const name of /** @type {const} */ (["prefill", "decode"])) {
      await page.locator(`#profile-summary .segmented input[value=${name}]`).check({ force: true });
      const phase = summary[name];
      assertClose(
        await microsecondsOf(page, "[data-figure=forward] dd:last-child"),
        phase.wall_us.median,
        `${name} time`,
      );
      assertClose(await amountOf(page, "[data-figure=flops] dd:last-child"), phase.flops, `${name} FLOPs`);
      const rate = await amountOf(page, "[data-figure=flop_rate] dd:last-child");
      assertClose(rate, 1e12 * phase.tflops, `${name} FLOP/s`);
      assertClose(await figureOf(page, "[data-figure=bytes] dd:last-child"), phase.gb_per_s, `${name} GB/s`);
      assert.equal(
        await figureOf(page, "[data-figure=ceiling] dd:last-child"),
        Math.round(phase.percent_of_ceiling ?? NaN),
      );
      const slowest = await page.textContent("#profile-modules tbody tr:first-child th");
      assert.equal(
        `model.${slowest}`.replace("model.model.", "model."),
        phase.modules[0].path.startsWith("model.") ? phase.modules[0].path : `model.${phase.modules[0].path}`,
      );
      for (const block of [0, 5]) {
        const row = phase.blocks[block];
        const shown = await page.locator(`#profile-blocks tbody tr:nth-child(${block + 1}) td`).allTextContents();
        const units = await page.locator("#profile-blocks thead th").allTextContents();
        const one = (/** @type {number} */ column) =>
          1000 ** ["", "k", "M", "G", "T"].indexOf(/([kMGT]?)FLOP/.exec(units[column])?.[1] ?? "");
        assertClose(Number(shown[0]) * one(1), row.flops.mamba, `${name} block ${block} Mamba`);
        assertClose(Number(shown[1]) * one(2), row.flops.attention, `${name} block ${block} attention`);
        assertClose(Number(shown[4]) * one(5), 1e12 * row.tflops, `${name} block ${block} FLOP/s`);
      }
    }
  }));

test("self times and untracked time sum to the whole pass", () =>
  withMeasured(async (page) => {
    const percents = await page.locator("#chart-types tbody tr td:nth-child(3)").allTextContents();
    const sum = percents.reduce((total, text) => total + Number(text), 0);
    // Each row is rounded to a tenth of a percent.
    assert.ok(Math.abs(sum - 100) <= 0.05 * percents.length, `the shares sum to ${sum} %`);
  }));

test("a bar, a row and the strip all open the same block with its profile", () =>
  withMeasured(async (page) => {
    for (const opener of [
      ".bar[data-block='5']",
      "#profile-blocks tbody tr:nth-child(6) .opener",
      ".cell:nth-child(8)",
    ]) {
      await page.locator(opener).click();
      assert.equal(await page.textContent("#block-title"), "Block 5");
      assert.match((await page.textContent("#block-profile")) ?? "", /FLOPs ÷ time.*FLOP\/byte/s);
      assert.ok((await page.locator("#block-profile tbody tr").count()) > 5);
      await page.keyboard.press("Escape");
    }
  }));

test("a click sorts a column and marks it as sorted", () =>
  withMeasured(async (page) => {
    const blocks = () => page.locator("#profile-blocks tbody th").allTextContents();
    assert.equal((await blocks())[0], "0");
    await page.click("#profile-blocks .sorter[data-column=block]");
    assert.equal((await blocks())[0], "37");
    assert.equal(await page.getAttribute("#profile-blocks thead th:first-child", "aria-sort"), "descending");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("data-column")), "block");
    await page.click("#profile-blocks .sorter[data-column=block]");
    assert.equal((await blocks())[0], "0");
  }));

test("exports are complete files: run, trace and table parse", () =>
  withMeasured(async (page) => {
    const json = await download(page, "[data-format=json]");
    assert.match(json.name, /^rustdoc-5m-q4-35-tokens\.json$/);
    const parsed = await page.evaluate(
      async ([address, text]) => (await import(address)).parseRun(text),
      [`${SITE}/pkg/zamba2.js`, json.bytes.toString("utf8")],
    );
    assert.equal(parsed.schema, "zamba2-run/1");
    assert.equal(parsed.runs.length, 2);
    const markdown = await download(page, "[data-format=markdown]");
    assert.match(markdown.bytes.toString("utf8"), /^# .*\n/);
    const csv = await download(page, "[data-format=csv]");
    assert.ok(csv.bytes.toString("utf8").split("\n").length > 38);
    const trace = JSON.parse((await download(page, "[data-format=trace]")).bytes.toString("utf8"));
    assert.ok(trace.traceEvents.length > 100);
  }));

test("charts are saved as SVG with inline colours and as PNG", () =>
  withMeasured(async (page) => {
    const drawings = ["chart-blocks", "chart-roofline", "chart-icicle", "chart-timeline", "chart-memory"];
    for (const id of drawings) {
      const svg = (await download(page, `#${id} .chart-saves button:first-child`)).bytes.toString("utf8");
      assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/, id);
      assert.match(svg, /fill="rgb/, id);
      assert.doesNotMatch(svg, /var\(|class=/, id);
    }
    // A canvas is encoded when the browser is idle, or after a second; so all of them wait at the same time.
    const ids = [...drawings, "chart-heat"];
    const saving = ids.map((id) => page.waitForEvent("download", (file) => file.suggestedFilename() === `${id}.png`));
    for (const id of ids) await page.click(`#${id} .chart-saves button:last-child`);
    for (const [i, file] of (await Promise.all(saving)).entries()) {
      const png = await bytesOf(file);
      assert.equal(png.subarray(1, 4).toString(), "PNG", ids[i]);
      const is_drawing = drawings.includes(ids[i]);
      assert.ok(!is_drawing || png.length > 4000, `${ids[i]}: ${png.length} bytes cannot be a complete image`);
    }
  }));

/** The Perfetto UI, which is mocked. */
const PERFETTO = "https://ui.perfetto.dev";

test("Open in Perfetto passes the trace by message through a page that is not isolated", () =>
  withMeasured(
    async (page) => {
      const context = page.context();
      // A mock that answers as Perfetto does and stores what it receives.
      await context.route(`${PERFETTO}/**`, (route) =>
        route.fulfill({
          contentType: "text/html",
          body: `<script>addEventListener("message", (event) => {
          if (event.data === "PING") event.source.postMessage("PONG", event.origin);
          else document.title = new TextDecoder().decode(event.data.perfetto.buffer).slice(0, 200);
        });</script>`,
        }),
      );
      const [hand_over] = await Promise.all([context.waitForEvent("page"), page.click("[data-format=perfetto]")]);
      await hand_over.waitForSelector("#open:enabled");
      assert.equal(await hand_over.evaluate(() => crossOriginIsolated), false);
      await assertAccessible(hand_over, "the page that passes the trace on");
      const [perfetto] = await Promise.all([context.waitForEvent("page"), hand_over.click("#open")]);
      await perfetto.waitForFunction(() => document.title.includes("traceEvents"));
      assert.equal(await hand_over.textContent("#state"), "Handed over.");
      await perfetto.close();
      await hand_over.close();
    },
    [PERFETTO],
  ));

test("a link with settings fills the fields and opens the view without starting a measurement", () =>
  withPage(async (page) => {
    await page.goto(`${SITE}/#profile?tokens=12&decode=3&runs=2&level=block`);
    await waitForStatus(page, "Ready");
    assert.ok(await page.locator("#view-profile").isVisible());
    assert.deepEqual(
      await page.evaluate(() =>
        ["tokens", "decode", "runs", "level"].map(
          (name) => /** @type {HTMLInputElement} */ (document.querySelector(`#profile-form [name=${name}]`)).value,
        ),
      ),
      ["12", "3", "2", "block"],
    );
    assert.ok(await page.locator("#profile-result").isHidden());
  }));

test("a field out of range is named until its value is mended, and nothing runs", () =>
  withReadyPage(async (page) => {
    await page.click("#tab-profile");
    await page.fill("#profile-form [name=runs]", "0");
    await page.click("#profile-run");
    assert.match((await page.textContent(".field-message")) ?? "", /^Runs is not a number in its range \(1 to 50\)/);
    assert.equal(await page.getAttribute("#profile-form [name=runs]", "aria-invalid"), "true");
    assert.equal(await page.textContent("#profile-run"), "Profile");
    await page.fill("#profile-form [name=runs]", "2");
    assert.equal(await page.locator(".field-message").count(), 0);
  }));

test("switching views and languages keeps text and profile", () =>
  withMeasured(async (page) => {
    await page.click("#tab-playground");
    await page.fill("#prompt", "My own words");
    await page.click("#tab-profile");
    const forward = await page.textContent("[data-figure=forward] dd:last-child");
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    await switchLanguage(page);
    await page.click("#tab-profile");
    await page.waitForFunction(() =>
      document.querySelector("#chart-blocks h2")?.textContent?.startsWith("Время по блокам"),
    );
    assert.match(
      (await page.textContent("[data-figure=forward] dd:last-child")) ?? "",
      new RegExp(`^${/^[\d.]+/.exec(forward ?? "")?.[0].replace(".", ",")}`),
    );
    await page.click("#tab-playground");
    assert.equal(await page.inputValue("#prompt"), "My own words");
  }));

test("before the first measurement the reference report is compared with itself", () =>
  withReadyPage(async (page) => {
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference tbody tr");
    const text = (await page.textContent("#compare-reference")) ?? "";
    for (const figure of ["7,387.66 ms", "1,280,351,744", "1,215,064,704", "436.29", "126.76", "0.06"])
      assert.ok(text.includes(figure), figure);
    assert.equal(await page.inputValue("#compare-a"), "published");
    assert.equal(await page.inputValue("#compare-b"), "recomputed");
    assert.equal(await page.locator("#chart-delta .delta").count(), 38);
    const cells = await page.locator("#chart-delta .delta-text").allTextContents();
    assert.equal(cells[0], "−75");
  }));

test("a run compared with the reference has a banner about different conditions and no time per block", () =>
  withMeasured(async (page) => {
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    await page.selectOption("#compare-a", "run-1");
    await page.waitForSelector("#compare-banner");
    const banner = (await page.textContent("#compare-banner")) ?? "";
    assert.match(banner, /hidden size 128 and 2,048/);
    assert.match(banner, /Not stated in the reference report: weights, backend, threads/);
    assert.match((await page.textContent("#chart-delta h2")) ?? "", /FLOPs/);
    assert.ok((await page.locator("#chart-dumbbell .pair").count()) > 5);
    await page.locator("#compare-phase input[value=decode]").check({ force: true });
    await page.waitForFunction(() => /no decode/.test(document.getElementById("compare-banner")?.textContent ?? ""));
    assert.equal(await page.locator("#chart-delta").count(), 0);
    await page.locator("#compare-phase input[value=prefill]").check({ force: true });
  }));

test("a dropped run file becomes run B, and equal runs differ in no block", () =>
  withMeasured(async (page) => {
    const run = JSON.stringify(await savedRun(page));
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    await drop(page, "other.json", run);
    await page.waitForFunction(() => document.getElementById("compare-status")?.textContent?.includes("other.json"));
    await page.waitForFunction(
      () => /** @type {HTMLSelectElement} */ (document.getElementById("compare-b")).value === "run-2",
    );
    await page.waitForFunction(
      () => /** @type {HTMLSelectElement} */ (document.getElementById("compare-a")).value === "run-1",
    );
    await page.waitForFunction(() =>
      /No block differs/.test(document.querySelector("#chart-delta .finding")?.textContent ?? ""),
    );
    assert.deepEqual([...new Set(await page.locator("#chart-delta .delta-text").allTextContents())], ["±0"]);
  }));

test("Stop ends a profile, and the previous result is kept", () =>
  withMeasured(async (page) => {
    await page.fill("#profile-form [name=runs]", "50");
    await page.fill("#profile-form [name=decode]", "512");
    await page.click("#profile-run");
    await page.waitForFunction(() => document.getElementById("profile-run")?.textContent === "Stop");
    await page.click("#profile-run");
    await page.waitForFunction(() => document.getElementById("profile-status")?.textContent?.startsWith("Stopped"));
    assert.equal(await page.locator("#chart-blocks .bar").count(), 38);
    await profile(page);
  }));

test("an invalid run file leads to an error card that names it, and the comparison is kept", () =>
  withReadyPage(async (page) => {
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    for (const contents of ["{", "[]", '{"schema":"zamba2-run/1"}', '{"schema":"other/1"}']) {
      await drop(page, "broken.json", contents);
      const card = page.locator(".error-card[data-code=bad_run]");
      await card.waitFor();
      assert.match((await card.textContent()) ?? "", /broken\.json/);
      await card.getByRole("button", { name: "Dismiss" }).click();
    }
    assert.ok(await page.locator("#compare-reference").isVisible());
  }));

test("keyboard shortcuts can be turned off and have no effect inside fields", () =>
  withReadyPage(async (page) => {
    await page.focus("#prompt");
    await page.keyboard.press("2");
    assert.ok(await page.locator("#view-playground").isVisible());
    await page.click("#help");
    await page.uncheck("#letter-keys");
    await page.keyboard.press("2");
    assert.ok(await page.locator("#view-playground").isVisible());
    await page.reload();
    assert.ok(!(await page.isChecked("#letter-keys")));
  }));

test("the views can be used by keyboard alone", () =>
  withReadyPage(async (page) => {
    await page.keyboard.press("2");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-profile");
    assert.match(page.url(), /#profile$/);
    await page.focus("#profile-form [name=runs]");
    await page.keyboard.press("Control+a");
    await page.keyboard.type("2");
    await page.keyboard.press("Enter");
    await page.waitForFunction(
      () => document.getElementById("profile-status")?.textContent?.startsWith("Measured in"),
      undefined,
      { timeout: 120_000 },
    );

    await page.focus("#tab-profile");
    await page.keyboard.press("s");
    assert.ok(await page.locator("#chart-types input[value=inclusive]").isChecked());
    await page.keyboard.press("e");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("data-format")), "markdown");
    await page.keyboard.press("b");
    assert.ok(await page.evaluate(() => document.activeElement?.classList.contains("cell")));

    await page.focus("#chart-icicle [tabindex='0']");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowRight");
    const path = await page.evaluate(() => document.activeElement?.getAttribute("data-path"));
    assert.ok(path && path !== "model");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("data-path")), path);
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("data-path")), path);

    await page.keyboard.press("4");
    assert.ok(await page.locator("#view-compare").isVisible());
    await page.keyboard.press("ArrowLeft");
    assert.ok(await page.locator("#view-inside").isVisible());
    await page.goBack();
    assert.ok(await page.locator("#view-compare").isVisible());
  }));

/** Six blocks of every kind: axe takes long, and further blocks repeat the markup. */
const FEW_BLOCKS = "/tests/fixtures/two_blocks_no_rope/";

const walked = atEveryWidth([390, 1280], (check) =>
  withPage(async (page) => {
    await openReadyPage(page);
    await loadWith(page, { address: FEW_BLOCKS });
    await page.waitForFunction(() => document.querySelectorAll("#strip [data-kind=S]").length === 2);
    await waitForStatus(page, "Ready");
    await page.click("#tab-profile");
    await check(page, "nothing profiled");
    await profile(page);
    await openDetails(page, "#view-profile");
    await page.locator(".cell").nth(4).click();
    await check(page, "prefill, with a block open", ["#view-profile", "#block-panel"]);
    await page.locator("#profile-summary input[value=decode]").check({ force: true });
    await switchLanguage(page);
    await page.waitForFunction(() => document.querySelector("#chart-blocks h2")?.textContent?.startsWith("Время"));
    await check(page, "decode, in Russian");
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    await check(page, "a run without a counterpart, in Russian", ["#view-compare"]);
    await page.selectOption("#compare-a", "run-1");
    await page.waitForSelector("#compare-banner");
    await openDetails(page, "#view-compare");
    await check(page, "against the reference, in Russian", [".top", "#view-compare"]);
    await switchLanguage(page);
    await page.selectOption("#compare-a", "published");
    await page.waitForFunction(() => document.querySelectorAll("#compare-banner").length === 0);
    await check(page, "published against recomputed", ["#view-compare"]);
    await drop(page, "broken.json", "{");
    await page.waitForSelector(".error-card[data-code=bad_run]");
    await check(page, "a broken file", ["#errors"]);
  }),
);
for (const width of [390, 1280]) {
  for (const scheme of /** @type {const} */ (["light", "dark"])) {
    test(`axe finds no violation in Profile and Compare at ${width} px, ${scheme}, in both languages`, () =>
      walked(width, scheme));
  }
}

for (const width of [320, 390, 1280]) {
  test(`nothing overflows horizontally in Profile and Compare at ${width} px, in either language`, () =>
    withMeasured(async (page) => {
      await openDetails(page);
      for (const language of ["en", "ru"]) {
        if (language === "ru") await switchLanguage(page);
        await page.click("#tab-profile");
        await setWidth(page, width);
        assert.equal(await horizontalOverflow(page), 0, `Profile, ${language}`);
        await page.click("#tab-compare");
        await page.waitForSelector("#compare-reference");
        await setWidth(page, width);
        assert.equal(await horizontalOverflow(page), 0, `Compare, ${language}`);
      }
    }));
}
