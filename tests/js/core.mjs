// Loads static/fallback_transport.js, as it ships or with some of its text replaced.

import assert from "node:assert/strict";
import fs from "node:fs";
import vm from "node:vm";

const FILE = new URL("../../static/fallback_transport.js", import.meta.url);

// What tests look at, beside what the file shows of itself: as `_core` of library and session.
const INSIDE = JSON.parse(fs.readFileSync(new URL("inside.json", import.meta.url), "utf8"));

// `replacements`: pairs of a text, which the file must have exactly once, and its substitute.
// `globals`: what it sees besides Node.js's own.
export function load(replacements = [], globals = {}) {
  let source = fs.readFileSync(FILE, "utf8");
  for (const [text, substitute] of [...INSIDE, ...replacements]) {
    assert.equal(source.split(text).length, 2, `the file has exactly one ${JSON.stringify(text)}`);
    source = source.replace(text, () => substitute);
  }
  const module = { exports: {} };
  const seen = { module, ...globals };
  const run = vm.runInThisContext(`(function (${Object.keys(seen)}) { ${source}\n})`, { filename: FILE.pathname });
  run.apply(undefined, Object.values(seen));
  return module.exports;
}

export const FallbackTransport = load();
export const core = FallbackTransport._core;
