// @ts-check
// Which build of the engine is chosen from a package that does not contain all of them. Needs no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { nearestBuild } from "../../www/engine/builds.js";

const ALL = ["threads-relaxed", "threads", "single-relaxed", "single"];
const flags = [true, false];

test("from a package with all builds the requested one is chosen", () => {
  for (const threads of flags) {
    for (const relaxed of flags) {
      const wanted = (threads ? "threads" : "single") + (relaxed ? "-relaxed" : "");
      assert.equal(nearestBuild(ALL, { threads, relaxed }, { threads, relaxed }), wanted);
    }
  }
});

test("a build that the browser cannot run is never chosen", () => {
  for (const threads of flags) {
    for (const relaxed of flags) {
      for (const built of ALL) {
        const folder = nearestBuild([built], { threads: true, relaxed: true }, { threads, relaxed });
        const runs = (threads || !built.startsWith("threads")) && (relaxed || !built.endsWith("-relaxed"));
        assert.equal(folder, runs ? built : null);
      }
    }
  }
});

test("threads take precedence over relaxed SIMD", () => {
  const all = { threads: true, relaxed: true };
  assert.equal(nearestBuild(["single-relaxed", "threads"], all, all), "threads");
});

test("a threaded build is chosen for one thread if there is no other", () => {
  const folder = nearestBuild(["threads-relaxed"], { threads: false, relaxed: true }, { threads: true, relaxed: true });
  assert.equal(folder, "threads-relaxed");
});
