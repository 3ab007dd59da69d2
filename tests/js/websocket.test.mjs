// The WebSocket interface in a page that came by https, and one that has much to send; the rest of
// it is tested in browsers.

import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./core.mjs";
import { Page } from "./page.mjs";

function socket(url, page) {
  const { environment } = new Page({ connect: false });
  const root = { location: { protocol: new URL(page).protocol, href: page }, document: { baseURI: page }, URL, DOMException };
  return new (load([], { self: root }).WebSocket)(url, [], { environment });
}

for (const url of ["ws://page.test/chat", "http://page.test/chat", "ws://127.example.test.page.test:1/", "ws://localhost.page.test/"]) {
  test(`from an https page, ${url} is a SecurityError`, () => {
    assert.throws(() => socket(url, "https://page.test/"), (error) => error instanceof DOMException && error.name === "SecurityError");
    assert.equal(socket(url, "http://page.test/").url, url.replace("http", "ws"));
  });
}

for (const [url, seen] of [
  ["wss://page.test/chat", "wss://page.test/chat"], ["/chat", "wss://page.test/chat"],
  ["ws://localhost/", "ws://localhost/"], ["ws://app.localhost:5000/", "ws://app.localhost:5000/"],
  ["ws://127.0.0.1:5000/", "ws://127.0.0.1:5000/"], ["ws://[::1]:5000/", "ws://[::1]:5000/"],
]) {
  test(`from an https page, ${url} is none`, () => assert.equal(socket(url, "https://page.test/").url, seen));
}

// A face that is open, in a fake browser, and its server's session.
function open({ readable = true, grant } = {}) {
  const page = new Page({ connect: false, grant });
  const root = {
    location: { protocol: "http:", href: "http://page.test/" }, URL, setTimeout: (run) => page.environment.setTimeout(run, 0),
    FileReader: function FileReader() {
      this.readAsArrayBuffer = () => page.clock.schedule(1, () => {
        this.result = new ArrayBuffer(1);
        if (readable) this.onload(); else this.onerror();
      });
    },
  };
  const face = new (load([], { self: root }).WebSocket)("/fallback", [], { environment: page.environment });
  page.until(() => face.readyState === 1);
  return { face, page };
}

test("behind a Blob that is being read any number of messages waits", () => {
  const { face, page } = open();
  const all = Array.from({ length: 9990 }, (_, number) => String(number));
  face.send(new Blob(["b"]));
  for (const each of all) face.send(each);
  page.until(() => page.peer.events.length > all.length, "all has arrived");
  assert.deepEqual(page.peer.events.slice(1).map(([, data]) => data), all);
});

// How many items lists are walked over while `work` is done.
function walked(work) {
  let items = 0;
  const names = ["every", "filter", "forEach", "map", "reduce", "some"];
  const kept = names.map((name) => Array.prototype[name]);
  names.forEach((name, at) => {
    Array.prototype[name] = function (...values) {
      items += this.length;
      return kept[at].apply(this, values);
    };
  });
  try { work(); } finally { for (let at = 0; at < names.length; at++) Array.prototype[names[at]] = kept[at]; }
  return items;
}

test("send does not look again at all that waits", () => {
  const { face } = open();
  // What a session keeps, and behind it what waits here.
  for (let i = 0; i < 10_000; i++) face.send("x");
  const items = walked(() => { for (let i = 0; i < 1000; i++) face.send("x"); });
  assert.equal(face.bufferedAmount, 11_000);
  assert.ok(items < 100_000, `${items} items for 1,000 messages`);
});

test("undone where there was no WebSocket, there is none again", () => {
  const root = { location: { protocol: "http:", href: "http://page.test/" }, URL };
  const undo = load([], { self: root }).install({ paths: ["/chat"] });
  assert.equal(typeof root.WebSocket, "function");
  undo();
  assert.equal("WebSocket" in root, false);
});

test("undone in the order in which they were made, installations leave what was there before", () => {
  function Native() {}
  for (const before of [Native, undefined]) {
    const root = { location: { protocol: "http:", href: "http://page.test/" }, URL };
    if (before) root.WebSocket = before;
    const library = load([], { self: root });
    const undo = ["/a", "/b", "/c"].map((path) => library.install({ paths: [path] }));
    for (const each of undo) each();
    assert.deepEqual([root.WebSocket, "WebSocket" in root], [before, before !== undefined]);
    // Again, and what was put there by somebody else stays.
    const foreign = root.WebSocket = function WebSocket() {};
    for (const each of undo) each();
    assert.equal(root.WebSocket, foreign);
  }
});

