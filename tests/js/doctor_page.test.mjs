// What the doctor's page observes, and when: its bounds from both sides, in a browser that is none.

import assert from "node:assert/strict";
import test from "node:test";

import { Doctor } from "./fake_doctor.mjs";

// The first `times` of a command end so.
// As a cache gives it that goes by the address alone.
const another = { text: (whole) => whole.replace(/"number":\d+/, '"number":0') };

const first = (what, times, fate) => {
  let count = 0;
  return (command) => command.do === what && ++count <= times ? fate : undefined;
};

test("on a sound network", () => {
  const doctor = new Doctor({ query: "?idle=7" }).finished();
  const { observations, ...report } = doctor.report;
  assert.deepEqual({ ...report, findings: report.findings.map((each) => each.code) }, {
    doctor: 1, library: "9.9", url: "http://page.test/fallback", at: "2023-11-14T22:13:27Z", agent: "a browser",
    verdict: { transport: "websocket", text: "WebSocket works: 20 ms. Long polling works: 20 ms." },
    findings: ["ws-ok", "poll-ok"],
  });
  assert.deepEqual(observations, {
    by: "page", unreachable: null, tls: null,
    websocket: {
      present: true, handshake: "open", status: null, tunnel: null, seconds: 0.02, plain: null,
      up: [1, 4096, 65536], down: [1, 4096, 65536], ms: 20, closed: null, idle: { asked: 7, alive: true, seconds: 7 },
    },
    polling: {
      requests: 13, failed: 0, round_trips: Array(8).fill(20), why: null, foreign: null, refused: null,
      stream: { spread: 1000 }, hold: { asked: 7, alive: true, seconds: 7.02, status: null },
      body: { passed: 256000, refused: null, status: null }, answer: { passed: 500000, refused: null },
      header: { up: true, down: true }, cookie: true, processes: 1, cached: false, encoded: false,
    },
    clock: { ahead: 0 },
    server: {
      handshakes: [{ upgrade: true, connection: true, key: true, status: 101, up: [1, 4096, 65536, 1], down: [], closed: null }],
      plain: 0, repeated: 1, proxies: {}, secure: false,
    },
  });
  assert.equal(doctor.plains, 0);
  assert.equal(doctor.links[0].left, 1000);
  assert.match(doctor.links[0].url, /^ws:\/\/page\.test\/fallback\/doctor\/ws\?run=[a-z0-9]{24}$/);
  assert.equal(doctor.links[0].protocol, "fallback.v1");
  // Each request has a number of its own, but those that must be equal.
  const numbers = doctor.commands.filter((each) => each.do !== "serial").map((each) => each.number);
  assert.deepEqual(numbers, numbers.map((_, at) => numbers[0] + at));
  assert.deepEqual(doctor.commands.filter((each) => each.do === "serial").map((each) => "number" in each), [false, false]);
  assert.deepEqual(doctor.commands.filter((each) => each.size > 300).map((each) => each.size), [1000, 4000, 16000, 64000, 256000]);
  assert.deepEqual([doctor.timers.size, doctor.open.size], [0, 0]);
  assert.equal(doctor.id("bar").value, 1);
});

test("beside each check stands what was seen", () => {
  const doctor = new Doctor({ query: "?idle=60", ahead: 1500 }).finished();
  const said = [
    ["Support in this browser", "This browser has WebSocket."], ["Handshake", "Answered after 20 ms."],
    ["Messages to the server", "1 B, 4 kB and 64 kB arrived."], ["Messages from the server", "1 B, 4 kB and 64 kB arrived."],
    ["Idle WebSocket", "Still open after 1 min of silence."], ["Round trip", "Half of them within 20 ms, the longest 20 ms."],
    ["Headers and cookies", "Both arrive, both ways."], ["Answers in pieces", "Passed on piece by piece, over 1 s."],
    ["Cached answers", "None: each request got its own."], ["Large requests", "256 kB get through, the most tried."],
    ["Large answers", "500 kB arrive whole, the most tried."], ["A request that waits", "Held for 60 s, then answered."],
    ["Repeated requests", "None: each reached the server once."],
    ["Proxies and interception", "The server sees no trace of any."], ["Clock of this device", "2 s ahead of the server's."],
  ];
  for (const [title, text] of said) {
    const check = doctor.check(title);
    assert.deepEqual([check.state, check.word, check.said, check.finding], ["good", "OK", text, ""]);
    assert.match(check.time, /^[\d.]+ m?s$/, title);
    assert.ok(doctor.id("report").textContent.includes(`  OK          ${title} (${check.time}): ${text}\n`), title);
  }
  assert.equal(doctor.check("Round trip").time, "160 ms");
  assert.equal(doctor.check("A request that waits").time, "60 s");
  doctor.id("copy-text").onclick();
  assert.equal(doctor.copied, doctor.id("report").textContent);
  assert.match(doctor.id("took").textContent, /^Finished in 60\.\d s: no problems, no notes\.$/);
});

