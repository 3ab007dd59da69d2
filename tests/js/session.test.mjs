// What the page holds: events, replies, bytes, close, refusals; on both transports.

import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import vm from "node:vm";

import { core, FallbackTransport } from "./core.mjs";
import { decode, decodeBody } from "./fake_server.mjs";
import { Page, sent } from "./page.mjs";

const MINUTE = 60_000;
const TRANSPORTS = ["websocket", "polling"];

const open = (transport, { options, ...rest } = {}) =>
  new Page({ ...rest, options: { transports: [transport], ...options } }).on(transport);

// The same test on both transports.
function both(name, run) {
  for (const transport of TRANSPORTS) test(`${name} (${transport})`, () => run(transport));
}

const refuses = (code) => (error) => error instanceof Error && error.code === code && error.message.length > 5;

// --- Opening ---------------------------------------------------------------------------

both("a session opens: id, state, transport, onopen", (transport) => {
  const page = new Page({ options: { transports: [transport] } });
  const { session } = page;
  const states = [];
  session.onopen = function (event) { states.push([this === session, event.type, event.id, session.state]); };
  assert.equal(session.state, "connecting");
  assert.equal(session.id, null);
  assert.equal(session.transport, null);
  assert.equal(session.roundTrip, null);
  assert.equal(String(session.why), "no connection");
  page.opened();
  assert.deepEqual(states, [[true, "open", page.peer.id, "open"]]);
  assert.equal(session.id, page.peer.id);
  assert.equal(session.transport, transport);
  assert.equal(session.roundTrip, 20);
  assert.equal(page.last("open").target, session);
  assert.deepEqual(page.heard.map(([type]) => type), ["transport", "open"]);
  page.quiet();
});

both("what is sent before it is open arrives first, and in order", (transport) => {
  const page = new Page({ options: { transports: [transport] } });
  for (let i = 0; i < 10; i++) page.session.emit("early", i);
  page.opened();
  page.session.emit("late");
  page.until(() => page.peer.events.length === 11);
  assert.deepEqual(page.peer.events.map((event) => event[1]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, undefined]);
  page.quiet();
});

// The benchmark's generator does the same.
both("what a page emits while it handles one envelope goes in one", (transport) => {
  const page = open(transport);
  const { peer, session } = page;
  const envelopes = [];
  const take = peer.take;
  peer.take = function (unit) {
    if (unit.items.length) envelopes.push(unit.items.length);
    return take.call(this, unit);
  };
  session.on("ask", (number) => { session.emit("told", number); });
  peer.push('2["ask",1]', '2["ask",2]', '2["ask",3]');
  page.until(() => peer.events.length === 3);
  assert.deepEqual(envelopes, [3]);
  page.quiet();
});

both("auth: an object, a function, none", (transport) => {
  assert.deepEqual(open(transport, { options: { auth: { token: 1 } } }).peer.connects, [{ token: 1 }]);
  assert.deepEqual(open(transport, { options: { auth: () => ({ token: 2 }) } }).peer.connects, [{ token: 2 }]);
  assert.deepEqual(open(transport).peer.connects, [null]);
});

test("auth that throws, or cannot be sent, is refused at the call", () => {
  assert.throws(() => new Page({ options: { auth() { throw new Error("no token"); } } }), /no token/);
  const cyclic = {};
  cyclic.self = cyclic;
  for (const auth of [cyclic, { token: new Uint8Array(2) }, async () => ({ token: 3 }), { token: Promise.resolve(4) }]) {
    assert.throws(() => new Page({ options: { auth } }), refuses("unserialisable"));
  }
});

test("auth is asked for again for each new session; if it throws then, the session is closed", () => {
  let asked = 0;
  const auth = () => ({ asked: ++asked });
  const page = new Page({ options: { auth } }).opened();
  page.server.sessions.clear();
  page.network.link.cut();
  page.until(() => page.count("open") === 2);
  assert.deepEqual(page.peer.connects, [{ asked: 2 }]);
  page.talks();

  let tokens = 1;
  const failing = new Page({ options: { auth() {
    if (tokens-- === 0) throw new Error("no token any more");
    return {};
  } } }).opened();
  failing.server.sessions.clear();
  failing.network.link.cut();
  failing.until(() => failing.session.state === "closed");
  assert.equal(failing.count("reset"), 0);
  assert.equal(failing.last("close").code, 4404);
  assert.throws(() => failing.session.send("x"), refuses("closed"));
  failing.advance(10);
  assert.deepEqual(failing.environment.errors.splice(0).map(String), ["Error: no token any more"]);
  failing.over();
});

test("connect: the URL and the options may each be left out", () => {
  const page = new Page({ connect: false });
  for (const args of [[{ environment: page.environment }], [undefined, { environment: page.environment }]]) {
    const session = FallbackTransport.connect(...args);
    page.until(() => session.state === "open");
    assert.equal(page.network.link.socket.url, "ws://page.test/fallback/ws");
  }
});

test("a namespace", () => {
  const page = new Page({ options: { namespace: "/chat" }, before: ({ server }) => {
    server.onconnect = (session) => session.push('0/chat,{"sid":"x"}');
  } });
  page.until(() => page.server.hellos.length);
  assert.deepEqual(page.server.hellos[0].items, ["0/chat,"]);
  page.opened();
  page.session.send("x", () => {});
  page.advance(100);
  assert.deepEqual(page.peer.messages, ["0/chat,", '2/chat,1["message","x"]']);
  page.peer.push('2/chat,["message","y"]', '3/chat,1["z"]');
  page.advance(100);
  assert.deepEqual(page.messages, ["y"]);
  page.quiet();
});

// --- Events and replies -----------------------------------------------------------------------

both("events both ways, with any values", (transport) => {
  const page = open(transport);
  const values = [["a"], [1, null, true], [{ deep: [{ er: "é\u2028\x1e😀" }] }], [], ["", 0, -1.5], [undefined]];
  const heard = [];
  page.session.on("chat", (...found) => { heard.push(found); });
  for (const each of values) {
    page.session.emit("chat", ...each);
    page.peer.emit("chat", ...each);
  }
  page.advance(1000);
  const written = values.map((each) => JSON.parse(JSON.stringify(each)));
  assert.deepEqual(page.peer.events, written.map((each) => ["chat", ...each]));
  assert.deepEqual(heard, written);
  page.quiet();
});

both("send and on(\"message\"): unnamed messages", (transport) => {
  const page = open(transport);
  page.session.send("text");
  page.session.send(new Uint8Array([1, 2]).buffer);
  page.session.send("asked", (error, reply) => page.heard.push(["callback", { error, reply }]));
  page.server.onevent = (session, [, text], id) => { if (id) session.reply(id, `${text}!`); };
  page.until(() => page.count("callback"));
  assert.deepEqual(page.last("callback"), { error: null, reply: "asked!" });
  assert.deepEqual(page.peer.events, [["message", "text"], ["message", Uint8Array.of(1, 2)], ["message", "asked"]]);
  page.quiet();
});

both("a callback gets the reply, all of its values, or the error of the handler that raised", (transport) => {
  const page = open(transport);
  const replies = [];
  page.server.onevent = (session, [name, ...values], id) => {
    if (name === "raise") session.push(`7${id}{"code":1011,"message":"the handler raised"}`);
    else if (id) session.reply(id, ...values);
  };
  page.session.emit("echo", "a", (...found) => replies.push(found));
  page.session.emit("echo", (...found) => replies.push(found));
  page.session.emit("echo", 1, 2, (...found) => replies.push(found));
  page.session.emit("raise", (...found) => replies.push(found));
  page.until(() => replies.length === 4);
  assert.deepEqual(replies.slice(0, 3), [[null, "a"], [null], [null, 1, 2]]);
  assert.equal(replies[3][0].code, 1011);
  assert.equal(replies[3][0].message, "the handler raised");
  page.quiet();
});

