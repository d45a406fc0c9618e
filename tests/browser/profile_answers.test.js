// @ts-check
// What the Profile and Compare views say about a measurement: answers in sentences, one verdict everywhere, units that
// fit, sides that can be compared, and blocks that open below the chart they were chosen in.

import assert from "node:assert/strict";
import {
  DESKTOP,
  download,
  drop,
  LONG,
  openReadyPage,
  repositoryFile,
  setOptions,
  setWidth,
  startProfile,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import { measured, measuredPage, profile } from "./page_runs.js";

/** @import { Page } from "playwright-core" */
/** @import { Run, Summary } from "../../www/engine/zamba2.d.ts" */

const withMeasured = measuredPage(async (page) => {
  if (page.viewportSize()?.width !== DESKTOP.width) await page.setViewportSize(DESKTOP);
  await page.click("#tab-profile");
});

/** @param {Page} page @returns {Promise<Run>} */
const savedRun = async (page) => JSON.parse((await download(page, "[data-format=json]")).bytes.toString("utf8"));

/** The module's summary of a run. @param {Page} page @param {Run} run @returns {Promise<Summary>} */
const summaryOf = (page, run) =>
  page.evaluate(async (given) => {
    const module = "/pkg/zamba2.js";
    return (await import(module)).summarise(given);
  }, run);

test("both phases are answered side by side: distance from the limit, slowest block, and what takes the time", () =>
  withMeasured(async (page) => {
    const summary = await summaryOf(page, await savedRun(page));
    for (const name of /** @type {const} */ (["prefill", "decode"])) {
      const phase = summary[name];
      const slowest = phase.blocks.reduce((a, b) => (b.us.median > a.us.median ? b : a));
      const part = page.locator(`#profile-answers [data-phase=${name}]`);
      const [distance, block, why] = await part.locator("li").allTextContents();
      assert.match(
        distance,
        new RegExp(`^${Math.round(phase.percent_of_ceiling ?? NaN)} % of this machine's limit \\(`),
      );
      assert.match(block, new RegExp(`^Slowest: block ${slowest.block}, [\\d.]+ (µs|ms)`));
      assert.match(why, /^Most time (goes to \w|lies outside all modules)/);
      await part.locator("button").click();
      assert.equal(await page.textContent("#block-title"), `Block ${slowest.block}`);
      await page.keyboard.press("Escape");
    }
    const tops = await page
      .locator("#profile-answers [data-phase]")
      .evaluateAll((parts) => [...new Set(parts.map((part) => part.getBoundingClientRect().top))]);
    assert.equal(tops.length, 1, "side by side");
  }));

test("answers, roofline and advice give one verdict, and a ceiling limits a phase from 60 % on only", () =>
  withMeasured(async (page) => {
    const run = await savedRun(page);
    const { decode } = await summaryOf(page, run);
    const found = await page.evaluate(
      async ({ run, percent_now }) => {
        const load = (/** @type {string} */ address) => import(address);
        const { summarise } = await load("/pkg/zamba2.js");
        const { answersOf } = await load("/www/profile/answers.js");
        const { rooflineFinding } = await load("/www/charts/roofline.js");
        const { sentenceText } = await load("/www/sentence.js");
        const { t } = await load("/www/words.js");
        const texts = [];
        for (const percent of [7, 43, 59, 61, 90]) {
          // Ceilings of another machine, of which the same times are this percentage.
          const ceilings = Object.fromEntries(
            Object.entries(run.ceilings ?? {}).map(([name, rate]) =>
              name === "threads" ? [name, rate] : [name, (Number(rate) * percent_now) / percent],
            ),
          );
          const summary = await summarise({ ...run, ceilings });
          const advice = summary.advice.map(sentenceText);
          texts.push({
            percent,
            word: t(`report.verdict.${summary.decode.verdict}`),
            answer: answersOf(summary.decode)[0],
            roofline: rooflineFinding(summary),
            advice: advice.filter((/** @type {string} */ text) => /decode/i.test(text))[0],
          });
        }
        return texts;
      },
      { run, percent_now: decode.percent_of_ceiling ?? NaN },
    );
    for (const { percent, word, answer, roofline, advice } of found) {
      const says = `${percent} % of this machine's limit (${word})`;
      assert.equal(answer, `${says}.`);
      assert.ok(roofline.includes(`Decode: ${says}`), roofline);
      const is_held = percent >= 60;
      assert.equal(/bound/.test(word), is_held, word);
      assert.match(advice, is_held ? new RegExp(`^Decode is ${word}`) : /^Neither ceiling limits decode/);
    }
  }));

test("profiling overhead that cannot be measured is a dash with the reason", () =>
  withMeasured(async (page) => {
    const summary = await summaryOf(page, await savedRun(page));
    const tiles = await page.evaluate(async (summary) => {
      const address = "/www/profile/headline.js";
      const { headlineCards } = await import(address);
      const wall_us = { median: 1000, p5: 950, p95: 1050, n: 5 };
      return [840, 1050, 1230].map((profiled) => {
        const prefill = {
          ...summary.prefill,
          wall_us,
          profiled_us: { ...wall_us, median: profiled },
          recording_percent: (profiled - 1000) / 10,
          is_recording_measurable: profiled > 1100,
        };
        const cards = headlineCards({ ...summary, prefill }, "prefill", () => {});
        const tile = cards.at(-1).querySelector("[data-figure=recording]");
        return [tile.querySelector("dd:last-child").textContent, tile.querySelector(".tile-note")?.textContent];
      });
    }, summary);
    const not_measurable = ["–", "not measurable: within the spread of the runs"];
    assert.deepEqual(tiles, [not_measurable, not_measurable, ["+23.0 %", undefined]]);
  }));

test("amounts and rates have a prefix that fits, and one unit per tile", () =>
  withMeasured(async (page) => {
    const texts = await page.evaluate(async () => {
      const address = "/www/words.js";
      const { scaledText, scaleOf, timeText } = await import(address);
      return [
        scaledText(999, "FLOP"),
        scaledText(2560, "FLOP"),
        scaledText(1e6, "FLOP"),
        scaledText(2.71e9, "FLOP/s"),
        scaledText(1.36e12, "FLOP/s", { scale: scaleOf(2.71e9) }),
        timeText(1.2),
        timeText(9380),
      ];
    });
    assert.deepEqual(texts, [
      "999 FLOP",
      "2.56 kFLOP",
      "1 MFLOP",
      "2.71 GFLOP/s",
      "1,360 GFLOP/s",
      "1.2 µs",
      "9.38 ms",
    ]);
    for (const phase of ["prefill", "decode"]) {
      await page.locator(`#profile-summary input[value=${phase}]`).check({ force: true });
      const values = await page.locator("#profile-summary dd").allTextContents();
      assert.ok(!values.some((value) => /^0\.00/.test(value)), values.join("; "));
      const rate = (await page.textContent("[data-figure=flop_rate]")) ?? "";
      assert.equal(new Set(rate.match(/[kMGT]?FLOP\/s/g)).size, 1, rate);
    }
    await page.locator("#profile-summary input[value=prefill]").check({ force: true });
  }));

test("no column of the tables of blocks and modules is cut off at 1280 px", () =>
  withMeasured(async (page) => {
    for (const id of ["profile-blocks", "profile-modules"]) {
      const hidden = await page.locator(`#${id} .scroll`).evaluate((box) => box.scrollWidth - box.clientWidth);
      assert.equal(hidden, 0, id);
    }
  }));

for (const width of [390, 1280]) {
  test(`no texts of the roofline overlap at ${width} px`, () =>
    withMeasured(async (page) => {
      await setWidth(page, width);
      const overlaps = await page.locator("#chart-roofline svg").evaluate((picture) => {
        const texts = [...picture.querySelectorAll("text")];
        const areaOf = (/** @type {Element} */ text) => text.getBoundingClientRect();
        return texts.flatMap((text, at) =>
          texts.slice(at + 1).flatMap((other) => {
            // The box of slanted text is larger than the text.
            const is_slanted = [text, other].some((one) => one.getAttribute("transform"));
            const is_ceiling = [text, other].every((one) => one.classList.contains("roof-text"));
            if (is_slanted && !is_ceiling) return [];
            const [a, b] = [areaOf(text), areaOf(other)];
            const is_apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
            return is_apart ? [] : [`${text.textContent} / ${other.textContent}`];
          }),
        );
      });
      assert.deepEqual(overlaps, []);
    }));
}

test("a profiled block has the profile's time and no note that nothing has run", () =>
  withMeasured(async (page) => {
    await page.locator(".cell:nth-child(8)").click();
    const text = (await page.textContent("#block-panel")) ?? "";
    assert.match(text, /Time[\d.]+ (µs|ms) \(p5/);
    assert.doesNotMatch(text, /Recent time|no text generated yet/);
    await page.keyboard.press("Escape");
  }));

test("a block opens below the part it was chosen in, and closing restores scroll position and focus", () =>
  withMeasured(async (page) => {
    const focused = () =>
      page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.id);
    for (const [opener, above, focus] of [
      [".bar[data-block='5']", "#chart-blocks", "chart-blocks"],
      ["#profile-blocks tbody tr:nth-child(6) .opener", ".pair-grid:has(#profile-blocks)", "Open block 5"],
    ]) {
      await page.locator(opener).scrollIntoViewIfNeeded();
      const before = await page.evaluate(() => window.scrollY);
      assert.ok(before > 0);
      await page.locator(opener).click();
      assert.equal(await page.textContent("#block-title"), "Block 5");
      assert.ok(await page.locator(`${above} + #block-panel`).isVisible(), `below ${above}`);
      const top = await page.locator("#block-panel").evaluate((panel) => panel.getBoundingClientRect().top);
      assert.ok(top > 0 && top < DESKTOP.height, `the panel begins at ${top}`);
      assert.equal(await page.evaluate(() => document.activeElement?.id), "block-title");
      await page.click("#block-panel [data-act=close]");
      assert.equal(await page.evaluate(() => window.scrollY), before);
      assert.equal(await focused(), focus);
    }
    await page.locator(".cell:nth-child(8)").click();
    assert.ok(await page.locator(".strip-section + #block-panel").isVisible());
    await page.keyboard.press("Escape");
    assert.ok(await page.evaluate(() => document.activeElement?.classList.contains("cell")));
  }));

/** The section that the navigation marks. @param {Page} page */
const markedSection = (page) => page.locator(".section-nav [aria-current]").allTextContents();

test("the navigation of a profile stays in reach, leads to each section by keyboard, and marks the one in view", () =>
  withMeasured(async (page) => {
    await page.evaluate(() => scrollTo(0, 0));
    const nav = page.locator(".section-nav");
    const names = await nav.locator("button").allTextContents();
    for (const name of [names[6], names[3], names[11], names[0]]) {
      await nav.getByRole("button", { name, exact: true }).focus();
      await page.keyboard.press("Enter");
      const [heading, top, bottom] = await page.evaluate(() => {
        const focused = /** @type {Element} */ (document.activeElement);
        const nav = /** @type {Element} */ (document.querySelector(".section-nav"));
        return [focused.tagName, focused.getBoundingClientRect().top, nav.getBoundingClientRect().bottom];
      });
      assert.equal(heading, "H2", name);
      assert.ok(top >= bottom && top < DESKTOP.height, `${name} begins at ${top}, below ${bottom}`);
      assert.deepEqual(await markedSection(page), [name]);
    }
    await page.mouse.move(600, 600);
    await page.mouse.wheel(0, 20_000);
    await page.waitForFunction(() => document.querySelector(".section-nav [aria-current]")?.textContent === "Export");
    await page.mouse.wheel(0, -20_000);
    await page.waitForFunction(() => document.querySelector(".section-nav [aria-current]")?.textContent === "Answers");
  }));

for (const width of [390, 1280]) {
  test(`what stays at the top of a profile covers nothing that has focus, at ${width} px`, () =>
    withMeasured(async (page) => {
      await setWidth(page, width);
      const covered = await page.evaluate(() => {
        const nav = /** @type {Element} */ (document.querySelector(".section-nav"));
        const all = [
          .../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("#profile-result > :not(nav) *")),
        ];
        // From the end, so that each comes into view at the top of the window.
        return all.reverse().flatMap((one) => {
          if (one.tabIndex < 0 || one.closest(".scroll") !== one.closest(".scroll:focus")) return [];
          one.focus();
          const is_covered = one.getBoundingClientRect().top < nav.getBoundingClientRect().bottom - 1;
          return document.activeElement === one && is_covered ? [one.outerHTML.slice(0, 80)] : [];
        });
      });
      assert.deepEqual(covered, []);
    }));
}

