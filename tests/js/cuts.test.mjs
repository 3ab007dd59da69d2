// Networks that cut what is held or silent, or has lived, for too long: what of that is learned.
// PROTOCOL.md, "Negotiation, in the client".

import assert from "node:assert/strict";
import test from "node:test";

import { generator, START } from "./fake_environment.mjs";
import { decodeBody } from "./fake_server.mjs";
import { Page, sent } from "./page.mjs";

const MINUTE = 60_000;
const TIMES = [5, 10, 15, 20, 30];
const KEY = "fallback_transport http://page.test/fallback/poll";

const verdict = (page) => JSON.parse(page.storage.items.get(KEY) ?? "null");
const isWaiting = (request) => / w\d+ /.test(request.body);
const waits = (page) => page.posts.filter(isWaiting);
const lastWait = (page) => decodeBody(waits(page).pop().body).w;
const polling = (options = {}) => new Page({ ...options, options: { transports: ["polling"], ...options.options } });

// Messages down for `ms`, one every `pause` ms; the longest that one was under way.
function longest(page, ms, pause) {
  let most = 0;
  for (let passed = 0; passed < ms; passed += pause) {
    page.advance(pause);
    const { time } = page;
    const before = page.messages.length;
    page.peer.emit("message", time);
    page.until(() => page.messages.length > before, "it came", 10_000);
    assert.equal(page.messages[page.messages.length - 1], time);
    most = Math.max(most, page.time - time);
  }
  return most;
}

// --- Polls -------------------------------------------------------------------------

for (const seconds of TIMES) {
  for (const [what, fate] of [
    ["504", { status: 504, text: "<html>Gateway Timeout</html>" }], ["a reset", { status: 0 }],
    ["the end, without an answer", { status: 200, text: "" }],
  ]) {
    test(`polls that are cut after ${seconds} s by ${what}: at most three, and then none`, () => {
      const page = polling({ before: ({ network }) => {
        network.onpost = (request) => isWaiting(request) ? { cut: seconds * 1000, ...fate } : undefined;
      } }).opened();
      const cut = () => waits(page).filter((post) => post.status === fate.status && !post.reply.includes("\x1e")).length;
      page.advance(3 * MINUTE);
      const learned = cut();
      assert.ok(learned <= 1, `${learned}`);
      assert.equal(learned, seconds < 25 ? 1 : 0);
      // 10 ms for each way.
      const most = longest(page, 7 * MINUTE, 7777) - 10;
      assert.ok(most <= 2 * 20, `${most} ms longer than on an unbroken path`);
      assert.equal(cut(), learned);
      assert.ok(page.count("transport") <= 1, "nobody hears of it");
      page.quiet();
    });
  }
}

test("cut after times that vary by a third: three at most", () => {
  for (let seed = 1; seed < 20; seed++) {
    const random = generator(seed);
    const page = polling({ before: ({ network }) => {
      network.onpost = (request) => isWaiting(request) ? { cut: 6000 + 3000 * random(), status: 504 } : undefined;
    } }).opened();
    longest(page, 9 * MINUTE, 11_111);
    const cut = waits(page).filter((post) => post.status === 504).length;
    assert.ok(cut <= 3, `seed ${seed}: ${cut}`);
    page.quiet();
  }
});

test("a message that comes just when the poll is cut is not late", () => {
  const page = polling().opened();
  page.advance(2000);
  page.network.onpost = (request) => isWaiting(request) ? { cut: 5000, status: 504 } : undefined;
  page.until(() => waits(page).pop().at === page.clock.now, "the next poll");
  page.advance(4995);
  // On its way down when the connection ends.
  page.peer.emit("message", "under way");
  page.until(() => page.messages.length);
  assert.ok(page.time - 5 <= page.posts.pop().at - START + 40);
  page.quiet();
});