both("a callback waits over a reconnection, and is called once", (transport) => {
  // The question is lost on its way up, or it was handled and the reply is lost.
  for (const handled of [false, true]) {
    const page = open(transport).talks();
    if (transport === "websocket") {
      page.network.link.swallow(handled ? "down" : "both");
    } else {
      page.network.onpost = () => ({ status: 0, reaches: handled });
      page.environment.fire("online");
    }
    const answers = [];
    page.session.emit("ask", 1, (...found) => { answers.push(found); });
    page.advance(500);
    assert.equal(page.peer.events.length, handled ? 2 : 1);
    if (handled) page.peer.reply(1, "once");
    page.advance(500);
    assert.deepEqual(answers, []);
    page.network.onpost = () => undefined;
    if (transport === "websocket") page.network.link.cut();
    page.environment.fire("online");
    page.until(() => page.peer.events.length === 2, "it arrived");
    if (!handled) page.peer.reply(1, "once");
    page.until(() => answers.length, "a reply");
    page.advance(5000);
    assert.deepEqual(answers, [[null, "once"]]);
    page.talks();
  }
});

both("a reply that nobody waits for, or comes twice, is ignored", (transport) => {
  const page = open(transport);
  const replies = [];
  page.session.emit("x", (...found) => replies.push(found));
  page.advance(100);
  page.peer.push("31[1]", "31[2]", "399[3]", '71{"message":"late"}', "3[4]");
  page.advance(100);
  assert.deepEqual(replies, [[null, 1]]);
  page.talks();
});

both("a listener replies with what it returns, or later", (transport) => {
  const page = open(transport);
  let later = null;
  page.session.on("now", (value) => value + 1);
  page.session.on("later", (value, reply) => { later = () => reply(value + 2); });
  page.session.on("bytes", () => new Uint8Array([7]));
  page.session.on("nothing", (value, reply) => { reply(); });
  page.session.on("several", (value, reply) => { reply(value, [2], { three: 3 }); });
  page.peer.ask(5, "now", 1);
  page.peer.ask(6, "later", 1);
  page.peer.ask(7, "bytes");
  page.peer.ask(8, "nothing", 1);
  page.peer.ask(9, "several", 1);
  page.until(() => page.peer.replies.length === 4 && later);
  later();
  later();
  page.advance(500);
  assert.deepEqual(page.peer.replies, [
    ["3", 5, [2]], ["6", 7, [Uint8Array.of(7)]], ["3", 8, []], ["3", 9, [1, [2], { three: 3 }]],
    ["3", 6, [3]],
  ]);
  page.quiet();
});

both("an event that asks for nothing gets no reply, and its listener no reply function", (transport) => {
  const page = open(transport);
  const found = [];
  page.session.on("x", (...values) => { found.push(values); return "ignored"; });
  page.peer.emit("x", 1);
  page.advance(500);
  assert.deepEqual(found, [[1]]);
  assert.deepEqual(page.peer.replies, []);
  page.quiet();
});

both("what a listener promises is the reply, and an error if it fails or cannot be sent", async (transport) => {
  const page = open(transport);
  const later = async (ask) => {
    ask();
    page.advance(500);
    assert.deepEqual(page.peer.replies, []);
    // Whatever was promised is known by then.
    await new Promise((done) => { setImmediate(done); });
    page.advance(500);
    return page.peer.replies.splice(0);
  };
  const raised = (id) => [["7", id, { code: 1011, message: "the listener raised" }]];
  page.session.on("gives", async (value) => value + 1);
  page.session.on("calls", async (value, reply) => { await null; reply(value, 2); });
  page.session.on("both", async (value, reply) => { await null; reply(value); return "late"; });
  page.session.on("fails", async () => { throw new Error("broken"); });
  page.session.on("cannot", async () => 1n);
  page.session.on("nothing", async () => {});
  page.session.on("data", () => ({ then: 1 }));
  assert.deepEqual(await later(() => { page.peer.ask(1, "gives", 1); }), [["3", 1, [2]]]);
  assert.deepEqual(await later(() => { page.peer.ask(2, "calls", 1); }), [["3", 2, [1, 2]]]);
  assert.deepEqual(await later(() => { page.peer.ask(3, "both", 1); }), [["3", 3, [1]]]);
  assert.deepEqual(await later(() => { page.peer.ask(4, "fails"); }), raised(4));
  assert.deepEqual(page.environment.errors.splice(0).map((error) => error.message), ["broken"]);
  assert.deepEqual(await later(() => { page.peer.ask(5, "cannot"); }), raised(5));
  assert.deepEqual(page.environment.errors.splice(0).map((error) => error.code), ["unserialisable"]);
  assert.deepEqual(await later(() => { page.peer.ask(6, "nothing"); }), []);
  assert.deepEqual(await later(() => { page.peer.emit("gives", 1); }), []);
  page.peer.ask(7, "data");
  page.advance(500);
  assert.deepEqual(page.peer.replies, [["3", 7, [{ then: 1 }]]], "no promise");
  page.quiet();
});

both("no listener: an error is the reply", (transport) => {
  const page = open(transport);
  page.peer.ask(3, "unknown");
  page.peer.ask(4, "constructor");
  page.advance(500);
  assert.deepEqual(page.peer.replies, [
    ["7", 3, { code: 1011, message: "no listener for unknown" }],
    ["7", 4, { code: 1011, message: "no listener for constructor" }],
  ]);
  page.talks();
});

both("listeners that throw: the error is reported, the other listeners and messages are not harmed", (transport) => {
  const page = open(transport);
  const found = [];
  page.session.on("x", () => { throw new Error("first"); });
  page.session.on("x", (value) => { found.push(value); });
  page.session.onopen = () => { throw new Error("onopen"); };
  page.peer.ask(1, "x", "a");
  page.peer.emit("x", "b");
  page.peer.emit("message", "behind");
  page.advance(500);
  assert.deepEqual(found, ["a", "b"]);
  assert.deepEqual(page.messages, ["behind"]);
  assert.deepEqual(page.peer.replies, [["7", 1, { code: 1011, message: "the listener raised" }]]);
  assert.deepEqual(page.environment.errors.splice(0).map((error) => error.message), ["first", "first"]);
  assert.equal(page.peer.confirmed, page.peer.sent.length, "all is handled");
  page.talks();
});

both("callbacks that throw harm nothing", (transport) => {
  const page = open(transport);
  page.server.onevent = (session, event, id) => { if (id) session.reply(id); };
  page.session.emit("x", () => { throw new Error("callback"); });
  page.advance(500);
  assert.deepEqual(page.environment.errors.splice(0).map((error) => error.message), ["callback"]);
  page.talks();
});

both("a reply that cannot be sent is an error for the asker, and harms nothing", (transport) => {
  const page = open(transport);
  const cyclic = {};
  cyclic.self = cyclic;
  page.session.on("cyclic", () => cyclic);
  page.session.on("blob", () => new Blob(["x"]));
  page.session.on("large", () => "x".repeat(16_000_001));
  let reply = null;
  page.session.on("later", (found) => { reply = found; });
  page.peer.ask(1, "cyclic");
  page.peer.ask(2, "blob");
  page.peer.ask(3, "large");
  page.peer.ask(4, "later");
  page.peer.emit("message", "behind");
  page.until(() => page.messages.length);
  assert.throws(() => reply(cyclic), refuses("unserialisable"));
  reply("after all");
  page.advance(500);
  assert.deepEqual(page.peer.replies.map(([type, id]) => [type, id]), [["7", 1], ["7", 2], ["7", 3], ["3", 4]]);
  assert.equal(page.environment.errors.splice(0).length, 3);
  assert.equal(page.peer.confirmed, page.peer.sent.length);
  page.talks();
});

