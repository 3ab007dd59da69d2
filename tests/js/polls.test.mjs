// Long polling on paths that cut, refuse, hold and repeat: PROTOCOL.md, "Polls" and "Alive".

import assert from "node:assert/strict";
import test from "node:test";

import { START } from "./fake_environment.mjs";
import { decodeBody } from "./fake_server.mjs";
import { Page, sent } from "./page.mjs";

const MINUTE = 60_000;

const polling = (options = {}) => new Page({
  ...options, options: { transports: ["polling"], ...options.options },
});

const isWaiting = (request) => / w\d+ /.test(request.body);
const isSending = (request) => !isWaiting(request) && !request.body.startsWith("{");
const waits = (page) => page.posts.filter(isWaiting);
const lastWait = (page) => decodeBody(waits(page).pop().body).w;
const lastLimit = (page) => decodeBody(waits(page).pop().body).b;

// One session, one connect, one open, and it still talks.
function same(page) {
  assert.equal(page.server.count, 1);
  assert.equal(page.peer.connects.length, 1);
  assert.equal(page.count("open"), 1);
  assert.equal(page.count("reset"), 0);
  return page.talks().quiet();
}

// No more than `rate` requests in any second, of those after the first `spared`.
function modest(requests, rate, where = "") {
  const times = requests.map((request) => request.at - START);
  for (let i = rate; i < times.length; i++) {
    assert.ok(times[i] - times[i - rate] >= 1000, `${where} ${rate + 1} requests within ${times[i] - times[i - rate]} ms`);
  }
}

test("polling: one waiting request, one sending at a time, messages where they belong", () => {
  const page = polling().opened();
  for (let i = 0; i < 50; i++) {
    page.session.send(`up ${i}`);
    page.peer.emit("message", `down ${i}`);
    page.advance(7);
  }
  page.advance(1000);
  assert.deepEqual(page.peer.events.map((event) => event[1]), Array.from({ length: 50 }, (_, i) => `up ${i}`));
  assert.deepEqual(page.messages, Array.from({ length: 50 }, (_, i) => `down ${i}`));
  assert.equal(page.environment.busiest, 2);
  const numbers = page.posts.slice(1).map((post) => decodeBody(post.body).n);
  assert.deepEqual(numbers, numbers.map((_, i) => i + 1), "numbers rise");
  assert.equal(page.server.repeats, 0);
  same(page);
});

test("polling at rest: one request held for 20 s, and the next", () => {
  const page = polling().opened();
  page.advance(10 * MINUTE);
  assert.deepEqual(waits(page).slice(0, 7).map((post) => decodeBody(post.body).w),
    [1500, 3000, 6000, 12_000, 20_000, 20_000, 20_000], "after the last message, four more than that");
  assert.equal(lastWait(page), 20_000);
  assert.ok(page.posts.length <= 35, `${page.posts.length}`);
  assert.equal(page.environment.busiest, 1);
  same(page);
});

test("a server that waits for less, or keeps alive more often", () => {
  const page = polling({ grant: { wait: 8000 } }).opened();
  page.advance(MINUTE);
  assert.equal(lastWait(page), 8000);
  same(page);
  const often = polling({ grant: { keepalive: 5000 } }).opened();
  often.advance(5 * MINUTE);
  assert.equal(often.posts.filter((post) => post.body.startsWith("{")).length, 1, "never silent for too long");
  same(often);
});

// --- Failures ----------------------------------------------------------------------------

const FAILURES = [
  ["502", { status: 502, text: "<html>Bad Gateway</html>" }],
  ["503", { status: 503, text: "" }],
  ["504", { status: 504, text: "<html>Gateway Timeout</html>" }],
  ["408", { status: 408 }],
  ["429", { status: 429 }],
  ["401", { status: 401, text: "log in again" }],
  ["403", { status: 403, text: "blocked by policy" }],
  ["407", { status: 407 }],
  ["500", { status: 500 }],
  ["a network error", { status: 0 }],
  ["an HTML page with 200", { status: 200, text: "<html>Please log in</html>" }],
  ["an empty answer with 200", { status: 200, text: "" }],
  ["a redirect that was not followed", { status: 302 }],
  ["a malformed end", { status: 400, text: '{"end":4400,"reason":"malformed","session":false}\x1e.' }],
  ["502 after the server got it", { status: 502, reaches: true }],
  ["504 after the server got it, late", { status: 504, reaches: true, after: 900 }],
  ["a network error after the server got it", { status: 0, reaches: true }],
  ["an HTML page after the server got it", { status: 200, text: "<html></html>", reaches: true }],
  ["an answer cut short", { truncate: 3 }],
  ["an answer without its end mark", { truncate: -2 }],
];

