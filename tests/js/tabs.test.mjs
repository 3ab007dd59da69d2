// Many tabs of one site on long polling: they take turns. PROTOCOL.md, "Many tabs".

import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./core.mjs";
import { FakeStorage, generator, START } from "./fake_environment.mjs";
import { Page } from "./page.mjs";

const PREFIX = "fallback_transport poll http://page.test ";
const SECOND = 1000;

// Tabs of one browser, each with the file loaded for itself, on polling.
class Tabs {
  constructor(number, { before = () => {}, ...options } = {}) {
    this.pages = [];
    for (let i = 0; i < number; i++) this.open({ before, ...options });
  }

  open({ seed = this.pages.length + 1, ...more } = {}) {
    const page = new Page({
      options: { transports: ["polling"] }, library: load(), seed, random: generator(seed),
      beside: this.pages[0], ...more,
    }).opened();
    this.pages.push(page);
    return page;
  }

  get clock() { return this.pages[0].clock; }
  get network() { return this.pages[0].network; }
  registered() { return [...this.pages[0].storage.items.keys()].filter((key) => key.startsWith(PREFIX)); }

  // How many requests are open just now, in all tabs.
  busy() { return this.pages.reduce((sum, page) => sum + page.environment.requests.size, 0); }

  // The most that were open at any moment of so long; what is answered at its wait's end is given
  // the time on the way.
  busiest(ms, step = 5) {
    const counts = [];
    for (let at = 0; at < ms; at += step) {
      this.clock.advance(step);
      counts.push(this.busy());
    }
    return counts;
  }

  peer(page) { return page.server.sessions.get(page.session.id); }

  quiet() { for (const page of this.pages) page.quiet(); }
}

const waits = (posts) => posts.map((post) => / w(\d+) /.exec(post.body)).filter(Boolean).map((found) => Number(found[1]));

// The wait of the first poll behind a message, where nobody else polls.
const FIRST = [1500];

test("three tabs hold their polls as one does", () => {
  const tabs = new Tabs(3);
  // Behind messages polls are short, and then longer and longer.
  tabs.clock.advance(45 * SECOND);
  const before = tabs.network.posts.length;
  assert.ok(tabs.busiest(15 * SECOND, 100).every((count) => count === 3));
  assert.equal(tabs.network.posts.length, before);
  assert.deepEqual(waits(tabs.network.posts).slice(-3), [20_000, 20_000, 20_000]);
  assert.equal(tabs.registered().length, 3);
  tabs.quiet();
});

test("a fourth makes the others give up their long polls at once", () => {
  const tabs = new Tabs(3);
  tabs.clock.advance(5 * SECOND);
  const since = tabs.network.posts.length;
  tabs.open();
  tabs.clock.advance(20);
  assert.ok(tabs.busy() <= 3, `${tabs.busy()} are held`);
  tabs.clock.advance(10 * SECOND);
  assert.ok(waits(tabs.network.posts.slice(since)).every((wait) => wait <= 1000));
  tabs.quiet();
});

for (const number of [4, 8, 20]) {
  test(`${number} visible tabs: three hold a poll at a time, everyone has a turn in four seconds`, () => {
    const tabs = new Tabs(number);
    tabs.clock.advance(10 * SECOND);
    const counts = tabs.busiest(8 * SECOND);
    // Where a turn ends and the next begins both are under way for a round trip of 20 ms.
    const groups = Math.ceil(number / 3);
    const slot = Math.min(1000, 4000 / groups);
    assert.ok(Math.max(...counts) <= 6, `${Math.max(...counts)} at once`);
    const crowded = counts.filter((count) => count > 3).length / counts.length;
    assert.ok(crowded <= 35 / slot, `more than three for ${Math.round(100 * crowded)} % of the time`);
    // Nobody waits long, whenever it is said, and nothing is lost.
    for (let round = 0; round < 7; round++) {
      tabs.clock.advance(777);
      tabs.pages.forEach((page) => tabs.peer(page).emit("message", round));
      const said = tabs.clock.now;
      tabs.clock.until(() => tabs.pages.every((page) => page.messages.length === round + 1));
      assert.ok(tabs.clock.now - said <= groups * slot + 100, `${tabs.clock.now - said} ms`);
    }
    for (const page of tabs.pages) assert.deepEqual(page.messages, [0, 1, 2, 3, 4, 5, 6]);
    tabs.quiet();
  });
}

test("what is sent goes at once, whoever's turn it is", () => {
  const tabs = new Tabs(8);
  tabs.clock.advance(10 * SECOND);
  for (let i = 0; i < 20; i++) {
    tabs.clock.advance(333);
    tabs.pages.forEach((page) => page.session.send(i));
    tabs.clock.advance(50);
    for (const page of tabs.pages) assert.equal(tabs.peer(page).events.length, i + 1);
  }
  tabs.quiet();
});

