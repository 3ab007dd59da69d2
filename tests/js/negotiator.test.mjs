// Which connection is opened, when, and why: PROTOCOL.md, "Negotiation, in the client".

import assert from "node:assert/strict";
import test from "node:test";

import { core } from "./core.mjs";
import { FakeStorage, generator, START } from "./fake_environment.mjs";
import { FakeServer } from "./fake_server.mjs";
import { Page, sent } from "./page.mjs";

const KEY = "fallback_transport http://page.test/fallback/poll";
const MINUTE = 60_000;

function verdict(page) {
  const kept = page.storage.items.get(KEY);
  return kept === undefined ? null : JSON.parse(kept);
}

// One connect for the application, whatever was tried.
function once(page) {
  assert.equal(page.server.count, 1, "one session on the server");
  assert.equal(page.peer.connects.length, 1, "one connect");
  return page.quiet();
}

const socketTimes = (page) => page.network.links.map((link) => link.at - START);
const greetings = (page) => page.posts.filter((post) => post.body.startsWith("{"));
const greetingTimes = (page) => greetings(page).map((post) => post.at - START);

// --- The first connection ----------------------------------------------------------

test("a WebSocket that works: nothing is polled, no verdict", () => {
  const page = new Page().opened();
  assert.equal(page.time, 40);
  assert.equal(page.session.transport, "websocket");
  assert.deepEqual({ ...page.session.why }, {
    transport: "websocket", reason: "works", text: "WebSocket: works", expires: null,
  });
  page.talks().advance(10 * MINUTE).talks();
  assert.equal(page.posts.length, 0);
  assert.equal(page.network.links.length, 1);
  assert.equal(page.network.links[0].socket.url, "ws://page.test/fallback/ws");
  assert.equal(page.network.links[0].socket.protocol, "fallback.v1");
  assert.equal(verdict(page), null);
  once(page);
});

for (const [what, prepare, reason] of [
  ["no WebSocket", (page) => { page.environment.WebSocket = undefined; }, "unavailable"],
  ["a WebSocket that is an object and no constructor", (page) => { page.environment.WebSocket = {}; }, "threw"],
  ["a WebSocket that is null", (page) => { page.environment.WebSocket = null; }, "threw"],
  ["a constructor that throws", (page) => { page.network.websocket = "threw"; }, "threw"],
]) {
  test(`${what}: polling at once`, () => {
    const page = new Page({ before: prepare }).opened();
    assert.ok(page.time <= 40, `open after ${page.time} ms`);
    assert.deepEqual(greetingTimes(page), [0]);
    assert.equal(page.session.transport, "polling");
    assert.equal(page.session.why.reason, reason);
    assert.equal(JSON.parse(greetings(page)[0].body.split("\u001e")[0]).client.why, reason);
    once(page.talks());
  });
}

for (const [fate, greeted, judged, reason, sentence] of [
  ["refused", 20, 40, "refused", "long polling: the WebSocket handshake was refused"],
  ["unanswered", 600, 2500, "unanswered", "long polling: the WebSocket handshake got no answer in 2.5 s"],
  ["silent", 600, 2500, "silent", "long polling: the WebSocket opened, but nothing came through it in 2.5 s"],
  ["upless", 600, 2500, "silent", "long polling: the WebSocket opened, but nothing came through it in 2.5 s"],
  ["downless", 600, 2500, "silent", "long polling: the WebSocket opened, but nothing came through it in 2.5 s"],
  ["closed", 21, 41, "closed", "long polling: the WebSocket opened and was closed before anything came through it"],
]) {
  test(`a WebSocket that is ${fate}: polling after ${greeted} ms, and a verdict`, () => {
    const page = new Page({ before: ({ network }) => { network.websocket = fate; } }).opened();
    assert.deepEqual(greetingTimes(page), [greeted]);
    assert.equal(page.session.transport, "polling");
    assert.equal(page.time, greeted + 20);
    page.until(() => verdict(page), "a verdict");
    assert.equal(page.time >= judged && page.time <= judged + 1, true, `judged after ${page.time} ms`);
    assert.equal(verdict(page).reason, reason);
    assert.equal(verdict(page).expires, page.clock.now + 10 * MINUTE);
    assert.equal(String(page.session.why), sentence);
    assert.equal(page.session.why.reason, reason);
    assert.equal(page.session.why.expires, verdict(page).expires);
    assert.equal(page.environment.sockets.size, 0);
    once(page.talks());
  });
}

test("until a slow WebSocket is judged, why says that it is being tried", () => {
  const page = new Page({ before: ({ network }) => { network.websocket = "unanswered"; } }).opened();
  assert.equal(page.session.why.reason, "proving");
  assert.equal(String(page.session.why), "long polling: the WebSocket is still being tried");
  assert.equal(page.last("transport").transport, "polling");
  page.advance(3000);
  assert.equal(page.last("transport").why.reason, "unanswered");
});


test("a hedge: the WebSocket is welcomed first, polling is given up", () => {
  // 680 ms for the upgrade and the welcome, polling is asked at 600 ms and takes 300 ms.
  const page = new Page({ before: ({ network }) => {
    network.latency = 170;
    network.onpost = () => ({ delay: 270 });
  } }).opened();
  assert.deepEqual(greetingTimes(page), [600]);
  assert.equal(page.session.transport, "websocket");
  assert.equal(page.environment.requests.size, 0, "the other hello is aborted");
  page.talks().advance(MINUTE).talks();
  assert.equal(page.posts.length, 1);
  assert.equal(verdict(page), null);
  once(page);
});

test("a hedge: polling is welcomed first, a WebSocket within its time is committed over it", () => {
  const page = new Page({ before: ({ network }) => {
    network.latency = 400;
    network.onpost = () => ({ delay: 10, after: 10 });
  } }).opened();
  assert.equal(page.session.transport, "polling");
  assert.equal(page.time, 620);
  page.session.send("on polling");
  page.on("websocket");
  assert.ok(page.time <= 2500);
  page.talks().advance(MINUTE).talks();
  assert.deepEqual(page.peer.switches, ["polling", "websocket"]);
  assert.deepEqual(page.peer.events.map((event) => event[1])[0], "on polling");
  assert.equal(verdict(page), null);
  assert.equal(page.session.why.reason, "works");
  assert.equal(page.environment.requests.size, 0);
  once(page);
});

test("both welcomes in the same instant", () => {
  for (const delay of [259, 260, 261]) {
    const page = new Page({ before: ({ network }) => {
      network.latency = 215;
      network.onpost = () => ({ delay: delay - 215, after: 215 });
    } });
    page.on("websocket").talks().advance(MINUTE).talks();
    once(page);
  }
});

test("the hedge waits for three round trips, and a welcome for five", () => {
  const page = new Page({ before: ({ network }) => { network.latency = 200; } }).on("websocket");
  const first = page.session.roundTrip;
  assert.equal(first, 400);
  const before = page.posts.length;
  page.network.websocket = "unanswered";
  page.network.link.cut();
  const died = page.time;
  page.until(() => page.posts.length > before);
  assert.equal(Math.round(page.time - died), 3 * first);
  page.until(() => page.environment.sockets.size === 0);
  assert.equal(Math.round(page.time - died), 2500);
  page.network.latency = 300;
  page.until(() => page.session.state === "open");
  for (let i = 0; i < 40; i++) page.talks();
  const known = page.session.roundTrip;
  assert.ok(known > 500, `${known}`);
  const links = page.network.links.length;
  page.environment.fire("online");
  page.until(() => page.network.links.length > links);
  const probed = page.time;
  const patience = Math.max(2500, 5 * page.session.roundTrip);
  page.until(() => page.environment.sockets.size === 0);
  assert.equal(Math.round(page.time - probed), Math.round(patience));
  page.quiet();
});

test("without a nonce two hellos are two sessions, and the application hears of one", () => {
  const page = new Page({ nonce: false, before: ({ network }) => { network.websocket = "unanswered"; } }).opened();
  assert.deepEqual(greetingTimes(page), [600]);
  assert.equal("nonce" in page.server.hellos[0], false);
  assert.deepEqual(page.server.hellos[0].items, []);
  once(page.talks());
  const other = new Page({ nonce: false, before: ({ network }) => { network.latency = 400; } }).opened();
  assert.equal(other.server.count, 2);
  const connects = () => [...other.server.sessions.values()].map((session) => session.connects.length);
  assert.deepEqual(connects().sort(), [0, 1]);
  other.session.send("here");
  other.advance(3000);
  assert.deepEqual([...other.server.sessions.values()].flatMap((session) => session.events), [["message", "here"]]);
  other.until(() => other.session.transport === "websocket", "a probe", 60_000);
  assert.deepEqual(connects().sort(), [0, 1]);
  // A resume has its id and key: no third session.
  const before = greetings(other).length;
  other.network.websocket = "unanswered";
  other.network.link.cut();
  other.advance(4000);
  assert.equal(greetings(other).length, before + 1);
  assert.equal(other.server.count, 2);
  other.quiet();
});

