// The gate itself: that it lets a good file pass and sees each kind of breach.

import assert from "node:assert/strict";
import test from "node:test";

import { breaches } from "./es5_gate.mjs";

const wrap = (body) => `(function (root) { "use strict"; ${body} ; root.FallbackTransport = {}; })(this);`;

test("lets a file pass that asks before it uses", () => {
  assert.deepEqual(breaches(wrap(`
    var socket = typeof WebSocket !== "undefined" ? new WebSocket("/") : null, Map = { get: 1 };
    function send(data) { try { setTimeout(send, 1); } catch (error) { return [error, data, socket.Promise, Map.get]; } }
    outer: for (var key in { Symbol: 1 }) { if (key) { continue outer; } }
  `)), []);
});

for (const [name, body, pattern] of [
  ["an arrow function", "var f = () => 1", /not ECMAScript 5/],
  ["let", "let x = 1", /not ECMAScript 5/],
  ["a template", "var x = `y`", /not ECMAScript 5/],
  ["a trailing comma in a call", "f(1,)", /not ECMAScript 5/],
  ["a name no browser of that age has", "function f() { return new Promise(f); }", /Promise/],
  ["a browser's name, unasked", "function f() { return document.title; }", /document/],
  ["a global by assignment", "function f() { leak = 1; }", /leak/],
  ["a second global", "root.Other = 1", /globals \[Other, FallbackTransport\]/],
  ["a browser at load", "root.window.onload = null", /does not load/],
]) {
  test(`sees ${name}`, () => {
    const found = breaches(wrap(body));
    assert.equal(found.length, 1, String(found));
    assert.match(found[0], pattern);
  });
}

test("sees that the one global is missing", () => {
  assert.match(breaches("(function () {})();")[0], /defines the globals \[\]/);
});

test("lets a page's own file have no global, and sees one that it has", () => {
  assert.deepEqual(breaches("(function () {})();", []), []);
  assert.match(breaches("var leak = 1;", [])[0], /defines the globals \[leak\]/);
});