test("a short turn that brings nothing is no empty answer that comes too soon", () => {
  const tabs = new Tabs(30);
  tabs.clock.advance(30 * SECOND);
  const since = tabs.network.posts.length;
  tabs.clock.advance(40 * SECOND);
  const polls = (tabs.network.posts.length - since) / 30 / 10;
  assert.ok(polls >= 1 && polls <= 2, `${polls} polls a round`);
});

test("one after the other closes: those who are left hold long polls again", () => {
  const tabs = new Tabs(6);
  tabs.clock.advance(5 * SECOND);
  tabs.pages.slice(3).forEach((page) => page.session.close());
  tabs.clock.advance(60 * SECOND);
  assert.equal(tabs.registered().length, 3);
  assert.equal(tabs.busy(), 3);
  assert.deepEqual(waits(tabs.network.posts).slice(-3), [20_000, 20_000, 20_000]);
  tabs.quiet();
});

test("a tab that crashed is forgotten after 90 s", () => {
  const tabs = new Tabs(3);
  tabs.pages[0].storage.items.set(`${PREFIX}crashed`, String(tabs.clock.now));
  tabs.clock.advance(60 * SECOND);
  assert.equal(tabs.registered().length, 4);
  assert.ok(waits(tabs.network.posts).pop() <= 1000);
  tabs.clock.advance(60 * SECOND);
  assert.equal(tabs.registered().length, 3);
  assert.equal(waits(tabs.network.posts).pop(), 20_000);
});

for (const [what, value] of [["of the future", START + 1e9], ["nonsense", "soon"], ["empty", ""]]) {
  test(`an entry that is ${what} does not count, and is removed`, () => {
    const storage = new FakeStorage();
    for (let i = 0; i < 5; i++) storage.items.set(PREFIX + i, String(value));
    const page = new Page({ options: { transports: ["polling"] }, storage }).opened().advance(100);
    assert.deepEqual(waits(page.posts), FIRST);
    assert.equal([...storage.items.keys()].filter((key) => key.startsWith(PREFIX)).length, 1);
    page.talks();
  });
}

test("another server, and other things in the storage, do not count", () => {
  const storage = new FakeStorage();
  for (let i = 0; i < 5; i++) {
    storage.items.set(`fallback_transport poll http://page.test:8080 ${i}`, String(START));
    storage.items.set(`application ${i}`, "its own");
  }
  const page = new Page({ options: { transports: ["polling"] }, storage }).opened().advance(100);
  assert.deepEqual(waits(page.posts), FIRST);
  assert.equal(storage.items.size, 11);
});

test("another mount of the server counts: its connections are the same", () => {
  const tabs = new Tabs(0);
  for (let i = 0; i < 8; i++) tabs.open({ url: `/room/${i}` });
  tabs.clock.advance(10 * SECOND);
  const counts = tabs.busiest(8 * SECOND);
  assert.ok(counts.filter((count) => count > 3).length <= 0.05 * counts.length, `up to ${Math.max(...counts)} are held`);
  tabs.quiet();
});

for (const [what, options] of [
  ["no storage", { storage: null }],
  ["a storage that fails", { storage: Object.assign(new FakeStorage(), { fails: true }) }],
]) {
  test(`${what}: polls are held as if there were no others`, () => {
    const page = new Page({ options: { transports: ["polling"] }, ...options }).opened().advance(100);
    assert.deepEqual(waits(page.posts), FIRST);
    page.talks();
  });
}

test("a storage that fails amid it all", () => {
  const tabs = new Tabs(5);
  tabs.clock.advance(5 * SECOND);
  tabs.pages[0].storage.fails = true;
  tabs.clock.advance(10 * SECOND);
  tabs.pages.forEach((page) => page.session.close());
  tabs.clock.advance(10 * SECOND);
  tabs.pages.forEach((page) => page.over());
});

test("where all requests share a connection (HTTP/2) nobody takes turns", () => {
  const tabs = new Tabs(8, { before: (page) => { page.environment.http2 = true; } });
  tabs.clock.advance(10 * SECOND);
  assert.deepEqual([...new Set(waits(tabs.network.posts))], [...FIRST, 3000, 6000]);
  assert.equal(tabs.busy(), 8);
});

