// Paths that swallow what goes one way, or both, and tell nobody: found soon while messages flow,
// and within a keepalive while none do. PROTOCOL.md, "Alive" and "Negotiation, in the client".

import assert from "node:assert/strict";
import test from "node:test";

import { decodeBody } from "./fake_server.mjs";
import { Page } from "./page.mjs";

const MINUTE = 60_000;

const isWaiting = (request) => / w\d+ /.test(request.body);
const isSending = (request) => !isWaiting(request) && !request.body.startsWith("{");
const questions = (page) => page.network.link.sent.filter((data) => / q\d+/.test(data)).length;

// When each question of the page went out, in seconds after `from`.
function asked(page, ms) {
  const from = page.time;
  const times = [];
  const before = page.network.onframe;
  page.network.onframe = (link, way) => {
    const sent = link.sent[link.sent.length - 1];
    if (way === "up" && / q\d+/.test(sent) && sent !== times.sent) {
      times.push(Math.round((page.time - page.network.latency - from) / 100) / 10);
      times.sent = sent;
    }
    return before(link, way);
  };
  page.advance(ms);
  page.network.onframe = before;
  return [...times];
}

// --- WebSocket: attention ------------------------------------------------------------

test("behind a message silence is asked about: after 1 s, then 2, 4, … up to a second before the keepalive", () => {
  const page = new Page().on("websocket").advance(5000);
  page.peer.emit("message", "now");
  const times = asked(page, 2 * MINUTE);
  const gaps = times.map((time, i) => Math.round(time - (times[i - 1] ?? 0)));
  assert.deepEqual(gaps, [1, 2, 4, 8, 16, 24, 24, 24]);
  // Any message begins it anew.
  page.peer.emit("message", "again");
  assert.deepEqual(asked(page, 3500).map(Math.round), [1, 3]);
  assert.equal(page.posts.length, 0);
  page.talks();
});

test("messages that keep coming cost no questions", () => {
  const page = new Page().on("websocket").advance(30_000);
  const before = questions(page);
  for (let i = 0; i < 200; i++) {
    page.peer.emit("message", i);
    page.advance(300);
  }
  assert.equal(questions(page), before);
  assert.ok(page.environment.timers() <= 3, `${page.environment.timers()} timers`);
  page.talks();
});

test("messages up, and their acknowledgements, need no attention", () => {
  const page = new Page().on("websocket").advance(30_000);
  const before = questions(page);
  for (let i = 0; i < 100; i++) {
    page.session.send(`${i}`);
    page.advance(700);
  }
  assert.equal(questions(page), before);
  page.talks();
});

for (const [flow, up, down] of [["up only", true, false], ["down only", false, true], ["both ways", true, true]]) {
  for (const dead of ["up", "down", "both"]) {
    // Then the server must find it: nothing of what it sends is acknowledged.
    if (dead === "up" && !up) continue;
    test(`messages flow ${flow}, and ${dead === "both" ? "both directions die" : `${dead} dies`}: left within 3 s`, () => {
      const page = new Page({ options: { timing: { probe: 1e9, probeMax: 1e9 } } }).on("websocket");
      let sent = 0;
      const flows = () => {
        if (up) page.session.send(`${sent}`);
        if (down) page.peer.emit("message", sent);
        sent += 1;
      };
      for (let i = 0; i < 20; i++) {
        flows();
        page.advance(950);
      }
      page.network.link.swallow(dead);
      const { time } = page;
      while (page.session.transport !== "polling" && page.time < time + 10_000) {
        flows();
        for (let i = 0; i < 95 && page.session.transport !== "polling"; i++) page.advance(10);
      }
      assert.ok(page.time - time <= 3000, `${page.time - time} ms`);
      assert.equal(page.session.why.reason, "half-open");
      page.advance(100);
      if (up) assert.equal(page.peer.events.length, sent);
      if (down) assert.equal(page.messages.length, sent);
      page.quiet();
    });
  }
}

for (const keepalive of [4000, 25_000]) {
  for (const dead of ["up", "down", "both"]) {
    test(`a silent WebSocket, of which ${dead} dies: left within a keepalive of ${keepalive} ms`, () => {
      const page = new Page({ grant: { keepalive }, options: { timing: { probe: 1e9, probeMax: 1e9 } } }).on("websocket");
      page.advance(3 * MINUTE);
      page.network.link.swallow(dead);
      const { time } = page;
      page.on("polling");
      assert.ok(page.time - time <= keepalive + 50, `${page.time - time} ms`);
      page.talks();
    });
  }
}

