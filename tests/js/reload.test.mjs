// A page goes, and another comes in its tab, or the same comes back.

import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./core.mjs";
import { FakeStorage } from "./fake_environment.mjs";
import { Page, sent } from "./page.mjs";

const TRANSPORTS = ["websocket", "polling"];
const KEPT = "fallback_transport session http://page.test/fallback/poll /";

function both(name, run) {
  for (const transport of TRANSPORTS) test(`${name} (${transport})`, () => run(transport));
}

const open = (transport, options = { resume: true }, more = {}) =>
  new Page({ ...more, options: { transports: [transport], ...options } }).on(transport);

// The next page in the same tab; `copied`: in a duplicate of it.
function next(page, { sessionStorage = page.sessionStorage, options = page.options } = {}) {
  return new Page({ beside: page, sessionStorage, options, seed: Math.floor(page.time) + 7, library: load() });
}

const leave = (page, persisted = false) => page.environment.fire("pagehide", { persisted });
const copy = (storage) => new FakeStorage(new Map(storage.items));
const messages = (peer) => peer.events.map((event) => event[1]);

both("a page that goes closes its session, and hears at once what is unconfirmed", (transport) => {
  const page = open(transport, {});
  page.peer.holds = true;
  page.session.send("kept");
  page.environment.fire("pagehide", { persisted: false });
  const close = page.last("close");
  assert.equal(close.code, 1001);
  assert.deepEqual(close.unconfirmed, [sent("message", "kept")]);
  assert.equal(page.count("error"), 0);
  assert.throws(() => page.session.send("late"), (error) => error.code === "closed");
  page.advance(100);
  page.peer.holds = false;
  page.peer.handle();
  assert.deepEqual(messages(page.peer), ["kept"]);
  page.over();
});

// As React does in StrictMode, and a page that logs out.
both("resume: a page that goes on with a session and closes it at once does not hear that it is open", (transport) => {
  const first = open(transport);
  leave(first);
  const second = next(first);
  second.session.close(4000, "enough");
  second.until(() => second.count("close"), "closed");
  assert.equal(second.last("close").wasClean, true);
  assert.equal(second.count("open"), 0);
  second.over();
});

test("more than a beacon takes: the first of it goes, all of it is told", () => {
  const page = open("polling", {});
  page.environment.beacon = function (url, body) {
    return body.length <= 65_536 && Object.getPrototypeOf(this).beacon.call(this, url, body);
  };
  for (let i = 0; i < 10; i++) page.session.send(String(i).repeat(10_000));
  leave(page);
  assert.equal(page.last("close").unconfirmed.length, 10);
  assert.equal(page.environment.beacons.length, 1);
  page.advance(100);
  assert.deepEqual(messages(page.peer).map((text) => text[0]), ["0", "1", "2", "3", "4"]);
});

both("resume: the next page goes on with the session, nothing lost or twice, one connect", (transport) => {
  const first = open(transport);
  const { id } = first.session;
  const { peer } = first;
  first.talks("before");
  peer.emit("message", "handled");
  first.until(() => first.messages.includes("handled"));
  // Never confirmed: the page is left in the same instant.
  first.session.send("unsent");
  first.session.send("\ud800 \x1e");
  first.session.emit("message", Uint8Array.of(1, 2, 3));
  first.network.onpost = () => ({ lost: true });
  first.network.open.forEach((link) => link.swallow());
  leave(first);
  assert.equal(first.count("close"), 0);
  assert.throws(() => first.session.send("late"), (error) => error.code === "closed");
  assert.throws(() => first.session.close(), (error) => error.code === "closed");
  assert.equal(first.sessionStorage.items.size, 1);
  peer.emit("message", "while away");
  first.advance(300);
  first.network.onpost = () => undefined;
  const second = next(first);
  assert.equal(first.sessionStorage.items.size, 0);
  assert.equal(second.session.state, "connecting");
  second.session.send("of the next page");
  second.opened();
  assert.deepEqual(second.last("open").resumed, true);
  assert.equal(second.session.id, id);
  assert.equal(second.count("open"), 1);
  second.until(() => second.messages.length === 1 && peer.events.length === 5);
  assert.deepEqual(second.messages, ["while away"]);
  assert.deepEqual(messages(peer).slice(0, 2), ["before", "unsent"]);
  assert.deepEqual([...messages(peer)[3]], [1, 2, 3]);
  assert.equal(messages(peer)[4], "of the next page");
  assert.equal(peer.connects.length, 1);
  assert.equal(second.server.count, 1);
  second.talks().advance(1000);
  assert.equal([...second.storage.items.keys()].filter((key) => /once/.test(key)).length, 0);
  second.quiet();
  assert.equal(first.environment.timers() + first.environment.requests.size + first.environment.sockets.size, 0);
});