test("what is said has the figures that were seen", () => {
  for (const [ahead, said] of [
    [999, "Right, to the second."], [-999, "Right, to the second."], [1000, "1 s ahead of the server's."],
    [-2400, "2 s behind the server's."],
  ]) assert.equal(new Doctor({ query: "?idle=1", ahead }).finished().check("Clock of this device").said, said);
  const slow = new Doctor({ query: "?idle=1", post: first("echo", 1, { after: 1000 }) }).finished();
  assert.equal(slow.check("Round trip").said, "Half of them within 20 ms, the longest 1 s.");
  const first4096 = new Doctor({ query: "?idle=1", onframe: (link, way, text) => text.length < 65536 }).finished();
  assert.equal(first4096.check("Messages from the server").said, "Only 1 B and 4 kB arrived.");
  const none = new Doctor({ query: "?idle=1", onframe: () => false }).finished();
  assert.equal(none.check("Messages to the server").said, "None arrived.");
  assert.match(none.id("took").textContent, /: 1 problem, no notes\.$/);
  for (const [idle, said] of [[59, "59 s"], [60, "1 min"], [90, "90 s"], [120, "2 min"]]) {
    assert.equal(new Doctor({ query: `?idle=${idle}` }).finished().check("Idle WebSocket").said, `Still open after ${said} of silence.`);
  }
});

// -- WebSocket

test("a handshake has 5 s", () => {
  for (const [late, handshake, codes] of [[false, "open", ["ws-ok", "poll-ok"]], [true, "unanswered", ["ws-unanswered", "poll-ok"]]]) {
    const doctor = new Doctor({ query: "?idle=1", socket: () => "unanswered" });
    doctor.advance(4999 + late);
    if (!late) {
      doctor.links[0].seen = { up: [] };
      doctor.links[0].onopen();
      for (const size of [1, 4096, 65536]) doctor.links[0].message("x".repeat(size));
    }
    const { websocket } = doctor.finished().report.observations;
    assert.equal(websocket.handshake, handshake);
    assert.deepEqual(doctor.codes, codes);
    assert.equal(doctor.plains, Number(late));
    if (late) {
      assert.deepEqual([websocket.seconds, websocket.plain], [5, { status: 426, ours: true }]);
      assert.ok(doctor.links[0].over);
      assert.equal(doctor.links[0].onopen, null);
      assert.match(doctor.check("Handshake").said, /^No answer in 5 s\. /);
    }
  }
});

test("a handshake that fails is tried three times, and one that was lost is counted", () => {
  for (const [times, codes, counted] of [
    [2, ["ws-ok", "poll-ok", "poll-unreliable"], [15, 2]], [3, ["ws-refused", "poll-ok"], [13, 0]],
  ]) {
    let count = 0;
    const doctor = new Doctor({ query: "?idle=1", socket: () => ++count > times ? "ok" : "refused" }).finished();
    const { requests, failed } = doctor.report.observations.polling;
    assert.deepEqual(doctor.codes, codes);
    assert.deepEqual([doctor.links.length, requests, failed], [3, ...counted]);
    // Each has its own time.
    assert.equal(doctor.report.observations.websocket.seconds, 0.02);
  }
});

test("where it fails, the plain path is asked, and says who answers there", () => {
  for (const [plain, seen, said] of [
    [undefined, { status: 426, ours: true }, "reaches the server."],
    [{ status: 403, text: "<html>" }, { status: 403, ours: false }, "is answered by something else (status 403)."],
    [{ status: 0 }, null, "gets no answer, either."], [{ lost: true }, null, "gets no answer, either."],
  ]) {
    for (const fate of ["refused", "threw"]) {
      const doctor = new Doctor({ query: "?idle=1", socket: () => fate, plain }).finished();
      assert.deepEqual(doctor.report.observations.websocket.plain, seen);
      assert.equal(doctor.report.observations.websocket.handshake, "failed");
      assert.deepEqual(doctor.codes, ["ws-refused", "poll-ok"]);
      assert.equal(doctor.check("Handshake").state, "bad");
      assert.equal(doctor.check("Handshake").said,
        `Failed after ${fate === "threw" ? 0 : 20} ms. A plain request to the same address ${said}`);
      for (const title of ["Messages to the server", "Messages from the server", "Idle WebSocket"]) {
        assert.equal(doctor.check(title).word, "Not tested");
      }
    }
  }
});