both("on, off: several listeners, in order, and taken away while they run", (transport) => {
  const page = open(transport);
  const found = [];
  const first = () => { found.push("first"); page.session.off("x", first); };
  assert.equal(page.session.on("x", first).on("x", () => { found.push("second"); }), page.session);
  page.peer.emit("x");
  page.peer.emit("x");
  page.advance(100);
  assert.deepEqual(found, ["first", "second", "second"]);
  page.session.off("x");
  page.peer.emit("x");
  page.advance(100);
  assert.equal(found.length, 3);
  page.quiet();
});

test("names that nobody listens to leave nothing behind", () => {
  const page = open("websocket");
  for (let i = 0; i < 50; i++) page.peer.emit(`name ${i}`);
  page.talks();
  assert.ok(Object.keys(page.session._core.named).length <= 1);
});

test("names that every object has are names like any other", () => {
  const page = open("polling");
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "message"];
  const heard = [];
  for (const name of names) page.peer.emit(name, 0);
  page.talks();
  for (const name of names) page.session.on(name, (data) => { heard.push([name, data]); });
  for (const name of names) {
    page.session.emit(name, 1);
    page.peer.emit(name, 1);
  }
  page.advance(1000);
  assert.deepEqual(heard, names.map((name) => [name, 1]));
  assert.deepEqual(page.peer.events.slice(1).map(([name]) => name), names);
  page.quiet();
});

test("addEventListener and removeEventListener, each listener once", () => {
  const page = new Page();
  let count = 0;
  const listener = () => { count += 1; };
  const other = () => { count += 10; };
  page.session.addEventListener("open", listener);
  page.session.addEventListener("open", listener);
  page.session.addEventListener("open", other);
  page.session.removeEventListener("open", other);
  page.session.removeEventListener("toString", other);
  page.opened();
  assert.equal(count, 1);
});

both("an end says more is handled than received: no more is, and what is left is counted", (transport) => {
  const page = new Page({ options: { transports: [transport] } }).on(transport).advance(3000);
  const { outbox } = page.session._core.machine();
  page.network.onpost = () => ({ lost: true });
  page.network.onframe = () => 0;
  for (const text of ["one", "x".repeat(600_000), "three"]) page.session.send(text);
  const received = outbox.confirmed + 1;
  // It has some of the second.
  outbox.confirm(received - 1, received, 1000);
  page.session._core.ended({ code: 4321, reason: "over", session: true, ack: received + 2, received });
  assert.deepEqual(page.last("close").unconfirmed.map(({ data }) => data.length), [600_000, 5]);
  assert.ok(page.session.bufferedAmount > 590_000);
});

both("replies go ahead of what waits for credit", (transport) => {
  const page = open(transport, { grant: { messages: 2 } });
  page.peer.holds = true;
  for (let i = 0; i < 5; i++) page.session.send(i);
  page.session.on("ask", () => "at once");
  page.peer.ask(9, "ask");
  page.until(() => page.peer.replies.length, "the reply");
  assert.deepEqual(page.peer.events.map((event) => event[1]), [0, 1]);
  page.peer.holds = false;
  page.peer.handle();
  page.until(() => page.peer.events.length === 5);
  page.quiet();
});

// --- Bytes ----------------------------------------------------------------------------------------

both("bytes nested anywhere, both ways", (transport) => {
  const page = open(transport);
  const found = [];
  page.session.on("bytes", (...values) => { found.push(values); });
  const a = Uint8Array.of(1, 2, 3);
  const b = Uint8Array.from({ length: 1000 }, (_, i) => i & 255);
  page.session.emit("bytes", a, { deep: [{ b: b.buffer }], none: null }, new Uint8Array(0), "text");
  page.session.emit("bytes", b.subarray(30, 33), new DataView(b.buffer, 40, 2), new Uint16Array([513]));
  page.peer.emit("bytes", a, { deep: [{ b }], none: null }, new Uint8Array(0), "text");
  page.until(() => page.peer.events.length === 2 && found.length);
  assert.deepEqual(page.peer.events[0], ["bytes", a, { deep: [{ b }], none: null }, new Uint8Array(0), "text"]);
  assert.deepEqual(page.peer.events[1], ["bytes", Uint8Array.of(30, 31, 32), Uint8Array.of(40, 41), Uint8Array.of(1, 2)]);
  assert.deepEqual(found, [[a.buffer, { deep: [{ b: b.buffer }], none: null }, new ArrayBuffer(0), "text"]]);
  assert.ok(found[0][0] instanceof ArrayBuffer);
  page.quiet();
});

test("bytes are those of the call, whatever the page writes to them later", () => {
  const page = open("websocket");
  page.peer.holds = true;
  const bytes = Uint8Array.of(1, 2, 3);
  page.session.send(bytes);
  page.session.send(bytes.buffer);
  bytes.fill(9);
  page.advance(100);
  assert.deepEqual(page.peer.events, [["message", Uint8Array.of(1, 2, 3)], ["message", Uint8Array.of(1, 2, 3)]]);
});

test("bytes of another window, and an object that only looks like bytes", () => {
  const page = open("websocket");
  const foreign = vm.runInNewContext("[new Uint8Array([1, 2]), new Uint8Array([3]).buffer]");
  page.session.send(foreign[0]);
  page.session.send(foreign[1]);
  page.session.emit("x", { name: "a", buffer: Uint8Array.of(4).buffer });
  page.advance(100);
  assert.deepEqual(page.peer.events, [
    ["message", Uint8Array.of(1, 2)], ["message", Uint8Array.of(3)], ["x", { name: "a", buffer: Uint8Array.of(4) }],
  ]);
});

test("bytes on polling and WebSocket mixed with texts, cut in between, once and in order", () => {
  const page = new Page().on("websocket");
  for (let i = 0; i < 60; i++) {
    page.session.emit("n", i, Uint8Array.of(i), `${i}`, Uint8Array.of(i, i));
    page.peer.emit("message", Uint8Array.of(i));
    page.advance(3);
    if (i % 20 === 10) page.network.link.cut();
  }
  page.until(() => page.peer.events.length === 60 && page.messages.length === 60);
  page.peer.events.forEach((event, i) => assert.deepEqual(event, ["n", i, Uint8Array.of(i), `${i}`, Uint8Array.of(i, i)]));
  page.messages.forEach((data, i) => assert.deepEqual(new Uint8Array(data), Uint8Array.of(i)));
  page.quiet();
});

test("values that JSON knows how to write, and own properties only", () => {
  const page = open("websocket");
  class Point { constructor() { this.x = 1; } get y() { return 2; } }
  page.session.emit("x", new Date(0), { toJSON: () => "mine" }, new Point(), Object.create({ inherited: 1 }), [, 1], NaN, new String("s"));
  page.advance(100);
  assert.deepEqual(page.peer.events, [["x", "1970-01-01T00:00:00.000Z", "mine", { x: 1 }, {}, [null, 1], null, "s"]]);
});

test("bytes in what toJSON gives, and in objects of a kind of their own", () => {
  const page = open("websocket");
  class Named { constructor() { this.bytes = Uint8Array.of(1); } get [Symbol.toStringTag]() { return "Named"; } }
  page.session.emit("x", { toJSON: () => ({ bytes: Uint8Array.of(2) }) }, new Named());
  page.advance(100);
  assert.deepEqual(page.peer.events, [["x", { bytes: Uint8Array.of(2) }, { bytes: Uint8Array.of(1) }]]);
});

test("values of every name, those that all objects have among them", () => {
  const page = open("websocket");
  const json = '{"__proto__":{"a":[1]},"constructor":2,"toString":3}';
  page.session.emit("x", JSON.parse(json));
  page.advance(100);
  assert.equal(JSON.stringify(page.peer.events), `[["x",${json}]]`);
});