both("resume again and again: the numbers go on rising", (transport) => {
  let page = open(transport);
  const { peer } = page;
  for (let i = 0; i < 10; i++) {
    page.session.send(i);
    peer.emit("message", i);
    if (i % 3) page.advance(7 * i);
    leave(page);
    page = next(page).opened();
  }
  page.talks("end").advance(1000);
  assert.deepEqual(messages(peer), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "end"]);
  assert.equal(page.server.count, 1);
  page.quiet();
});

both("a message whose parts have come to the page before, or gone from it, goes on in the next", (transport) => {
  const text = "\ud83d\ude00 0123456789".repeat(30_000);
  const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
  for (const data of [text, bytes]) {
    const first = open(transport);
    const { peer, server } = first;
    server.piece = 20_000;
    // On a WebSocket all would come at once.
    const frames = { up: 0, down: 0 };
    first.network.onframe = (link, way) => ++frames[way] > 3 ? 0 : 1;
    peer.emit("message", data);
    first.session.send(data);
    // The first parts, each way.
    first.until(() => first.session._core.machine().inbox.got && server.parts > 0, "parts");
    first.network.onpost = () => ({ lost: true });
    const came = first.session._core.machine().inbox.got;
    leave(first);
    first.advance(100);
    first.network.onpost = () => undefined;
    first.network.onframe = () => 1;
    const second = next(first);
    assert.ok(second.session._core.machine().inbox.got >= came);
    second.opened();
    second.until(() => second.messages.length && peer.events.length, "all of it, both ways");
    assert.deepEqual(typeof data === "string" ? second.messages[0] : new Uint8Array(second.messages[0]), data);
    assert.deepEqual(messages(peer), [data]);
    assert.deepEqual(server.gaps, []);
    second.talks().advance(1000);
    second.quiet();
  }
});

both("credit is counted on in the next page", (transport) => {
  const first = open(transport, undefined, { grant: { messages: 5 } });
  const { peer } = first;
  peer.holds = true;
  for (let i = 0; i < 12; i++) first.session.send(i);
  first.advance(100);
  leave(first);
  const second = next(first).opened();
  for (let i = 12; i < 15; i++) second.session.send(i);
  second.advance(1000);
  assert.equal(peer.events.length, 5);
  peer.holds = false;
  peer.handle();
  second.session.send(15);
  second.until(() => peer.events.length === 16, "all");
  assert.deepEqual(messages(peer), Array.from({ length: 16 }, (_, i) => i));
  second.quiet();
});

both("a packet that went out alone, beyond the credit, keeps its numbers in the next page", (transport) => {
  const first = open(transport, undefined, { grant: { bytes: 100 } });
  const { peer } = first;
  peer.holds = true;
  const data = [new Uint8Array(80), new Uint8Array(80)];
  first.session.send(data);
  first.session.send("behind");
  first.advance(100);
  assert.equal(peer.received, 4);
  leave(first);
  const second = next(first).opened();
  peer.holds = false;
  peer.handle();
  second.until(() => peer.events.length === 2, "all");
  assert.equal(messages(peer)[1], "behind");
  second.talks().quiet();
});