for (const [what, fate] of FAILURES) {
  test(`once ${what}: repeated at once in the same session`, () => {
    const page = polling().opened();
    let left = 1;
    page.network.onpost = (request) => isSending(request) && left-- > 0 ? fate : undefined;
    page.session.send("one");
    page.session.send("two");
    page.until(() => page.peer.events.length === 2, "both arrived");
    page.advance(2000);
    const sending = page.posts.filter(isSending);
    assert.equal(sending.length, 2);
    assert.ok(sending[1].at - sending[0].at <= 1000);
    left = 1;
    page.network.onpost = (request) => isWaiting(request) && left-- > 0 ? fate : undefined;
    page.peer.emit("message", "meanwhile");
    page.advance(30_000);
    page.peer.emit("message", "later");
    page.advance(30_000);
    assert.deepEqual(page.messages, ["meanwhile", "later"]);
    assert.equal(page.session.state, "open");
    same(page);
  });

  test(`${what} for 20 s: repeated with backoff in the same session, and then it goes on`, () => {
    const page = polling().opened();
    const failsFrom = page.posts.length;
    page.network.onpost = () => fate;
    page.peer.emit("message", "down");
    page.session.send("up");
    page.advance(20_000);
    const failed = page.posts.slice(failsFrom);
    assert.ok(failed.length >= 5, `${failed.length} requests`);
    modest(failed.filter(isWaiting), 3, "waiting:");
    modest(failed.filter(isSending), 3, "sending:");
    assert.equal(page.session.state, "reconnecting");
    page.network.onpost = () => undefined;
    page.until(() => page.session.state === "open" && page.messages.length && page.peer.events.length);
    assert.deepEqual(page.peer.events, [["message", "up"]]);
    assert.deepEqual(page.messages, ["down"]);
    same(page);
  });

  test(`${what} instead of a welcome: repeated`, () => {
    const page = polling({ before: ({ network }) => { network.onpost = () => fate; } });
    page.advance(20_000);
    modest(page.posts, 3);
    assert.equal(page.session.state, "connecting");
    page.network.onpost = () => undefined;
    page.opened();
    same(page);
  });
}

for (const [what, first] of [["sending", isSending], ["waiting", isWaiting]]) {
  test(`the network is back, says a ${what} request: the other does not sit out its backoff`, () => {
    const page = polling().opened();
    let back = false;
    page.network.onpost = () => ({ status: 0 });
    page.session.send("up");
    // The poll that is held from before the outage takes it.
    page.peer.emit("message", "before");
    page.advance(20_000);
    page.peer.emit("message", "down");
    page.network.onpost = (request) => {
      back = back || first(request);
      return back ? undefined : { status: 0 };
    };
    page.until(() => back);
    page.advance(500);
    assert.deepEqual(page.messages, ["before", "down"]);
    assert.deepEqual(page.peer.events, [["message", "up"]]);
    same(page);
  });
}

test("alternately failing: never more than a few requests a second", () => {
  const page = polling().opened();
  let count = 0;
  page.network.onpost = () => count++ % 2 ? { status: 502 } : undefined;
  page.advance(30_000);
  assert.ok(page.posts.length < 10, `${page.posts.length}`);
  same(page);
});

test("what fails on one lane while the other works is tried again within a second", () => {
  for (const fails of [isWaiting, isSending]) {
    const page = polling().opened();
    page.network.onpost = (request) => fails(request) ? { status: 502 } : undefined;
    const before = page.posts.length;
    for (let i = 0; i < 600; i++) {
      page.session.send(`up ${i}`);
      page.peer.emit("message", `down ${i}`);
      page.advance(100);
    }
    const failed = page.posts.slice(before).filter(fails);
    assert.ok(failed.length > 55, `${failed.length} in a minute`);
    modest(failed, 3);
    page.network.onpost = () => undefined;
    page.until(() => page.peer.events.length === 600 && page.messages.length === 600, "all", 1100);
    same(page);
  }
});

test("behind an outage the first answer on one lane hurries the other", () => {
  const page = polling().opened();
  page.network.onpost = () => ({ status: 502 });
  page.peer.emit("message", "ends the held one");
  page.advance(100);
  page.peer.emit("message", "down");
  page.session.send("up");
  page.advance(20_000);
  page.network.onpost = () => undefined;
  page.until(() => page.peer.events.length || page.messages.length === 2, "one lane");
  page.until(() => page.peer.events.length && page.messages.length === 2, "the other", 1100);
  same(page);
});

test("an outage shorter than the session: nothing is lost", () => {
  const page = polling().opened();
  page.network.down = true;
  for (let i = 0; i < 100; i++) {
    page.session.send(`up ${i}`);
    page.peer.emit("message", `down ${i}`);
    page.advance(900);
  }
  assert.equal(page.session.state, "reconnecting");
  assert.ok(page.posts.length < 60, `${page.posts.length} requests in 90 s`);
  page.network.down = false;
  page.until(() => page.peer.events.length === 100 && page.messages.length === 100);
  assert.deepEqual(page.peer.events.map((event) => event[1]), Array.from({ length: 100 }, (_, i) => `up ${i}`));
  same(page);
});

test("an outage longer than the session: onreset, with what is unconfirmed, and a new session", () => {
  const page = polling().opened();
  page.session.send("confirmed");
  page.advance(100);
  page.network.down = true;
  page.session.emit("chat", { text: "unconfirmed" }, (error) => page.heard.push(["callback", error]));
  page.session.send(new Uint8Array([1, 2, 3]));
  page.until(() => page.count("reset"), "a reset", 3 * MINUTE);
  assert.ok(page.time >= 119_000, `${page.time}`);
  assert.equal(page.last("reset").code, 4408);
  assert.deepEqual(page.last("reset").unconfirmed, [
    sent("chat", { text: "unconfirmed" }),
    sent("message", Uint8Array.from([1, 2, 3]).buffer),
  ]);
  assert.equal(page.last("callback").code, 4408);
  assert.equal(page.session.state, "reconnecting");
  page.network.down = false;
  page.opened();
  assert.equal(page.count("open"), 2);
  assert.deepEqual(page.peer.events, []);
  page.talks();
});

test("Retry-After is kept, on every kind of request", () => {
  for (const status of [429, 503]) {
    const page = polling().opened();
    page.network.onpost = () => ({ status, headers: { "retry-after": "7" } });
    page.session.send("x");
    page.advance(20);
    page.network.onpost = () => undefined;
    const before = page.posts.length;
    page.advance(6900);
    assert.equal(page.posts.filter(isSending).length, 1);
    page.until(() => page.peer.events.length);
    assert.ok(page.posts[before].at - START >= 7000);
    same(page);
  }
});