test("a proof has 5 s, and as much again as the slowest line needs once something has come", () => {
  const rest = Math.ceil((1 + 4096 + 65536) / 8);
  for (const [begins, ends, codes] of [
    [4900, 4999 + rest - 30, ["ws-ok"]], [4900, 5001 + rest, ["ws-limit"]], [5001, 5001, ["ws-silent"]],
  ]) {
    const doctor = new Doctor({
      query: "?idle=1", onframe: (link, way, text) => text.length === 65536 || text === "got 65536" ? ends : begins,
    }).finished();
    assert.deepEqual(doctor.codes, [...codes, "poll-ok"], `${begins}, ${ends}`);
  }
});

test("each direction is proven by itself", () => {
  const is = (...ways) => (link, way, text) => ways.includes(/^got/.test(text) ? "answers" : way);
  for (const [onframe, code, up, down] of [
    // What the server has got, it tells by `seen`.
    [is("up", "down"), "ws-ok", "OK", "OK"],
    [is("down"), "ws-up-blocked", "Problem", "OK"],
    [is("up", "answers"), "ws-down-blocked", "OK", "Problem"],
    [is(), "ws-silent", "Problem", "Problem"],
    [(link, way, text) => text.length < 65536, "ws-limit", "Problem", "Problem"],
    [(link, way, text) => text.length < 4096, "ws-limit", "Problem", "Problem"],
  ]) {
    const doctor = new Doctor({ query: "?idle=1", onframe }).finished();
    assert.equal(doctor.codes[0], code);
    assert.deepEqual(["Messages to the server", "Messages from the server"].map((title) => doctor.check(title).word), [up, down], code);
    assert.equal(doctor.check("Idle WebSocket").word, "Not tested");
    assert.ok(doctor.links[0].over);
    // Of both directions it is said once.
    const found = ["Messages to the server", "Messages from the server"].map((title) => doctor.check(title).finding);
    assert.equal(found.filter(Boolean).length, Number(code !== "ws-ok"), code);
  }
  const small = new Doctor({ query: "?idle=1", onframe: (link, way, text) => text.length < 4096 }).finished();
  assert.equal(small.report.findings[0].data.bytes, 4096);
  assert.equal(small.check("Messages from the server").said, "Only 1 B arrived.");
});

test("what comes of one direction early is not waited for, nor counted, again", () => {
  for (const late of [/^x/, /^got/]) {
    const doctor = new Doctor({ query: "?idle=1", onframe: (link, way, text) => way === "up" || link.sent.length > 3 || !late.test(text) || 6000 });
    doctor.advance(5500);
    // The network repeats it.
    for (const size of [1, 1, 4096]) doctor.links[0].message(late.test("got") ? "x".repeat(size) : `got ${size}`);
    const { up, down, ms } = doctor.finished().report.observations.websocket;
    assert.deepEqual([doctor.codes, up, down], [["ws-ok", "poll-ok"], [1, 4096, 65536], [1, 4096, 65536]]);
    assert.equal(ms, late.test("got") ? 6020 : 20);
  }
  const { ms } = new Doctor({ query: "?idle=1", onframe: (link, way, text) => text !== "got 4096" || 300 })
    .finished().report.observations.websocket;
  assert.equal(ms, 20);
});

test("a WebSocket that is closed amid the proof tells its code", () => {
  for (const [code, told] of [[1011, 1011], [1006, 1006], [undefined, 1006]]) {
    const doctor = new Doctor({ query: "?idle=1", onframe: () => false });
    doctor.advance(540).links[0].cut(code);
    assert.equal(doctor.check("Idle WebSocket").word, "Not tested");
    const { closed } = doctor.finished().report.observations.websocket;
    assert.deepEqual(closed, { code: told, seconds: 0.5 });
    assert.deepEqual(doctor.codes, ["ws-closed", "poll-ok"]);
  }
});

