// What loads the browser file gets the library, and only there it is.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";

import { load } from "./core.mjs";

const STATIC = fileURLToPath(new URL("../../static", import.meta.url));

test("CommonJS: it is the module's exports", () => {
  const self = {};
  assert.equal(typeof load([], { self }).connect, "function");
  assert.deepEqual(Object.keys(self), []);
});

test("AMD: it is defined, without a name and without dependencies", () => {
  const self = {};
  const defined = [];
  const define = Object.assign((...values) => { defined.push(values); }, { amd: {} });
  load([], { self, define, module: undefined });
  assert.equal(defined.length, 1);
  assert.equal(defined[0].length, 1);
  assert.equal(typeof defined[0][0]().connect, "function");
  assert.deepEqual(Object.keys(self), []);
});

test("a define that is not AMD's is left alone", () => {
  const self = {};
  load([], { self, define: () => assert.fail("defined"), module: undefined });
  assert.deepEqual(Object.keys(self), ["FallbackTransport"]);
});

test("a script element: one global", () => {
  const self = {};
  load([], { self, module: undefined });
  assert.equal(typeof self.FallbackTransport.connect, "function");
  assert.deepEqual(Object.keys(self), ["FallbackTransport"]);
});

test("a page that has frozen what the language has", () => {
  const context = vm.createContext({});
  vm.runInContext("[Object, Array, Function, String, Error].forEach((each) => { Object.freeze(each.prototype); })", context);
  vm.runInContext(fs.readFileSync(path.join(STATIC, "fallback_transport.js"), "utf8"), context);
  assert.equal(vm.runInContext("typeof FallbackTransport.connect", context), "function");
});