test("on a phone the navigation of a profile is one line, in which the marked section is visible", () =>
  withMeasured(async (page) => {
    await setWidth(page, 390);
    const nav = page.locator(".section-nav");
    for (const name of ["Export", "Answers"]) {
      await nav.getByRole("button", { name }).click();
      const [height, is_inside] = await nav.evaluate((nav) => {
        const line = nav.getBoundingClientRect();
        const marked = /** @type {Element} */ (nav.querySelector("[aria-current]")).getBoundingClientRect();
        return [line.height, marked.left >= line.left && marked.right <= line.right + 1];
      });
      assert.ok(Number(height) < 48 && is_inside, `${name}: ${height}`);
    }
  }));

/** The chosen sides, in words. @param {Page} page */
const sides = (page) =>
  page.evaluate(() =>
    ["compare-a", "compare-b"].map(
      (id) => /** @type {HTMLSelectElement} */ (document.getElementById(id)).selectedOptions[0]?.text.split(":")[0],
    ),
  );

/** @param {Page} page @param {string} title */
const bannerSays = (page, title) =>
  page.waitForFunction((title) => document.querySelector("#compare-banner h2")?.textContent === title, title);

test("Compare offers no models of different sizes: first the reference reports, then two runs of one size", () =>
  withMeasured(async (page) => {
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    assert.deepEqual(await sides(page), ["Reference report, as published", "Reference report, recomputed"]);
    assert.match((await page.textContent("#compare-empty")) ?? "", /^Run 1: .* has no other run of its size/);
    await profile(page);
    await page.click("#tab-compare");
    await page.waitForFunction(() => document.getElementById("compare-empty")?.hidden);
    assert.deepEqual(await sides(page), ["Run 2", "Run 1"]);
    assert.equal(await page.locator("#compare-banner").count(), 0);
  }));