test("an idle WebSocket is alive if it answers within 5 s", () => {
  for (const [slow, alive] of [[4985, true], [5001, false], [null, false]]) {
    const onframe = (link, way) => link.sent.length < 4 || way === "up" || (slow !== null && slow - 20);
    const doctor = new Doctor({ query: "?idle=9", onframe }).finished();
    assert.deepEqual(doctor.report.observations.websocket.idle, { asked: 9, alive, seconds: 9 });
    assert.deepEqual(doctor.codes, alive ? ["ws-ok", "poll-ok"] : ["ws-ok", "ws-cut-idle", "poll-ok"]);
    assert.equal(doctor.check("Idle WebSocket").word, alive ? "OK" : "Note");
    assert.equal(doctor.check("Idle WebSocket").said, `${alive ? "Still open" : "Over"} after 9 s of silence.`);
    // For so long nothing is said.
    assert.deepEqual(doctor.links[0].sent.map((each) => each.size), [1, 4096, 65536, 1]);
    assert.ok(doctor.links[0].sent[3].at - doctor.links[0].sent[2].at >= 9000);
  }
  const cut = new Doctor({ query: "?idle=9" });
  cut.advance(3060).links[0].cut(1006);
  assert.deepEqual(cut.finished().report.observations.websocket.idle, { asked: 9, alive: false, seconds: 3 });
});

test("without a constructor there is no WebSocket", () => {
  const doctor = new Doctor({ query: "?idle=1", root: { WebSocket: undefined } }).finished();
  assert.deepEqual(doctor.codes, ["ws-absent", "poll-ok"]);
  assert.deepEqual([doctor.check("Support in this browser").word, doctor.check("Support in this browser").said], ["Problem", "There is none."]);
  assert.equal(doctor.check("Handshake").word, "Not tested");
  assert.equal(doctor.report.observations.websocket.handshake, null);
});

// -- Polling

test("a small request is tried three times, and each failure is counted", () => {
  for (const [times, trips, requests] of [[2, 8, 15], [3, 0, 3 + 3 + 1]]) {
    const doctor = new Doctor({ query: "?idle=1", post: first("echo", times, { status: 502, text: "<html>" }) }).finished();
    const { polling } = doctor.report.observations;
    assert.deepEqual([polling.failed, polling.round_trips.length, polling.why], [times, trips, "status 502"]);
    assert.deepEqual(polling.foreign, { status: 502, type: null });
    assert.equal(doctor.count("echo"), trips ? 8 + times + 5 : 3 + 5);
  }
});

test("a small request has 5 s", () => {
  for (const [after, failed] of [[4999, 0], [5001, 1]]) {
    const doctor = new Doctor({ query: "?idle=1", post: first("echo", 1, { after }) }).finished();
    const { polling } = doctor.report.observations;
    assert.deepEqual([polling.failed, polling.why], [failed, failed ? "no answer" : null]);
    assert.deepEqual(doctor.codes, failed ? ["ws-ok", "poll-ok", "poll-unreliable"] : ["ws-ok", "poll-ok"]);
  }
});

test("what is no whole answer of the server's is a failed one", () => {
  // The third and the fourth lack their last character, and the line's end.
  for (const text of ["", "{}", (whole) => whole.slice(0, -1), (whole) => whole.replace("\n", ""), '"text"\n.', "null\n.", "{\n."]) {
    const doctor = new Doctor({ query: "?idle=1", post: first("echo", 1, { text }) }).finished();
    const { failed, why, foreign, refused } = doctor.report.observations.polling;
    assert.deepEqual([failed, why, foreign, refused], [1, "status 200", { status: 200, type: null }, null], String(text));
  }
  const post = first("echo", 1, { text: '{"error":"too many wait"}\n.' });
  const { failed, why, foreign, refused } = new Doctor({ query: "?idle=1", post }).finished().report.observations.polling;
  assert.deepEqual([failed, why, foreign, refused], [1, "status 200", null, { status: 200, error: "too many wait" }]);
});

test("an old browser is examined all the same", () => {
  // What it does not send fails at once, and not for want of an answer.
  const silent = new Doctor({ query: "?idle=1", post: () => "threw" });
  silent.until(() => silent.state === "finished", 4999);
  assert.deepEqual(silent.codes, ["ws-ok", "poll-blocked"]);
  const timeless = new Doctor({ query: "?idle=1", root: { performance: undefined } }).finished();
  assert.deepEqual([timeless.codes, timeless.report.observations.polling.round_trips], [["ws-ok", "poll-ok"], Array(8).fill(20)]);
  const whole = new Doctor({ query: "?idle=1" });
  const { XMLHttpRequest } = whole.root;
  whole.root.XMLHttpRequest = class extends XMLHttpRequest {
    constructor() {
      super();
      delete this.onprogress;
    }
  };
  whole.id("options").onsubmit();
  whole.finished();
  assert.deepEqual([whole.codes, whole.check("Answers in pieces").word], [["ws-ok", "poll-ok"], "Not tested"]);
});