test("a Retry-After that is a date or nonsense does no harm", () => {
  for (const value of ["Fri, 31 Dec 1999 23:59:59 GMT", "soon", "-5", ""]) {
    const page = polling().opened();
    let left = 1;
    page.network.onpost = () => left-- > 0 ? { status: 503, headers: { "retry-after": value } } : undefined;
    page.session.send("x");
    page.advance(500);
    assert.equal(page.peer.events.length, 1);
    same(page);
  }
});

test("a held poll that never answers is given up after its wait and a margin", () => {
  const page = polling().opened();
  page.advance(10 * MINUTE);
  const held = waits(page).length;
  page.network.onpost = (request) => isWaiting(request) ? { lost: true } : undefined;
  page.until(() => waits(page).length === held + 2, "the first that is lost is given up");
  const [first, second] = waits(page).slice(held);
  assert.equal(Math.round((second.at - first.at) / 100), 240);
  page.network.onpost = () => undefined;
  page.environment.fire("online");
  same(page);
});

// --- What a path allows is learned -------------------------------------------------------

test("a path that cuts held polls: 0.8 of that is learned, for ten minutes", () => {
  const page = polling().opened();
  page.network.onpost = (request) => isWaiting(request) ? { cut: 10_000, status: 504 } : undefined;
  page.advance(MINUTE);
  assert.equal(lastWait(page), 8000);
  const failed = page.posts.filter((post) => post.status === 504).length;
  assert.equal(failed, 1, "cut once, and then never");
  page.advance(8 * MINUTE);
  assert.equal(lastWait(page), 8000);
  page.network.onpost = () => undefined;
  page.advance(3 * MINUTE);
  assert.equal(lastWait(page), 20_000, "tried again when the learned value has expired");
  same(page);
});

test("never under two seconds, and a request that fails at once teaches nothing", () => {
  const page = polling({ before: ({ network }) => {
    network.onpost = (request) => isWaiting(request) ? { cut: 2300, status: 0 } : undefined;
  } }).opened();
  page.advance(20_000);
  assert.equal(lastWait(page), 2000);
  assert.equal(waits(page).filter((post) => post.status === 0).length, 1, "cut once");
  page.network.onpost = () => undefined;
  same(page);
  const other = polling().opened();
  other.network.onpost = () => ({ status: 502 });
  other.advance(10_000);
  other.network.onpost = () => undefined;
  other.advance(2 * MINUTE);
  assert.equal(lastWait(other), 20_000);
  same(other);
});

test("a poll that nobody answers does not make the learned wait longer", () => {
  const page = polling({ before: ({ network }) => {
    network.onpost = (request) => isWaiting(request) ? { cut: 5000, status: 504 } : undefined;
  } }).opened();
  page.advance(20_000);
  assert.equal(lastWait(page), 4000);
  let swallowed = 1;
  page.network.onpost = (request) => isWaiting(request) && swallowed-- > 0 ? { lost: true } : undefined;
  page.advance(40_000);
  assert.ok(lastWait(page) <= 4000, `${lastWait(page)}`);
  page.network.onpost = () => undefined;
  same(page);
});

test("answers that are cut: half as much is asked for, and it gets through", () => {
  for (const way of ["repaired", "amid the answer"]) {
    const page = polling().opened();
    const { poll } = page.server;
    page.server.poll = (body, respond, headers) => poll.call(page.server, body, (status, text, found) => {
      if (text.length <= 60_000) respond(status, text, found);
      else if (way === "repaired") respond(status, text.slice(0, 60_000), found);
      else respond("cut", text.slice(0, 60_000), found);
    }, headers);
    page.peer.push(...Array.from({ length: 100 }, (_, i) => `2["message","${i} ${"x".repeat(5000)}"]`));
    page.until(() => page.messages.length === 100, `all of it, ${way}`, MINUTE);
    assert.deepEqual(page.messages.map((text) => parseInt(text, 10)), Array.from({ length: 100 }, (_, i) => i));
    assert.ok(lastLimit(page) <= 62_500, `${lastLimit(page)}`);
    page.advance(2 * MINUTE);
    assert.equal(lastWait(page), 20_000, "cut for its size, and not for its time");
    same(page);
  }
});

test("answers that are cut for whatever reason: five seconds later as much is asked for as before", () => {
  for (const character of ["x", "漢"]) {
    const page = polling().opened();
    const { poll } = page.server;
    page.server.poll = (body, respond, headers) => poll.call(page.server, body, (status, text, found) => {
      respond(status, text.length > 1500 && lastLimit(page) > 1000 ? text.slice(0, -1) : text, found);
    }, headers);
    page.peer.push(`2["message","${character.repeat(1700)}"]`);
    page.until(() => page.messages.length, "it came", 5 * MINUTE);
    assert.equal(lastLimit(page), 1000);
    page.server.poll = poll;
    page.advance(5000);
    const before = waits(page).length;
    page.peer.push(...Array.from({ length: 400 }, (_, i) => `2["message","${i} ${character.repeat(1700)}"]`));
    page.until(() => page.messages.length === 401, "all of it", MINUTE);
    assert.equal(lastLimit(page), 500_000);
    assert.ok(waits(page).length - before < 20, `${waits(page).length - before} polls`);
    same(page);
  }
});