test("eight sessions of one page take turns like eight pages", () => {
  // No storage event tells them of each other.
  const library = load();
  const tabs = new Tabs(3, { library });
  tabs.clock.advance(SECOND);
  while (tabs.pages.length < 8) tabs.open({ library });
  assert.ok(tabs.busy() <= 6, `${tabs.busy()} at once`);
  tabs.clock.advance(10 * SECOND);
  assert.ok(Math.max(...tabs.busiest(6 * SECOND)) <= 6);
  tabs.pages.slice(1).forEach((page) => page.session.close());
  tabs.clock.advance(5 * SECOND);
  assert.equal(waits(tabs.network.posts).pop(), 20_000);
});

test("who closes waits for no turn, but for what the server's handler does", () => {
  const tabs = new Tabs(12);
  tabs.clock.advance(10 * SECOND);
  for (const page of tabs.pages) {
    const peer = tabs.peer(page);
    peer.holds = true;
    const { length } = tabs.network.posts;
    page.session.close(4000);
    tabs.clock.advance(1500);
    assert.equal(page.session.state, "open");
    // Out of turn for a moment only, in its turn for all of it.
    const own = tabs.network.posts.slice(length).filter((post) => post.body.includes(page.session.id));
    assert.ok(Math.max(...waits(own)) <= SECOND, `${waits(own)}`);
    peer.handle();
    peer.end(4000);
    // The poll that is held then, or the next one, brings it: SLOT / 4, and the way.
    tabs.clock.advance(400);
    assert.equal(page.session.state, "closed");
  }
  tabs.quiet();
});

test("a tab that changes to WebSocket takes no turn", () => {
  const tabs = new Tabs(4);
  const page = tabs.open({ options: {}, before: ({ network }) => { network.websocket = "refused"; } });
  page.on("polling").advance(SECOND);
  assert.equal(tabs.registered().length, 5);
  page.network.websocket = "ok";
  page.environment.fire("online");
  page.on("websocket").advance(SECOND);
  assert.equal(tabs.registered().length, 4);
  page.talks().advance(10 * SECOND);
  tabs.quiet();
});

// --- Hidden tabs -------------------------------------------------------------------------------------

function hide(page) {
  page.environment.isHidden = true;
  page.environment.fire("visibilitychange");
}

// A hidden page's timers come once a minute, if at all.
function throttle(page) {
  const { environment } = page;
  const armed = environment.setTimeout;
  environment.setTimeout = (callback, delay) => {
    const at = environment.clock.now + delay - START;
    return armed.call(environment, callback, delay && Math.ceil(at / 60_000) * 60_000 - (environment.clock.now - START));
  };
}

test("seven hidden tabs hold no poll; the visible one holds its own", () => {
  const tabs = new Tabs(8);
  tabs.pages.slice(1).forEach(hide);
  tabs.clock.advance(10 * SECOND);
  const counts = tabs.busiest(16 * SECOND, 10);
  const free = counts.filter((count) => count <= 1).length / counts.length;
  assert.ok(free > 0.9, `only one is held for ${Math.round(100 * free)} % of the time`);
  tabs.pages.forEach((page) => tabs.peer(page).emit("message", "all"));
  tabs.clock.advance(50);
  assert.deepEqual(tabs.pages[0].messages, ["all"]);
  tabs.clock.advance(4 * SECOND);
  for (const page of tabs.pages) assert.deepEqual(page.messages, ["all"]);
  tabs.quiet();
});

for (const visible of [0, 1, 5]) {
  test(`timers of hidden tabs that come once a minute (${visible} visible): nothing is late, nothing lost`, () => {
    const tabs = new Tabs(8);
    tabs.pages.slice(visible).forEach((page) => { hide(page); throttle(page); });
    tabs.clock.advance(130 * SECOND);
    const ids = tabs.pages.map((page) => page.session.id);
    for (let round = 0; round < 20; round++) {
      tabs.clock.advance(7777);
      tabs.pages.forEach((page) => tabs.peer(page).emit("message", round));
      const said = tabs.clock.now;
      tabs.clock.until(() => tabs.pages.every((page) => page.messages.length === round + 1));
      assert.ok(tabs.clock.now - said <= 8 * SECOND, `${tabs.clock.now - said} ms`);
    }
    assert.deepEqual(tabs.pages.map((page) => page.session.id), ids);
    for (const page of tabs.pages) assert.equal(page.count("reset") + page.count("close"), 0);
    tabs.quiet();
  });
}

test("a tab that is shown again has its turn at once", () => {
  const tabs = new Tabs(4);
  hide(tabs.pages[3]);
  tabs.clock.advance(10 * SECOND);
  tabs.pages.slice(0, 3).forEach(hide);
  const page = tabs.pages[3];
  page.environment.isHidden = false;
  page.environment.fire("visibilitychange");
  tabs.clock.advance(50);
  tabs.peer(page).emit("message", "x");
  tabs.clock.advance(50);
  assert.deepEqual(page.messages, ["x"]);
  tabs.quiet();
});