for (const transports of [["websocket"], ["websocket", "polling"]]) {
  for (const dead of ["up", "both"]) {
    test(`${transports} allowed, all requests refused, and ${dead} dies: another WebSocket takes its place`, () => {
      const page = new Page({ options: { transports } }).on("websocket").advance(MINUTE);
      page.network.onpost = () => ({ status: 502 });
      const dying = page.network.link;
      dying.swallow(dead);
      page.session.send("now");
      page.until(() => page.peer.events.length === 1, "it came", 15_000);
      assert.notEqual(page.network.link, dying);
      page.on("websocket");
      assert.equal(page.environment.sockets.size, 1);
      page.talks();
    });
  }
}

test("on a path on which one envelope takes 8 s, a WebSocket that is all there is goes on", () => {
  const page = new Page({ options: { transports: ["websocket"] } }).on("websocket").advance(MINUTE);
  const { link } = page.network;
  page.network.latency = 4000;
  for (let i = 0; i < 10; i++) {
    page.session.send(`${i}`);
    page.advance(5000);
  }
  page.advance(10_000);
  assert.equal(page.network.link, link);
  assert.equal(page.peer.events.length, 10);
  page.quiet();
});

test("however long it is doubted, a WebSocket that is silent for two keepalives is over", () => {
  const page = new Page({ options: { transports: ["websocket"], timing: { margin: 10 * MINUTE } } }).on("websocket");
  page.advance(MINUTE);
  const silent = page.network.link;
  silent.swallow();
  page.until(() => page.network.link !== silent, "another one", 2 * 25_000 + 5000 + 100);
  page.on("websocket");
  assert.equal(page.environment.sockets.size, 1);
  page.talks();
});

test("where an answer takes longer than a keepalive, a silent WebSocket is asked each half of it", () => {
  const page = new Page({
    grant: { keepalive: 4000 }, before: ({ network }) => { network.latency = 700; },
  }).on("websocket").advance(MINUTE);
  const before = questions(page);
  page.advance(MINUTE);
  assert.ok(questions(page) - before <= 30, `${questions(page) - before} questions`);
  page.talks();
});

for (const transports of [["websocket"], ["websocket", "polling"]]) {
  test(`${transports} allowed: where a question finds a WebSocket dead, the next silence is half as long`, () => {
    const page = new Page({ options: { transports } }).on("websocket").advance(2 * MINUTE);
    const silent = page.network.link;
    silent.swallow();
    page.until(() => page.network.link !== silent, "another one", MINUTE);
    page.on("websocket").advance(MINUTE);
    assert.deepEqual(asked(page, MINUTE).map((time, i, all) => Math.round(time - (all[i - 1] ?? time))), [0, 12, 12, 12, 12]);
    page.talks();
  });
}

test("a WebSocket that somebody ends with a word behind a silence teaches nothing of silence", () => {
  const page = new Page().on("websocket").advance(2 * MINUTE + 5000);
  const ended = page.network.link;
  ended._end(1011);
  page.until(() => page.network.link !== ended, "another one");
  page.on("websocket").advance(MINUTE);
  assert.deepEqual(asked(page, MINUTE).map((time, i, all) => Math.round(time - (all[i - 1] ?? time))), [0, 24]);
  page.talks();
});

test("polling is swallowed, too, by a network that is away for a while: one WebSocket after the other", () => {
  const page = new Page().on("websocket").advance(MINUTE);
  page.network.onpost = () => ({ lost: true });
  page.network.websocket = "unanswered";
  page.network.link.swallow();
  page.session.send("now");
  page.until(() => page.session.state === "reconnecting", "it is not open any more", 17_000);
  page.advance(20_000);
  page.network.onpost = () => undefined;
  page.network.websocket = "ok";
  page.until(() => page.peer.events.length === 1, "it came", 30_000);
  assert.equal(page.count("reset"), 0);
  page.on("websocket").talks();
});

for (const [how, post, websocket] of [["swallows", { lost: true }, "unanswered"], ["refuses", { status: 0 }, "refused"]]) {
  for (const transports of [["websocket"], ["websocket", "polling"]]) {
    test(`${transports}: a network that is away for up to a minute, and ${how} all: back soon behind it`, () => {
      // A hello has 10 s behind two failures; 0.6 s before it, and 1 s behind it.
      for (let outage = 20; outage <= 60; outage += 4) {
        const page = new Page({ options: { transports } }).on("websocket").advance(MINUTE);
        page.network.onpost = () => post;
        page.network.websocket = websocket;
        page.network.link.swallow();
        page.session.send("now");
        const tries = page.posts.length + page.network.links.length;
        page.advance(outage * 1000);
        assert.ok(page.posts.length + page.network.links.length - tries < 3 * outage, "no storm");
        page.network.onpost = () => undefined;
        page.network.websocket = "ok";
        const { time } = page;
        page.until(() => page.peer.events.length === 1, "it came");
        assert.ok(page.time - time <= 11_700, `${page.time - time} ms behind ${outage} s`);
        assert.equal(page.count("reset"), 0);
        page.talks();
      }
    });
  }
}

