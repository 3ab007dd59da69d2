// The browser file minified, as tests/js/minify.mjs does it: it works, and is as small as README says.

import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import vm from "node:vm";

import { parse } from "acorn";
import { minify } from "terser";

import { breaches } from "./es5_gate.mjs";
import { FakeStorage } from "./fake_environment.mjs";
import { minified, RESERVED } from "./minify.mjs";
import { Page } from "./page.mjs";
import { row, sizes } from "./size.mjs";

// In bytes, gzipped.
const BOUND = 17_000;

const source = fs.readFileSync(new URL("../../static/fallback_transport.js", import.meta.url), "utf8");
const readme = fs.readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const small = await minified(source);

function load(text = small) {
  const module = { exports: {} };
  vm.runInThisContext(`(function (module) { ${text}\n})`).call(undefined, module);
  return module.exports;
}

const open = (transport, { beside, sessionStorage, ...options } = {}) =>
  new Page({ library: load(), beside, sessionStorage, seed: beside ? 2 : 1, options: { transports: [transport], ...options } }).on(transport);

function both(name, run) {
  for (const transport of ["websocket", "polling"]) test(`${name} (${transport})`, () => run(transport));
}

test("it is small, and README says how small", async () => {
  const found = await sizes(source);
  assert.ok(found.gzipped <= BOUND, `${found.gzipped} bytes`);
  assert.ok(found.gzipped > 0.9 * BOUND, `${found.gzipped} bytes: lower the bound`);
  assert.ok(readme.includes(row(found)), row(found));
});

test("it is ECMAScript 5, with one global", () => assert.deepEqual(breaches(small), []));

// A name that is shortened where it is a property and not where it is (part of) a text would be two.
test("what is both a property and in a text keeps its name", () => {
  // Of these, the texts are sentences, the ends of keys and of URLs.
  const apart = ["read", "poll", "again", "ws", "answers", "at", "left", "ended", "missing", "name"];
  const properties = new Set();
  const words = new Set();
  (function visit(node) {
    if (node.type === "MemberExpression" && !node.computed) properties.add(node.property.name);
    if (node.type === "Property") properties.add(node.key.name ?? node.key.value);
    if (node.type === "Literal" && typeof node.value === "string") node.value.split(/\W+/).forEach((word) => words.add(word));
    for (const child of Object.values(node).flat()) if (child && typeof child.type === "string") visit(child);
  })(parse(source, { ecmaVersion: 5 }));
  assert.ok(words.has("Retry") && properties.has("bufferedAmount"));
  const doubtful = [...words].filter((word) => properties.has(word) && !RESERVED.includes(word));
  assert.deepEqual(doubtful.filter((word) => !apart.includes(word)), []);
});

both("messages, bytes and questions go both ways, and it closes", (transport) => {
  const page = open(transport, { auth: { user: "é" } });
  page.talks();
  page.session.send(Uint8Array.of(1, 2, 255));
  page.until(() => page.peer.events.length > 1, "bytes");
  assert.deepEqual(Buffer.from(page.peer.events[1][1]), Buffer.of(1, 2, 255));
  page.server.onevent = (session, event, id) => { if (id) session.reply(id, `${event[1]}!`); };
  let replied = null;
  page.session.emit("ask", "what", (error, value) => { replied = [error, value]; });
  page.until(() => replied, "the reply");
  assert.deepEqual(replied, [null, "what!"]);
  // Beyond what one envelope holds.
  page.session.send("x".repeat(3_000_000));
  page.until(() => page.peer.events.at(-1)[1]?.length === 3_000_000, "a message in parts");
  page.peer.emit("message", Uint8Array.of(7));
  page.until(() => page.messages.length > 1, "bytes from the server");
  assert.deepEqual(new Uint8Array(page.messages[1]), Uint8Array.of(7));
  // As a promise of the page's own may be made.
  page.session.on("later", (value) => ({ then: (give) => give(value + 1) }));
  page.peer.ask(1, "later", 1);
  page.until(() => page.peer.replies.length, "what was promised");
  assert.deepEqual(page.peer.replies, [["3", 1, [2]]]);
  const { counters } = page.session;
  assert.deepEqual(Object.keys(counters), ["sent", "acknowledged", "received", "handled"]);
  assert.ok(counters.sent > 4 && counters.handled > 2, JSON.stringify(counters));
  assert.ok(page.session.roundTrip > 0);
  page.until(() => page.session.bufferedAmount === 0, "all is confirmed");
  assert.equal(page.session.id, page.peer.id);
  page.session.close(4001, "done");
  page.until(() => page.session.state === "closed", "closed");
  assert.equal(page.last("open").resumed, false);
  const { code, reason, wasClean, unconfirmed } = page.last("close");
  assert.deepEqual({ code, reason, wasClean, unconfirmed }, { code: 4001, reason: "done", wasClean: true, unconfirmed: [] });
  page.over();
});