both("a packet whose attachments are still to come is completed by the next page", (transport) => {
  const first = open(transport);
  const { peer } = first;
  peer.push('52-["message",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]]', Uint8Array.of(1));
  first.advance(500);
  assert.equal(first.session.counters.received - first.session.counters.handled, 2);
  leave(first);
  const second = next(first).opened();
  peer.push(Uint8Array.of(2));
  second.until(() => second.messages.length === 1);
  assert.deepEqual(second.messages[0].map((bytes) => [...new Uint8Array(bytes)]), [[1], [2]]);
  assert.equal(second.session.counters.handled, second.session.counters.received);
  second.talks();
});

test("the callbacks of the page before are gone; its replies disturb nobody", () => {
  const first = open("websocket");
  const answers = [];
  first.server.onevent = (session, event, id) => { if (id) first.clock.schedule(500, () => session.reply(id, event[1])); };
  first.session.emit("ask", "first", () => answers.push("never"));
  first.advance(100);
  leave(first);
  const second = next(first).opened();
  second.session.emit("ask", "second", (error, reply) => answers.push(reply));
  second.advance(2000);
  assert.deepEqual(answers, ["second"]);
  second.quiet();
});

both("the server has forgotten it: onreset, with what is unconfirmed", (transport) => {
  const first = open(transport);
  first.network.onpost = () => ({ lost: true });
  first.network.open.forEach((link) => link.swallow());
  first.session.send("unconfirmed");
  leave(first);
  first.network.onpost = () => undefined;
  first.server.restart({ tag: "a" });
  const second = next(first).opened();
  assert.equal(second.last("reset").code, 4404);
  assert.deepEqual(second.last("reset").unconfirmed, [sent("message", "unconfirmed")]);
  assert.equal(second.last("open").resumed, false);
  second.talks();
});

for (const [what, change] of [
  ["does not fit", (page) => { page.sessionStorage.quota = 100; }],
  ["may not be used", (page) => { page.sessionStorage.fails = true; }],
  ["is not there", (page) => { page.environment.sessionStorage = null; }],
  ["is there, but localStorage is not", (page) => { page.environment.storage = null; }],
]) {
  both(`resume where sessionStorage ${what}: closed, and told`, (transport) => {
    const page = open(transport);
    page.peer.holds = true;
    page.session.send("kept");
    change(page);
    leave(page);
    assert.deepEqual(page.last("close").unconfirmed, [sent("message", "kept")]);
    assert.equal(page.last("close").code, 1001);
    page.advance(100);
    assert.equal(page.peer.received, page.peer.messages.length + 1, "the server has its close");
    const second = next(page, { sessionStorage: new FakeStorage() }).opened();
    assert.equal(second.last("open").resumed, false);
  });
}

test("a session that is not open yet, or already closing, is not left to anybody", () => {
  const page = new Page({ options: { resume: true } });
  leave(page);
  assert.equal(page.last("close").code, 1001);
  const closing = open("websocket");
  closing.session.close(4001, "bye");
  leave(closing);
  assert.equal(closing.last("close").code, 4001);
  assert.equal(closing.sessionStorage.items.size, 0);
});

// --- Duplicates --------------------------------------------------------------------------------------

both("a duplicate of a tab is a new session", (transport) => {
  const page = open(transport);
  const other = next(page, { sessionStorage: copy(page.sessionStorage) }).opened();
  assert.notEqual(other.session.id, page.session.id);
  assert.equal(other.count("reset"), 0);
  page.session.send("still there");
  page.advance(100);
  assert.deepEqual(messages(page.server.sessions.get(page.session.id)), ["still there"]);
});

both("a page from the browser's cache does not go on with what a duplicate has taken", (transport) => {
  const first = open(transport);
  first.environment.fire("pagehide", { persisted: true });
  const other = next(first, { sessionStorage: copy(first.sessionStorage) }).opened();
  assert.equal(other.session.id, first.session.id);
  other.session.send("of the duplicate");
  other.advance(1000);
  first.environment.fire("pageshow", { persisted: true });
  first.session.send("of the first");
  first.until(() => first.count("open") === 2);
  first.advance(1000);
  assert.equal(first.last("reset").code, 4404);
  assert.notEqual(other.session.id, first.session.id);
  assert.deepEqual(messages(first.server.sessions.get(other.session.id)), ["of the duplicate"]);
  assert.deepEqual(messages(first.server.sessions.get(first.session.id)), ["of the first"]);
  assert.equal(other.count("reset"), 0);
});