test("a network that is down is not a cut", () => {
  for (const [what, fate] of [["it fails", { status: 0 }], ["it swallows", { lost: true }]]) {
    const page = polling().opened();
    page.advance(MINUTE);
    const held = page.posts[page.posts.length - 1];
    page.network.onpost = () => fate;
    if (fate.lost) held.aborted = true;
    else {
      // As a browser does it that loses the network.
      for (const xhr of page.environment.requests) xhr._request.answered = true;
      page.advance(5000);
      for (const xhr of [...page.environment.requests]) {
        page.environment.requests.delete(xhr);
        xhr.readyState = 4;
        xhr.onreadystatechange();
      }
    }
    page.advance(45_000);
    page.network.onpost = () => undefined;
    page.until(() => page.session.state === "open", "open", MINUTE);
    page.advance(3 * MINUTE);
    assert.equal(lastWait(page), 20_000, what);
    page.talks();
  }
});

test("a network that is down does not undo what was learned before", () => {
  const page = polling({ before: ({ network }) => {
    network.onpost = (request) => isWaiting(request) ? { cut: 10_000, status: 504 } : undefined;
  } }).opened();
  page.advance(MINUTE);
  const cutter = page.network.onpost;
  page.network.onpost = () => ({ status: 0 });
  page.advance(30_000);
  page.network.onpost = cutter;
  page.advance(2 * MINUTE);
  assert.equal(lastWait(page), 8000);
  page.talks();
});

test("an answer that is cut amid its message says nothing about time", () => {
  const page = polling().opened();
  page.advance(3 * MINUTE);
  page.network.onpost = (request) => isWaiting(request) ? { begins: 9990, cut: 10_000, status: "cut" } : undefined;
  page.until(() => page.posts[page.posts.length - 1].at === page.clock.now, "the next poll");
  page.advance(10_000);
  page.network.onpost = () => undefined;
  page.advance(3 * MINUTE);
  assert.equal(lastWait(page), 20_000);
  page.talks();
});

test("polls that are swallowed teach once: they may have been cut and repeated, or the server is slow", () => {
  const page = polling().opened();
  page.advance(3 * MINUTE);
  let left = 1;
  page.network.onpost = (request) => isWaiting(request) && left-- > 0 ? { lost: true } : undefined;
  page.advance(2 * MINUTE);
  assert.equal(lastWait(page), 8000);
  left = 1;
  page.advance(MINUTE);
  assert.equal(lastWait(page), 8000);
  page.talks().advance(10 * MINUTE);
  assert.equal(lastWait(page), 20_000);
});

test("polls that the server lets go early, with nothing to say, were cut and repeated by the browser", () => {
  const page = polling().opened();
  page.advance(3 * MINUTE);
  page.until(() => waits(page).pop().at === page.clock.now, "the next poll");
  page.advance(15_000);
  page.peer._answerHeld(page.peer.carrier, page.peer._answer(page.peer.carrier, true));
  page.advance(1000);
  assert.equal(Math.round(lastWait(page) / 100), 120);
  page.talks();
});

// --- WebSockets that are cut when they are silent --------------------------------------------

// Cuts each WebSocket that has been silent for time() ms; returns when it did so.
function cutsIdle(page, time) {
  const { clock, network } = page;
  const cuts = [];
  network.onframe = (link) => {
    if (link.timer) clock.cancel(link.timer);
    link.timer = clock.schedule(time(), () => {
      if (link.state !== "open") return;
      cuts.push(page.time);
      link.cut();
    });
    return 1;
  };
  return cuts;
}

for (const seconds of TIMES) {
  test(`WebSockets that are cut after ${seconds} s of silence: once, and then never`, () => {
    let cuts;
    const page = new Page({ before: (made) => { cuts = cutsIdle(made, () => seconds * 1000); } }).on("websocket");
    page.advance(2 * MINUTE);
    assert.equal(cuts.length, seconds < 24 ? 1 : 0);
    const most = longest(page, 7 * MINUTE, 17_777) - 10;
    assert.ok(most <= 0, `${most} ms longer than on an unbroken path`);
    page.advance(MINUTE);
    assert.ok(cuts.length <= 1, `${cuts}`);
    assert.equal(page.session.transport, "websocket");
    assert.equal(page.posts.length, 0);
    assert.equal(verdict(page), null);
    // For ten minutes; then it is tried again.
    page.advance(5 * MINUTE);
    assert.equal(cuts.length, seconds < 24 ? 2 : 0);
    page.talks();
  });
}

