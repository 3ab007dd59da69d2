// Sessions over a network that loses, repeats, delays, reorders, cuts and swallows at random:
// every message once, in order, each way; then quiet.
//
// A run prints its seed; SEED=… repeats it, RUNS=… makes more of them.

import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./core.mjs";
import { generator } from "./fake_environment.mjs";
import { Page } from "./page.mjs";

const FIRST_SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = Number(process.env.RUNS ?? 6);
const STEPS = 1200;

const FATES = ["refused", "unanswered", "silent", "upless", "downless", "closed", "threw"];

// Envelopes so small that messages have to go in parts.
const SMALL = load([
  ["ENVELOPE_BYTES = 64000;", "ENVELOPE_BYTES = 17;"], ["REQUEST_BYTES = 256000;", "REQUEST_BYTES = 29;"],
]);

class Storm {
  constructor(seed, options = {}) {
    this.random = generator(seed);
    const inParts = this.chance(0.5);
    this.page = new Page({
      seed, options: { timing: { probe: 3000, probeMax: 10_000 }, ...options },
      grant: this.chance(0.3) ? { messages: this.below(20) + 2, bytes: 3000 } : {},
      ...inParts ? { library: SMALL } : {},
      before: (page) => this.unleash(page),
    });
    if (inParts) this.page.server.piece = 11;
    this.up = 0;
    this.down = new Map();
    this.calm();
  }

  below(n) { return Math.floor(this.random() * n); }

  chance(p) { return this.random() < p; }

  pick(list) { return list[this.below(list.length)]; }

  // How bad it is, from 0 to 1.
  calm() { this.wind = 0; }

  unleash({ network }) {
    this.wind = 0;
    network.onsocket = () => this.chance(this.wind) ? this.pick(FATES) : "ok";
    // The server cannot see that the last of its frames was swallowed, until the next one.
    network.onframe = (link, way) => !this.chance(this.wind / 30) ? 1 : this.chance(0.5) && way === "up" ? 0 : 2;
    network.onpost = () => {
      const fate = {};
      if (this.chance(0.3)) fate.delay = this.below(400);
      if (!this.chance(this.wind)) return fate;
      switch (this.below(10)) {
        case 0: return { lost: true };
        case 1: return { lost: true, reaches: true };
        case 2: return { status: this.pick([0, 502, 503, 504, 429, 403, 200]), text: "<html></html>", after: this.below(500) };
        case 3: return { ...fate, status: this.pick([0, 502, 504, 200]), text: "", reaches: true };
        case 4: return { ...fate, truncate: this.below(60) };
        case 5: return { ...fate, truncate: -1 - this.below(3) };
        case 6: return { ...fate, twice: this.below(3000) };
        case 7: return { ...fate, cut: this.below(8000), status: this.pick([0, 504]) };
        case 8: return { ...fate, after: this.below(3000) };
        default: return { status: 503, headers: { "retry-after": "1" } };
      }
    };
  }

  // One thing that happens.
  step() {
    const { page } = this;
    const { network, peer } = page;
    switch (this.below(14)) {
      case 0: case 1: case 2: case 3: case 4:
        for (let i = this.below(3); i >= 0; i--) this.send();
        break;
      case 5: case 6: case 7: case 8:
        if (peer && !peer.over) for (let i = this.below(4); i >= 0; i--) this.push(peer);
        break;
      case 9:
        if (this.chance(0.3)) network.open.forEach((link) => link.cut());
        break;
      case 10:
        if (this.chance(0.3)) network.open.forEach((link) => link.swallow(this.pick(["up", "down", "both"])));
        break;
      case 11:
        this.wind = this.chance(0.5) ? 0 : this.random() * 0.9;
        network.latency = this.pick([1, 10, 60, 200]);
        break;
      case 12:
        if (peer) peer.holds = this.chance(0.3);
        if (peer && !peer.holds) peer.handle();
        break;
      default:
        if (this.chance(0.1)) page.environment.fire("online");
        if (this.chance(0.05)) page.clock.sleep(this.below(15_000));
    }
    page.advance(this.chance(0.2) ? this.below(2000) : this.below(60));
  }

  send() {
    const { session } = this.page;
    const number = this.up++;
    const value = [number, "x".repeat(this.below(40)), number % 5 ? null : Uint8Array.of(number & 255)];
    // A grant of a few bytes holds back what is sent; it is never refused here.
    session.emit("n", ...value);
  }

  push(peer) {
    const number = this.down.get(peer) ?? 0;
    this.down.set(peer, number + 1);
    const bytes = number % 7 ? [] : [Uint8Array.of(number & 255), { deep: Uint8Array.of(1) }];
    peer.emit("n", peer.id, number, ...bytes);
  }
}