both("a copy of what a page has left takes the session from nobody", (transport) => {
  const first = open(transport);
  first.peer.holds = true;
  first.session.send("unconfirmed");
  first.advance(100);
  leave(first);
  const copied = copy(first.sessionStorage);
  const second = next(first).opened();
  const other = next(first, { sessionStorage: copied }).opened();
  assert.equal(second.session.id, first.session.id);
  assert.notEqual(other.session.id, first.session.id);
  other.until(() => other.count("reset") === 1);
  assert.deepEqual(other.last("reset").unconfirmed, [sent("message", "unconfirmed")]);
  assert.equal(copied.items.size, 0);
  second.advance(2000);
  assert.equal(second.count("reset"), 0);
  second.server.sessions.get(second.session.id).holds = false;
  const before = second.server.sessions.get(second.session.id).events.length;
  assert.equal(before, 1);
  assert.equal(second.session.transport, transport);
});

for (const [what, text] of [
  ["no JSON", "{"], ["no list", '{"a":1}'], ["an empty list", "[]"], ["null", "null"], ["a list of nonsense", "[1]"],
  ["another version's", '[{"version":99,"by":"x"}]'],
]) {
  test(`what is kept is ${what}: a new session`, () => {
    const sessionStorage = new FakeStorage(new Map([[KEPT, text]]));
    const page = new Page({ options: { resume: true }, sessionStorage }).opened();
    page.talks();
    assert.equal(page.server.count, 1);
    leave(page);
    next(page).opened().talks();
  });
}

test("two sessions of one page are two in the next", () => {
  const first = open("websocket");
  const sibling = new Page({ beside: first, sessionStorage: first.sessionStorage, options: first.options, seed: 9 }).opened();
  leave(first);
  leave(sibling);
  const one = next(first).opened();
  const two = next(sibling).opened();
  assert.deepEqual([one.session.id, two.session.id], [first.session.id, sibling.session.id]);
  const three = next(first).opened();
  assert.equal(three.server.count, 3);
});

// --- The browser's cache of whole pages ------------------------------------------------------------------

both("a page that comes back from the cache goes on", (transport) => {
  for (const resume of [false, true]) {
    const page = open(transport, { resume });
    page.session.send("before");
    leave(page, true);
    assert.equal(page.environment.requests.size + page.environment.sockets.size, 0);
    page.peer.emit("message", "meanwhile");
    page.advance(30_000);
    page.environment.fire("pageshow", { persisted: true });
    page.on(transport).talks("after");
    assert.deepEqual(page.messages, ["meanwhile", "re: after"]);
    assert.deepEqual(messages(page.peer), ["before", "after"]);
    assert.equal(page.server.count, 1);
    assert.equal(page.sessionStorage.items.size, 0);
    assert.equal(page.count("open"), 1);
  }
});

both("resume: a page from the cache goes on where the next page left off", (transport) => {
  const first = open(transport);
  const { peer } = first;
  const failed = [];
  first.session.emit("ask", 1, (error) => failed.push(error.code));
  leave(first, true);
  const second = next(first).opened();
  second.talks("of the second");
  second.session.send("last of the second");
  leave(second, true);
  first.environment.fire("pageshow", { persisted: true });
  first.on(transport).talks("of the first");
  assert.deepEqual(failed, [4404]);
  assert.equal(first.last("open").resumed, true);
  assert.deepEqual(messages(peer), [1, "of the second", "last of the second", "of the first"]);
  assert.equal(first.server.count, 1);
  first.quiet();
});

both("resume: a page from the cache whose session is elsewhere begins anew, and says so", (transport) => {
  const first = open(transport);
  leave(first, true);
  const second = next(first).opened();
  first.environment.fire("pageshow", { persisted: true });
  first.on(transport);
  assert.equal(first.last("reset").code, 4404);
  assert.notEqual(first.session.id, second.session.id);
  second.session.send("still there");
  second.advance(100);
  assert.deepEqual(messages(second.server.sessions.get(second.session.id)), ["still there"]);
});