both("the next page in the tab goes on with the session", (transport) => {
  const first = open(transport, { resume: true });
  first.peer.emit("message", "one");
  first.until(() => first.messages.length, "one");
  first.session.send("unsent");
  first.environment.fire("pagehide", { persisted: false });
  first.peer.emit("message", "two");
  const second = open(transport, { resume: true, beside: first, sessionStorage: first.sessionStorage });
  second.until(() => second.messages.length, "two");
  assert.deepEqual(second.messages, ["two"]);
  assert.equal(second.last("open").resumed, true);
  assert.equal(second.server.sessions.size, 1);
  assert.deepEqual(second.peer.events.map((event) => event[1]), ["unsent"]);
  second.talks();
});

both("a server that has lost the session: onreset, with what is unconfirmed", (transport) => {
  const page = open(transport);
  page.peer.holds = true;
  page.session.emit("x", { bytes: Uint8Array.of(1) });
  page.advance(100);
  page.server.sessions.clear();
  page.network.open.forEach((link) => link.cut());
  page.environment.fire("online");
  page.until(() => page.count("reset") && page.session.state === "open", "reset", 60_000);
  const { event, data } = page.last("reset").unconfirmed[0];
  assert.equal(event, "x");
  assert.deepEqual(new Uint8Array(data.bytes), Uint8Array.of(1));
  page.talks();
});

for (const [fate, reason] of [
  ["refused", "refused"], ["unanswered", "unanswered"], ["silent", "silent"], ["closed", "closed"], ["threw", "threw"],
]) {
  test(`a WebSocket that is ${fate}: long polling, the page hears why, and remembers`, () => {
    const storage = new FakeStorage();
    const page = new Page({ library: load(), storage, before: ({ network }) => { network.websocket = fate; } });
    page.on("polling").until(() => page.session.why.reason === reason, reason);
    assert.match(String(page.session.why), /^long polling: the /);
    assert.equal(page.last("transport").why.text, String(page.session.why));
    page.talks();
    page.until(() => storage.items.get("fallback_transport http://page.test/fallback/poll")?.includes(`"${reason}"`), "remembered");
    const next = new Page({ library: load(), beside: page, seed: 2 }).on("polling");
    assert.equal(next.session.why.reason, reason);
    assert.equal(next.network.links.length, page.network.links.length);
  });
}

test("a WebSocket that falls silent is left for polling, without a loss", () => {
  const page = new Page({ library: load() }).on("websocket");
  page.network.onsocket = () => "silent";
  page.network.link.swallow();
  for (let i = 0; i < 5; i++) page.session.send(`text ${i}`);
  page.on("polling").until(() => page.peer.events.length === 5, "all five");
  page.talks();
});

test("eight tabs on polling take turns", () => {
  const pages = [];
  for (let i = 0; i < 8; i++) {
    pages.push(new Page({
      library: load(), beside: pages[0], seed: i + 1, options: { transports: ["polling"] },
    }).opened());
  }
  pages[0].advance(20_000);
  const held = pages.filter((page) => page.environment.requests.size).length;
  assert.ok(held <= 5, `${held} polls are held`);
  for (const page of pages) page.quiet();
});

test("what cannot be sent is refused with a code, and options have their names", () => {
  const page = new Page({
    library: load(), options: { namespace: "/room", timing: { hedge: 100 }, remember: false, withCredentials: true },
    before: ({ network }) => { network.websocket = "unanswered"; },
  }).opened();
  assert.ok(page.time < 300, `opened after ${page.time} ms`);
  assert.equal([...page.environment.requests][0].withCredentials, true);
  assert.throws(() => page.session.send("x".repeat(20_000_000)), { code: "too-large" });
  assert.throws(() => page.session.close(1001), { code: "close" });
  page.session.close();
  assert.throws(() => page.session.send("x"), { code: "closed" });
});

// What bundlers are told to shorten, all over an application: names that have a "_" at an end, but for those
// in quotes.
both("a bundler that shortens what looks like a private name", async (transport) => {
  const properties = { regex: /^_|_$/, keep_quoted: true };
  const { code } = await minify(source, { ecma: 5, compress: false, mangle: { properties } });
  assert.doesNotMatch(code, /_nextAsk/);
  const library = load(code);
  const page = new Page({ library, options: { transports: [transport] } }).on(transport);
  page.session.emit("x", { bytes: Uint8Array.of(1, 2) });
  page.until(() => page.peer.events.length, "bytes");
  assert.deepEqual(page.peer.events, [["x", { bytes: Uint8Array.of(1, 2) }]]);
  page.peer.emit("message", { bytes: Uint8Array.of(3) });
  page.until(() => page.messages.length, "bytes back");
  assert.deepEqual(new Uint8Array(page.messages[0].bytes), Uint8Array.of(3));
  const face = new library.WebSocket("ws://page.test/fallback", [], { environment: page.environment });
  assert.equal(face.readyState, 0);
});
