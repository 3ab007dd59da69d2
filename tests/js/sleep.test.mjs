// Timers that are late: a device that sleeps, a hidden page, a busy one, a clock that is set.
// PROTOCOL.md, "Negotiation, in the client".

import assert from "node:assert/strict";
import test from "node:test";

import { START } from "./fake_environment.mjs";
import { Page } from "./page.mjs";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const KEY = "fallback_transport http://page.test/fallback/poll";
const LONG = { inactivity: 10 * HOUR };

const verdict = (page) => JSON.parse(page.storage.items.get(KEY) ?? "null");

// A hidden page's timers fire only at whole multiples of `grain`.
function throttled(page, grain) {
  const { setTimeout } = page.environment;
  page.environment.setTimeout = (callback, delay) => {
    const due = page.clock.now + delay;
    return setTimeout.call(page.environment, callback, Math.ceil((due - START) / grain) * grain + START - page.clock.now);
  };
}

// One message each way; how long the slower one took.
function crosses(page, limit = 2000) {
  const { time } = page;
  const before = page.peer.events.length;
  page.session.send(`up ${time}`);
  page.peer.emit("message", `down ${time}`);
  page.until(() => page.peer.events.length > before && page.messages.includes(`down ${time}`), "they crossed", limit + 1);
  return page.time - time;
}

for (const transport of ["websocket", "polling"]) {
  for (const sleep of [8000, 40_000, 10 * MINUTE]) {
    test(`${transport}: a sleep of ${sleep / 1000} s, and the path is as it was: asked, and nothing else`, () => {
      for (const offset of [0, 700, 2300, 9000, 21_000]) {
        const page = new Page({ options: { transports: transport === "polling" ? ["polling"] : undefined }, grant: LONG }).on(transport);
        page.talks().advance(offset);
        const requests = page.posts.length;
        const links = page.network.links.length;
        page.clock.sleep(sleep);
        const took = crosses(page);
        page.advance(3000);
        assert.ok(took <= 2000, `${took} ms`);
        assert.ok(page.posts.length - requests <= 8, `${page.posts.length - requests} requests`);
        assert.ok(page.network.links.length - links <= 0, "no other WebSocket");
        assert.equal(page.count("reset"), 0);
        page.talks();
      }
    });

    test(`${transport}: a sleep of ${sleep / 1000} s, in which the path has died: left within about 2 s`, () => {
      for (const offset of [0, 700, 2300, 9000, 21_000]) {
        const page = new Page({ options: { transports: transport === "polling" ? ["polling"] : undefined }, grant: LONG }).on(transport);
        page.talks().advance(offset);
        page.network.open.forEach((link) => link.swallow());
        for (const xhr of page.environment.requests) xhr._request.aborted = true;
        const requests = page.posts.length;
        page.clock.sleep(sleep);
        const took = crosses(page, 2500);
        page.advance(3000);
        assert.ok(took <= 2100, `after ${offset} ms: ${took} ms`);
        assert.ok(page.posts.length - requests <= 10, `${page.posts.length - requests} requests`);
        assert.equal(page.count("reset"), 0);
        page.talks();
      }
    });
  }

  test(`${transport}: a clock that jumps by an hour ends nothing`, () => {
    for (const [offset, speaks] of [[0, false], [5000, false], [20_000, false], [0, true], [5000, true]]) {
      let jump = 0;
      const page = new Page({
        options: { transports: transport === "polling" ? ["polling"] : undefined },
        // The page's clock alone: the network, and the server, know nothing of it.
        before: ({ environment, clock }) => {
          Object.defineProperty(environment, "Date", { value: { now: () => clock.now + jump } });
        },
      }).on(transport);
      page.talks().advance(offset);
      jump = HOUR;
      const requests = page.posts.length;
      // Before any timer is late.
      if (speaks) page.session.send("x");
      page.advance(40_000);
      crosses(page);
      page.advance(2 * MINUTE);
      assert.equal(page.count("reset"), 0);
      assert.equal(page.count("close"), 0);
      assert.equal(page.network.links.length, transport === "polling" ? 0 : 1);
      assert.ok(page.posts.length - requests <= 20, `${page.posts.length - requests} requests`);
      page.talks();
    }
  });

  test(`${transport}: a sleep while the network is down: the server is asked before the session is given up`, () => {
    const page = new Page({ options: { transports: transport === "polling" ? ["polling"] : undefined }, grant: { inactivity: 120_000 } }).on(transport);
    page.talks();
    page.network.down = true;
    page.network.open.forEach((link) => link.cut());
    page.session.send("kept");
    page.advance(10_000);
    page.clock.sleep(10 * MINUTE);
    page.network.down = false;
    page.until(() => page.peer.events.length === 2, "it came through", 3000);
    assert.equal(page.count("reset"), 0);
    page.talks();
  });
}

for (const slept of [10_000, 50_000]) {
  test(`a sleep of ${slept / 1000} s amid a round trip is none: a path that dies later is left as soon as ever`, () => {
    for (const early of [true, false]) {
      const page = new Page({ grant: LONG });
      if (!early) {
        page.on("websocket").talks().advance(5000);
        page.environment.fire("online");
      }
      // The welcome is on its way, or the answer to a question.
      page.advance(early ? 35 : 15);
      page.clock.sleep(slept);
      page.on("websocket").talks();
      for (let i = 0; i < 20; i++) page.advance(500).talks(`${i}`);
      page.network.link.swallow();
      const { time } = page;
      page.session.send("now");
      page.on("polling");
      const took = page.time - time;
      assert.ok(took <= (early ? 30_000 : 6000), `${took} ms`);
      page.talks();
    }
  });
}