test("a network that swallows all for over two minutes costs no session that the server still has", () => {
  for (const transports of [["websocket"], ["websocket", "polling"]]) {
    for (const outage of [115, 130, 145]) {
      const page = new Page({ options: { transports } }).on("websocket").advance(MINUTE);
      page.network.onpost = () => ({ lost: true });
      page.network.websocket = "unanswered";
      page.network.link.swallow();
      page.session.send("now");
      page.advance(outage * 1000);
      page.network.onpost = () => undefined;
      page.network.websocket = "ok";
      page.until(() => page.peer.events.length === 1, "it came", MINUTE);
      assert.equal(page.count("reset"), 0);
      page.talks();
    }
  }
});

test("on a path of long round trips the answer is waited for", () => {
  const page = new Page({ before: ({ network }) => { network.latency = 900; } }).on("websocket");
  page.network.onpost = () => ({ status: 502 });
  const before = page.posts.length;
  for (let i = 0; i < 20; i++) {
    page.session.send(`${i}`);
    page.peer.emit("message", i);
    page.advance(3100);
  }
  assert.equal(page.posts.length, before, "nobody doubted it");
  assert.equal(page.session.transport, "websocket");
});

test("two questions within the time of one answer: each has its own time", () => {
  const page = new Page().on("websocket").talks();
  page.advance(950);
  page.environment.fire("online");
  page.advance(900);
  page.network.latency = 300;
  page.environment.fire("online");
  page.advance(650);
  assert.equal(page.posts.length, 0);
  page.talks();
});

// All that has credit is received, and the rest waits for it: the page is told of nothing more.
function heldByCredit(transport, held) {
  const page = new Page({ grant: { messages: 10 }, options: { transports: [transport] } }).on(transport).advance(MINUTE);
  page.peer.holds = true;
  for (let i = 0; i < 20; i++) page.session.send(`${i}`);
  page.advance(held);
  assert.equal(page.peer.received, 11);
  return page;
}

for (const held of [500, 10_000]) {
  test(`the ack that grants more is swallowed, on WebSocket after ${held} ms: asked for within 2 s`, () => {
    const page = heldByCredit("websocket", held);
    const before = questions(page);
    page.network.onframe = () => 0;
    page.peer.holds = false;
    page.peer.handle();
    page.network.onframe = () => 1;
    page.until(() => page.peer.events.length === 20, "all of it", 2000);
    assert.ok(questions(page) - before <= 2, `${questions(page) - before} questions`);
    assert.equal(page.network.links.length, 1);
    page.talks();
  });

  test(`the ack that grants more is swallowed, on polling after ${held} ms: asked for within 2 s`, () => {
    const page = heldByCredit("polling", held);
    // The server ends the poll that it holds, and nobody hears of it.
    const { carrier } = page.peer;
    carrier.held.responds.fill(() => {});
    page.peer.holds = false;
    page.peer._handled();
    page.peer._answerHeld(carrier, page.peer._answer(carrier, true));
    page.until(() => page.peer.events.length === 20, "all of it", 2000);
    page.talks();
  });
}

test("a handler that takes a minute, and credit waited for: asked every 1 to 2 s, and no path is doubted", () => {
  for (const transport of ["websocket", "polling"]) {
    const page = heldByCredit(transport, 1000);
    const count = () => (transport === "websocket" ? questions(page) : page.posts.length);
    const before = count();
    page.advance(MINUTE);
    assert.ok(count() - before > 30 && count() - before < (transport === "websocket" ? 70 : 50), `${count() - before}`);
    assert.equal(page.session.state, "open");
    assert.equal(page.network.links.length, transport === "websocket" ? 1 : 0);
    page.peer.holds = false;
    page.peer.handle();
    page.until(() => page.peer.events.length === 20, "all of it", 2000);
    page.talks();
  }
});

for (const transport of ["websocket", "polling"]) {
  test(`while credit is waited for, on ${transport}: a reply goes at once, and what has credit at last does, too`, () => {
    const page = heldByCredit(transport, 3000);
    page.session.on("ask", () => "yes");
    for (let i = 0; i < 20; i++) {
      const { time } = page;
      page.peer.ask(i, "ask");
      page.until(() => page.peer.replies.length > i, "the reply");
      assert.ok(page.time - time < 100, `the reply took ${page.time - time} ms`);
      page.advance(130);
    }
    for (let i = 0; i < 100; i++) page.session.send("more");
    while (page.peer.events.length < 120) {
      const { time, peer } = page;
      const { received } = peer;
      peer.handle();
      page.until(() => peer.received > received, "the next ones");
      assert.ok(page.time - time < 100, `the next ones took ${page.time - time} ms`);
      page.advance(170);
    }
    page.peer.holds = false;
    page.talks();
  });
}