// A page that a browser renders in advance, before anybody has asked for it: no WebSocket of it is opened.
const prerendered = (options = {}, more = {}) => new Page({
  options, ...more,
  before: ({ network, environment }) => {
    environment.isPrerendering = environment.isHidden = true;
    network.websocket = "unanswered";
  },
});

function show(page) {
  page.network.websocket = "ok";
  page.environment.isPrerendering = page.environment.isHidden = false;
  page.environment.fire("document prerenderingchange", {});
}

for (const after of [0, 3000, 600_000]) {
  test(`a page that is rendered in advance connects when it is shown, after ${after / 1000} s`, () => {
    const page = prerendered();
    page.session.send("early");
    page.advance(after);
    assert.deepEqual([page.posts.length, page.network.links.length, page.heard], [0, 0, []]);
    assert.equal(page.session.state, "connecting");
    show(page);
    page.on("websocket").advance(100);
    assert.deepEqual(messages(page.peer), ["early"]);
    assert.equal(page.server.sessions.size, 1);
    assert.deepEqual([...page.storage.items.keys()].filter((key) => /http/.test(key)), []);
    page.talks();
  });
}

test("a page that is rendered in advance and has just been woken connects when it is shown", () => {
  const page = prerendered();
  page.session.send("early");
  page.clock.sleep(60_000);
  page.advance(500);
  show(page);
  page.on("websocket").advance(100);
  assert.deepEqual(messages(page.peer), ["early"]);
  page.talks();
});

test("a page that is rendered in advance and never answered once it is shown: told after `inactivity`", () => {
  const page = prerendered({}, { grant: { inactivity: 120_000 } });
  page.advance(300_000);
  page.network.down = true;
  show(page);
  page.advance(119_000);
  assert.equal(page.count("reset"), 0);
  page.advance(2000);
  assert.equal(page.last("reset").code, 4408);
});

test("a page that is rendered in advance leaves the session of the page before where it is", () => {
  const first = open("websocket");
  const page = prerendered({ resume: true }, { beside: first, seed: 2, sessionStorage: copy(first.sessionStorage) });
  leave(first);
  assert.ok(first.sessionStorage.items.has(KEPT));
  page.sessionStorage.items.set(KEPT, first.sessionStorage.items.get(KEPT));
  show(page);
  page.opened();
  assert.equal(page.last("open").resumed, false);
  leave(page);
  assert.equal(page.last("close").code, 1001);
  const third = next(page, { options: { resume: true } }).opened();
  assert.equal(third.last("open").resumed, true);
  assert.equal(third.session.id, first.session.id);
  third.quiet();
});

test("what a page leaves, one of another release takes: its form changes with its version alone", () => {
  const page = open("websocket", { resume: true }, { grant: { messages: 3 } });
  page.peer.holds = true;
  page.session.send("a");
  page.session.emit("b", Uint8Array.of(1, 2, 3), () => {});
  page.session.send("beyond the credit");
  page.advance(300);
  page.peer.push('51-["c",{"_placeholder":true,"num":0}]');
  page.advance(50);
  leave(page);
  const [{ by, ...kept }] = JSON.parse(page.sessionStorage.items.get(KEPT));
  assert.equal(page.storage.items.has(`fallback_transport once ${by}`), true);
  assert.deepEqual(kept, {
    version: 1,
    machine: {
      id: page.peer.id, key: page.peer.key, commits: 1, requests: 0,
      grant: {
        messages: 3, bytes: 4000000, message: 16000000, body: 1000000,
        wait: 25000, keepalive: 25000, inactivity: 120000
      },
    },
    inbox: { handled: 1, received: 2, sizes: { 2: 38 } },
    outbox: { confirmed: 1, received: 4, got: 0 },
    partial: 0,
    numbered: [
      [false, 'm2["message","a"]'], [false, 'm51-1["b",{"_placeholder":true,"num":0}]'], [false, "bAQID"],
    ],
    held: [['m2["message","beyond the credit"]']],
    attempt: 1, nextId: 2, accepted: true,
    packet: ['51-["c",{"_placeholder":true,"num":0}]'],
  });
});