test("a request that waits is held, cut, or refused by the server itself", () => {
  const lost = { lost: true };
  for (const [fate, times, hold] of [
    // What fails within 1 s was not cut for being held.
    [{ status: 502, text: "", after: 999 }, 2, { asked: 9, seconds: 9.02, status: null, alive: true }],
    [{ status: 502, text: "", after: 999 }, 3, { asked: 9, seconds: 0.999, status: 502, alive: false }],
    [{ status: 504, text: "", after: 1000 }, 1, { asked: 9, seconds: 1, status: 504, alive: false }],
    [{ status: 0, after: 8999 }, 1, { asked: 9, seconds: 8.999, status: null, alive: false }],
    // When it was due, it had been held.
    [{ status: 0, after: 9000 }, 1, { asked: 9, seconds: 9, status: null, alive: true }],
    [lost, 1, { asked: 9, seconds: 14, status: null, alive: false }],
    // Nor has the server refused what was answered with the answer to another request.
    [{ ...another, after: 999 }, 3, { asked: 9, seconds: 0.999, status: null, alive: false }],
    [{ status: 503, text: '{"error":"too many wait"}\n.', after: 1000 }, 1, null],
  ]) {
    const doctor = new Doctor({ query: "?idle=9", post: first("hold", times, fate) }).finished();
    assert.deepEqual(doctor.report.observations.polling.hold, hold);
    assert.equal(doctor.codes.includes("poll-cut"), hold !== null && !hold.alive);
    assert.equal(doctor.check("A request that waits").word, hold === null ? "Not tested" : hold.alive ? "OK" : "Note");
    assert.deepEqual(doctor.count("hold"), fate.after === 999 ? 3 : 1);
    // What is late is not waited for any more, nor does it keep a connection.
    assert.equal(doctor.open.size, 0);
  }
});

test("sizes are tried up to the first that is refused, late twice, or fails three times", () => {
  const large = (size, times, fate) => {
    let count = 0;
    return (command, body) => command.do === "echo" && body.length === size && ++count <= times ? fate : undefined;
  };
  for (const [fate, times, body, asked] of [
    [{ status: 413, text: "" }, 1, { passed: 4000, refused: 16000, status: 413 }, 1],
    [{ status: 502, text: "" }, 2, { passed: 256000, refused: null, status: null }, 3],
    [{ status: 502, text: "" }, 3, { passed: 4000, refused: 16000, status: 502 }, 3],
    [{ after: 6999 }, 1, { passed: 256000, refused: null, status: null }, 1],
    [{ after: 7001 }, 1, { passed: 256000, refused: null, status: null }, 2],
    [{ after: 7001 }, 2, { passed: 4000, refused: 16000, status: null }, 2],
    [{ text: (whole) => whole.replace("16000", "15999") }, 3, { passed: 4000, refused: 16000, status: 200 }, 3],
    [another, 3, { passed: 4000, refused: 16000, status: null }, 3],
  ]) {
    const doctor = new Doctor({ query: "?idle=1", post: large(16000, times, fate) }).finished();
    assert.deepEqual(doctor.report.observations.polling.body, body);
    assert.equal(doctor.commands.filter((each) => each.size === 16000).length, asked);
    assert.equal(doctor.codes.includes("body-limit"), body.refused !== null);
    // What was lost is counted where it was not for the size.
    const { requests, failed } = doctor.report.observations.polling;
    assert.deepEqual([requests, failed], body.refused ? [13, 0] : [13 + asked - 1, asked - 1]);
    assert.equal(doctor.codes.includes("poll-unreliable"), failed > 0);
  }
  // What the server does not take is not tried.
  for (const [body, passed] of [[64000, 64000], [63999, 16000]]) {
    const doctor = new Doctor({ query: "?idle=1", body }).finished();
    assert.deepEqual(doctor.report.observations.polling.body, { passed, refused: null, status: null });
  }
  for (const [fate, times, answer] of [
    [{ text: (whole) => whole.replace("yy", "y") }, 3, { passed: 4000, refused: 64000 }],
    [{ text: (whole) => whole.replace("yy", "y") }, 2, { passed: 500000, refused: null }],
    [another, 3, { passed: 4000, refused: 64000 }], [another, 2, { passed: 500000, refused: null }],
    [{ after: 12999 }, 2, { passed: 500000, refused: null }], [{ after: 13001 }, 1, { passed: 500000, refused: null }],
    [{ after: 13001 }, 2, { passed: 4000, refused: 64000 }],
  ]) {
    let count = 0;
    const post = (command) => command.bytes === 64000 && ++count <= times ? fate : undefined;
    assert.deepEqual(new Doctor({ query: "?idle=1", post }).finished().report.observations.polling.answer, answer);
  }
});