test("answers that are cut for their size: more is tried ever less often, and nobody sees it", () => {
  const page = polling().opened();
  const cuts = [];
  const states = new Set();
  const { poll } = page.server;
  page.server.poll = (body, respond, headers) => poll.call(page.server, body, (status, text, found) => {
    if (text.length <= 60_000) respond(status, text, found);
    else respond(status, text.slice(0, 60_000), found, cuts.push(page.time));
  }, headers);
  for (let round = 0; round < 600; round++) {
    page.peer.push(...Array.from({ length: 20 }, (_, i) => `2["message","${20 * round + i} ${"x".repeat(5000)}"]`));
    for (let i = 0; i < 20; i++) {
      page.advance(50);
      if (round > 10) states.add(page.session.state);
    }
  }
  page.until(() => page.messages.length === 12_000, "all of it", MINUTE);
  assert.deepEqual(page.messages.map((text) => parseInt(text, 10)), Array.from({ length: 12_000 }, (_, i) => i));
  assert.deepEqual([...states], ["open"]);
  // About one, three and seven minutes behind the first trial; two each, where what was tried first had
  // gone through, for there was no more to send.
  const tried = cuts.filter((time) => time > 10_000);
  assert.ok(tried.length >= 3 && tried.length <= 6, `${tried}`);
  for (let i = 2; i < tried.length; i++) assert.ok(tried[i] - tried[i - 2] >= MINUTE, `${tried}`);
  same(page);
});

// Much comes down, each second, on a path that cuts what is larger than `path.most`.
function narrow(page) {
  const path = { most: 60_000, cuts: 0 };
  const { poll } = page.server;
  page.server.poll = (body, respond, headers) => poll.call(page.server, body, (status, text, found) => {
    if (text.length > path.most) path.cuts += 1;
    respond(status, text.slice(0, path.most), found);
  }, headers);
  path.until = (condition, limit) => {
    const { time } = page;
    do {
      assert.ok(page.time - time < limit, `not within ${limit} ms`);
      page.peer.push(...Array.from({ length: 20 }, () => `2["message","${"x".repeat(5000)}"]`));
      page.advance(1000);
    } while (!condition());
  };
  return path;
}

// More is tried within `limit`, and cut.
function trial(page, path, limit) {
  path.until(() => lastLimit(page) < 100_000, 5000);
  const { cuts } = path;
  path.until(() => path.cuts > cuts, limit);
}

test("an outage behind a trial that has failed is an outage like any other", () => {
  const page = polling().opened();
  const path = narrow(page);
  trial(page, path, 1.5 * MINUTE);
  const tried = page.posts.length;
  page.network.onpost = () => ({ status: 502 });
  page.advance(20_000);
  modest(page.posts.slice(tried), 3);
  assert.equal(page.session.state, "reconnecting");
  page.network.onpost = () => undefined;
  page.on("polling");
  same(page);
});

test("where all has got through again, more is tried soon after the next cut, as at first", () => {
  const page = polling().opened();
  const path = narrow(page);
  trial(page, path, 1.5 * MINUTE);
  trial(page, path, 2.5 * MINUTE);
  path.most = Infinity;
  path.until(() => lastLimit(page) === 500_000, 6 * MINUTE);
  path.until(() => true, 2000);
  path.most = 60_000;
  trial(page, path, 10_000);
  same(page);
});

// Down comes half a MB each second by a path that carries 2 MB/s and breaks all connections when `path.breaks`
// says so.
function broad(page) {
  const path = { breaks: () => false, lags: [], free: 0 };
  page.network.latency = 50;
  const { poll } = page.server;
  page.network.onpost = () => path.breaks(0) ? { status: 0 } : undefined;
  page.server.poll = (body, respond, headers) => poll.call(page.server, body, (status, text, found) => {
    const start = page.time;
    path.free = Math.max(path.free, start) + text.length / 2000;
    page.clock.schedule(path.free - start, () => {
      if (path.breaks(start)) respond("cut", text.slice(0, 10), found);
      else respond(status, text, found);
    });
  }, headers);
  page.session.on("tick", (at) => { path.lags.push(page.time - at); });
  // The greatest lag of the last five of so many seconds.
  path.run = (seconds) => {
    path.lags = [];
    for (let i = 0; i < 10 * seconds; i++) {
      for (let each = 0; each < 10; each++) page.peer.emit("tick", page.time, "x".repeat(5000));
      page.advance(100);
    }
    return Math.max(...path.lags.slice(-500));
  };
  return path;
}

for (const [what, times] of [
  ["five times", [1, 3, 5, 7, 9].map((second) => [1000 * second, 1000 * second + 150])],
  ["by an outage", [[1000, 4000]]],
  ["by several outages", [[1000, 4000], [6000, 9000], [12_000, 15_000]]],
]) {
  test(`answers that are cut ${what}, for no size: 40 s later the path is used as before`, () => {
    // At any moment between two answers.
    for (const moment of [0, 30, 60, 90]) {
      const page = polling().opened();
      const path = broad(page);
      const usual = path.run(6);
      const at = page.time + moment;
      // Amid an answer: the connection breaks; in an outage none can be made.
      path.breaks = (start) => times.some(([from, to]) =>
        start ? start <= at + to && page.time > at + from : page.time > at + from && page.time < at + to);
      path.run(times[times.length - 1][1] / 1000 + 35);
      const lag = path.run(5);
      assert.ok(lag <= 1.5 * usual, `${lag} ms, before ${usual} ms`);
      same(page);
    }
  });
}