// Two copies of the file in one page, as where a part of it brings its own.
function copies(webSocket) {
  const page = new Page({ connect: false, webSocket });
  const { environment } = page;
  Object.assign(environment, { location: { protocol: "http:", href: "http://page.test/" }, URL });
  const made = (options) => {
    const copy = load([], { self: environment });
    copy.install(options);
    return copy;
  };
  return { page, environment, all: ["/", "/fallback"].map((path) => made({ paths: [`http://page.test${path}`] })) };
}

test("two copies of the file, both installed, do not take each other's WebSocket for the browser's", () => {
  const { page, environment, all } = copies();
  const face = new environment.WebSocket("ws://page.test/fallback/room");
  page.until(() => face.readyState === 1, "open");
  for (const copy of all) {
    const session = copy.connect("/fallback", { environment });
    page.until(() => session.state === "open", "open");
    assert.equal(session.transport, "websocket");
  }
  page.advance(60_000);
  assert.deepEqual(page.network.links.map((link) => link.socket.url),
    ["room/", "", ""].map((place) => `ws://page.test/fallback/${place}ws`));
  assert.equal(page.server.sessions.size, 3);
});

test("where there is no WebSocket, another copy's is none", () => {
  const { page, environment, all } = copies(false);
  for (const copy of all) {
    const session = copy.connect("/fallback", { environment });
    page.until(() => session.state === "open", "open");
    assert.equal(session.transport, "polling");
  }
  page.advance(60_000);
  assert.equal(page.server.sessions.size, 2);
});

test("a page whose Event is a library's hears what it always does", () => {
  const page = new Page({ connect: false });
  class CloseEvent extends Event {}
  // MooTools has one that wraps the browser's.
  function Wrapper(event) { this.type = event.type; }
  const root = {
    location: { protocol: "http:", href: "http://page.test/" }, URL, Reflect, EventTarget, MessageEvent, CloseEvent, Event: Wrapper,
  };
  const face = new (load([], { self: root }).WebSocket)("/fallback", [], { environment: page.environment });
  const heard = [];
  for (const type of ["open", "error", "close"]) face.addEventListener(type, (event) => heard.push([type, event.constructor.name]));
  page.until(() => face.readyState === 1).advance(100);
  face.close();
  page.until(() => heard.length > 1, "closed", 10_000);
  assert.deepEqual(heard, [["open", "Event"], ["close", "CloseEvent"]]);
  assert.deepEqual(page.environment.errors, []);
});

// What a face hears from now on.
function heard(face) {
  const all = [];
  for (const type of ["open", "message", "error", "close"]) face.addEventListener(type, (event) => all.push(event));
  return all;
}

test("a Blob that cannot be read fails it, and what is behind it is not sent", () => {
  const { face, page } = open({ readable: false });
  const events = heard(face);
  face.send("before");
  face.send(new Blob(["b"]));
  face.send("behind");
  // Nor can the next one, of which nothing is told.
  face.send(new Blob(["c"]));
  page.until(() => events.length > 1, "closed").advance(10_000);
  assert.deepEqual(events.map(({ type, code, wasClean }) => [type, code, wasClean]),
    [["error", undefined, undefined], ["close", 1006, false]]);
  assert.equal(face.readyState, 3);
  assert.deepEqual(page.peer.events.map(([, data]) => data), ["before"]);
  assert.equal(page.environment.timers(), 0);
});

test("what is larger than a message may be closes it with 1009, behind what was sent before", () => {
  const { face, page } = open({ grant: { message: 1000 } });
  const events = heard(face);
  face.send("before");
  face.send("x".repeat(970));
  face.send("x".repeat(1000));
  assert.equal(face.readyState, 2);
  face.send("behind");
  page.until(() => face.readyState === 3, "closed").advance(100);
  assert.deepEqual(events.map(({ type, code, reason, wasClean }) => [type, code, reason, wasClean]), [["close", 1009, "", true]]);
  assert.deepEqual(page.peer.events.map(([, data]) => data.length), [6, 970]);
  // Neither was given to the network.
  assert.equal(face.bufferedAmount, 1006);
});