test("the commit alone is swallowed as polling gives way to WebSocket: said again with the question behind 1 s of silence", () => {
  const page = new Page({ before: ({ network }) => { network.websocket = "refused"; } }).on("polling").advance(3000);
  page.network.websocket = "ok";
  let swallowed = 0;
  page.network.onframe = ({ sent }, way) => {
    if (way === "down" || swallowed || !/ c\d/.test(sent[sent.length - 1])) return 1;
    swallowed += 1;
    return 0;
  };
  page.environment.fire("online");
  page.until(() => swallowed, "swallowed");
  page.peer.emit("message", "x");
  page.until(() => page.messages.length === 1, "the page got it", 2000);
  assert.equal(page.session.transport, "websocket");
  assert.equal(page.network.open.length, 1);
  page.talks();
});

// --- Long polling --------------------------------------------------------------------

test("behind a message polls are short: 1.5 s, then twice as long each time", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().advance(3 * MINUTE);
  const before = page.posts.length;
  page.peer.emit("message", "now");
  page.advance(MINUTE);
  const found = page.posts.slice(before).map((post) => decodeBody(post.body).w);
  assert.deepEqual(found, [1500, 3000, 6000, 12_000, 20_000, 20_000]);
  page.talks();
});

test("messages flow down on polls, and an answer is swallowed: noticed within 3 s", () => {
  for (const pause of [100, 300, 700, 1000]) {
    const page = new Page({ options: { transports: ["polling"] } }).opened();
    let sent = 0;
    let lost = null;
    let worst = 0;
    const at = [];
    page.session.on("message", (number) => { worst = Math.max(worst, page.time - at[number]); });
    page.network.onpost = (request) => {
      if (sent !== 20 || lost || !isWaiting(request)) return undefined;
      lost = request;
      return { lost: true, reaches: true };
    };
    for (; sent < 60; sent++) {
      at.push(page.time);
      page.peer.emit("message", sent);
      page.advance(pause);
    }
    page.until(() => page.messages.length === 60);
    assert.ok(lost);
    assert.ok(worst <= 3000, `every ${pause} ms: the longest took ${worst} ms`);
    assert.deepEqual(page.messages, Array.from({ length: 60 }, (_, i) => i));
    page.quiet();
  }
});

test("the answer to messages up is swallowed: they are sent again within 3 s, and handled once", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  let left = 1;
  page.network.onpost = (request) => isSending(request) && left-- > 0 ? { lost: true, reaches: true } : undefined;
  page.session.send("one");
  page.advance(500);
  page.session.send("two");
  const { time } = page;
  page.until(() => page.peer.events.length === 3, "both", 3000);
  assert.ok(page.time - time <= 2000, `${page.time - time}`);
  page.talks();
});

test("a server that answers everything late is not asked in a storm, and is waited for longer", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().talks();
  const before = page.posts.length;
  // 4 s for each answer: more than patience has for short ones.
  page.network.onpost = () => ({ after: 4000 });
  for (let i = 0; i < 60; i++) {
    page.session.send(`${i}`);
    page.peer.emit("message", i);
    page.advance(1000);
  }
  const late = page.posts.slice(before);
  assert.ok(late.length <= 45, `${late.length} requests in a minute`);
  for (let i = 4; i < late.length; i++) {
    assert.ok(late[i].at - late[i - 4].at >= 1000, "never more than four in a second");
  }
  assert.ok(page.peer.events.length >= 50, `${page.peer.events.length} came through`);
  assert.ok(page.messages.length >= 50, `${page.messages.length} came through`);
  page.network.onpost = () => undefined;
  page.until(() => page.peer.events.length === 61 && page.messages.length === 61, "all of it", MINUTE);
  assert.equal(page.count("reset"), 0);
  page.quiet();
});

test("polls after a quiet hour: as many as before", () => {
  const page = new Page({ options: { transports: ["polling"] } }).opened().advance(MINUTE);
  const before = page.posts.length;
  page.advance(60 * MINUTE);
  assert.ok(page.posts.length - before <= 60 * MINUTE / 20_000 + 1, `${page.posts.length - before}`);
  page.talks();
});

test("the answer to a hello is swallowed, or late: said again, with twice the time", () => {
  const swallowed = new Page({ options: { transports: ["polling"] }, before: ({ network }) => {
    network.onpost = () => network.posts.length === 1 ? { lost: true, reaches: true } : undefined;
  } }).opened();
  assert.ok(swallowed.time <= 2700, `${swallowed.time}`);
  assert.equal(swallowed.server.count, 1);
  swallowed.talks();
  const late = new Page({ options: { transports: ["polling"] }, before: ({ network }) => {
    network.onpost = () => ({ after: 6000 });
  } }).opened();
  assert.equal(late.server.count, 1);
  assert.equal(late.posts.filter((post) => post.body.startsWith("{")).length, 3);
});