test("connections that break while little comes down say nothing of how much may come at once", () => {
  const page = polling().opened();
  page.network.latency = 250;
  for (let round = 1; round <= 20; round++) {
    // All break at once, again and again.
    page.network.onpost = () => ({ cut: 6000 - page.time % 6000 });
    for (let i = 0; i < 12 + round; i++) {
      page.peer.emit("message", "x".repeat(400));
      page.advance(1000);
    }
    page.network.onpost = () => undefined;
    page.advance(6000);
    const { length } = page.messages;
    for (let i = 0; i < 40; i++) page.peer.emit("message", "x".repeat(1200));
    page.until(() => page.messages.length === length + 40, `round ${round}`, 2000);
  }
  same(page);
});

test("a gateway's own pages, instead of answers, are no answers that were cut", () => {
  for (const status of [502, 503, 504, 403]) {
    const page = polling().opened();
    page.advance(5000);
    page.network.onpost = () => ({ status, text: "<html>Bad Gateway</html>" });
    page.advance(MINUTE);
    page.peer.push(...Array.from({ length: 400 }, (_, i) => `2["message","${i} ${"x".repeat(5000)}"]`));
    page.network.onpost = () => undefined;
    page.until(() => page.session.state === "open", "open", MINUTE);
    const { length } = page.posts;
    page.until(() => page.messages.length === 400, "all of it", 1000);
    assert.ok(page.posts.length - length < 25, `${page.posts.length - length} requests`);
    assert.equal(lastLimit(page), 500_000);
    same(page);
  }
});

for (const [how, fate] of [
  ["a 502 with a page", [502, "<html>Too much</html>"]], ["a 502", [502, ""]], ["a dead connection", [0, ""]],
]) {
  test(`large answers that are replaced with ${how}: less is asked for, and it gets through`, () => {
    const page = polling().opened();
    page.advance(5000);
    const { poll } = page.server;
    const refused = [];
    page.server.poll = (body, respond, headers) => poll.call(page.server, body, (status, text, found) => {
      if (text.length <= 20_000) respond(status, text, found);
      else respond(...fate, {}, refused.push(page.time));
    }, headers);
    page.peer.push(...Array.from({ length: 100 }, (_, i) => `2["message","${i} ${"x".repeat(5000)}"]`));
    page.until(() => page.messages.length === 100, "all of it", MINUTE);
    assert.deepEqual(page.messages.map((text) => parseInt(text, 10)), Array.from({ length: 100 }, (_, i) => i));
    const { length } = refused;
    for (let round = 0; round < 60; round++) {
      page.peer.push(...Array.from({ length: 20 }, () => `2["message","${"x".repeat(5000)}"]`));
      page.advance(1000);
    }
    page.until(() => page.messages.length === 1300, "all of it", 10_000);
    assert.ok(refused.length - length <= 4, `${refused.length - length} more were refused in a minute`);
    same(page);
  });
}

test("answers that begin early and are cut later: the wait is learned all the same", () => {
  const page = polling({ before: ({ network }) => {
    network.onpost = (request) => isWaiting(request) ? { begins: 10, cut: 10_000, status: "cut" } : undefined;
  } }).opened();
  page.advance(MINUTE);
  // Half of that, as it may have been cut twice: the browser repeats it by itself.
  assert.equal(lastWait(page), 4000);
  page.network.onpost = () => undefined;
  same(page);
});

test("a body that is too large (413): less at a time, until it gets through", () => {
  const page = polling().opened();
  page.network.onpost = (request) => request.body.length > 20_000 ? { status: 413, text: "<html>" } : undefined;
  for (let i = 0; i < 100; i++) page.session.send(`${i} ${"x".repeat(3000)}`);
  page.until(() => page.peer.events.length === 100, "all of it", MINUTE);
  assert.deepEqual(page.peer.events.map((event) => parseInt(event[1], 10)), Array.from({ length: 100 }, (_, i) => i));
  same(page);
});

test("413 by the server itself, for more than its grant's body", () => {
  const page = polling().opened();
  page.server.grant.body = 30_000;
  for (let i = 0; i < 30; i++) page.session.send(`${i} ${"x".repeat(3000)}`);
  page.until(() => page.peer.events.length === 30, "all of it", MINUTE);
  same(page);
});

test("a message that is too large for the path travels in parts, and arrives whole", () => {
  for (const limit of [20_000, 1_000]) {
    const page = polling().opened();
    page.network.onpost = (request) => request.body.length > limit ? { status: 413 } : undefined;
    const bytes = Uint8Array.from({ length: 30_000 }, (_, i) => i * 7);
    page.session.send("small");
    page.session.send("\ud83d\ude00\x1e".repeat(10_000));
    page.session.send(bytes);
    page.session.send("behind");
    const left = [];
    page.until(() => {
      left.push(page.session.bufferedAmount);
      return page.peer.events.length === 4;
    }, "all of it", 10 * MINUTE);
    assert.deepEqual(page.peer.events.map(([, data]) => data),
      ["small", "\ud83d\ude00\x1e".repeat(10_000), bytes, "behind"]);
    // Its progress can be watched.
    assert.ok(new Set(left).size > 4 && left.every((amount, i) => !i || amount <= left[i - 1]));
    const refused = page.posts.filter((request) => request.body.length > limit).length;
    assert.ok(refused < 12, `${refused} bodies were too large`);
    same(page);
  }
});

test("answers that are cut: a large message comes in parts", () => {
  const page = polling().opened();
  page.server.piece = 900;
  page.peer.emit("message", "x".repeat(50_000));
  page.until(() => page.messages.length, "it came", MINUTE);
  assert.equal(page.messages[0].length, 50_000);
  same(page);
});