test("the welcome of another session is not ours", () => {
  // Two processes that know nothing of each other: the hedge has made two sessions.
  const page = new Page({ before: ({ network, server }) => {
    network.latency = 200;
    network.onpost = () => ({ delay: 10, after: 10 });
    const { poll } = server;
    server.poll = (body, ...rest) => poll.call(server, body.replace(/"nonce":"/, "$&other"), ...rest);
  } }).opened();
  assert.equal(page.server.count, 2);
  const first = page.server.sessions.get(page.session.id);
  assert.equal(page.session.transport, "polling");
  page.session.send("one");
  page.advance(3000);
  page.session.send("two");
  page.advance(60_000);
  assert.deepEqual(first.events, [["message", "one"], ["message", "two"]]);
  assert.equal(page.session._core.machine().id, first.id);
  assert.deepEqual([page.count("open"), page.count("reset"), page.count("close")], [1, 0, 0]);
  page.quiet();
});

// --- The verdict ---------------------------------------------------------------------

test("a verdict is remembered: the next page polls at once, and says why", () => {
  const first = new Page({ before: ({ network }) => { network.websocket = "silent"; } });
  first.until(() => verdict(first));
  const page = new Page({ storage: first.storage, random: () => 0.999, before: ({ clock }) => clock.advance(MINUTE) }).opened();
  assert.equal(page.time, MINUTE + 20);
  assert.deepEqual(socketTimes(page), []);
  assert.equal(page.session.why.reason, "silent");
  page.environment.fire("pageshow", { persisted: false });
  page.advance(1000);
  assert.deepEqual(socketTimes(page), [], "the page was shown, and that is no news of the network");
  once(page.talks());
});

test("a probe lifts the verdict", () => {
  const page = new Page({ random: () => 0.5, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  page.talks();
  assert.equal(verdict(page).reason, "refused");
  page.network.websocket = "ok";
  page.on("websocket");
  assert.equal(page.time, 40 + 15_000 + 40);
  assert.equal(verdict(page), null);
  assert.equal(page.session.why.reason, "works");
  once(page.talks().advance(MINUTE).talks());
  const next = new Page({ storage: page.storage }).opened();
  assert.equal(next.session.transport, "websocket");
});

for (const [what, kept] of [
  ["expired", (now) => ({ reason: "silent", seconds: 2.5, expires: now })],
  ["from the future (the clock was set back)", (now) => ({ reason: "silent", seconds: 2.5, expires: now + 10 * MINUTE + 1 })],
  ["of no known reason", (now) => ({ reason: "mood", seconds: 2.5, expires: now + MINUTE })],
  ["of a reason that every object has", (now) => ({ reason: "constructor", seconds: 2.5, expires: now + MINUTE })],
  ["without an expiry", () => ({ reason: "silent", seconds: 2.5 })],
  ["null", () => null],
  ["a number", () => 5],
  ["a text", () => "silent"],
]) {
  test(`a kept verdict that is ${what} is discarded`, () => {
    const storage = new FakeStorage();
    storage.items.set(KEY, JSON.stringify(kept(START)));
    assert.equal(new Page({ storage }).opened().session.transport, "websocket");
  });
}

test("a kept verdict that is no JSON is discarded", () => {
  const storage = new FakeStorage();
  storage.items.set(KEY, "{");
  assert.equal(new Page({ storage }).opened().session.transport, "websocket");
});

test("a verdict is kept for one origin and mount", () => {
  const storage = new FakeStorage();
  storage.items.set(KEY, JSON.stringify({ reason: "silent", seconds: 2.5, expires: START + MINUTE }));
  const page = new Page({ storage, connect: false });
  page.session = page.library.connect("/elsewhere/", { environment: page.environment });
  page.opened();
  assert.equal(page.session.transport, "websocket");
  assert.equal(page.network.links[0].socket.url, "ws://page.test/elsewhere/ws");
});

test("remember: false neither reads nor writes", () => {
  const storage = new FakeStorage();
  storage.items.set(KEY, JSON.stringify({ reason: "silent", seconds: 2.5, expires: START + MINUTE }));
  const page = new Page({ storage, options: { remember: false }, before: ({ network }) => { network.websocket = "refused"; } });
  page.opened();
  assert.deepEqual(socketTimes(page), [0]);
  assert.equal(verdict(page).reason, "silent", "what another page kept is untouched");
  assert.equal(page.session.why.reason, "refused");
  once(page.talks());
});

for (const [what, storage] of [
  ["no storage", null],
  ["a storage that throws", Object.assign(new FakeStorage(), { fails: true })],
]) {
  test(`${what}: remembered for this page alone`, () => {
    const page = new Page({ random: () => 0.999, before: ({ network, environment }) => {
      environment.storage = storage;
      network.websocket = "refused";
    } }).opened();
    assert.equal(page.session.why.reason, "refused");
    // A new connection goes to polling at once.
    page.network.onpost = (request) => {
      page.network.onpost = () => undefined;
      return { status: 200, text: '{"end":4409,"session":false}\x1e.' };
    };
    page.session.send("x");
    page.advance(3000);
    assert.deepEqual(socketTimes(page), [0]);
    page.network.websocket = "ok";
    page.on("websocket");
    assert.equal(page.session.why.reason, "works");
    once(page.talks());
  });
}

test("an expired verdict is no verdict: the next connection tries a WebSocket first", () => {
  const page = new Page({
    options: { timing: { probe: 1e9, probeMax: 1e9 } }, random: () => 0.999,
    before: ({ network }) => { network.websocket = "refused"; },
  }).opened();
  page.network.websocket = "ok";
  page.advance(9 * MINUTE).talks();
  assert.equal(page.session.transport, "polling");
  page.advance(2 * MINUTE);
  page.server.session._drop(page.server.session.carrier, 4409);
  page.on("websocket");
  once(page.talks());
});

test("who keeps a verdict removes those that expired long ago, of mounts that nobody comes back to", () => {
  const storage = new FakeStorage();
  const rooms = [-11, -9, 9].map((minutes) => {
    const key = `fallback_transport http://page.test/room/${minutes}/poll`;
    storage.items.set(key, JSON.stringify({ reason: "silent", expires: START + minutes * MINUTE }));
    return key;
  });
  const page = new Page({ storage, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  assert.equal(verdict(page).reason, "refused");
  assert.deepEqual(rooms.map((key) => storage.items.has(key)), [false, true, true]);
  once(page.talks());
});

test("two that are judged in the same millisecond, at two mounts, keep a verdict each", () => {
  const one = new Page({ url: "/one", before: ({ network }) => { network.websocket = "unanswered"; } });
  const two = new Page({ url: "/two", beside: one });
  for (const page of [one, two]) page.until(() => page.session.why.expires, "judged");
  assert.equal(one.session.why.expires, two.session.why.expires);
  assert.deepEqual([...one.storage.items.keys()].filter((key) => !/poll http/.test(key)).sort(), [
    "fallback_transport http://page.test/one/poll", "fallback_transport http://page.test/two/poll",
  ]);
});

test("of other mounts, verdicts that have not expired stay, however long either keeps its own", () => {
  for (const [verdict, minutes] of [[MINUTE, 9], [10 * MINUTE, 60 * 24 * 7]]) {
    const storage = new FakeStorage();
    const key = "fallback_transport http://page.test/room/poll";
    storage.items.set(key, JSON.stringify({ reason: "silent", expires: START + minutes * MINUTE }));
    new Page({ storage, options: { timing: { verdict } }, before: ({ network }) => { network.websocket = "refused"; } }).opened();
    assert.ok(storage.items.has(key));
    assert.equal(storage.items.size, 3);
  }
});

// --- A server that is down says nothing about WebSocket --------------------------------

test("a server that is down: no verdict, retries with backoff, and then it recovers", () => {
  const page = new Page({ random: () => 0.5, before: ({ network }) => { network.down = true; } });
  page.session.send("early");
  page.advance(MINUTE);
  assert.equal(verdict(page), null);
  assert.equal(page.session.state, "connecting");
  const times = socketTimes(page);
  const gaps = times.slice(1).map((time, index) => time - times[index]);
  assert.ok(gaps[0] < 100, "the first time at once");
  for (let i = 1; i < gaps.length; i++) {
    assert.ok(gaps[i] >= 500, `at most two a second: ${gaps}`);
    assert.ok(gaps[i] <= 30_000 + 100, `${gaps}`);
    assert.ok(gaps[i] >= gaps[i - 1], `growing: ${gaps}`);
  }
  assert.ok(times.length <= 9, `${times}`);
  page.network.down = false;
  page.opened();
  assert.equal(page.session.transport, "websocket");
  assert.equal(verdict(page), null);
  page.until(() => page.peer.events.length);
  assert.deepEqual(page.peer.events, [["message", "early"]]);
  once(page.talks());
});

test("backoff is jittered", () => {
  const times = [0, 0.5, 0.999].map((value) => {
    const page = new Page({ random: () => value, before: ({ network }) => { network.down = true; } });
    page.advance(20_000);
    return greetingTimes(page);
  });
  assert.notDeepEqual(times[0], times[1]);
  assert.notDeepEqual(times[1], times[2]);
  assert.ok(times[2].length < times[0].length);
});

test("a network that is down is no verdict either, when polling worked before", () => {
  const page = new Page({ options: { timing: { probe: 4000 } }, random: () => 0.5 }).on("websocket");
  page.network.websocket = "refused";
  page.network.link.cut();
  page.on("polling").until(() => verdict(page));
  page.storage.items.clear();
  // Now everything is swallowed; the probes that fail meanwhile prove nothing.
  page.network.onsocket = () => "unanswered";
  page.network.onpost = () => ({ lost: true });
  page.advance(20_000);
  assert.ok(page.network.links.length > 2, "probes");
  assert.equal(verdict(page), null);
  page.network.onpost = () => undefined;
  page.until(() => verdict(page), "polling works again, a WebSocket does not");
  once(page.talks());
});

test("polls that fail open a WebSocket; if it fails with them, it is not suspected", () => {
  const page = new Page({ random: () => 0.999, options: { timing: { probe: 1e9, probeMax: 1e9, verdict: 1000 } }, before: ({ network }) => {
    network.websocket = "refused";
  } }).opened();
  page.advance(30_000);
  page.storage.items.clear();
  page.network.down = true;
  page.session.send("x");
  page.advance(30_000);
  assert.ok(page.network.links.length > 1, "one was tried");
  page.network.down = false;
  page.until(() => page.session.state === "open");
  page.advance(1000);
  assert.equal(verdict(page), null);
  once(page.talks());
});

test("polls that fail open a WebSocket; if it works, it takes over", () => {
  const page = new Page({ random: () => 0.999, options: { timing: { probe: 1e9, probeMax: 1e9, verdict: 1000 } }, before: ({ network }) => {
    network.websocket = "refused";
  } }).opened();
  page.advance(2000);
  page.network.websocket = "ok";
  page.network.onpost = () => ({ status: 502 });
  page.session.send("x");
  page.on("websocket");
  assert.ok(page.time < 5000);
  once(page.talks());
});

test("polls that go on failing open a WebSocket, also where it is judged: the network may be another one", () => {
  for (const now of ["ok", "refused"]) {
    const page = new Page({ random: () => 0.999, before: ({ network }) => { network.websocket = "refused"; } }).opened();
    page.advance(5 * MINUTE);
    const [at, tried] = [page.time, page.network.links.length];
    assert.ok(verdict(page).expires > page.clock.now);
    page.network.websocket = now;
    page.network.onpost = () => ({ status: 403, text: "<html>blocked</html>" });
    page.session.send("x");
    page.advance(20_000);
    // One for each lane.
    const { length } = page.network.links;
    assert.ok(length > tried && length <= tried + 2, `${length - tried}`);
    if (now === "ok") {
      assert.ok(page.last("transport").transport === "websocket" && page.network.link.at - START - at <= 5000);
    } else {
      page.network.onpost = () => undefined;
      page.until(() => page.session.state === "open", "open", 40_000);
    }
    once(page.talks());
  }
});

test("what is large does not ride in the hello of a resume", () => {
  for (const transports of [["websocket"], ["polling"]]) {
    const page = new Page({ options: { transports } }).opened().talks();
    page.network.down = true;
    page.network.open.forEach((link) => link.cut());
    page.session.send("small");
    page.session.send("x".repeat(900_000));
    page.advance(57_000);
    page.network.down = false;
    page.until(() => page.session.state === "open" && page.peer.events.length === 3);
    const hello = page.server.hellos.pop();
    assert.deepEqual(hello.items.length, 1);
    assert.equal(page.peer.events[2][1].length, 900_000);
    once(page);
  }
  const page = new Page({ options: { transports: ["websocket"] } }).opened().talks();
  page.network.link.swallow("up");
  page.session.send("x".repeat(900_000));
  page.advance(10);
  page.network.link.cut();
  page.until(() => page.peer.events.length === 2);
  assert.deepEqual(page.server.hellos.pop().items, []);
  once(page);
});

test("a server that turns away: Retry-After is kept, a WebSocket is not suspected", () => {
  const page = new Page({ random: () => 0.5, before: ({ server }) => {
    server.refuses = { end: 1013, reason: "full", session: false, headers: { "retry-after": "20" } };
  } });
  page.advance(19_000);
  assert.equal(greetings(page).length, 1);
  assert.equal(page.network.links.length, 1);
  page.server.refuses = null;
  page.opened();
  assert.ok(page.time >= 20_000 && page.time < 21_000, `${page.time}`);
  assert.equal(page.session.transport, "websocket");
  assert.equal(verdict(page), null);
  once(page.talks());
});

test("a server that turns away before the hello: a refused handshake, and then Retry-After", () => {
  const page = new Page({ random: () => 0.5, before: ({ server, network }) => {
    network.websocket = "refused";
    server.refuses = { end: 1012, reason: "restarting", session: false, headers: { "retry-after": "10" } };
  } });
  page.advance(9_900);
  assert.equal(greetings(page).length, 1);
  assert.equal(page.network.links.length, 1);
  assert.equal(page.count("reset"), 0);
  page.server.refuses = null;
  page.network.websocket = "ok";
  page.opened();
  assert.ok(page.time >= 10_000 && page.time < 11_000, `${page.time}`);
  assert.equal(verdict(page), null, "polling was not welcomed either");
});

test("a Retry-After beyond all reason is bounded", () => {
  const page = new Page({ random: () => 0.5, options: { transports: ["polling"] }, before: ({ server }) => {
    server.refuses = { end: 1013, reason: "full", session: false, headers: { "retry-after": "99999999999" } };
  } });
  page.advance(5 * MINUTE);
  assert.ok(greetings(page).length <= 3, `${greetings(page).length} in five minutes`);
  page.server.refuses = null;
  page.until(() => page.session.state === "open", "open", 20 * MINUTE);
  page.quiet();
});

test("an origin that is not allowed, another version: told, and not retried for ever", () => {
  for (const code of [4403, 4426]) {
    const page = new Page({ before: ({ server }) => {
      server.refuses = { end: code, reason: "not you", session: false };
    } });
    page.until(() => page.session.state === "closed");
    assert.equal(page.last("close").code, code);
    assert.equal(page.last("close").reason, "not you");
    assert.ok(page.server.hellos.length <= 2);
    page.over();
  }
});

test("a server of another version takes the place of this one: the open page is told", () => {
  const reason = "protocol version 1 is not spoken here, version 2 is";
  for (const transports of [["websocket", "polling"], ["websocket"]]) {
    const page = new Page({ options: { transports } }).opened();
    page.server.refuses = { end: 4426, reason, session: false };
    page.network.open.forEach((link) => link.cut());
    page.until(() => page.session.state === "closed", "closed", MINUTE);
    assert.deepEqual([page.last("close").code, page.last("close").reason], [4426, reason], String(transports));
    page.over();
  }
});

// --- Probes -----------------------------------------------------------------------------

test("probes: after 30 s, doubling to 10 minutes", () => {
  const page = new Page({ random: () => 0.999999, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  page.advance(60 * MINUTE);
  const times = socketTimes(page);
  const gaps = times.slice(1).map((time, index) => Math.round((time - times[index]) / 1000));
  assert.deepEqual(gaps.slice(0, 7), [30, 60, 120, 240, 480, 600, 600]);
  assert.equal(verdict(page).expires > page.clock.now, true, "each failed probe renews the verdict");
  once(page.talks());
});

test("probes have full jitter", () => {
  const page = new Page({ random: () => 0.1, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  page.advance(20_000);
  assert.deepEqual(socketTimes(page).map((time) => Math.round(time / 1000)), [0, 3, 9]);
});

test("a probe at once when the network changes", () => {
  const page = new Page({ random: () => 0.999, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  page.advance(5000);
  page.network.websocket = "ok";
  const at = page.time;
  page.environment.fire("online");
  page.on("websocket");
  assert.ok(page.time - at <= 40);
  page.advance(2000);
  assert.deepEqual(socketTimes(page), [0, 5040]);
  once(page.talks());
});

test("a slow probe leaves polling as it is", () => {
  const page = new Page({ random: () => 0.5, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  page.network.websocket = "unanswered";
  const heard = page.heard.length;
  page.until(() => page.network.links.length === 2);
  page.talks();
  assert.equal(page.session.transport, "polling");
  page.until(() => page.environment.sockets.size === 0);
  page.talks();
  assert.deepEqual(page.heard.slice(heard).map(([type]) => type), ["transport"], "only the reason has changed");
  assert.equal(page.session.why.reason, "unanswered");
  once(page);
});

test("behind an outage a WebSocket may be kept waiting by the browser for a minute: no verdict", () => {
  for (const keeps of [50_000, Infinity]) {
    const page = new Page({ random: () => 0.5 }).on("websocket");
    page.network.down = true;
    page.network.link.cut();
    page.advance(40_000);
    page.network.down = false;
    // Firefox makes a WebSocket wait where several have failed, and says nothing of it.
    page.network.onsocket = () => (page.time - back < keeps ? "unanswered" : "ok");
    const back = page.time;
    page.on("polling");
    page.advance(back + 45_000 - page.time);
    assert.ok(page.network.links.filter(({ at, fate }) => at > back && fate === "unanswered").length > 1, "tried");
    assert.equal(verdict(page), null);
    assert.equal(page.session.why.reason, "proving");
    // What is not answered later is the network's doing.
    page.advance(100_000);
    assert.equal(page.session.why.reason, keeps === Infinity ? "unanswered" : "works");
    once(page.talks());
  }
});

test("where the WebSocket of one tab works, those of the others are tried again at once", () => {
  // A browser opens one at a time: of tabs that come back together the last ones miss their time.
  const before = ({ network }) => { network.websocket = "unanswered"; };
  const tabs = [new Page({ random: () => 0.1, before })];
  for (const late of [0.7, 0.8, 0.9]) tabs.push(new Page({ random: () => late, beside: tabs[0] }));
  const judged = () => tabs.map((page) => page.session.why.reason);
  const healed = () => tabs.every((page) => page.session.transport === "websocket");
  tabs[0].advance(2600);
  assert.deepEqual(judged(), ["unanswered", "unanswered", "unanswered", "unanswered"]);
  tabs[0].network.websocket = "ok";
  // The first one's probe.
  tabs[0].until(() => tabs[0].session.transport === "websocket", "a probe", 4000).advance(1100);
  assert.ok(healed(), String(judged()));
  assert.equal(verdict(tabs[0]), null);

  // One that had no verdict itself lifts what another one has kept.
  const [first, second] = tabs[0].network.open;
  tabs[0].network.websocket = "unanswered";
  second.cut();
  tabs[0].until(() => verdict(tabs[0]), "judged");
  assert.deepEqual(judged().filter((reason) => reason !== "works"), ["unanswered"]);
  tabs[0].network.websocket = "ok";
  first.cut();
  tabs[0].advance(1100);
  assert.ok(healed(), String(judged()));
  assert.equal(verdict(tabs[0]), null);
  for (const page of tabs) page.quiet();
});

test("unstable: that the WebSocket of another tab works is no reason to try", () => {
  const page = new Page({ random: () => 0.999 }).on("websocket");
  for (let i = 0; i < 3; i++) {
    page.advance(10_000).talks();
    page.network.link.cut();
    page.advance(100);
  }
  assert.equal(page.session.why.reason, "unstable");
  const tried = page.network.links.length;
  page.storage.removeItem(KEY);
  page.environment.fire("storage", { key: KEY, newValue: null });
  page.advance(MINUTE);
  assert.equal(page.session.transport, "polling");
  assert.equal(page.network.links.length, tried);
  once(page);
});

test("after WebSocket worked for long, probes begin anew", () => {
  const page = new Page({ random: () => 0.999999, before: ({ network }) => { network.websocket = "refused"; } }).opened();
  page.advance(8 * MINUTE);
  page.network.websocket = "ok";
  page.until(() => page.session.transport === "websocket", "a probe", 10 * MINUTE).advance(2 * MINUTE);
  page.network.websocket = "refused";
  page.network.link.cut();
  page.on("polling");
  const at = page.time;
  page.until(() => page.network.links.filter((link) => link.at - START > at).length);
  assert.ok(page.time - at <= 30_000, `${page.time - at}`);
  once(page);
});

// --- Switching -----------------------------------------------------------------------------

// Numbered messages both ways, one each per 5 ms, while `during` happens.
function traffic(page, ms, during = () => {}) {
  let up = 0;
  let down = 0;
  const at = [];
  for (let passed = 0; passed < ms; passed += 5) {
    page.session.send(`up ${up++}`);
    page.peer.emit("message", `down ${down++}`);
    page.advance(5);
    during(passed);
    at.push(page.session.transport);
  }
  page.until(() => page.peer.events.length >= up && page.messages.length >= down, "all arrived", 60_000);
  assert.deepEqual(page.peer.events.map((event) => event[1]), Array.from({ length: up }, (_, i) => `up ${i}`));
  assert.deepEqual(page.messages, Array.from({ length: down }, (_, i) => `down ${i}`));
  return at;
}

test("from polling to WebSocket with messages in flight", () => {
  const page = new Page({ random: () => 0.001, before: ({ network }) => {
    network.onsocket = () => network.links.length ? "ok" : "refused";
  } }).opened();
  const transports = traffic(page, 1000);
  assert.ok(transports.includes("polling") && transports.includes("websocket"));
  assert.equal(page.session.state, "open");
  assert.deepEqual(page.peer.switches, ["polling", "websocket"]);
  assert.equal(page.count("open"), 1);
  page.advance(3000);
  assert.equal(page.environment.requests.size, 0, "the polls have gone");
  once(page);
});

test("from WebSocket to polling with messages in flight", () => {
  const page = new Page().on("websocket");
  const transports = traffic(page, 1000, (passed) => {
    if (passed !== 300) return;
    page.network.websocket = "refused";
    page.network.link.cut();
  });
  assert.ok(transports.includes("polling") && transports.includes("websocket"));
  assert.deepEqual(page.peer.switches, ["websocket", "polling"]);
  once(page);
});

test("to and fro, many times", () => {
  const page = new Page({ options: { timing: { deaths: 1e9 } }, random: () => 0.01 }).on("websocket");
  traffic(page, 20_000, (passed) => {
    if (passed % 1000 === 500) {
      page.network.websocket = "refused";
      page.network.open.forEach((link) => link.cut());
    } else if (passed % 1000 === 0) {
      page.network.websocket = "ok";
      page.environment.fire("online");
    }
  });
  assert.ok(page.peer.switches.length >= 30, `${page.peer.switches.length}`);
  once(page);
});

test("a probe that dies before or just after its commit: polling goes on", () => {
  // Milliseconds from its welcome on the server: it is on its way, there, committed, carries.
  for (let after = 0; after <= 60; after += 5) {
    const page = new Page({ random: () => 0.5, before: ({ network }) => { network.websocket = "refused"; } }).on("polling");
    page.network.websocket = "ok";
    const hellos = page.server.hellos.length;
    let dies = Infinity;
    traffic(page, 500, (passed) => {
      if (passed === 100) page.environment.fire("online");
      if (dies === Infinity && page.server.hellos.length > hellos) dies = passed + after;
      if (passed >= dies && page.network.websocket === "ok") {
        page.network.websocket = "refused";
        page.network.link.cut();
      }
    });
    assert.notEqual(dies, Infinity, "it was welcomed");
    page.on("polling");
    once(page.talks());
  }
});

test("close while a probe is under way: what was sent before arrives before it", () => {
  for (let after = 0; after <= 80; after += 5) {
    const page = new Page({ before: ({ network }) => { network.websocket = "refused"; } }).on("polling");
    page.network.websocket = "ok";
    page.environment.fire("online");
    for (let i = 0; i < 10; i++) page.session.send(`early ${i}`);
    page.advance(after);
    for (let i = 0; i < 10; i++) page.session.send(`late ${i}`);
    page.session.close(4000, "enough");
    page.until(() => page.session.state === "closed");
    const arrived = page.peer.events.map((event) => event[1]);
    assert.deepEqual(arrived.slice(0, 10), Array.from({ length: 10 }, (_, i) => `early ${i}`));
    assert.deepEqual(arrived.slice(10), Array.from({ length: 10 }, (_, i) => `late ${i}`));
    assert.deepEqual(page.last("close").unconfirmed, []);
    page.over();
  }
});

// --- Death --------------------------------------------------------------------------------------

test("a WebSocket that dies is resumed at once on a WebSocket", () => {
  const page = new Page().on("websocket").talks();
  page.advance(1000);
  page.network.link.cut();
  page.session.send("meanwhile");
  page.peer.emit("message", "meanwhile");
  page.advance(1);
  assert.equal(page.session.state, "reconnecting");
  assert.equal(page.session.transport, null);
  page.opened();
  assert.equal(page.time, 1060 + 40);
  page.advance(100);
  assert.deepEqual(page.peer.events.pop(), ["message", "meanwhile"]);
  assert.equal(page.messages.pop(), "meanwhile");
  assert.equal(page.posts.length, 0);
  assert.equal(page.count("open"), 1, "the application sees one open");
  assert.equal(verdict(page), null);
  once(page.talks());
});

test("a WebSocket that dies is resumed on polling where WebSocket is blocked now", () => {
  const page = new Page().on("websocket").talks();
  page.network.websocket = "unanswered";
  page.network.link.cut();
  page.on("polling");
  assert.ok(page.time < 800);
  page.until(() => verdict(page));
  assert.equal(verdict(page).reason, "unanswered");
  once(page.talks());
});

test("three young deaths: unstable", () => {
  const page = new Page({ random: () => 0.999 }).on("websocket");
  for (let i = 0; i < 3; i++) {
    page.advance(10_000).talks();
    assert.equal(page.session.transport, "websocket");
    page.network.link.cut();
    page.advance(100);
  }
  assert.equal(page.session.transport, "polling");
  assert.equal(verdict(page).reason, "unstable");
  assert.equal(String(page.session.why), "long polling: WebSockets kept breaking soon after they opened");
  once(page.talks());
});

test("a browser that ends its WebSockets, for a download, tells nothing of the network", () => {
  const page = new Page({ random: () => 0.999 }).on("websocket");
  for (let i = 0; i < 5; i++) {
    page.advance(10_000).talks();
    page.network.link._end(1001);
    page.advance(100);
    assert.equal(page.session.transport, "websocket");
  }
  assert.equal(verdict(page), null);
  // But who ends them all soon is in the way.
  for (let i = 0; i < 3; i++) {
    page.advance(4000);
    page.network.link._end(1001);
    page.advance(100);
  }
  assert.equal(verdict(page).reason, "unstable");
  once(page.talks());
});

test("deaths of old WebSockets, or long ago, do not count", () => {
  const page = new Page().on("websocket");
  for (let i = 0; i < 5; i++) {
    page.advance(61_000);
    page.network.link.cut();
    page.advance(100);
    assert.equal(page.session.transport, "websocket");
  }
  const other = new Page().on("websocket");
  for (let i = 0; i < 5; i++) {
    other.advance(10_000).talks();
    other.network.link.cut();
    other.advance(160_000);
    assert.equal(other.session.transport, "websocket");
  }
  assert.equal(verdict(page) || verdict(other), null);
  once(page);
});

test("unstable, and polling does not work: a WebSocket is tried all the same", () => {
  const page = new Page({ before: ({ network }) => { network.onpost = () => ({ status: 403, text: "no" }); } }).on("websocket");
  for (let i = 0; i < 3; i++) {
    page.advance(1000);
    page.network.link.cut();
    page.advance(100);
  }
  page.until(() => page.session.transport === "websocket", "a WebSocket", 10_000);
  assert.equal(verdict(page), null);
  once(page.talks());
});

test("WebSocket alone allowed, and always dying: backoff, not a storm", () => {
  const page = new Page({ options: { transports: ["websocket"] }, random: () => 0.5 }).on("websocket");
  for (let passed = 0; passed < 30_000; passed += 10) {
    page.network.open.forEach((link) => link.cut());
    page.advance(10);
  }
  assert.ok(page.network.links.length < 15, `${page.network.links.length} WebSockets in 30 s`);
  page.until(() => page.session.state === "open", "open", 40_000);
  once(page.talks());
});

// --- A WebSocket that is half open -------------------------------------------------------------

test("a half-open WebSocket is asked, and left for polling", () => {
  for (const way of ["up", "down", "both"]) {
    const page = new Page({ options: { timing: { probe: 1e9, probeMax: 1e9 } } }).on("websocket").talks();
    page.advance(10_000);
    page.network.link.swallow(way);
    const at = page.time;
    page.session.send("into the void");
    page.peer.emit("message", "from the void");
    page.until(() => page.posts.length, "polling beside it");
    const asked = page.time - at;
    assert.ok(asked >= 2000 && asked <= 2100, `${way}: after ${asked} ms`);
    assert.ok(page.network.link.sent.some((data) => / q\d+/.test(data)), "it was asked");
    page.on("polling").advance(100);
    assert.deepEqual(page.peer.events.pop(), ["message", "into the void"]);
    assert.deepEqual(page.messages.slice(1), ["from the void"]);
    assert.equal(page.session.why.reason, "half-open");
    // The server, which counts them, is told the same.
    assert.equal(JSON.parse(greetings(page)[0].body.split("\u001e")[0]).client.why, "half-open");
    assert.equal(page.environment.sockets.size, 0);
    // Nothing of the dead connection keeps ticking.
    const before = page.clock._order;
    page.advance(20_000);
    assert.ok(page.clock._order - before < 60, `${page.clock._order - before} things in 20 s`);
    once(page.talks());
  }
});

test("a half-open WebSocket with nothing to say is found by the keepalive", () => {
  const page = new Page().on("websocket").advance(1000);
  page.network.link.swallow();
  page.network.websocket = "refused";
  page.advance(30_000);
  assert.equal(page.session.transport, "polling");
  once(page.talks());
});

test("a server that is slow to handle is not a dead path", () => {
  const page = new Page().on("websocket");
  page.peer.holds = true;
  page.session.send("takes a minute");
  page.advance(MINUTE);
  assert.equal(page.posts.length, 0);
  assert.equal(page.session.transport, "websocket");
  assert.equal(page.session.counters.acknowledged, 1);
  page.peer.handle();
  page.advance(100);
  assert.equal(page.session.counters.acknowledged, 2);
  once(page.talks());
});

test("a doubted WebSocket that answers after all stays, and polling is given up", () => {
  const page = new Page().on("websocket").talks();
  const { link } = page.network;
  page.network.latency = 1;
  page.network.onpost = () => ({ delay: 3000 });
  link.up = false;
  const sent = link.sent.length;
  page.session.send("late");
  page.until(() => page.posts.length);
  // What was swallowed comes through at last.
  link.up = true;
  for (const data of link.sent.slice(sent)) link._server.message(data);
  page.advance(10_000);
  assert.equal(page.session.transport, "websocket");
  assert.equal(page.environment.requests.size, 0);
  assert.equal(verdict(page), null);
  once(page.talks());
});

test("a frame that a middlebox swallows: found by the next, or by the question", () => {
  for (const next of [true, false]) {
    const page = new Page().on("websocket").talks();
    page.network.onframe = () => 0;
    page.session.send("swallowed");
    page.advance(5);
    page.network.onframe = () => 1;
    if (next) page.session.send("next");
    page.until(() => page.peer.events.length === (next ? 3 : 2), "it arrived", 3000);
    assert.deepEqual(page.peer.events[1], ["message", "swallowed"]);
    assert.equal(page.network.links.length, 2);
    page.server.gaps.length = 0;
    once(page.talks());
  }
});

test("an upload that is slow, but moves, is not a dead path", () => {
  const page = new Page().on("websocket").talks();
  const { link } = page.network;
  const { socket } = link;
  const sent = link.sent.length;
  link.up = false;
  page.environment.fills = true;
  page.session.send("x".repeat(500_000));
  page.advance(1);
  const total = socket.bufferedAmount;
  assert.ok(total >= 500_000);
  for (let i = 0; i < 100; i++) {
    socket.bufferedAmount -= 3000;
    page.advance(100);
  }
  assert.equal(page.posts.length, 0, "no hedge");
  const asked = link.sent.slice(sent).filter((data) => / q\d/.test(data)).length;
  assert.ok(asked <= 2, `asked ${asked} times`);
  page.environment.fills = false;
  socket.bufferedAmount = 0;
  link.up = true;
  for (const data of link.sent.slice(sent)) link._server.message(data);
  once(page.talks());
});

test("a full buffer is waited for with one timer", () => {
  const page = new Page().on("websocket").talks();
  const { link } = page.network;
  const sent = link.sent.length;
  link.up = false;
  page.environment.fills = true;
  for (let i = 0; i < 30; i++) page.session.send("x".repeat(100_000));
  page.advance(1);
  assert.ok(link.socket.bufferedAmount < 1_200_000, "the rest is kept here");
  const timers = page.environment.timers();
  for (let i = 0; i < 50; i++) {
    page.session.send("more");
    page.advance(1);
  }
  assert.ok(page.environment.timers() <= timers + 1, `${page.environment.timers()} timers`);
  for (let i = 0; i < 200 && page.peer.events.length < 81; i++) {
    link.up = true;
    for (const data of link.sent.splice(sent)) link._server.message(data);
    link.socket.bufferedAmount = 0;
    link.up = false;
    page.advance(50);
  }
  assert.equal(page.peer.events.length, 81);
  once(page);
});

test("a WebSocket that is closing, and does not say so yet, is not looked at in circles", () => {
  const page = new Page().on("websocket").talks().advance(1000);
  const { clock, network: { link } } = page;
  page.peer.emit("message", "the last");
  page.until(() => page.messages.includes("the last"));
  // The server's close frame has come. That its TCP connection ends has not: the acknowledgement,
  // which is due, cannot be sent.
  link.socket.readyState = 2;
  const before = clock._order;
  page.advance(1000);
  assert.ok(clock._order - before < 100, `${clock._order - before} things happen in a second`);
  link._end(1001);
  once(page.on("websocket").talks());
});

// --- Sleep and news of the network ---------------------------------------------------------------

test("a sleep on a WebSocket: asked at once, and left", () => {
  const page = new Page().on("websocket").advance(10_000);
  page.network.link.swallow();
  page.clock.sleep(40_000);
  const woke = page.time;
  page.advance(5000);
  assert.ok(page.session.state === "open" && page.network.open.length, "resumed");
  assert.ok(page.time - woke <= 5000);
  once(page.talks());
});

test("a short sleep on a WebSocket that lives changes nothing", () => {
  const page = new Page().on("websocket").advance(10_000);
  page.clock.sleep(30_000);
  page.advance(1000);
  assert.equal(page.network.links.length, 1);
  assert.ok(page.network.link.sent.some((data) => / q\d+/.test(data)));
  once(page.talks());
});

test("a sleep on polling: the dead poll is not waited for", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  page.advance(5000);
  // The request that is under way will never be answered.
  page.posts[page.posts.length - 1].aborted = true;
  page.clock.sleep(30_000);
  page.peer.emit("message", "meanwhile");
  page.advance(1000);
  assert.equal(page.messages.pop(), "meanwhile");
  once(page.talks());
});

test("a sleep longer than the session: onreset, and a new one", () => {
  const page = new Page().on("websocket").talks();
  page.session.send("unconfirmed");
  page.network.link.swallow();
  page.clock.sleep(30 * MINUTE);
  page.server.sessions.clear();
  page.until(() => page.count("reset"));
  page.opened();
  assert.deepEqual(page.last("reset").unconfirmed, [sent("message", "unconfirmed")]);
  assert.equal(page.count("open"), 2);
  page.talks();
});

test("the network is back: nothing is waited for", () => {
  const page = new Page({ random: () => 0.999 }).on("websocket").talks();
  page.network.down = true;
  page.network.link.cut();
  page.advance(50_000);
  assert.equal(page.session.state, "reconnecting");
  page.network.down = false;
  const at = page.time;
  page.environment.fire("online");
  page.opened();
  assert.ok(page.time - at <= 40, `${page.time - at}`);
  once(page.talks());
});

test("the network is back while a hello is lost in the old one", () => {
  const page = new Page({ options: { transports: ["polling"] }, before: ({ network }) => { network.onpost = () => ({ lost: true }); } });
  page.advance(3000);
  page.network.onpost = () => undefined;
  page.environment.fire("online");
  page.opened();
  assert.ok(page.time <= 3100, `${page.time}`);
  once(page.talks());
});

test("news of the network on polling: the poll under way is not waited for", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  page.network.onpost = () => ({ lost: true });
  page.advance(30_000);
  page.network.onpost = () => undefined;
  page.environment.fire("online");
  page.advance(30);
  assert.ok(page.posts[page.posts.length - 1].at >= page.clock.now - 30);
  once(page.talks());
});

test("hurrying while the first connection opens is one session all the same", () => {
  const page = new Page();
  page.environment.fire("online");
  page.environment.fire("pageshow", { persisted: true });
  page.opened();
  assert.equal(page.environment.sockets.size, 1);
  once(page.talks());
});

// --- The page's options -----------------------------------------------------------------------------

test("transports: polling alone", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened();
  assert.equal(page.time, 20);
  assert.equal(page.session.why.reason, "option");
  assert.equal(String(page.session.why), "long polling: the page's options leave WebSocket out");
  page.network.onpost = () => ({ status: 502 });
  page.advance(MINUTE);
  page.environment.fire("online");
  page.network.onpost = () => undefined;
  page.advance(20 * MINUTE);
  assert.equal(page.network.links.length, 0, "never a WebSocket");
  assert.equal(verdict(page), null);
  assert.equal(page.count("reset"), 0);
  page.talks();
});

test("transports: WebSocket alone", () => {
  const page = new Page({ options: { transports: ["websocket"] }, before: ({ network }) => { network.websocket = "unanswered"; } });
  page.advance(30_000);
  assert.equal(page.posts.length, 0);
  assert.ok(page.network.links.length >= 4);
  assert.equal(page.session.state, "connecting");
  page.network.websocket = "ok";
  page.opened();
  page.network.link.swallow();
  page.session.send("x");
  page.advance(MINUTE + 5000);
  page.talks();
  assert.equal(page.posts.length, 0, "never a poll");
  assert.equal(verdict(page), null);
  once(page);
});

for (const [status, what, fate] of [
  [404, "by a page", { text: "no such page" }], [200, "by a page", { text: "<html>please log in</html>" }],
  [0, "by a reset", {}], [0, "never", { lost: true }],
]) {
  test(`where a poll is answered ${what} (${status}) and by no welcome, why says so until there is one`, () => {
    const page = new Page({ before: ({ network }) => {
      network.websocket = "refused";
      network.onpost = () => fate.lost ? fate : { status, ...fate };
    } });
    assert.equal(String(page.session.why), "no connection");
    page.advance(10_000);
    const { why } = page.session;
    assert.equal(String(why), `no connection: status ${status} from http://page.test/fallback/poll`);
    assert.deepEqual([why.transport, why.reason, why.expires, page.session.state], [null, "none", null, "connecting"]);
    page.network.onpost = () => undefined;
    page.opened();
    page.session.close();
    page.advance(1000);
    assert.equal(String(page.session.why), "no connection");
    once(page);
  });
}

test("transports that cannot be are refused at the call", () => {
  assert.throws(() => new Page({ options: { transports: [] } }), { code: "unsupported" });
  assert.throws(() => new Page({ options: { transports: ["pigeon"] } }), {
    code: "unsupported", message: "no such transport",
  });
  assert.throws(() => new Page({ options: { transports: ["websocket"] }, webSocket: false }), { code: "unsupported" });
});

test("cookies of another origin go along if wanted", () => {
  const page = new Page({ options: { withCredentials: true, transports: ["polling"] } });
  assert.equal([...page.environment.requests][0].withCredentials, true);
  page.opened();
});

// --- 4421 and resets -------------------------------------------------------------------------------

test("another server process's, three times: reset, and a new session", () => {
  const page = new Page().on("websocket").talks();
  page.session.send("lost");
  page.network.link.up = false;
  page.server.restart();
  page.until(() => page.count("reset"));
  assert.equal(page.last("reset").code, 4404);
  assert.ok(page.time < 5000, `${page.time}`);
  assert.equal(verdict(page), null, "an answer is no fault of the WebSocket");
  page.opened();
  assert.equal(page.count("open"), 2);
  assert.equal(page.session.transport, "websocket");
  page.talks();
});

test("another server process's with WebSocket alone", () => {
  const page = new Page({ options: { transports: ["websocket"] } }).on("websocket").talks();
  page.server.restart();
  page.until(() => page.count("reset"));
  page.opened().talks();
});

test("times of more than a browser's timers can have are long ones, not none", () => {
  const later = new Page({ options: { timing: { welcome: Infinity, hedge: 2_592_000_000 } } }).on("websocket");
  assert.equal(later.posts.length, 0);
  const never = new Page({
    options: { timing: { probe: Infinity, probeMax: Infinity } },
    before: ({ network }) => { network.websocket = "refused"; },
  }).on("polling");
  never.advance(60_000);
  assert.equal(never.network.links.length, 1);
  const patient = new Page({ grant: { inactivity: 30 * 86_400_000 } }).opened();
  patient.network.down = true;
  patient.network.open.forEach((link) => link.cut());
  patient.advance(600_000);
  patient.network.down = false;
  patient.until(() => patient.session.state === "open");
  patient.talks();
});

test("WebSocket alone, on a path that is slow from the start, or gets slow: it has ever more time", () => {
  for (const slowFrom of [0, 60_000]) {
    const page = new Page({ options: { transports: ["websocket"] }, before: ({ network }) => {
      if (!slowFrom) network.latency = 1500;
    } });
    if (slowFrom) {
      page.on("websocket").advance(slowFrom);
      page.network.latency = 1500;
      page.network.link.cut();
      page.until(() => page.session.transport === null, "away");
    }
    // The handshake and the welcome take 6 s.
    page.until(() => page.session.transport === "websocket", "a WebSocket", 20_000);
    page.on("websocket").talks();
    assert.equal(page.count("reset"), 0);
  }
});

test("in a worker, which has no document, a URL is absolute all the same", () => {
  const page = new Page({ before: ({ environment }) => {
    Object.defineProperty(environment, "document", { value: undefined });
    Object.assign(environment, { URL, location: new URL("http://page.test/script.js") });
  } }).on("websocket");
  assert.equal(page.network.links[0].socket.url, "ws://page.test/fallback/ws");
});

test("in a worker of an old browser, whose URL is no constructor, a path leads to the worker's server", () => {
  // PhantomJS's; Internet Explorer's is an object, too.
  for (const URL of [() => { throw new TypeError("no constructor"); }, {}, undefined]) {
    for (const webSocket of [true, false]) {
      const page = new Page({ webSocket, before: ({ environment }) => {
        Object.defineProperty(environment, "document", { value: undefined });
        Object.assign(environment, { URL, location: { href: "http://page.test/scripts/worker.js" } });
      } });
      page.on(webSocket ? "websocket" : "polling").talks();
      if (!webSocket) assert.equal(page.posts[0].url, "http://page.test/fallback/poll");
    }
  }
});

test("server processes that share no sessions: the page is told why it cannot work", () => {
  for (const transports of [["websocket", "polling"], ["polling"]]) {
    const page = new Page({ options: { transports } }).opened();
    const first = page.server.tag;
    const answers = (tag) => {
      page.peer.emit("message", "ends the held one");
      page.server.restart({ tag });
      for (const link of page.network.open) link.cut();
    };
    answers("other");
    page.until(() => page.count("reset") === 1, "reset");
    page.opened().advance(5000);
    answers(first);
    page.until(() => page.session.state === "closed", "closed", MINUTE);
    assert.equal(page.last("close").code, 4421);
    assert.match(page.last("close").reason, /several server processes answer/);
    page.over();
  }
});

test("a server process that was out of reach for a while answers again, and all goes on", () => {
  for (const transports of [["websocket", "polling"], ["polling"]]) {
    const page = new Page({ options: { transports } }).opened();
    const first = page.server.tag;
    const moved = (tag, resets) => {
      page.peer.emit("message", "ends the held one");
      page.server.restart({ tag });
      for (const link of page.network.open) link.cut();
      page.until(() => page.count("reset") === resets, `to ${tag}`, MINUTE);
      page.opened();
    };
    moved("other", 1);
    page.talks().advance(2 * MINUTE);
    moved(first, 2);
    page.talks().advance(2 * MINUTE);
    moved("other", 3);
    assert.equal(page.session.state, "open");
    page.talks();
  }
});

test("a page that is sent to another server process for less than a minute comes back, and goes on", () => {
  for (const transports of [["websocket", "polling"], ["polling"]]) {
    for (const away of [15_000, 30_000]) {
      const page = new Page({ options: { transports } }).opened();
      const first = page.server.tag;
      for (const [resets, tag] of [[1, "other"], [2, first], [3, "other"]]) {
        page.advance(away);
        page.peer.emit("message", "ends the held one");
        page.server.restart({ tag });
        for (const link of page.network.open) link.cut();
        page.until(() => page.count("reset") === resets, `to ${tag}`, MINUTE);
        page.opened().talks();
      }
    }
  }
});

test("a page whose server process is out of reach for a few seconds comes back to it, and goes on", () => {
  for (const transports of [["websocket", "polling"], ["polling"]]) {
    const page = new Page({ options: { transports } }).opened().talks();
    const first = page.server.tag;
    for (let resets = 1; resets < 5; resets++) {
      // On its own process for a while, on the other one for as long as a few checks take.
      page.advance(resets % 2 ? 30_000 : 4000);
      page.peer.emit("message", "ends the held one");
      page.server.restart({ tag: resets % 2 ? "other" : first });
      for (const link of page.network.open) link.cut();
      page.until(() => page.count("reset") === resets, `${resets}`, MINUTE);
      page.opened().talks();
    }
  }
});

test("behind a process that restarts another one may answer, and again when it is back", () => {
  for (const transports of [["websocket", "polling"], ["polling"]]) {
    const page = new Page({ options: { transports } }).opened();
    // To where a balancer sends it while its own process restarts, and back behind that.
    for (const tag of ["restarted", "again"]) {
      const { count } = page.server;
      page.peer.close(1012, "the server restarts");
      page.until(() => page.count("reset") % 2, "told", MINUTE);
      page.server.restart({ tag: "other" });
      page.until(() => page.server.count > count).opened();
      page.peer.emit("message", "ends the held one");
      page.server.restart({ tag });
      for (const link of page.network.open) link.cut();
      page.until(() => page.count("reset") % 2 === 0, `back to ${tag}`, MINUTE);
      page.opened();
    }
    assert.equal(page.count("reset"), 4);
    page.talks();
  }
});

for (const [how, choose] of [["in turn", (n) => n % 2], ["by chance", (n, random) => Number(random() < 0.5)]]) {
  test(`each request goes to another of two server processes, ${how}: the page is told within half a minute`, () => {
    for (let seed = 1; seed <= 8; seed++) {
      const page = new Page({ seed, options: { transports: ["polling"] }, connect: false });
      const other = Object.assign(new FakeServer(page.clock), { tag: "other" });
      const processes = [page.server.poll.bind(page.server), other.poll.bind(other)];
      const random = generator(seed);
      let requests = 0;
      page.server.poll = (...request) => processes[choose(requests++, random)](...request);
      page.connect();
      while (page.session.state !== "closed" && page.time < MINUTE / 2) {
        page.session.send("text");
        page.advance(1000);
      }
      assert.equal(page.last("close")?.code, 4421, `seed ${seed}`);
      page.over();
    }
  });
}

test("a server that is replaced again and again is no such thing", () => {
  const page = new Page().opened();
  for (let i = 1; i < 6; i++) {
    page.advance(5000);
    page.server.restart();
    for (const link of page.network.open) link.cut();
    page.until(() => page.count("reset") === i, "reset", MINUTE);
    page.opened();
  }
  page.talks();
});

test("a server that is started in a way that cannot work is not tried for ever", () => {
  for (const websocket of ["refused", "unanswered"]) {
    const page = new Page({ before: ({ network }) => {
      network.websocket = websocket;
      network.onpost = () => ({ status: 501, text: '{"end":1011,"reason":"its log says why","session":false}\x1e.' });
    } });
    page.until(() => page.session.state === "closed", "closed", 10_000);
    assert.deepEqual([page.last("close").code, page.last("close").reason], [1011, "its log says why"]);
    page.over();
  }
});

test("another server process's twice, and then ours again", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  let misdirected = 2;
  page.network.onpost = () => misdirected-- > 0 ?
    { status: 421, text: '{"end":4421,"reason":"","session":false}\x1e.' } : undefined;
  page.talks().advance(MINUTE);
  assert.equal(page.count("reset"), 0);
  once(page.talks());
});

test("another server process's on polling is no reset while a WebSocket carries", () => {
  const page = new Page({ before: ({ network }) => {
    network.onpost = () => ({ status: 421, text: '{"end":4421,"reason":"","session":false}\x1e.' });
  } }).on("websocket").talks();
  const { link } = page.network;
  const sent = link.sent.length;
  link.up = false;
  page.session.send("late");
  page.advance(8000);
  assert.ok(page.posts.length >= 3, "asked on polling, in vain");
  link.up = true;
  for (const data of link.sent.slice(sent)) link._server.message(data);
  page.advance(1000);
  assert.equal(page.count("reset"), 0);
  assert.equal(page.session.transport, "websocket");
  once(page.talks());
});

test("a server that ends every session as soon as it opens: backoff, not a storm", () => {
  for (const transports of [["websocket", "polling"], ["polling"]]) {
    const page = new Page({ options: { transports }, random: () => 0.5, before: ({ server }) => {
      server.onconnect = (session) => server.clock.schedule(1, () => session.end(1012, "restarting"), "server");
    } });
    page.advance(MINUTE);
    assert.ok(page.server.hellos.length <= 20, `${page.server.hellos.length} hellos in a minute`);
    assert.ok(page.count("reset") >= 4);
    page.server.onconnect = (session) => session.push("0{}");
    page.until(() => page.session.state === "open", "open", MINUTE);
    page.talks();
  }
});

test("a server that refuses every new session with a code of its own restart: backoff", () => {
  const page = new Page({ random: () => 0.5, before: ({ server }) => {
    server.refuses = { end: 1012, reason: "restarting", session: true };
  } });
  page.advance(MINUTE);
  assert.ok(page.server.hellos.length <= 25, `${page.server.hellos.length} hellos in a minute`);
});

// --- Garbage ----------------------------------------------------------------------------------------

const GARBAGE = [
  "", "hello", "<html>", "{", "{}", "[]", "null", '{"welcome":1}', '{"welcome":2,"id":"x"}', '{"end":"x"}',
  "a", "a0 a0", "a0 s1", "a0 z1", "a99999999999999999", "a0\x1em", "a0 s1\x1ex", "\x1e", "\x1e\x1e.", "a0 s5\x1emgap",
];

test("garbage instead of a welcome on a WebSocket: polling", () => {
  for (const garbage of GARBAGE) {
    const page = new Page({ random: () => 0.999 });
    page.until(() => page.network.link.state === "open");
    page.network.link._arrive(garbage);
    page.opened();
    assert.equal(page.session.transport, "polling", JSON.stringify(garbage));
    once(page.talks());
  }
});

test("garbage on a WebSocket that carries: resumed", () => {
  for (const garbage of [...GARBAGE, Uint8Array.of(), Uint8Array.of(1, 2, 3), new Uint8Array(1000)]) {
    const page = new Page().on("websocket").talks();
    page.network.link._arrive(garbage);
    page.advance(100);
    once(page.talks());
    assert.equal(page.network.links.length, 2, JSON.stringify(garbage));
    assert.equal(page.session.transport, "websocket");
  }
});

test("a Blob on a WebSocket (a browser without binaryType): resumed", () => {
  const page = new Page().on("websocket").talks();
  page.network.link.socket._message(new Blob(["x"]));
  page.advance(100);
  once(page.talks());
});

test("garbage instead of a polling answer, in every phase", () => {
  for (const garbage of [...GARBAGE, ...GARBAGE.map((each) => `${each}\x1e.`)]) {
    // A whole envelope of marks that fit is no garbage, even if it is not the answer.
    const page = new Page({ options: { transports: ["polling"] }, before: ({ network }) => {
      network.onpost = () => network.posts.length === 1 ? { status: 200, text: garbage } : undefined;
    } }).opened();
    const talked = page.posts.length;
    page.network.onpost = () => page.posts.length === talked + 1 ? { status: 200, text: garbage, reaches: true } : undefined;
    page.talks();
    page.advance(MINUTE);
    assert.ok(page.posts.length < 25, `${JSON.stringify(garbage)}: ${page.posts.length} requests`);
    once(page.talks());
  }
});

test("impossible marks end the session with 1002, wherever they are", () => {
  const welcome = (page, marks) => JSON.stringify({
    welcome: 1, id: page.peer.id, attempt: page.server.hellos.length, key: page.peer.key, grant: page.server.grant, ...marks,
  });
  const onSocket = new Page();
  onSocket.until(() => onSocket.server.hellos.length);
  onSocket.network.link._arrive(welcome(onSocket, { ack: 9, received: 9 }));
  onSocket.advance(10);
  assert.equal(onSocket.last("close").code, 1002);
  assert.equal(onSocket.last("close").wasClean, false);
  onSocket.over();

  const later = new Page().on("websocket");
  later.network.link._arrive("a5 r9");
  assert.equal(later.last("close").code, 1002);
  later.over();

  const onPolling = new Page({ options: { transports: ["polling"] }, before: ({ network, server }) => {
    const { poll } = server;
    server.poll = (body, respond, headers) => poll.call(server, body, (status, text, found) =>
      respond(status, text.replace(/"ack":\d+,"received":\d+/, '"ack":9,"received":9'), found), headers);
  } });
  onPolling.until(() => onPolling.session.state === "closed");
  assert.equal(onPolling.last("close").code, 1002);
  onPolling.over();
});

test("a gap in a welcome, or in a polling answer, ends the connection and not the session", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  page.network.onpost = (request) => {
    if (!/ w\d/.test(request.body)) return undefined;
    page.network.onpost = () => undefined;
    return { status: 200, text: `a${page.session.counters.sent} s9\x1emgap\x1e.` };
  };
  page.peer.emit("message", "one more");
  page.advance(3000);
  assert.equal(page.messages.pop(), "one more");
  assert.ok(greetings(page).length === 2, "resumed");
  once(page.talks());

  const other = new Page({ options: { transports: ["polling"] }, before: ({ server, network }) => {
    const { poll } = server;
    server.poll = (body, respond, headers) => poll.call(server, body, (status, text, found) =>
      respond(status, network.posts.length === 1 ? text.replace('"seq":1}', '"seq":7}') : text, found), headers);
  } });
  other.opened();
  once(other.talks());
});

test("a welcome for another attempt, a second welcome, an end of the connection", () => {
  const page = new Page({ random: () => 0.999 });
  page.until(() => page.server.hellos.length);
  const { link } = page.network;
  link.down = false;
  link._arrive(JSON.stringify({ welcome: 1, id: "a.1", attempt: 7, key: "k", grant: page.server.grant, ack: 0, received: 0 }));
  page.opened();
  assert.equal(page.session.transport, "polling");
  once(page.talks());

  const again = new Page().on("websocket").talks();
  again.network.link._arrive(again.network.link.received[0]);
  again.advance(100);
  once(again.talks());

  const ended = new Page().on("websocket").talks();
  ended.network.link._arrive('{"end":4409,"reason":"superseded","session":false}');
  ended.advance(100);
  assert.equal(ended.network.links.length, 2);
  once(ended.talks());
});

test("an end of the session instead of a welcome: a reset, or closed", () => {
  const page = new Page().on("websocket").talks();
  page.peer.over = { end: 4000, reason: "gone to lunch", session: true, ack: 3, received: 3 };
  page.network.link.cut();
  page.until(() => page.session.state === "closed");
  assert.equal(page.last("close").code, 4000);
  assert.equal(page.last("close").reason, "gone to lunch");
  page.over();
});

// --- Old browsers --------------------------------------------------------------------------------------

test("a browser that refuses close codes", () => {
  const page = new Page({ random: () => 0.999, before: ({ environment, network }) => {
    environment.oldClose = true;
    network.websocket = "silent";
  } }).opened();
  page.advance(3000);
  assert.equal(page.environment.sockets.size, 0);
  page.network.websocket = "ok";
  page.environment.fire("online");
  page.on("websocket").talks();
  page.session.close();
  page.advance(100);
  page.over();
});

test("a browser that forbids the request: like a dead network", () => {
  const page = new Page({ options: { transports: ["polling"] }, before: ({ environment }) => { environment.forbids = true; } });
  page.advance(10_000);
  assert.equal(page.session.state, "connecting");
  page.environment.forbids = false;
  page.opened();
  page.environment.forbids = true;
  page.session.send("x");
  page.advance(3000);
  page.environment.forbids = false;
  page.until(() => page.peer.events.length);
  once(page.talks());
});

test("a hidden page, whose timers are slow: questions are answered and polls go on at once", () => {
  const page = new Page().on("websocket").talks();
  page.advance(1000);
  const { setTimeout } = page.environment;
  page.environment.setTimeout = (callback, delay) => setTimeout.call(page.environment, callback, Math.max(delay, 60_000));
  page.network.link._arrive("a2 q77");
  page.advance(0);
  assert.match(page.network.link.sent.pop(), /^a2( r2)? p77$/);
  const polling = new Page({ options: { transports: ["polling"] } }).opened().talks();
  const slow = polling.environment.setTimeout;
  polling.environment.setTimeout = (callback, delay) => slow.call(polling.environment, callback, Math.max(delay, 60_000));
  for (let i = 0; i < 10; i++) {
    polling.peer.emit("message", i);
    polling.advance(50);
  }
  assert.equal(polling.messages.length, 11);
});

test("a WebSocket without bufferedAmount", () => {
  const page = new Page();
  page.until(() => page.environment.sockets.size);
  for (const socket of page.environment.sockets) delete socket.bufferedAmount;
  page.opened();
  assert.equal(page.session.transport, "websocket");
  once(page.talks());
  page.network.link.swallow();
  page.session.send("x");
  page.on("polling");
  once(page.talks());
});

test("a URL of another origin, with and without a slash", () => {
  for (const url of ["https://other.test/mount", "https://other.test/mount/"]) {
    const page = new Page({ connect: false });
    page.session = page.library.connect(url, { environment: page.environment });
    page.opened();
    assert.equal(page.network.link.socket.url, "wss://other.test/mount/ws");
  }
});

// So a page gives what it has of its own options, and TypeScript lets it.
for (const transport of ["websocket", "polling"]) {
  test(`${transport}: a time that is undefined is as one that is not given`, () => {
    const timing = Object.fromEntries(Object.keys(core.TIMING).map((name) => [name, undefined]));
    const page = new Page({ options: { transports: [transport], timing } }).on(transport);
    const plain = new Page({ options: { transports: [transport] } }).on(transport);
    for (const each of [page, plain]) {
      each.talks("at once").advance(60_000);
      each.talks("later");
    }
    assert.deepEqual(page.posts.map(({ at, body }) => [at, body]), plain.posts.map(({ at, body }) => [at, body]));
    assert.deepEqual([page.time, page.messages], [plain.time, plain.messages]);
  });
}