test("where the browser has no EventTarget a page can make, listeners are called as it would", () => {
  const { face, page } = open();
  const seen = [];
  const both = () => seen.push("one");
  const gone = () => seen.push("gone");
  face.onmessage = function () { seen.push(this === face); };
  face.addEventListener("message", both);
  face.addEventListener("message", both);
  face.addEventListener("message", () => seen.push("once"), { once: true });
  face.addEventListener("message", { handleEvent(event) { seen.push(event.target === face, this !== face); } });
  face.addEventListener("message", null);
  face.addEventListener("message", () => {
    face.removeEventListener("message", gone);
    throw new Error("a page's own");
  });
  face.addEventListener("message", gone);
  face.addEventListener("message", () => seen.push("last"));
  page.peer.emit("message", "1");
  page.until(() => seen.includes("last")).advance(10);
  assert.deepEqual(seen.splice(0), [true, "one", "once", true, true, "last"]);
  assert.deepEqual(page.environment.errors.map(String), ["Error: a page's own"]);
  face.removeEventListener("message", both);
  face.onmessage = null;
  page.peer.emit("message", "2");
  page.until(() => seen.includes("last"));
  assert.deepEqual(seen, [true, true, "last"]);
  assert.equal(face.dispatchEvent({ type: "nothing", defaultPrevented: true }), false);
  assert.equal(face.dispatchEvent({ type: "nothing" }), true);
  face.removeEventListener("nothing", both);
  for (const value of [false, undefined]) {
    face.onerror = () => value;
    const event = { type: "error", preventDefault() { this.defaultPrevented = true; } };
    assert.equal(face.dispatchEvent(event), value !== false);
  }
});

// Some to one server, of which one connects at a time, in a fake browser.
function several(count, options) {
  const page = new Page({ connect: false });
  const root = { location: { protocol: "http:", href: "http://page.test/" }, URL };
  const { WebSocket } = load([], { self: root });
  const faces = Array.from({ length: count }, (_, number) =>
    new WebSocket(`/fallback/${number}`, [], { environment: page.environment, ...options }));
  return { page, faces, events: faces.map(heard) };
}

for (const number of [0, 1]) {
  test(`closed at any moment it leaves nothing open, nor holds up the others: number ${number} of 3`, () => {
    for (let steps = 0, wasOpen = false; !wasOpen; steps++) {
      const { page, faces, events } = several(3);
      for (let i = 0; i < steps; i++) page.clock._step();
      wasOpen = faces[number].readyState === 1;
      faces[number].close();
      page.until(() => faces.every((face, at) => face.readyState === (at === number ? 3 : 1)), `after ${steps} steps`);
      page.advance(10_000);
      events.forEach((all, at) => assert.deepEqual(all.map(({ type, wasClean }) => [type, wasClean]),
        at !== number ? [["open", undefined]]
          : wasOpen ? [["open", undefined], ["close", true]] : [["error", undefined], ["close", false]]));
      const left = [...page.server.sessions.values()].filter((session) => !session.over);
      assert.deepEqual([left.length, page.environment.sockets.size], [2, 2], `after ${steps} steps`);
      page.quiet();
    }
  });
}

test("what closes, or could not begin, takes nobody's turn", () => {
  const { page, faces } = several(3);
  page.until(() => faces[0].readyState === 1);
  faces[0].close();
  page.until(() => faces[1].readyState === 1 && faces[2].readyState === 1);
  const none = several(2, { transports: [] });
  none.page.advance(100);
  for (const all of none.events) assert.deepEqual(all.map(({ type }) => type), ["error", "close"]);
});

test("what the server sends that is neither text nor bytes comes as JSON", () => {
  const { face, page } = open();
  const events = heard(face);
  page.peer.emit("message", { a: [1] });
  page.until(() => events.length > 0);
  assert.equal(events[0].data, '{"a":[1]}');
});

test("behind close it hears no message, and when the page goes nothing", () => {
  const { face, page } = open();
  const events = heard(face);
  face.addEventListener("message", () => face.close());
  for (const text of ["1", "2"]) page.peer.emit("message", text);
  page.until(() => face.readyState === 3).advance(100);
  assert.deepEqual(events.map(({ type, data }) => [type, data]), [["message", "1"], ["close", undefined]]);
  const going = open();
  const silent = heard(going.face);
  going.page.environment.fire("pagehide", { persisted: false });
  // At once: no task of a page that is gone runs.
  assert.equal(going.face.readyState, 3);
  going.page.advance(10_000);
  assert.deepEqual([silent, going.face.readyState], [[], 3]);
});