test("an opened file becomes B beside the newest run from here, and the banner's title is the reason", () =>
  withMeasured(async (page) => {
    const own = JSON.stringify(await savedRun(page));
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-reference");
    await drop(page, "run.json", repositoryFile("docs/example/run.json").toString("utf8"));
    await bannerSays(page, "A and B are models of different sizes");
    const [a, b] = await sides(page);
    assert.match(a, /^Run \d$/);
    assert.match(b, /^File \d$/);
    await drop(page, "own.json", own);
    await bannerSays(page, "A and B are the same run");
    assert.equal((await sides(page))[0], a);
    await page.selectOption("#compare-a", "recomputed");
    await bannerSays(page, "A and B are models of different sizes");
    await page.locator("#compare-phase input[value=decode]").check({ force: true });
    await bannerSays(page, "A and B cannot be compared in this phase");
  }));

test("a profile during an answer says that it waits, names the warm-up, and shows no empty text", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    // The most likely text has no end, a sampled one may be short.
    await setOptions(page, LONG);
    await page.fill("#prompt", "Ownership is");
    await page.click("#run");
    await waitForStatus(page, "Generating");
    await page.evaluate(() => {
      const status = /** @type {HTMLElement} */ (document.getElementById("profile-status"));
      const bar = /** @type {HTMLProgressElement} */ (document.getElementById("profile-progress"));
      const seen = /** @type {[string | null, number][]} */ ([]);
      Object.assign(globalThis, { seen });
      new MutationObserver(() => seen.push([status.textContent, bar.position])).observe(status, { childList: true });
    });
    await startProfile(page);
    await page.waitForFunction(() => /^Waiting/.test(document.getElementById("profile-status")?.textContent ?? ""));
    assert.ok(await page.locator("#profile-empty").isHidden());
    await page.click("#tab-playground");
    await page.click("#run");
    await page.click("#tab-profile");
    await measured(page);
    const seen = await page.evaluate(() =>
      /** @type {[string, number][]} */ (/** @type {any} */ (globalThis).seen).map(([text, at]) => [text, at]),
    );
    assert.deepEqual(seen.slice(0, -1), [
      ["Waiting until the running answer is complete …", -1],
      ["Measuring the ceilings of this machine …", 0],
      ["Warming up, not measured …", 0],
      ["Run 1 of 2, with and without profiling …", 0],
      ["Run 2 of 2, with and without profiling …", 0.5],
    ]);
  }));

test("the reasons for the backend state the timer's resolution once, as measured", () =>
  withMeasured(async (page) => {
    const reasons = (await page.textContent("#capability-reasons")) ?? "";
    assert.equal(reasons.match(/µs/g)?.length, 1, reasons);
  }));