test("an answer in pieces that is held back is asked for a second time", () => {
  for (const [spreads, spread] of [[[650], 650], [[649, 700], 700], [[649, 10], 649], [[10, 649], 649]]) {
    const left = [...spreads];
    const post = (command) => command.do === "stream" ? { spread: left.shift() } : undefined;
    const doctor = new Doctor({ query: "?idle=1", post }).finished();
    assert.deepEqual(doctor.report.observations.polling.stream, { spread });
    assert.deepEqual(left, []);
    assert.equal(doctor.codes.includes("poll-buffered"), spread < 650);
  }
  // Or cannot be told.
  const refused = new Doctor({ query: "?idle=1", post: first("stream", 3, { text: '{"error":"too many wait"}\n.' }) }).finished();
  assert.deepEqual([refused.report.observations.polling.stream, refused.check("Answers in pieces").word], [null, "Not tested"]);
});

test("two equal requests have two answers, or there is a cache", () => {
  for (const [times, text, cached] of [[2, '{"serial":1}\n.', true], [1, '{"serial":7}\n.', false], [3, "", null]]) {
    const doctor = new Doctor({ query: "?idle=1", post: first("serial", times, { text }) }).finished();
    assert.equal(doctor.report.observations.polling.cached, cached);
    assert.equal(doctor.check("Cached answers").word, { true: "Problem", false: "OK", null: "Not tested" }[cached]);
    assert.equal(doctor.codes.includes("cached"), cached === true);
  }
});

test("several processes that answer in turn are told, where sessions that poll end", () => {
  let count = 0;
  const doctor = new Doctor({ query: "?idle=1", process: () => `of ${++count % 3}` }).finished();
  assert.deepEqual([doctor.report.observations.polling.processes, doctor.codes], [3, ["ws-ok", "several-processes"]]);
  assert.equal(doctor.report.verdict.transport, "websocket");
  assert.deepEqual([doctor.check("Round trip").word, doctor.check("Headers and cookies").word], ["Problem", "OK"]);
});

test("a header that is dropped once is dropped", () => {
  for (const [echo, headers, header, cookie] of [
    [{ header: false, cookie: true }, {}, { up: false, down: true }, true],
    [{ header: true, cookie: false }, {}, { up: true, down: true }, false],
    [{ header: true, cookie: true }, { "X-Fallback-Transport-Doctor": null }, { up: true, down: false }, true],
  ]) {
    for (const at of [1, 5, 8]) {
      let count = 0;
      const post = (command) => command.do === "echo" && ++count === at
        ? { text: `${JSON.stringify({ ...echo, number: command.number })}\n.`, headers } : undefined;
      const { polling } = new Doctor({ query: "?idle=1", post }).finished().report.observations;
      assert.deepEqual([polling.header, polling.cookie], [header, cookie]);
    }
  }
  const without = new Doctor({ query: "?idle=1", root: { navigator: { cookieEnabled: false, clipboard: new Doctor().root.navigator.clipboard } } });
  without.finished();
  assert.equal(without.check("Headers and cookies").said, "Headers arrive both ways; this browser keeps no cookies.");
});

test("an answer that is compressed on the way is", () => {
  const post = first("echo", 1, { headers: { "Content-Encoding": "gzip" } });
  assert.ok(new Doctor({ query: "?idle=1", post }).finished().codes.includes("compressed"));
  // Somebody else's is no matter.
  const foreign = first("echo", 1, { text: "<html>", headers: { "Content-Encoding": "gzip" } });
  assert.ok(!new Doctor({ query: "?idle=1", post: foreign }).finished().codes.includes("compressed"));
});

// -- The whole