test("asked, from then on, after four fifths of that silence, or two seconds", () => {
  // As the page sees it, it was silent for 10 ms less.
  for (const [seconds, pause] of [[2.2, 2000], [5.01, 4000], [10.01, 8000], [20.01, 16_000]]) {
    let cuts;
    const page = new Page({ before: (made) => { cuts = cutsIdle(made, () => seconds * 1000); } }).on("websocket");
    page.advance(2 * MINUTE);
    const asked = [];
    const cutting = page.network.onframe;
    page.network.onframe = (link, way) => {
      if (way === "up") asked.push(page.time);
      return cutting(link, way);
    };
    page.advance(MINUTE);
    assert.equal(cuts.length, 1);
    // From the answer, which takes 10 ms for each way.
    const pauses = asked.slice(1).map((time, index) => time - asked[index] - 20);
    assert.deepEqual([...new Set(pauses)], [pause], `${seconds} s`);
    page.talks();
  }
});

test("after times that vary by a third: three at most, and no verdict", () => {
  for (let seed = 1; seed < 20; seed++) {
    let cuts;
    const random = generator(seed);
    const page = new Page({ before: (made) => { cuts = cutsIdle(made, () => 6000 + 3000 * random()); } }).on("websocket");
    longest(page, 9 * MINUTE, 33_333);
    assert.ok(cuts.length <= 3, `seed ${seed}: ${cuts}`);
    assert.equal(page.session.transport, "websocket");
    assert.equal(verdict(page), null);
    page.quiet();
  }
});

test("silently: the question finds it, and the next WebSocket asks twice as often", () => {
  const page = new Page({ random: () => 0.01 });
  page.network.onframe = (link) => {
    if (page.clock.now - (link.passed ?? page.clock.now) > 10_000) link.swallow();
    link.passed = page.clock.now;
    return 1;
  };
  page.on("websocket").advance(40_000);
  assert.equal(page.session.transport, "websocket", "a probe has brought it back");
  assert.equal(page.network.links.length, 2);
  page.advance(8 * MINUTE);
  assert.equal(page.network.links.length, 2);
  assert.equal(page.network.link.up, true);
  page.talks();
});

test("silently, and the page's own message finds it: it teaches no less", () => {
  const page = new Page({ random: () => 0.01 }).on("websocket").advance(2 * MINUTE);
  const { link } = page.network;
  const { length } = link.received;
  page.until(() => link.received.length > length, "a question is answered, and the next one far");
  page.advance(20_000);
  link.swallow();
  page.talks();
  page.until(() => page.network.link !== link && page.session.transport === "websocket", "a probe has brought it back");
  page.advance(MINUTE);
  const sent = page.network.link.sent.length;
  page.advance(5 * MINUTE);
  assert.ok(page.network.link.sent.length - sent >= 24, "asked every 12 s, no longer every 24 s");
});

test("never asked more often than every two seconds", () => {
  let cuts;
  const page = new Page({ random: () => 0.999, before: (made) => { cuts = cutsIdle(made, () => 1900); } }).on("websocket");
  page.advance(30_000);
  assert.ok(cuts.length <= 4, `${cuts}`);
  assert.equal(page.session.transport, "polling");
  assert.equal(verdict(page).reason, "unstable");
  page.talks();
});

// --- WebSockets that are cut at an age -----------------------------------------------------