test("where next to nothing gets through, the session ends by name, and is not retried for ever", () => {
  const page = polling().opened();
  page.network.onpost = (request) => request.body.length > 200 ? { status: 413 } : undefined;
  page.session.send("small");
  page.session.send("x".repeat(50_000));
  page.session.send("behind");
  page.until(() => page.session.state === "closed", "closed", MINUTE);
  assert.equal(page.last("close").code, 4413);
  assert.equal(page.last("close").reason, "250 bytes are refused");
  assert.deepEqual(page.last("close").unconfirmed.map(({ data }) => data.length), [50_000, 6]);
  assert.deepEqual(page.peer.events, [["message", "small"]]);
  page.over();
});

test("where next to nothing gets through, it goes by WebSocket if that works", () => {
  const page = new Page({ before: ({ network }) => {
    network.onsocket = () => network.links.length ? "ok" : "refused";
    network.onpost = (request) => request.body.length > 200 ? { status: 413 } : undefined;
  }, random: () => 0.999 }).opened();
  page.session.send("x".repeat(50_000));
  page.until(() => page.peer.events.length === 1, "it arrived");
  page.on("websocket").talks();
});

// How late each of a tick a second comes, while something goes up.
function lateness(page, seconds) {
  const late = [];
  page.session.on("tick", (at) => { late.push(page.time - at); });
  for (let i = 0; i < seconds; i++) {
    page.peer.emit("tick", page.time);
    page.advance(1000);
  }
  return late;
}

test("a large body on a slow path holds up for two seconds at most what comes down", () => {
  const page = polling().opened();
  page.advance(5000);
  page.network.onpost = (request) => ({ delay: 10 + request.body.length / 8.2 });
  page.session.send("x".repeat(250_000));
  const late = lateness(page, 40);
  assert.equal(late.length, 40);
  assert.ok(Math.max(...late) <= 2100, `${Math.max(...late)} ms`);
  assert.equal(page.peer.events.length, 1);
  page.network.onpost = () => undefined;
  same(page);
});

for (const [how, fate] of [["swallowed", { lost: true }], ["cut", { status: 0 }]]) {
  test(`a path on which large requests are ${how} without a word: smaller ones, until it gets through`, () => {
    const page = polling().opened();
    page.advance(5000);
    page.network.onpost = (request) => request.body.length > 1500 ? fate : undefined;
    page.session.send("x".repeat(5000));
    const late = lateness(page, 30);
    assert.equal(page.peer.events.length, 1);
    assert.equal(late.length, 30);
    assert.ok(Math.max(...late) <= 2100, `${Math.max(...late)} ms`);
    // More is tried later, and where it still fails soon given up.
    const tried = page.posts.length;
    for (let i = 0; i < 40; i++) {
      page.session.send(`${i}`.padEnd(5000));
      page.advance(15_000);
    }
    assert.equal(page.peer.events.length, 41);
    assert.ok(page.posts.slice(tried).filter((post) => post.body.length > 1500).length <= 12, "ever less often");
    page.network.onpost = () => undefined;
    page.advance(20 * MINUTE);
    for (let i = 0; i < 4; i++) {
      page.session.send("y".repeat(100_000));
      page.advance(1000);
    }
    assert.ok(Math.max(...page.posts.map((post) => post.body.length)) > 5000, "no longer than it lasts");
    same(page);
  });
}

for (const status of [400, 403, 404]) {
  test(`a firewall that refuses large requests with ${status}: smaller ones at once, and no end of the session`, () => {
    const page = polling().opened();
    page.advance(5000);
    page.network.onpost = (request) => isSending(request) && request.body.length > 8192 ?
      { status, text: "<html>Request blocked</html>" } : undefined;
    const at = page.time;
    page.session.send("x".repeat(100_000));
    page.session.send("behind");
    page.until(() => page.peer.events.length === 2, "it arrived", 5000);
    assert.ok(page.time - at <= 2000, `${page.time - at}`);
    assert.equal(page.session.state, "open");
    page.network.onpost = (request) => isSending(request) ? { status, text: "<html></html>" } : undefined;
    page.session.send("y".repeat(100_000));
    const before = page.posts.length;
    page.advance(20_000);
    assert.notEqual(page.session.state, "closed");
    assert.ok(page.posts.slice(before).filter(isSending).length <= 30);
    page.network.onpost = () => undefined;
    page.until(() => page.peer.events.length === 3, "all of it", 40_000);
    same(page);
  });
}

test("a firewall that refuses large requests as a server's failure: smaller ones, once others are seen to pass", () => {
  const page = polling().opened();
  page.advance(5000);
  page.network.onpost = (request) => isSending(request) && request.body.length > 8192 ? { status: 500 } : undefined;
  page.session.send("x".repeat(20_000));
  page.until(() => page.peer.events.length, "it arrived", MINUTE);
  page.network.onpost = () => undefined;
  same(page);
});

for (const status of [429, 503]) {
  test(`too many requests (${status}, two a second are taken): as much in each as before, and all arrives`, () => {
    const page = polling().opened();
    page.advance(5000);
    let taken = [];
    page.network.onpost = () => {
      taken = taken.filter((time) => time > page.time - 1000);
      return taken.length < 2 ? void taken.push(page.time) : { status, text: "<html>Too many requests</html>" };
    };
    for (let i = 0; i < 100; i++) {
      page.session.send(`${i} ${"x".repeat(5000)}`);
      page.peer.emit("message", `${i} ${"x".repeat(5000)}`);
      page.advance(200);
    }
    page.until(() => page.peer.events.length === 100 && page.messages.length === 100, "all of it", 5000);
    for (const found of [page.messages, page.peer.events.map((event) => event[1])]) {
      assert.deepEqual(found.map((text) => parseInt(text, 10)), Array.from({ length: 100 }, (_, i) => i));
    }
    page.network.onpost = () => undefined;
    same(page);
  });
}