test("where nothing is answered the server cannot be reached; by anything else, it can", () => {
  const dead = { post: () => ({ status: 0 }), plain: { status: 0 } };
  for (const [options, codes] of [
    [{ ...dead, socket: () => "refused" }, ["unreachable"]],
    [{ ...dead, socket: () => "unanswered", post: () => ({ lost: true }) }, ["unreachable"]],
    [dead, ["ws-ok", "poll-blocked"]],
    [{ ...dead, socket: () => "refused", plain: { status: 502, text: "" } }, ["ws-refused", "poll-blocked"]],
    [{ socket: () => "refused", post: () => ({ status: 200, text: "<html>" }) }, ["ws-refused", "login-page"]],
    [{ socket: () => "refused", post: () => ({ status: 403, text: '{"error":"this origin is not allowed"}\n.' }) },
      ["ws-server-refused", "poll-refused"]],
  ]) {
    const doctor = new Doctor({ query: "?idle=1", ...options }).finished();
    assert.deepEqual(doctor.codes, codes);
    assert.deepEqual([doctor.count("begin"), doctor.commands.length, doctor.report.library], [3, 3, null]);
    assert.equal(doctor.report.observations.clock, null);
    assert.equal(doctor.check("Round trip").word, "Problem");
    assert.equal(doctor.check("Handshake").word, options.socket ? "Problem" : "OK");
    for (const title of ["Clock of this device", "Large requests", "Repeated requests", "Proxies and interception", "A request that waits"]) {
      assert.equal(doctor.check(title).word, "Not tested");
    }
  }
});

test("a server that goes away meanwhile is the verdict", () => {
  for (const [options, codes] of [
    [{ socket: () => "refused" }, ["went-away", "ws-refused", "poll-ok", "poll-unreliable", "poll-cut"]],
    [{}, ["ws-ok", "poll-ok", "poll-unreliable", "poll-cut"]],
  ]) {
    const post = (command) => ["hold", "seen"].includes(command.do) ? { status: 0, after: 1 } : undefined;
    const doctor = new Doctor({ query: "?idle=1", post, ...options }).finished();
    assert.deepEqual(doctor.codes, codes);
    assert.deepEqual([doctor.check("Repeated requests").word, doctor.check("Proxies and interception").word],
      [codes[0] === "went-away" ? "Problem" : "Not tested", "Not tested"]);
  }
});

test("the clock is compared with the middle between question and answer", () => {
  for (const ahead of [0, 60_000, -3_600_000]) {
    const doctor = new Doctor({ query: "?idle=1", ahead, post: first("begin", 1, { after: 400 }) }).finished();
    // The server's was read 10 ms after it was asked.
    assert.equal(doctor.report.observations.clock.ahead, (ahead + 190) / 1000);
  }
});

test("what a cache has kept of an earlier run is no answer, nor is the clock that of then", () => {
  const [begin] = new Doctor({ query: "?idle=1" }).finished().commands;
  const text = (whole) => whole.replace(/"number":\d+/, `"number":${begin.number}`);
  const { polling, clock } = new Doctor({ query: "?idle=1", ahead: 60_000, post: () => ({ text }) }).finished().report.observations;
  assert.deepEqual([polling.why, clock], ["the answer to another request came, as from a cache", null]);
});

test("a page that slept and found fault examines once more, as soon as it is seen", () => {
  for (const [asleep, ws, runs] of [[5100, "refused", 2], [4700, "refused", 1], [60_000, "ok", 1]]) {
    const doctor = new Doctor({ query: "?idle=30", socket: () => doctor?.links.length ? "ok" : ws });
    doctor.advance(10_000);
    doctor.clock.sleep(asleep);
    doctor.document.hidden = true;
    doctor.advance(60_000);
    assert.equal(doctor.count("begin"), 1);
    assert.equal(doctor.state, runs === 2 ? "running" : "finished");
    doctor.document.hidden = false;
    doctor.advance(60_000);
    assert.equal(doctor.count("begin"), runs);
    assert.equal(doctor.state, "finished");
  }
});

test("so does one that was left, for however short, and came back: the browser has closed its connections", () => {
  for (const [ws, runs] of [["cut", 2], ["ok", 1]]) {
    const doctor = new Doctor({ query: "?idle=5" }).advance(2000);
    doctor.root.onpagehide();
    if (ws === "cut") doctor.links[0].cut(1006);
    doctor.advance(20_000);
    assert.equal(doctor.count("begin"), runs);
    assert.deepEqual(doctor.codes, ["ws-ok", "poll-ok"]);
  }
});