test("a page's object that looks like a placeholder stays what it is", () => {
  const page = open("websocket");
  const found = [];
  page.session.on("x", (value) => { found.push(value); });
  page.peer.push('2["x",{"_placeholder":true,"num":0}]');
  page.advance(100);
  assert.deepEqual(found, [{ _placeholder: true, num: 0 }]);
  page.network.link.up = false;
  page.session.emit("x", { _placeholder: true, num: 5 });
  page.server.sessions.clear();
  page.network.link.cut();
  page.until(() => page.count("reset"));
  assert.deepEqual(page.last("reset").unconfirmed, [sent("x", { _placeholder: true, num: 5 })]);
  page.quiet();
});

test("holes are null, at an array's end too", () => {
  const page = open("websocket");
  page.session.emit("x", new Array(2), [1, , ,]);
  page.advance(100);
  assert.deepEqual(page.peer.events, [["x", [null, null], [1, null, null]]]);
});

test("what is unconfirmed has all its values", () => {
  const page = open("websocket");
  page.peer.holds = true;
  page.session.emit("move", 1, Uint8Array.of(2), { z: 3 });
  page.advance(100);
  page.peer.end(4404, "gone");
  page.until(() => page.count("reset"));
  assert.deepEqual(page.last("reset").unconfirmed, [sent("move", 1, Uint8Array.of(2).buffer, { z: 3 })]);
});

// --- What cannot be sent is refused at the call -------------------------------------------------------

both("a Blob, a promise, a cycle, a BigInt, a getter that throws: refused at the call, and nothing is changed", (transport) => {
  const page = open(transport);
  const cyclic = [{}];
  cyclic[0].cyclic = cyclic;
  const before = page.session.counters;
  const callback = () => assert.fail("never called");
  for (const value of [new Blob(["x"]), { deep: [new Blob(["x"])] }, Promise.resolve(1), { deep: [Promise.resolve(1)] }, cyclic, 5n, { get x() { throw new Error("getter"); } }]) {
    assert.throws(() => page.session.emit("x", value, callback), refuses("unserialisable"));
  }
  assert.throws(() => page.session.send(new Blob(["x"])), /Blob.*ArrayBuffer/);
  assert.deepEqual(page.session.counters, before);
  assert.equal(page.session.bufferedAmount, 0);
  page.talks();
});

both("what Socket.IO would take for bytes, beside bytes: refused at the call", (transport) => {
  const page = open(transport);
  for (const num of [0, 9, "x"]) {
    const odd = { deep: [{ _placeholder: true, num }] };
    assert.throws(() => page.session.emit("x", odd, new Uint8Array(1)), refuses("unserialisable"));
    assert.throws(() => page.session.emit("x", new Uint8Array(1), odd), refuses("unserialisable"));
    page.session.emit("x", odd);
  }
  page.advance(100);
  assert.equal(page.peer.events.length, 3);
  page.talks();
});

// The server takes for an attack what is nested deeper than 100, the array of an event among them, and
// ends the session.
both("what is nested too deep: refused at the call", (transport) => {
  const page = open(transport);
  const nested = (depth, value) => (depth ? nested(depth - 1, [value]) : value);
  const before = page.session.counters;
  for (const value of [nested(100, 0), nested(98, { a: [] }), nested(99, new Uint8Array(1)), [nested(3, 0), nested(99, 0)]]) {
    assert.throws(() => page.session.emit("x", value, () => assert.fail("never called")), refuses("unserialisable"));
  }
  assert.deepEqual(page.session.counters, before);
  const deep = nested(99, 0);
  const taken = [deep, nested(98, new Uint8Array(1)), [deep[0], deep[0], 1], nested(98, { toJSON: () => ({ a: 1 }) }), nested(99, "x")];
  for (const value of taken) page.session.emit("x", value);
  page.session.emit("x", deep, nested(98, new Uint8Array(1)), deep);
  page.advance(100);
  assert.deepEqual(page.peer.events[0], ["x", deep]);
  assert.equal(page.peer.events.length, 6);
  page.session.on("ask", () => nested(100, 0));
  page.peer.push('27["ask"]');
  page.advance(100);
  assert.deepEqual(page.peer.replies.map((reply) => reply.slice(0, 2)), [["7", 7]]);
  page.environment.errors.length = 0;
  page.talks();
});

test("auth that is nested too deep is refused at the call", () => {
  let auth = 0;
  for (let depth = 0; depth < 101; depth++) auth = { auth };
  assert.throws(() => new Page({ options: { auth } }), refuses("unserialisable"));
  open("websocket", { options: { auth: auth.auth } });
});

// The server grants so many messages to be sent and not handled, and takes one event's beside it.
both("more attachments than messages are granted: refused at the call", (transport) => {
  const page = open(transport, { grant: { messages: 3 } });
  const before = page.session.counters;
  const bytes = (count) => Array.from({ length: count }, () => new Uint8Array(1));
  assert.throws(() => page.session.emit("x", bytes(4)), refuses("too-large"));
  assert.deepEqual(page.session.counters, before);
  page.session.emit("x", bytes(2));
  page.advance(100);
  assert.equal(page.peer.events.length, 1);
  page.talks();
  page.session.emit("x", bytes(3));
  page.until(() => page.peer.events.length === 3, "the most that is taken");
  page.quiet();
});

test("what a page's getter throws, and a name that is a symbol, are refused with the code that is told", () => {
  const page = open("websocket");
  for (const thrown of [null, undefined, new DOMException("not yours", "SecurityError"), Object.assign(new Error("no"), { code: "ENOENT" })]) {
    assert.throws(() => page.session.emit("x", { get x() { throw thrown; } }), { code: "unserialisable" });
  }
  assert.throws(() => page.session.emit(Symbol("x"), 1), refuses("unserialisable"));
  page.talks();
});

both("what is no event's name: refused at the call", (transport) => {
  const page = open(transport);
  for (const name of ["connect", "disconnect", 7, null, undefined]) {
    assert.throws(() => page.session.emit(name, "data"), refuses("unserialisable"));
  }
  page.session.emit("connected", "data");
  page.until(() => page.peer.events.length === 1, "the other came");
  page.quiet();
});

test("no namespace: refused at the call", () => {
  for (const namespace of ["chat", "/a,b", "?"]) {
    assert.throws(() => new Page({ options: { namespace } }), refuses("namespace"));
  }
});

test("a URL that leads to no server: refused at the call", () => {
  for (const url of ["file:///fallback", "data:text/html,", "localhost:5000/fallback", "ftp://page.test/fallback"]) {
    assert.throws(() => new Page({ url }), { name: "SyntaxError", message: `no server: ${url}` });
  }
});

test("a URL of a WebSocket leads to polling, too, and names no user", () => {
  const page = new Page({ url: "ws://user:password@page.test/fallback/", webSocket: false }).opened();
  page.talks();
  assert.equal(page.posts[0].url, "http://page.test/fallback/poll");
});

both("connect that throws leaves nothing behind", (transport) => {
  const options = { transports: [transport], auth() { throw new Error("no token yet"); } };
  const page = new Page({ connect: false, options });
  assert.throws(() => page.connect(), /no token/);
  for (const type of ["online", "pagehide", "pageshow"]) page.environment.fire(type, { persisted: false });
  page.advance(20_000);
  assert.deepEqual([page.posts.length, page.network.links.length, page.environment.timers()], [0, 0, 0]);
  assert.ok(Object.values(page.environment.listeners).every((listeners) => !listeners.size));
  assert.deepEqual(page.environment.errors, []);
});