test("a hello that is swallowed for its size is small the next time", () => {
  const auth = { token: "x".repeat(9000) };
  const page = polling({ options: { auth }, before: ({ network }) => {
    network.onpost = (request) => request.body.length > 3000 ? { lost: true } : undefined;
  } });
  page.until(() => page.count("open"), "open", 20_000);
  assert.deepEqual(page.peer.connects, [auth]);
  same(page);
});

test("a hello that is refused for its size (413): what follows is not smaller than it must be", () => {
  const auth = { token: "x".repeat(9000) };
  const page = polling({ options: { auth }, before: ({ network }) => {
    network.onpost = (request) => request.body.length > 8200 ? { status: 413 } : undefined;
  } }).opened();
  page.advance(1000);
  const { length } = page.posts;
  page.session.send("y".repeat(100_000));
  page.until(() => page.peer.events.length);
  assert.ok(page.posts.length - length < 30, `${page.posts.length - length} requests`);
  same(page);
});

for (const [how, fate] of [["lost", { lost: true, reaches: true }], ["a 502", { status: 502, reaches: true }]]) {
  test(`the answer to the first hello is ${how}: the next one opens the same session`, () => {
    let first = true;
    const page = polling({ options: { auth: { token: "x".repeat(900) } }, before: ({ network }) => {
      network.onpost = () => {
        const found = first ? fate : undefined;
        first = false;
        return found;
      };
    } });
    page.until(() => page.count("open"), "open", 3000);
    assert.equal(page.peer.connects.length, 1);
    same(page);
  });
}

test("requests grow again for a text with a letter beyond ASCII", () => {
  const page = polling().opened();
  page.network.onpost = (request) => request.body.length > 600 ? { status: 413 } : undefined;
  page.session.send("x".repeat(5000));
  page.advance(5000);
  page.network.onpost = () => undefined;
  page.advance(MINUTE);
  const { length } = page.posts;
  page.session.send("x".repeat(200_000) + "é");
  page.until(() => page.peer.events.length === 2);
  assert.ok(page.posts.length - length < 30, `${page.posts.length - length} requests`);
  same(page);
});

test("what failed on the other lane waits for what an answer brings", () => {
  const page = polling().opened();
  page.advance(5000);
  page.network.onpost = (request) => isWaiting(request) ? { status: 502 } : undefined;
  page.advance(10_000);
  const { length } = page.posts;
  page.session.send("x".repeat(50_000));
  page.advance(1000);
  const large = page.posts.slice(length).filter((post) => post.body.length > 10_000);
  assert.equal(large.length, 1);
  page.network.onpost = () => undefined;
  page.advance(MINUTE);
  same(page);
});

test("an outage makes no request smaller", () => {
  const page = polling().opened();
  page.advance(5000);
  page.network.down = true;
  page.session.send("x".repeat(50_000));
  page.advance(40_000);
  page.network.down = false;
  const { length } = page.posts;
  page.until(() => page.peer.events.length);
  assert.equal(page.posts.slice(length).filter((post) => post.body.length > 1000).length, 1);
  same(page);
});

test("a large body on a slow path is given the time it takes", () => {
  const page = polling().opened();
  page.network.onpost = (request) => isSending(request) ? { delay: request.body.length / 10 } : undefined;
  page.session.send("x".repeat(250_000));
  page.until(() => page.peer.events.length, "it arrived", MINUTE);
  assert.equal(page.posts.filter(isSending).length, 1);
  same(page);
});

// --- One connection only ------------------------------------------------------------------

test("a sending request that gets no answer: the waiting one gives way, waits are short for a minute", () => {
  const page = polling().opened().talks();
  page.advance(100);
  // The path has one connection: a request waits while another is held.
  let held = null;
  page.network.onpost = (request) => {
    if (held && !held.answered && !held.aborted) return { lost: true };
    if (isWaiting(request)) held = request;
    return undefined;
  };
  held = page.posts[page.posts.length - 1];
  const at = page.time;
  page.session.send("through");
  page.advance(900);
  assert.equal(held.aborted, false);
  page.advance(200);
  assert.equal(held.aborted, true, "given up after a second");
  assert.equal(page.environment.requests.size, 1);
  // What was lost in the queue is sent again.
  page.until(() => page.peer.events.length === 2, "it arrived");
  assert.ok(page.time - at <= 5000, `${page.time - at}`);
  page.until(() => page.environment.requests.size === 1 && waits(page).pop() === page.posts[page.posts.length - 1]);
  page.network.onpost = () => undefined;
  // Silence makes them longer no sooner.
  page.advance(50_000 - (page.time - at));
  assert.equal(lastWait(page), 2000);
  page.advance(2 * MINUTE);
  assert.equal(lastWait(page), 20_000);
  same(page);
});

test("a sending request that is swallowed holds up neither direction for long", () => {
  const page = polling().opened().talks();
  let left = 1;
  page.network.onpost = (request) => isSending(request) && left-- > 0 ? { lost: true } : undefined;
  const at = page.time;
  page.session.send("swallowed");
  page.advance(1500);
  page.session.send("behind it");
  page.peer.emit("message", "down");
  page.until(() => page.messages.includes("down"), "it came down");
  // A second until the waiting one gives way, and as much until it comes again.
  assert.ok(page.time - at <= 2100, `${page.time - at}`);
  page.until(() => page.peer.events.some((event) => event[1] === "behind it"), "all arrived");
  // And at most two seconds until that is answered.
  assert.ok(page.time - at <= 4200, `${page.time - at}`);
  assert.equal(page.posts.filter(isSending).filter((post) => post.aborted).length, 1);
  same(page);
});