test("of an examination that is stopped nothing is heard again", () => {
  // While it asks, and while it only waits.
  for (const [at, open] of [[65, 2], [8000, 1]]) {
    const doctor = new Doctor({ query: "?idle=60" }).advance(at);
    const [link] = doctor.links;
    assert.equal(doctor.open.size, open);
    assert.equal(doctor.id("options").onsubmit(), false);
    assert.equal(link.left, 1000);
    // What is left is the next one's: its first request, that one's time, and what sees to the page.
    assert.deepEqual([doctor.open.size, doctor.timers.size], [1, 2]);
    doctor.advance(59_000);
    assert.equal(doctor.state, "running");
    doctor.finished();
    assert.equal(doctor.report.observations.polling.requests, 13);
    assert.equal(doctor.links.length, 2);
    assert.deepEqual([doctor.timers.size, doctor.open.size], [0, 0]);
  }
});

test("by https it is the encrypted addresses", () => {
  const doctor = new Doctor({ query: "?idle=1", protocol: "https:", seen: { proxies: { via: ["1.1 a", "1.1 b"] } } }).finished();
  assert.deepEqual(doctor.codes, ["ws-ok", "poll-ok", "intercepted"]);
  assert.match(doctor.links[0].url, /^wss:\/\/page\.test\/fallback\/doctor\/ws\?/);
  assert.deepEqual(doctor.report.observations.tls, { error: null, issuer: null, private: null });
  assert.deepEqual(["address", "websocket-address", "polling-address"].map((id) => doctor.id(id).textContent),
    ["https://page.test/fallback", "wss://page.test/fallback/ws", "https://page.test/fallback/poll"]);
});

test("the sentences are asked for three times, each for half a minute, and once more at the end", () => {
  for (const [fails, asked, said] of [[2, 3, true], [3, 4, true], [4, 4, false]]) {
    for (const fate of [{ status: 500, text: "" }, { lost: true }]) {
      const doctor = new Doctor({ query: "?idle=120", learn: (count) => count <= fails ? fate : undefined }).finished();
      assert.equal(doctor.learnt, asked);
      assert.equal(doctor.id("verdict").textContent, said ? "WebSocket works: 20 ms. Long polling works: 20 ms." : "ws-ok");
    }
  }
  const slow = (after) => new Doctor({ query: "?idle=120", learn: () => ({ after }) }).advance(29_999);
  assert.equal(slow(29_990).learnt, 1);
  assert.equal(slow(30_001).advance(1).learnt, 2);
});

test("a link says how long connections are left alone", () => {
  for (const [query, value, at] of [
    ["", "5", 0], ["?idle=0", "1", 0], ["?idle=7", "7", 1], ["?x=1&idle=20&y", "20", 1], ["?idle=300", "300", 4],
    ["?idle=301", "300", 4], ["?idle=999", "300", 4], ["?idle=1000", "5", 0], ["?xidle=7", "5", 0],
  ]) {
    const list = new Doctor({ query }).id("idle");
    assert.deepEqual([list.value, list.selectedIndex], [value, at], query);
    const all = list.options.map((each) => Number(each.value));
    assert.deepEqual(all, [...new Set([5, 20, 60, 120, 300, Number(value)])].sort((a, b) => a - b));
  }
  assert.equal(new Doctor({ query: "?idle=1" }).id("idle").options[0].textContent, "1 second");
  assert.equal(new Doctor({ query: "?idle=2" }).id("idle").options[0].textContent, "2 seconds");
});

test("it says how far it has come, and is never set back", () => {
  const doctor = new Doctor({ query: "?idle=60" });
  assert.equal(doctor.id("progress-text").textContent, "0 of 15 checks done, about 61 s left");
  assert.deepEqual([doctor.check("Clock of this device").word, doctor.check("Handshake").word], ["Running", "Waiting"]);
  let before = 0;
  for (let seconds = 1; seconds <= 60; seconds++) {
    doctor.advance(1000);
    assert.ok(doctor.id("bar").value >= before);
    before = doctor.id("bar").value;
  }
  assert.match(doctor.id("progress-text").textContent, /^1[1-4] of 15 checks done, about [1-4] s left$/);
  assert.ok(before > 0.9 && before < 1, before);
  assert.equal(doctor.check("Idle WebSocket").time, "59 s");
});