const numbers = (count) => Array.from({ length: count }, (_, i) => i);

function quiet(storm) {
  const { page } = storm;
  storm.calm();
  page.network.latency = 10;
  for (const session of page.server.sessions.values()) {
    session.holds = false;
    session.handle();
  }
  // An unstable verdict takes ten minutes.
  page.until(() => page.session.transport === "websocket" && page.session.state === "open", "a WebSocket at last", 800_000);
  // So does what was learned of the path.
  page.advance(660_000);
  assert.equal(page.session.transport, "websocket");
  assert.equal(page.environment.requests.size, 0, "no request is left");
  assert.equal(page.environment.sockets.size, 1, "one WebSocket is left");
  // Beside them, for a while, the one that watches over a question.
  page.until(() => page.environment.timers() === 2, "two timers are left: the machine's deadline, the next question", 20_000);
  assert.deepEqual(Object.keys(page.session._core.machine().connections).length, 1);
  assert.equal(page.session.bufferedAmount, 0);
  // Where frames are swallowed, there are gaps.
  page.server.gaps.length = 0;
  const before = page.clock._order;
  page.advance(60_000);
  assert.ok(page.clock._order - before < 40, `${page.clock._order - before} things happen in a quiet minute`);
}

for (let run = 0; run < RUNS; run++) {
  const seed = FIRST_SEED + run;

  test(`exactly once, in order, both ways: SEED=${seed}`, (t) => {
    t.diagnostic(`SEED=${seed}`);
    const storm = new Storm(seed);
    const { page } = storm;
    const found = [];
    page.session.on("n", (id, number, bytes, deep) => {
      found.push(number);
      assert.equal(bytes instanceof ArrayBuffer, number % 7 === 0);
      if (deep) assert.deepEqual(new Uint8Array(deep.deep), Uint8Array.of(1));
    });
    // No outage is longer than the session lives.
    for (let i = 0; i < STEPS; i++) {
      storm.step();
      if (i % 60 === 59) {
        storm.calm();
        page.advance(5000);
      }
    }
    quiet(storm);
    page.quiet();
    assert.equal(page.count("open"), 1);
    assert.equal(page.count("reset"), 0);
    assert.equal(page.server.count, 1);
    assert.equal(page.peer.connects.length, 1);
    assert.deepEqual(page.peer.events.map((event) => event[1]), numbers(storm.up));
    page.peer.events.forEach(([, number, , bytes]) =>
      assert.deepEqual(bytes, number % 5 ? null : Uint8Array.of(number & 255)));
    assert.deepEqual(found, numbers(storm.down.get(page.peer) ?? 0));
    assert.ok(storm.up > STEPS / 3);
    page.session.close();
    page.until(() => page.session.state === "closed");
    page.over();
  });

  test(`a server that loses sessions: none is mixed with another, nothing lost untold: SEED=${seed}`, () => {
    const storm = new Storm(seed ^ 0x5bd1e995);
    const { page } = storm;
    const heard = new Map();
    const untold = new Set();
    page.session.on("n", (id, number) => {
      // Of this session, and the next one.
      assert.equal(id, page.session.id);
      const expected = heard.get(id) ?? 0;
      assert.equal(number, expected);
      heard.set(id, expected + 1);
    });
    const told = new Set();
    page.session.onreset = (event) => {
      for (const each of event.unconfirmed) {
        assert.equal(each.event, "n");
        told.add(each.data);
      }
    };
    for (let i = 0; i < STEPS; i++) {
      const { up } = storm;
      storm.step();
      for (let number = up; number < storm.up; number++) untold.add(number);
      if (i % 150 === 149) {
        storm.calm();
        if (storm.chance(0.5)) page.server.restart({ tag: storm.chance(0.5) ? page.server.tag : undefined });
        else if (page.peer && !page.peer.over) page.peer.end(storm.pick([1012, 4404, 4408]), "");
        page.advance(20_000);
      }
    }
    quiet(storm);
    assert.deepEqual(page.environment.errors, []);
    assert.ok(page.count("reset") >= 4, `${page.count("reset")} resets`);
    const handled = [];
    for (const session of [...page.server.sessions.values(), ...page.server.buried]) {
      const found = session.events.map((event) => event[1]);
      assert.deepEqual(found, numbers(found.length).map((i) => found[0] + i), "in order, without a gap");
      handled.push(...found);
    }
    assert.equal(new Set(handled).size, handled.length, "nothing twice");
    for (const number of handled) untold.delete(number);
    for (const number of told) untold.delete(number);
    assert.deepEqual([...untold], [], "handled, or told to be unconfirmed");
    page.session.close();
    page.until(() => page.session.state === "closed");
    page.over();
  });
}
