// What loads the browser file gets the library, and only there it is.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import vm from "node:vm";

import { parse } from "acorn";

import { load } from "./core.mjs";
import { Page } from "./page.mjs";

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
  const source = fs.readFileSync(path.join(STATIC, "fallback_transport.js"), "utf8");
  vm.runInContext(source.replace("install: install\n", "install: install, encodePacket: encodePacket\n"), context);
  assert.equal(vm.runInContext("typeof FallbackTransport.connect", context), "function");
  // What it sends has names as a page likes.
  const code = "FallbackTransport.encodePacket('2', '/', '', ['x', { constructor: 1, toString: 2 }])[0].data";
  assert.equal(vm.runInContext(code, context), '2["x",{"constructor":1,"toString":2}]');
});

// Prototype.js 1.6 gives arrays a toJSON that makes texts of them, and a reduce that is none.
test("a page whose arrays are those of an old library: all goes and comes, and is left to the next page", () => {
  const native = Array.prototype.reduce;
  Array.prototype.toJSON = function () { return `[${this.join()}]`; };
  Array.prototype.reduce = function () { return this.length > 1 ? this : this[0]; };
  try {
    for (const transport of ["websocket", "polling"]) {
      const page = new Page({ options: { transports: [transport], resume: true } }).on(transport);
      page.session.emit("x", [1, [2]], { three: [3] }, Uint8Array.of(4));
      page.advance(100);
      assert.deepEqual(page.peer.events, [["x", [1, [2]], { three: [3] }, Uint8Array.of(4)]]);
      page.network.down = true;
      page.session.emit("x", ["left"]);
      page.environment.fire("pagehide", { persisted: false });
      page.network.down = false;
      const after = new Page({ beside: page, seed: 2, sessionStorage: page.sessionStorage, options: page.options }).opened();
      after.advance(100);
      assert.equal(after.session.id, page.session.id);
      assert.deepEqual(after.peer.events[1], ["x", ["left"]]);
      after.session.close(4000, "enough");
      after.until(() => after.count("close"));
      assert.equal(after.last("close").wasClean, true);
    }
  } finally {
    delete Array.prototype.toJSON;
    Array.prototype.reduce = native;
  }
});

// Where modules know no CommonJS: in a browser, and in a package of modules, as bundlers' servers render
// pages. What is printed there by `code`, behind the import; `end` is added to the script.
async function asModule(before, code, end = "") {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "modules-"));
  try {
    for (const name of ["fallback_transport.js", "fallback_transport.mjs"]) {
      fs.copyFileSync(path.join(STATIC, name), path.join(folder, name));
    }
    fs.appendFileSync(path.join(folder, "fallback_transport.js"), end);
    fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ type: "module" }));
    fs.writeFileSync(path.join(folder, "before.js"), before);
    fs.writeFileSync(path.join(folder, "page.js"),
      `import "./before.js"; import FallbackTransport, { connect } from "./fallback_transport.mjs"; ${code}`);
    return (await promisify(execFile)(process.execPath, [path.join(folder, "page.js")])).stdout.trim();
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

test("a module where there is no window: it loads, and a session is refused with a code", async () => {
  const code = "try { connect(); } catch (error) { console.log(error.code, error.message, connect === FallbackTransport.connect); }";
  assert.equal(await asModule("", code), "unsupported no XMLHttpRequest or typed arrays true");
});

test("a module on a page that has an AMD loader: the module, and nothing is defined", async () => {
  const before = "globalThis.self = globalThis; globalThis.defined = 0; globalThis.define = () => { defined += 1; }; define.amd = {};";
  assert.equal(await asModule(before, "console.log(typeof connect, defined);"), "function 0");
});

// As Parcel builds it: the script finds a `module`, and what it exports is the namespace, without a default.
test("a module whose namespace of the script is what that exports", async () => {
  const code = "console.log(connect === FallbackTransport.connect, globalThis.FallbackTransport);";
  const end = "export const { connect, version, WebSocket, install } = module.exports;";
  assert.equal(await asModule("globalThis.module = { exports: {} };", code, end), "true undefined");
});

// In an application that is a package of modules the script is one without exports, and webpack ends
// with an error where one of them is read by its name.
test("a bundler finds no name in the module that the script may not have", () => {
  const module = parse(fs.readFileSync(path.join(STATIC, "fallback_transport.mjs"), "utf8"), {
    ecmaVersion: "latest", sourceType: "module",
  });
  const [imported] = module.body.filter((node) => node.type === "ImportDeclaration");
  assert.deepEqual(imported.specifiers.map((each) => each.type), ["ImportNamespaceSpecifier"]);
  const { name } = imported.specifiers[0].local;
  const read = [];
  JSON.stringify(module, (key, node) => {
    if (node?.type === "MemberExpression" && node.object.name === name) read.push(node.property.name);
    if (node?.type === "VariableDeclarator" && node.init?.name === name) read.push(node.id.type);
    return node;
  });
  assert.deepEqual(read, []);
});