// Cuts each WebSocket at this age, whatever flows.
function cutsOld(page, age) {
  const cuts = [];
  page.network.onsocket = (socket) => {
    page.clock.schedule(age + 20, () => {
      const link = page.network.links.find((each) => each.socket === socket);
      if (link.state !== "open") return;
      cuts.push(page.time);
      link.cut();
    });
    return "ok";
  };
  return cuts;
}

for (const seconds of TIMES) {
  for (const busy of [true, false]) {
    test(`WebSockets that are cut ${seconds} s old, ${busy ? "with messages" : "silent"}: unstable, for ten minutes`, () => {
      let cuts;
      const page = new Page({ random: () => 0.001, before: (made) => { cuts = cutsOld(made, seconds * 1000); } }).on("websocket");
      if (busy) longest(page, 4 * seconds * 1000, 500);
      else page.advance(5 * seconds * 1000);
      // The first of the silent ones may have counted as cut for its silence.
      assert.ok(cuts.length === 3 || (cuts.length === 4 && !busy), `${cuts}`);
      assert.equal(page.session.transport, "polling");
      assert.equal(verdict(page).reason, "unstable");
      const { expires } = verdict(page);
      const most = longest(page, 9 * MINUTE, 7777) - 10;
      assert.ok(most <= 2 * 20, `${most} ms longer than on an unbroken path`);
      assert.equal(page.network.links.length, cuts.length, "no WebSocket was opened");
      page.network.onsocket = () => "ok";
      page.on("websocket");
      assert.ok(page.clock.now >= expires && page.clock.now <= expires + 100, "tried again when that has expired");
      assert.equal(verdict(page), null);
      page.talks();
    });
  }
}

test("one that lives for minutes, whatever flows, is not asked ever more often", () => {
  for (const minutes of [2, 5]) {
    const page = new Page({ before: (made) => { cutsOld(made, minutes * MINUTE); } }).on("websocket");
    const sent = () => page.network.links.reduce((sum, link) => sum + link.sent.length, 0);
    page.advance(60 * MINUTE);
    const links = page.network.links.length;
    const before = sent();
    page.advance(60 * MINUTE);
    const opened = page.network.links.length - links;
    assert.ok(Math.abs(opened - 60 / minutes) <= 1, `${opened}`);
    // 24 s apart; and with each new one a hello, a commit, what follows a message, and what was
    // learned from one that ended in an unusual silence.
    assert.ok(sent() - before <= 60 * MINUTE / 24_000 + 12 * opened, `${minutes}: ${sent() - before}`);
    assert.equal(page.session.transport, "websocket");
    page.talks();
  }
});

test("unstable is remembered by the next page, which does not probe; news of the network makes it", () => {
  const first = new Page({ before: (page) => { cutsOld(page, 3000); } }).on("websocket");
  first.until(() => verdict(first), "a verdict");
  const page = new Page({ storage: first.storage, random: () => 0.001, before: ({ clock }) => clock.advance(MINUTE) }).opened();
  page.advance(8 * MINUTE).talks();
  assert.equal(page.network.links.length, 0);
  assert.equal(page.session.why.reason, "unstable");
  assert.equal(page.session.why.expires, verdict(first).expires);
  page.environment.fire("online");
  page.on("websocket").talks();
  assert.equal(verdict(page), null);
});

// --- Ends that are no fault of the path ------------------------------------------------------

test("what the server ends teaches nothing, and is no strike: a restart, a newer connection", () => {
  for (const code of [1012, 4409]) {
    const page = new Page().on("websocket");
    for (let i = 0; i < 5; i++) {
      page.advance(10_000);
      page.network.link._end(code);
      page.advance(100);
      assert.equal(page.session.transport, "websocket", `${code}`);
    }
    const asked = page.network.link.sent.length;
    page.advance(MINUTE);
    assert.ok(page.network.link.sent.length - asked <= 8, `${page.network.link.sent.length - asked}`);
    page.talks();
  }
  const page = new Page().on("websocket");
  for (let i = 0; i < 5; i++) {
    page.advance(10_000);
    page.network.link._arrive('{"end":4409,"reason":"superseded","session":false,"ack":0,"received":0}');
    page.advance(100);
    assert.equal(page.session.transport, "websocket");
  }
  page.talks();
});

