// The doctor's page judges as the terminal does: the cases of tests/doctor, which both have.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import test from "node:test";

const read = (path) => fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const { diagnose } = createRequire(import.meta.url)("../../static/doctor.js");
const KINDS = Object.fromEntries(JSON.parse(read("static/doctor_findings.json")).map((kind) => [kind.code, kind]));
const { sound, cases } = JSON.parse(read("tests/doctor/cases.json"));

// A JSON merge patch (RFC 7396).
function merged(value, change) {
  if (change === null || typeof change !== "object" || Array.isArray(change)) return change;
  const result = value && typeof value === "object" && !Array.isArray(value) ? { ...value } : {};
  for (const [name, each] of Object.entries(change)) {
    if (each === null) delete result[name];
    else result[name] = merged(result[name], each);
  }
  return result;
}

for (const { about, change, verdict, findings } of cases) {
  test(about, () => {
    const observations = merged(sound, change);
    const before = structuredClone(observations);
    const found = diagnose(observations, KINDS);
    assert.deepEqual(observations, before);
    assert.deepEqual(found.findings.map((each) => [each.code, each.text]), findings);
    assert.deepEqual(found.verdict, verdict);
    for (const each of found.findings) {
      assert.deepEqual([each.about, each.severity], [KINDS[each.code].about, KINDS[each.code].severity]);
    }
  });
}

test("what was not observed is no reason to fail", () => {
  for (const observations of [{}, { tls: { error: null } }]) {
    assert.deepEqual(diagnose(observations, KINDS).findings.map((each) => each.code), ["ws-absent", "poll-blocked"]);
  }
});

test("without the sentences it judges all the same", () => {
  const { findings, verdict } = diagnose(sound, {});
  assert.deepEqual(findings.map((each) => each.severity), ["good", "good"]);
  assert.equal(verdict.transport, "websocket");
  assert.notEqual(verdict.text, "");
  assert.deepEqual(diagnose({}, {}).findings.map((each) => each.severity), ["bad", "bad"]);
});

// The page has sentences of its own for every check, and leaves no finding unsaid.
test("each finding is said beside a check, or is the verdict itself", () => {
  const source = read("static/doctor.js");
  const checks = source.slice(source.indexOf("var UNPROVEN"), source.indexOf("var MEANINGS"));
  for (const { code, severity } of Object.values(KINDS)) {
    if (severity !== "good") assert.ok(checks.includes(`"${code}"`), code);
  }
});