both("too large: refused at the call", (transport) => {
  const page = open(transport, { grant: { message: 1000 } });
  assert.throws(() => page.session.send("x".repeat(1000)), refuses("too-large"));
  assert.throws(() => page.session.send("é".repeat(500)), refuses("too-large"));
  assert.throws(() => page.session.send(new Uint8Array(1001)), refuses("too-large"));
  page.session.send("x".repeat(900));
  page.session.send(new Uint8Array(1000));
  page.advance(100);
  assert.equal(page.peer.events.length, 2);
  page.talks();
});

both("closed, and closing: refused at the call", (transport) => {
  const page = open(transport);
  page.session.close();
  assert.throws(() => page.session.send("x"), refuses("closed"));
  page.until(() => page.session.state === "closed");
  assert.throws(() => page.session.send("x"), refuses("closed"));
  assert.throws(() => page.session.emit("x", () => {}), refuses("closed"));
  page.over();
});

test("full: refused at the call, and bounded", () => {
  const page = open("websocket");
  page.network.link.swallow("up");
  for (let i = 0; i < 16; i++) page.session.send("x".repeat(1_990_000));
  assert.throws(() => page.session.send("x".repeat(1_990_000)), refuses("full"));
  assert.ok(page.session.bufferedAmount < 32_000_000);
  page.session.send("small");
  const many = open("websocket");
  many.network.link.swallow("up");
  const sent = () => many.session.send("x");
  for (let i = 0; i < 10_000; i++) sent();
  assert.throws(sent, refuses("full"));
  // A close is always taken.
  many.session.close();
  many.until(() => many.session.state === "closed");
  assert.equal(many.last("close").unconfirmed.length, 10_000);
});

test("a reply when the outbox is full: an error nowhere but for the asker", () => {
  const page = open("websocket");
  page.peer.holds = true;
  for (let i = 0; i < 9999; i++) page.session.send(i);
  assert.throws(() => { for (;;) page.session.send("more"); }, refuses("full"));
  page.session.on("ask", () => "no room");
  page.peer.ask(1, "ask");
  page.peer.emit("message", "behind");
  page.until(() => page.messages.length === 1, "what is behind it is not harmed");
  page.advance(10);
  assert.ok(page.environment.errors.splice(0).every((error) => error.code === "full"));
  page.quiet();
});

test("bufferedAmount: bytes that are not confirmed", () => {
  const page = open("websocket");
  page.peer.holds = true;
  page.session.send("é");
  assert.equal(page.session.bufferedAmount, '2["message","é"]'.length + 1);
  page.advance(100);
  assert.equal(page.session.bufferedAmount, '2["message","é"]'.length + 1, "received, and not handled");
  page.peer.handle();
  page.advance(100);
  assert.equal(page.session.bufferedAmount, 0);
});

// --- Closing ------------------------------------------------------------------------------------------

both("close by the page: behind all that was sent; onclose once", (transport) => {
  const page = open(transport);
  for (let i = 0; i < 20; i++) page.session.send(i);
  page.session.close(4001, "done");
  page.session.close(4002, "again");
  assert.equal(page.session.state, "open");
  page.until(() => page.session.state === "closed");
  assert.equal(page.peer.events.length, 20);
  assert.deepEqual(page.peer.over, { end: 4001, reason: "done", session: true, ack: page.peer.received, received: page.peer.received });
  const { code, reason, wasClean, unconfirmed, data } = page.last("close");
  assert.deepEqual({ code, reason, wasClean, unconfirmed, data }, { code: 4001, reason: "done", wasClean: true, unconfirmed: [], data: undefined });
  assert.equal(page.session.transport, null);
  page.session.close();
  page.over();
});

both("close by the server: behind all that it sent, acknowledged, onclose once", (transport) => {
  const page = open(transport);
  for (let i = 0; i < 20; i++) page.peer.emit("message", i);
  page.peer.close(4321, "bye");
  page.until(() => page.session.state === "closed");
  assert.equal(page.messages.length, 20);
  assert.equal(page.last("close").code, 4321);
  assert.equal(page.last("close").reason, "bye");
  page.over();
  assert.equal(page.peer.confirmed, page.peer.sent.length, "the server knows that it was told");
  assert.ok(page.peer.over);
});

both("crossed closes: the server's code counts on both sides", (transport) => {
  const page = open(transport);
  page.peer.close(4321, "the server's");
  page.session.close(4001, "the page's");
  page.until(() => page.session.state === "closed");
  assert.equal(page.last("close").code, 4321);
  page.over();
});

both("crossed closes of which an end tells: clean where the server has received the page's", (transport) => {
  for (const has of [0, 1]) {
    const page = open(transport);
    page.session.close(4001, "the page's");
    const { outbox } = page.session._core.machine();
    const received = outbox.last() - 1 + has;
    page.session._core.ended({ code: 4321, reason: "the server's", session: true, ack: 0, received });
    const { code, wasClean, unconfirmed } = page.last("close");
    assert.deepEqual({ code, wasClean, unconfirmed }, { code: 4321, wasClean: has === 1, unconfirmed: [] });
    assert.equal(page.count("error"), 1 - has);
    page.over();
  }
});

test("a message of just the size that is granted is taken, whole or in parts; a larger one ends the session", () => {
  for (const size of [5, 6]) {
    const text = "x".repeat(size);
    for (const parts of [[new core.Message(text)], [0, 2, 4].map((at) => new core.Message(text.slice(at, at + 2), at, size))]) {
      const inbox = new core.Inbox();
      inbox.limit = 5;
      const take = () => parts.flatMap((part) => inbox.take(1, [part])).map((message) => message.data);
      if (size === 5) assert.deepEqual(take(), [text]);
      else assert.throws(take, (error) => error.code === 4413 && error.fatal);
    }
  }
});

both("close while connecting", (transport) => {
  const page = new Page({ options: { transports: [transport] } });
  page.session.send("said");
  page.session.close(4001, "changed my mind");
  page.until(() => page.session.state === "closed");
  assert.equal(page.last("close").code, 4001);
  assert.deepEqual(page.peer.events, [["message", "said"]]);
  assert.equal(page.count("open") <= 1, true);
  page.over();
});

both("close where nothing answers: given up after 5 s, with what is unconfirmed", (transport) => {
  const page = new Page({ options: { transports: [transport] }, before: ({ network }) => { network.down = true; } });
  page.session.emit("chat", { n: 1 }, (error) => page.heard.push(["callback", error]));
  page.advance(1000);
  page.session.close();
  page.until(() => page.session.state === "closed");
  assert.equal(page.time, 6000);
  assert.deepEqual(page.last("close").unconfirmed, [sent("chat", { n: 1 })]);
  assert.equal(page.last("callback").code, 1000);
  page.over();
});

both("close on a connection that dies: resumed, and closed all the same", (transport) => {
  const page = open(transport);
  page.session.send("last words");
  page.network.open.forEach((link) => link.cut());
  if (transport === "polling") page.network.onpost = () => { page.network.onpost = () => undefined; return { status: 502 }; };
  page.session.close(4001, "");
  page.until(() => page.session.state === "closed");
  assert.ok(page.time < 2000);
  assert.deepEqual(page.peer.events, [["message", "last words"]]);
  assert.equal(page.peer.over.end, 4001);
  page.over();
});

test("codes and reasons that cannot be are refused", () => {
  const page = open("websocket");
  for (const code of [0, 1, 999, 1001, 1005, 1006, 1011, 2999, 5000, null, "x", NaN]) {
    assert.throws(() => page.session.close(code), refuses("close"), String(code));
  }
  assert.throws(() => page.session.close(1000, "x".repeat(124)), refuses("close"));
  assert.throws(() => page.session.close(1000, "é".repeat(62)), refuses("close"));
  assert.equal(page.session.state, "open");
  page.talks();
  page.session.close(4999, 5);
  page.until(() => page.session.state === "closed");
  assert.equal(page.peer.over.reason, "5");
  page.over();
});