test("empty answers at once: the second starts a backoff", () => {
  const page = polling().opened();
  page.network.onpost = (request) => isWaiting(request) ?
    { status: 200, text: `a${page.session.counters.sent}\x1e.` } : undefined;
  page.advance(35_000);
  const waiting = waits(page).slice(1);
  assert.ok(waiting.length <= 12, `${waiting.length} polls in 35 s`);
  modest(waiting.slice(2), 2);
  assert.equal(page.session.state, "open");
  // Sending is not slowed down by it.
  const at = page.time;
  page.session.send("x");
  page.until(() => page.peer.events.length);
  assert.ok(page.time - at <= 20);
  page.network.onpost = () => undefined;
  page.peer.emit("message", "y");
  page.until(() => page.messages.length);
  same(page);
});

test("a sending request whose news has come with the waiting one is no reason to slow down", () => {
  const page = polling().opened();
  page.advance(5000);
  page.network.onpost = (request) => isSending(request) ? { after: 100 } : undefined;
  page.session.on("echo", () => { page.session.send("more"); });
  page.server.onevent = () => { page.clock.schedule(1, () => page.peer.emit("echo")); };
  page.session.send("first");
  page.advance(10_000);
  assert.ok(page.peer.events.length > 40, `${page.peer.events.length} messages in 10 s`);
  page.session.off("echo");
  page.server.onevent = () => {};
  page.network.onpost = () => undefined;
  page.advance(1000);
  same(page);
});

for (const lane of ["waiting", "sending"]) {
  test(`an old answer, over and over: no storm of ${lane} requests`, () => {
    const page = polling().opened();
    page.advance(5000);
    const isOf = lane === "waiting" ? isWaiting : isSending;
    if (lane === "waiting") page.peer.emit("message", "old"); else page.session.send("old");
    page.advance(100);
    const old = page.posts.filter((post) => isOf(post) && post.reply && (lane === "sending" || /old/.test(post.reply))).pop().reply;
    page.network.onpost = (request) => isOf(request) ? { status: 200, text: old } : undefined;
    const { length } = page.posts;
    page.session.send("new");
    page.peer.emit("message", "new");
    page.advance(10_000);
    assert.ok(page.posts.length - length < 25, `${page.posts.length - length} requests in 10 s`);
    page.network.onpost = () => undefined;
    page.until(() => page.messages.includes("new") && page.peer.events.some(([, data]) => data === "new"));
    same(page);
  });
}

test("answers with news that come at once are no reason to slow down", () => {
  const page = polling().opened();
  for (let i = 0; i < 200; i++) {
    page.peer.emit("message", i);
    page.until(() => page.messages.length === i + 1);
  }
  assert.ok(page.time <= 200 * 25, `${page.time}`);
  same(page);
});

test("requests that the network repeats: every message once", () => {
  const page = polling({ before: ({ network }) => { network.onpost = () => ({ twice: 3 }); } }).opened();
  for (let i = 0; i < 50; i++) {
    page.session.send(`up ${i}`);
    page.peer.emit("message", `down ${i}`);
    page.advance(11);
  }
  page.advance(1000);
  assert.deepEqual(page.peer.events.map((event) => event[1]), Array.from({ length: 50 }, (_, i) => `up ${i}`));
  assert.deepEqual(page.messages, Array.from({ length: 50 }, (_, i) => `down ${i}`));
  same(page);
});

test("a superseded connection is resumed; always superseded is no storm", () => {
  const page = polling().opened().talks();
  page.peer._drop(page.peer.carrier, 4409);
  page.advance(100);
  assert.equal(page.session.state, "open");
  same(page);
  const before = page.posts.length;
  page.network.onpost = (request) => request.body.startsWith("{") ? undefined :
    { status: 200, text: '{"end":4409,"reason":"superseded","session":false,"ack":0,"received":0}\x1e.' };
  page.advance(30_000);
  assert.ok(page.posts.length - before < 40, `${page.posts.length - before} requests in 30 s`);
  page.network.onpost = () => undefined;
  page.until(() => page.session.state === "open", "open", 40_000);
  same(page);
});

test("on polling the received mark of the server is used: nothing is sent twice that arrived", () => {
  const page = polling().opened();
  page.peer.holds = true;
  page.session.send("one");
  page.advance(100);
  page.session.send("two");
  page.advance(100);
  const sending = page.posts.filter(isSending).map((post) => decodeBody(post.body));
  assert.deepEqual(sending.map((unit) => unit.s), [2, 3]);
  assert.equal(page.session.counters.acknowledged, 1);
  page.peer.handle();
  page.peer.holds = false;
  same(page);
});

test("credit: no more than the grant is sent unhandled, and all of it at last", () => {
  const page = polling({ grant: { messages: 5 } }).opened();
  page.peer.holds = true;
  for (let i = 0; i < 30; i++) page.session.send(i);
  page.advance(1000);
  assert.equal(page.peer.events.length, 5);
  assert.equal(page.session.counters.acknowledged, 1);
  while (page.peer.events.length < 30) {
    const before = page.peer.events.length;
    page.peer.handle();
    page.until(() => page.peer.events.length > before, "more", 30_000);
    assert.ok(page.peer.events.length - page.peer.handled < 30);
  }
  page.peer.holds = false;
  page.peer.handle();
  same(page);
});