test("4408 is no strike if the question has just come through: the page was asleep", () => {
  for (const slept of [true, false]) {
    const page = new Page().on("websocket");
    for (let i = 0; i < 3; i++) {
      page.advance(10_000);
      if (slept) page.network.link._arrive("a1 q1");
      page.advance(slept ? 900 : 1);
      page.network.link._end(4408);
      page.advance(3000);
    }
    assert.equal(page.session.transport, slept ? "websocket" : "polling");
    assert.equal(verdict(page)?.reason, slept ? undefined : "unstable");
    page.talks();
  }
});

// --- Bytes that are altered on the way -----------------------------------------------

// A page for whose texts from the server `page.alter(text, transport)` stands, once it is set.
function altering(transports) {
  const page = new Page({ options: { transports }, before: ({ server }) => {
    const alter = (text, transport) => page && page.alter && typeof text === "string" ? page.alter(text, transport) : text;
    const { poll, socket } = server;
    server.piece = 1000;
    server.poll = (body, respond, ...more) =>
      poll.call(server, body, (status, text, found) => respond(status, alter(text, "polling"), found), ...more);
    server.socket = ({ send, close }) => socket.call(server, { send: (data) => send(alter(data, "websocket")), close });
  } });
  return page.on(transports[0]).advance(3000);
}

// The number of what comes is one too high.
const higher = (text) => text.replace(/^(a.*) s(\d+)/, (found, marks, seq) => `${marks} s${+seq + 1}`);

for (const transports of [["websocket"], ["polling"], ["websocket", "polling"]]) {
  test(`the total of a message's first part is altered once, on ${transports}: the session ends, and says so`, () => {
    const page = altering(transports);
    const posts = page.posts.length;
    let times = 0;
    page.alter = (text) => text.replace(/\x1ep0\/5/, (found) => (times++ ? found : "\x1ep0/6"));
    page.session.send("one");
    page.peer.emit("message", "x".repeat(5000));
    page.until(() => page.session.state === "reconnecting", "it is tried again");
    page.session.send("two");
    page.until(() => page.session.state === "closed", "it is over", transports[1] ? 10_000 : 300_000);
    const { code, reason, wasClean } = page.last("close");
    assert.deepEqual([code, reason, wasClean], [4400, "messages are missing", false]);
    assert.equal(page.count("error"), 1);
    assert.deepEqual(page.peer.events, [["message", "one"], ["message", "two"]]);
    assert.ok(page.posts.length - posts < 50, `${page.posts.length - posts} posts`);
    page.over();
  });
}

test("the numbers of all that comes are altered: the session ends with the tenth, and tells what is unconfirmed", () => {
  const page = altering(["polling"]);
  let times = 0;
  page.alter = (text) => {
    times += higher(text) !== text;
    return higher(text);
  };
  page.peer.holds = true;
  page.session.send("one");
  page.peer.emit("message", "x");
  page.until(() => page.session.state === "closed", "it is over");
  assert.equal(times, 10);
  const { code, reason, unconfirmed } = page.last("close");
  assert.deepEqual([code, reason, unconfirmed], [1002, "messages are missing", [sent("message", "one")]]);
  page.over();
});

test("the numbers of all that comes are altered on WebSocket alone: it gives way to polling, and nothing ends", () => {
  const page = altering(["websocket", "polling"]);
  page.alter = (text, transport) => (transport === "websocket" ? higher(text) : text);
  for (let i = 1; i <= 20; i++) {
    page.peer.emit("message", i);
    page.until(() => page.messages.length === i, "it came", 10_000);
    page.advance(MINUTE);
  }
  assert.deepEqual([page.session.state, page.count("close"), page.count("reset")], ["open", 0, 0]);
  page.talks();
});