// UTF-8 has none, and the server would drop each connection that brings one, again and again.
both("half of a surrogate pair in a reason becomes what a browser's WebSocket makes of it", (transport) => {
  const page = open(transport);
  page.session.close(4000, "a\ud83d \ud83d\ude00");
  page.until(() => page.session.state === "closed");
  assert.equal(page.peer.over.reason, "a\ufffd \ud83d\ude00");
  page.over();
});

both("the server ends the session outside the numbering", (transport) => {
  const page = open(transport);
  page.session.send("unhandled", (error) => page.heard.push(["callback", error]));
  page.peer.holds = true;
  page.advance(100);
  page.peer.end(4429, "too many");
  page.until(() => page.session.state === "closed");
  assert.equal(page.last("close").code, 4429);
  assert.deepEqual(page.last("close").unconfirmed, [sent("message", "unhandled")]);
  assert.equal(page.last("callback").code, 4429);
  page.over();
});

both("gone, inactive, restarted: onreset with what is unconfirmed, callbacks fail, a new session", (transport) => {
  for (const [code, end] of [[4404, true], [4408, true], [1012, true], [1012, false]]) {
    const page = open(transport);
    page.advance(70_000);
    page.peer.holds = true;
    page.session.emit("chat", "a", (error) => page.heard.push(["callback", error]));
    page.session.emit("chat", "b");
    page.advance(100);
    const first = page.peer;
    if (end) first.end(code, "why");
    else first.close(code, "why");
    page.until(() => page.count("reset"));
    assert.equal(page.last("reset").code, code);
    assert.equal(page.last("reset").reason, "why");
    assert.deepEqual(page.last("reset").unconfirmed, [sent("chat", "a"), sent("chat", "b")]);
    assert.equal(page.last("callback").code, code);
    assert.equal(page.session.state, "reconnecting");
    page.until(() => page.count("open") === 2);
    assert.notEqual(page.session.id, first.id);
    assert.deepEqual(page.peer.events, [], "nothing is sent again by itself");
    assert.equal(page.count("close"), 0);
    assert.equal(page.session.counters.sent, 1);
    page.talks();
  }
});

both("who has closed stays closed, whatever code it ends with", (transport) => {
  const ends = {
    "the page, with such a code": (page) => page.session.close(4404, "no such room"),
    "the application, with such a code": (page) => page.peer.close(4408, "too slow"),
    "the page, while the server loses the session": (page) => {
      page.server.sessions.clear();
      page.network.open.forEach((link) => link.cut());
      page.session.close();
    },
    "the page, while the server restarts": (page) => {
      page.peer.close(1012, "the server restarts");
      page.session.close();
    },
    "the page, long after it has heard anything": (page) => {
      page.network.down = true;
      page.network.open.forEach((link) => link.cut());
      page.advance(118_000);
      page.session.close();
    },
  };
  for (const [who, end] of Object.entries(ends)) {
    const page = open(transport);
    page.advance(70_000);
    end(page);
    page.until(() => page.session.state === "closed", who, 10_000);
    assert.deepEqual([page.count("close"), page.count("reset"), page.server.count], [1, 0, 1], who);
    page.over();
  }
});

both("a server that restarts: its clients come back spread over five seconds, and miss nothing", (transport) => {
  const waits = [];
  for (let seed = 1; seed <= 100; seed++) {
    const page = open(transport, { seed });
    page.advance(70_000);
    page.peer.holds = true;
    page.session.emit("chat", "a");
    page.advance(100);
    page.peer.close(1012, "the server restarts");
    page.until(() => page.count("reset"));
    const { time } = page;
    const hellos = page.server.hellos.length;
    assert.deepEqual(page.last("reset").unconfirmed, [sent("chat", "a")]);
    page.session.emit("meanwhile");
    page.until(() => page.server.hellos.length > hellos);
    waits.push(page.time - time);
    page.opened();
    page.until(() => page.peer.events.length);
    assert.deepEqual(page.peer.events, [["meanwhile"]]);
    page.talks();
  }
  assert.ok(Math.max(...waits) <= 5100, `${Math.max(...waits)}`);
  for (let second = 0; second < 5; second++) {
    const inside = waits.filter((wait) => wait >= second * 1000 && wait < (second + 1) * 1000).length;
    assert.ok(inside >= 8 && inside <= 35, `${inside} of 100 in second ${second + 1}`);
  }
});

both("a server that restarts: for how long they spread is an option", (transport) => {
  const page = open(transport, { random: () => 0.5, options: { timing: { spread: 20_000 } } });
  page.advance(70_000);
  page.peer.end(1012, "why");
  page.until(() => page.count("reset"));
  const { time } = page;
  page.opened();
  assert.ok(page.time - time >= 10_000 && page.time - time < 10_100, `${page.time - time}`);
});

both("in onreset the page may send again what was unconfirmed", (transport) => {
  const page = open(transport);
  page.peer.holds = true;
  page.session.emit("chat", "a", (error) => { if (error) page.session.emit("from callback"); });
  page.session.emit("chat", "b");
  page.session.onreset = (event) => {
    for (const each of event.unconfirmed) page.session.emit(each.event, each.data, () => page.heard.push(["callback", {}]));
  };
  page.advance(100);
  page.server.onevent = (session, event, id) => { if (id) session.reply(id); };
  page.peer.end(4404, "gone");
  page.until(() => page.count("callback") === 2);
  assert.deepEqual(page.peer.events, [["from callback"], ["chat", "a"], ["chat", "b"]]);
  page.talks();
});

both("in onclose the page may open another session, and in onreset close this one", (transport) => {
  const page = open(transport);
  let next = null;
  page.session.onclose = () => { next = FallbackTransport.connect("/fallback", { environment: page.environment, ...page.options }); };
  page.session.close();
  page.until(() => next && next.state === "open");
  const other = open(transport);
  other.session.onreset = () => { other.session.close(4001, "enough"); };
  other.peer.end(4404, "gone");
  other.until(() => other.session.state === "closed");
  assert.equal(other.last("close").code, 4001);
  other.over();
});

both("refused by the application: onclose with its code, reason and data", (transport) => {
  const refuse = (code) => new Page({ options: { transports: [transport] }, before: ({ server }) => {
    server.onconnect = (session) => {
      session.push('4{"message":"not today","data":{"code":4444,"retry":false}}');
      session.close(code, "not today");
    };
  } });
  for (const code of [4401, 4444, 4404]) {
    const page = refuse(code);
    page.until(() => page.session.state === "closed");
    const told = page.last("close");
    assert.deepEqual([told.code, told.reason, told.data], [code, "not today", { code: 4444, retry: false }]);
    assert.equal(page.count("open") + page.count("reset"), 0);
    page.over();
  }
});

test("refused on polling, while a WebSocket could be tried: no probe stays behind", () => {
  const page = new Page({ before: ({ network, server }) => {
    network.websocket = "refused";
    server.onconnect = (session) => { session.push('4{"message":"no"}'); session.close(4401, "no"); };
  } });
  page.until(() => page.session.state === "closed");
  page.over();
});

test("refused with less than an object", () => {
  for (const packet of ["4", '4"no"', '4{"message":"no"}', "4null"]) {
    const page = new Page({ before: ({ server }) => {
      server.onconnect = (session) => { session.push(packet); session.close(4401, "no"); };
    } });
    page.until(() => page.session.state === "closed");
    assert.equal(page.last("close").code, 4401);
    assert.equal(page.last("close").data, undefined);
    page.over();
  }
});

both("disconnected by the application: the packet, and the close behind it", (transport) => {
  const page = open(transport);
  page.peer.push("1");
  page.peer.close(1000, "disconnected by the server");
  page.until(() => page.session.state === "closed");
  assert.equal(page.last("close").code, 1000);
  page.over();
});