test("a sleep from which the server has gone: told, once, and a new session", () => {
  const page = new Page().on("websocket").talks();
  page.clock.sleep(HOUR);
  page.server.restart({ tag: page.server.tag });
  page.until(() => page.count("reset"), "a reset", 5000);
  page.opened();
  assert.equal(page.count("reset"), 1);
  page.talks();
});

test("WebSockets that die in a sleep are no strikes, and teach nothing", () => {
  const page = new Page({ grant: LONG }).on("websocket");
  for (let i = 0; i < 6; i++) {
    page.advance(3000);
    page.clock.sleep(30_000);
    page.network.link.cut();
    page.advance(200);
    assert.equal(page.session.transport, "websocket");
  }
  assert.equal(verdict(page), null);
  const sent = page.network.link.sent.length;
  page.advance(2 * MINUTE);
  assert.ok(page.network.link.sent.length - sent <= 10, "asked as seldom as ever");
  page.talks();
});

test("after a long sleep the first thing is to ask: no hedge, if the answer comes", () => {
  const page = new Page().on("websocket").talks();
  page.network.link.swallow("up");
  page.session.send("asked for, and then the device sleeps");
  page.advance(1500);
  page.network.link.up = true;
  page.clock.sleep(20_000);
  page.advance(500);
  assert.equal(page.posts.length, 0);
  assert.ok(/ q\d+/.test(page.network.link.sent.join("\n")));
});

test("a busy page: the answer is in the queue behind the timer, and is read before anything is doubted", () => {
  for (const busy of [150, 1000, 4000]) {
    const page = new Page().on("websocket").talks();
    const { link } = page.network;
    page.server.asks = false;
    page.until(() => / q\d+/.test(link.sent[link.sent.length - 1]), "a question");
    const [, question] = / q(\d+)/.exec(link.sent[link.sent.length - 1]);
    page.clock.sleep(1000 + busy);
    // Behind the timers that have run out meanwhile.
    page.clock.schedule(1, () => link._arrive(`a2 p${question}`));
    page.server.asks = true;
    page.advance(10_000);
    assert.equal(page.posts.length, 0, `busy for ${busy} ms`);
    page.talks();
  }
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  page.network.latency = 300;
  page.advance(1000);
  const requests = page.posts.length;
  page.peer.emit("message", "while it was busy");
  page.clock.sleep(4500);
  // What has come is read at once, though the timers are late.
  page.advance(600);
  assert.deepEqual(page.messages.slice(1), ["while it was busy"]);
  assert.ok(page.posts.length - requests <= 2);
  page.talks();
});

for (const grain of [1000, MINUTE]) {
  const name = grain === 1000 ? "second" : "minute";

  test(`a hidden page, whose timers run once a ${name}, on a path that works: nothing is doubted`, () => {
    const page = new Page().on("websocket").talks();
    throttled(page, grain);
    for (let i = 0; i < 100; i++) {
      page.session.send(`up ${i}`);
      page.peer.emit("message", `down ${i}`);
      page.advance(i % 3 ? 700 : 20_100);
    }
    page.advance(2 * MINUTE);
    assert.equal(page.posts.length, 0);
    assert.equal(page.network.links.length, 1);
    assert.equal(page.session.state, "open");
    assert.equal(page.peer.events.length, 101);
    assert.equal(page.messages.length, 101);
    page.quiet();
  });

  test(`a hidden page, whose timers run once a ${name}, on polling: nothing is repeated`, () => {
    const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
    throttled(page, grain);
    const requests = page.posts.length;
    for (let i = 0; i < 50; i++) {
      page.peer.emit("message", i);
      page.advance(i % 3 ? 700 : 20_100);
    }
    page.advance(10 * MINUTE);
    // One for each message, and some for each silence.
    assert.ok(page.posts.length - requests <= 50 + 17 * 4 + 24 + 5, `${page.posts.length - requests}`);
    assert.equal(page.messages.length, 51);
    page.quiet();
  });

  test(`a hidden page, whose timers run once a ${name}, on a dead path: left all the same`, () => {
    for (const transport of ["websocket", "polling"]) {
      const page = new Page({ options: { transports: transport === "polling" ? ["polling"] : undefined }, grant: LONG }).on(transport).talks();
      throttled(page, grain);
      page.advance(10_000);
      page.network.open.forEach((link) => link.swallow());
      for (const xhr of page.environment.requests) xhr._request.aborted = true;
      page.session.send("in time");
      page.until(() => page.peer.events.length === 2, "it came through", grain === 1000 ? 5000 : 4 * MINUTE);
      page.advance(5 * MINUTE);
      assert.equal(page.session.state, "open");
    }
  });
}

// Old libraries add to Object.prototype, and not only functions.
for (const transport of ["websocket", "polling"]) {
  test(`${transport}: a page whose objects all have one thing more wakes as any other`, () => {
    const page = new Page({ options: { transports: [transport] }, grant: LONG }).on(transport);
    Object.prototype.more = null;
    try {
      page.network.down = true;
      page.network.open.forEach((link) => link.cut());
      page.session.send("while nothing goes");
      page.advance(20_000);
      page.clock.sleep(MINUTE);
      page.network.down = false;
      page.until(() => page.peer.events.length, "it is back", 31_000);
      page.quiet();
    } finally {
      delete Object.prototype.more;
    }
  });
}