both("a listener that closes: nothing is delivered after", (transport) => {
  const page = open(transport);
  page.session.on("message", (data) => { if (data === 1) page.session.close(4001, "enough"); });
  page.peer.push('2["message",0]', '2["message",1]', '2["message",2]', '2["message",3]');
  page.until(() => page.session.state === "closed");
  assert.deepEqual(page.messages, [0, 1]);
  assert.equal(page.last("close").code, 4001);
  page.over();
});

both("packets that are none end the session with 4400, and the server is told", (transport) => {
  for (const items of [["nonsense"], ["9"], [""], ["2{"], ["51-[\"x\",{\"_placeholder\":true,\"num\":0}]", "2[]"],
    [Uint8Array.of(1)], ["51-[\"x\",{\"_placeholder\":true,\"num\":7}]", Uint8Array.of(1)]]) {
    const page = open(transport);
    page.peer.push('2["message","before"]', ...items, '2["message","behind"]');
    page.until(() => page.session.state === "closed");
    assert.equal(page.last("close").code, 4400, JSON.stringify(items));
    assert.deepEqual(page.messages, ["before"]);
    assert.equal(page.peer.over.end, 4400);
    page.over();
  }
});

both("packets that make no sense, but are packets, are passed over", (transport) => {
  const page = open(transport);
  page.peer.push("2", "2{}", "20[]", "3", "35", "6", "7", "7null", "1", "0", "2[]", "2[null]", "2[{\"a\":1},2]");
  page.talks().advance(500);
  // On polling the last mark rides on the next request.
  assert.ok(page.peer.confirmed >= page.peer.sent.length - 1);
});

// --- States, transports, reasons ------------------------------------------------------------------------

test("state, transport and why through a life", () => {
  const page = new Page({ random: () => 0.5 });
  const seen = [];
  const note = (type) => () => seen.push([type, page.session.state, page.session.transport, page.session.why.reason]);
  for (const type of ["open", "transport", "reset", "close"]) page.session[`on${type}`] = note(type);
  page.opened();
  page.network.websocket = "refused";
  page.network.link.cut();
  page.advance(2);
  note("now")();
  page.advance(2000);
  page.network.down = true;
  page.environment.fire("online");
  page.advance(3000);
  note("now")();
  page.network.down = false;
  page.advance(10_000);
  page.network.websocket = "ok";
  page.on("websocket");
  page.session.close();
  page.advance(100);
  note("now")();
  assert.deepEqual(seen, [
    ["transport", "connecting", "websocket", "works"],
    ["open", "open", "websocket", "works"],
    ["transport", "reconnecting", null, "none"],
    ["now", "reconnecting", null, "none"],
    ["transport", "open", "polling", "refused"],
    ["now", "reconnecting", "polling", "refused"],
    ["transport", "open", "websocket", "works"],
    ["close", "closed", null, "none"],
    ["now", "closed", null, "none"],
  ]);
  page.over();
});

test("onerror comes before onclose, and only where nobody closed", () => {
  for (const [end, types] of [[4001, ["close"]], [4429, ["error", "close"]]]) {
    const page = new Page();
    const seen = [];
    for (const type of ["error", "close"]) {
      page.session[`on${type}`] = (event) => seen.push([type, event.code, event.wasClean]);
    }
    page.opened();
    if (end === 4429) page.session._core.ended({ code: end, reason: "too many", ack: 0, received: 0 });
    else page.session.close(end);
    page.advance(100);
    assert.deepEqual(seen, types.map((type) => [type, end, end === 4001]));
    page.over();
  }
});

test("a listener may close, emit and connect anywhere", () => {
  for (const type of ["open", "transport", "message"]) {
    for (const transport of TRANSPORTS) {
      const page = new Page({ options: { transports: [transport] } });
      const act = () => {
        page.session.emit("from the listener");
        page.session.close(4001, type);
      };
      if (type === "message") page.session.on("message", act);
      else page.session.addEventListener(type, act);
      page.server.onconnect = (session) => { session.push("0{}", '2["message","x"]', '2["message","y"]'); };
      page.until(() => page.session.state === "closed");
      assert.equal(page.last("close").code, 4001);
      assert.deepEqual(page.peer.events, [["from the listener"]]);
      page.over();
    }
  }
});

test("counters", () => {
  const page = open("websocket");
  assert.deepEqual(page.session.counters, { sent: 1, acknowledged: 1, received: 1, handled: 1 });
  page.talks();
  assert.deepEqual(page.session.counters, { sent: 2, acknowledged: 2, received: 2, handled: 2 });
});

// --- The page goes ---------------------------------------------------------------------------------------

both("pagehide: the server is told", (transport) => {
  const page = open(transport);
  page.session.send("last words");
  page.environment.fire("pagehide", { persisted: false });
  if (transport === "polling") {
    assert.equal(page.environment.beacons.length, 1);
    const { items } = decodeBody(page.environment.beacons[0]);
    assert.deepEqual(items, ['2["message","last words"]', { close: [1001, "the page was left"] }]);
  } else {
    assert.deepEqual(decode(page.network.link.sent.pop()).items.pop(), { close: [1001, "the page was left"] });
  }
  page.advance(100);
  assert.equal(page.peer.over.end, 1001);
  assert.deepEqual(page.peer.events, [["message", "last words"]]);
  page.over();
});

both("pagehide of a page that may come back changes nothing", (transport) => {
  const page = open(transport);
  page.environment.fire("pagehide", { persisted: true });
  page.environment.fire("pageshow", { persisted: true });
  page.advance(100);
  assert.equal(page.environment.beacons.length, 0);
  page.talks();
});

test("pagehide without sendBeacon: a last request", () => {
  const page = open("polling");
  page.environment.beacons = null;
  page.environment.fire("pagehide", { persisted: false });
  page.advance(100);
  assert.equal(page.peer.over.end, 1001);
  page.over();
});

// As Firefox has done where another page comes.
test("pagehide when the browser has closed the WebSocket: a request commits itself", () => {
  const page = open("websocket");
  page.session.send("last words");
  page.network.link.socket.close();
  page.environment.fire("pagehide", { persisted: false });
  assert.equal(page.environment.beacons.length, 1);
  const { items } = decodeBody(page.environment.beacons[0]);
  assert.deepEqual(items, ['2["message","last words"]', { close: [1001, "the page was left"] }]);
  page.advance(100);
  assert.equal(page.peer.over.end, 1001);
  assert.deepEqual(page.peer.events, [["message", "last words"]]);
  page.over();
});

test("pagehide when no connection carries: a request commits itself", () => {
  const page = open("websocket");
  page.network.down = true;
  page.network.link.cut();
  page.session.send("last words");
  page.advance(50);
  page.network.down = false;
  page.environment.fire("pagehide", { persisted: false });
  page.advance(100);
  assert.equal(page.peer.over.end, 1001);
  assert.deepEqual(page.peer.events, [["message", "last words"]]);
  page.over();
});

// Firefox stops one listener, wherever it is, when a tab is closed, and calls the next one. Here it
// is stopped by what the browser is asked for, the first, the second, … time.
for (const persisted of [false, true]) {
  both(`a script is stopped amid its last words, persisted ${persisted}: it says them again`, (transport) => {
    let stops = 0;
    for (let at = 0; stops === at; at++) {
      const page = open(transport);
      const { environment } = page;
      page.session.send("last words");
      let asked = 0;
      let goes = true;
      const stop = () => {
        if (goes && stops === at && asked++ === at) {
          stops += 1;
          throw new Error("stopped");
        }
      };
      for (const name of ["setTimeout", "clearTimeout", "beacon"]) {
        const usual = environment[name].bind(environment);
        environment[name] = (...values) => { stop(); return usual(...values); };
      }
      if (transport === "websocket") {
        const { socket } = page.network.link;
        const send = socket.send.bind(socket);
        socket.send = (data) => { stop(); send(data); };
      }
      environment.fire("pagehide", { persisted });
      assert.equal(environment.errors.length, stops - at);
      environment.errors.length = 0;
      goes = false;
      if (persisted) {
        environment.fire("pageshow", { persisted });
        page.until(() => page.peer.events.length > 0).talks();
        assert.equal(page.peer.events[0][1], "last words");
        assert.equal(page.peer.events.length, 2);
      } else {
        // Nothing is to come later: the page is gone.
        assert.equal(page.session.state, "closed", `stopped at ${at}`);
        page.advance(100);
        assert.equal(page.peer.over.end, 1001, `stopped at ${at}`);
        assert.deepEqual(page.peer.events, [["message", "last words"]]);
      }
    }
    assert.ok(stops > 1, `${stops}`);
  });
}

test("pagehide before there is a session", () => {
  const page = new Page({ before: ({ network }) => { network.down = true; } });
  page.environment.fire("pagehide", { persisted: false });
  page.advance(10_000);
  assert.equal(page.last("close").code, 1001);
  page.over();
});

// --- Nothing stays behind -----------------------------------------------------------------------------------

test("closed in any situation: no timer, no request, no WebSocket stays behind", () => {
  const blocked = (fate) => ({ network }) => { network.websocket = fate; };
  const situations = {
    "connecting": [() => {}, () => {}],
    "hedging": [blocked("unanswered"), (page) => page.advance(605)],
    "on polling, WebSocket tried": [blocked("silent"), (page) => page.on("polling")],
    "on polling, probing": [blocked("refused"), (page) => {
      page.on("polling");
      page.network.websocket = "unanswered";
      page.environment.fire("online");
    }],
    "just switched to WebSocket": [blocked("refused"), (page) => {
      page.on("polling");
      page.network.websocket = "ok";
      page.environment.fire("online");
      page.on("websocket");
    }],
    "WebSocket doubted": [() => {}, (page) => {
      page.on("websocket");
      page.network.link.swallow();
      page.session.send("x");
      page.advance(2005);
    }],
    "WebSocket just died": [() => {}, (page) => {
      page.on("websocket");
      page.network.link.cut();
      page.advance(1);
    }],
    "down": [() => {}, (page) => {
      page.on("websocket");
      page.network.down = true;
      page.network.link.cut();
      page.advance(10_000);
    }],
    "polls failing": [blocked("refused"), (page) => {
      page.on("polling");
      page.network.onpost = () => ({ status: 502 });
      page.session.send("x");
      page.advance(5000);
    }],
    "polls stalled": [blocked("refused"), (page) => {
      page.on("polling");
      page.network.onpost = () => ({ lost: true });
      page.session.send("x");
      page.advance(1500);
    }],
    "turned away": [({ server }) => {
      server.refuses = { end: 1013, session: false, headers: { "retry-after": "60" } };
    }, (page) => page.advance(1000)],
    "resetting": [() => {}, (page) => {
      page.on("websocket");
      page.peer.end(1012, "");
      page.advance(11);
    }],
    "buffer full": [() => {}, (page) => {
      page.on("websocket");
      page.environment.fills = true;
      page.network.link.up = false;
      for (let i = 0; i < 12; i++) page.session.send("x".repeat(200_000));
      page.advance(10);
    }],
  };
  for (const [what, [before, bring]] of Object.entries(situations)) {
    for (const end of ["close", "abort"]) {
      const page = new Page({ random: () => 0.7, before });
      bring(page);
      if (end === "close") page.session.close();
      else page.session._core.giveUp(4999, "at once");
      page.until(() => page.session.state === "closed", `${what}, ${end}`);
      page.over();
      const seen = page.heard.length;
      page.environment.fire("online");
      page.environment.fire("pagehide", {});
      page.network.down = false;
      page.advance(20 * MINUTE);
      assert.equal(page.heard.length, seen, what);
      assert.equal(page.environment.timers(), 0, what);
    }
  }
});

test("a long life leaves nothing behind in memory", () => {
  const page = new Page({ options: { timing: { deaths: 1e9 } }, random: () => 0.01 }).on("websocket");
  page.server.onevent = (session, event, id) => { if (id) session.reply(id); };
  for (let i = 0; i < 300; i++) {
    page.session.emit("x", i, () => {});
    page.network.websocket = i % 3 ? "ok" : "refused";
    page.network.open.forEach((link) => link.cut());
    page.environment.fire("online");
    page.advance(997);
  }
  page.network.websocket = "ok";
  page.environment.fire("online");
  page.on("websocket").advance(MINUTE);
  const machine = page.session._core.machine();
  assert.deepEqual(Object.keys(machine.connections).length, 1);
  assert.deepEqual(Object.keys(machine.inbox.sizes), []);
  assert.deepEqual(Object.keys(page.session._core.callbacks()), []);
  assert.equal(machine.outbox.items.length, 0);
  assert.ok(page.environment.timers() <= 3, `${page.environment.timers()} timers`);
  page.quiet();
});

// --- Small things ---------------------------------------------------------------------------------------------

test("utf8Length, base64", () => {
  for (const text of ["", "a", "é", "\u07ff", "\u0800", "\uffff", "😀", "a😀é", "\ud800", "\udc00", "\ud800a", "\udc00\ud800", "\ud83d\ud83d\ude00"]) {
    assert.equal(core.utf8Length(text), Buffer.byteLength(text), JSON.stringify(text));
  }
  for (let length = 0; length < 70; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 255);
    const text = Buffer.from(bytes).toString("base64");
    assert.equal(core.toBase64(bytes), text);
    assert.deepEqual(core.fromBase64(text), bytes);
  }
  const large = Uint8Array.from({ length: 100_000 }, (_, i) => i & 255);
  assert.deepEqual(core.fromBase64(core.toBase64(large)), large);
});

both("a session that a page's store has frozen goes on as any other", (transport) => {
  const page = new Page({ options: { transports: [transport] } });
  Object.freeze(page.session);
  page.opened().talks();
  assert.deepEqual([page.session.id, page.session.transport], [page.peer.id, transport]);
  page.network.down = true;
  page.network.open.forEach((link) => link.cut());
  page.until(() => page.session.state === "reconnecting", "reconnecting");
  page.network.down = false;
  page.opened().talks();
  page.session.close();
  page.until(() => page.session.state === "closed", "closed");
  assert.equal(page.session.transport, null);
  page.over();
});

test("the browser's environment is refused where it cannot work", () => {
  assert.throws(() => FallbackTransport.connect("/fallback"), refuses("unsupported"));
});

test("without a URL it goes where the script's element says", () => {
  const source = fs.readFileSync(new URL("../../static/fallback_transport.js", import.meta.url), "utf8");
  for (const [element, path] of [
    [{ getAttribute: (name) => name === "data-url" ? "/app/live" : null }, "/app/live"],
    [{ getAttribute: () => null }, "/fallback"], [null, "/fallback"],
  ]) {
    const page = new Page({ connect: false, options: { transports: ["polling"] } });
    const self = { document: { currentScript: element } };
    new Function("self", "module", source)(self);
    page.library = { connect: (url, options) => self.FallbackTransport.connect(options) };
    page.connect();
    page.advance(5);
    assert.equal(page.posts[0].url, `http://page.test${path}/poll`);
    for (const url of ["/other", new URL("http://page.test/object")]) {
      self.FallbackTransport.connect(url, { environment: page.environment, transports: ["polling"] });
      page.advance(5);
      assert.ok(page.posts.some((post) => post.url === `${new URL(url, "http://page.test")}/poll`));
    }
  }
});
