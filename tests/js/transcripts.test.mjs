// Replays the golden transcripts, which the Python half replays too.
//
// tests/transcripts/README.md says how they are written. This half is a client:
// it replays the files of that role, decodes what a server sends (welcomes,
// ends, envelopes) and encodes what a client sends (hellos, polls, envelopes).

import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";

import { core, load } from "./core.mjs";

const FLOOR_CONVERSATIONS = 40;
const FLOOR_CASES = 200;

const FOLDER = new URL("../transcripts/", import.meta.url);
const TRANSCRIPTS = fs.readdirSync(FOLDER).filter((name) => name.endsWith(".json")).sort()
  .map((name) => [name.slice(0, -5), JSON.parse(fs.readFileSync(new URL(name, FOLDER), "utf8"))]);

const milliseconds = (seconds) => Math.round(seconds * 1000);

// --- What a transcript's JSON stands for ---------------------------------------

const fromBase64 = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const readData = (value) => typeof value === "string" ? value : fromBase64(value.base64);

function writeData(data) {
  return typeof data === "string" ? data : { base64: Buffer.from(data).toString("base64") };
}

function writeItem(item) {
  if (item.code) return { close: [item.code, item.reason] };
  if (item.total === undefined) return writeData(item.data);
  return { part: writeData(item.data), offset: item.offset, total: item.total };
}

function writeEvent(event) {
  switch (event.type) {
    case "message": return ["message", event.seq, writeData(event.data)];
    case "close": return ["close", event.seq, event.code, event.reason];
    case "answered": return ["answered", event.attempt, event.time / 1000];
    // For what reason, a page has nobody to tell.
    case "dropped": return ["dropped", event.attempt, event.code];
    case "closed":
      return ["closed", event.code, event.reason, event.unconfirmed.map(writeItem)];
    default: return assert.fail(`an event of type ${event.type}`);
  }
}

// Here a unit is flat, and what it does not have is undefined; a WebSocket's first commit has the
// session's key as `proof`.
function writeEnvelope(unit) {
  const found = {
    ack: unit.ack, received: unit.received, seq: unit.seq ?? null, messages: unit.messages.map(writeItem),
    commit: unit.commit ?? null, key: unit.proof ?? null, ask: unit.ask ?? null, answer: unit.answer ?? null,
  };
  return unit.got ? { ...found, got: unit.got } : found;
}

const SECONDS = ["wait", "keepalive", "inactivity"];

function writeUnit(unit) {
  if (unit.code !== undefined) return { kind: "end", ...unit };
  if (!unit.grant) return { kind: "envelope", ...writeEnvelope(unit) };
  const grant = { ...unit.grant };
  for (const name of SECONDS) grant[name] /= 1000;
  const { id, attempt, key = null, protocol } = unit;
  return {
    kind: "welcome", id, attempt, key, grant, envelope: writeEnvelope(unit),
    ...(protocol ? { protocol } : {}),
  };
}

function readItem(value, { Message, Close }) {
  if (value.part) return new Message(readData(value.part), value.offset, value.total);
  return value.close ? new Close(...value.close) : new Message(readData(value));
}

const known = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));

function readEnvelope({ messages, key = null, ...marks }, library) {
  return known({ ...marks, proof: key, messages: messages.map((item) => readItem(item, library)) });
}

// A unit for encoding, from the file's words.
function readUnit({ kind, envelope, ...fields }) {
  if (kind === "envelope") return readEnvelope(fields, core);
  const unit = known({ ...fields, ...readEnvelope(envelope, core) });
  if (unit.wait !== undefined) unit.wait = milliseconds(unit.wait);
  if (kind !== "hello") return unit;
  if (!Object.keys(unit.client).length) delete unit.client;
  // In the order in which a machine gives it.
  const { attempt, nonce, id, key, client, ack, received, ...rest } = unit;
  return { hello: 1, attempt, nonce, id, key, client, ack, received, ...rest };
}

// --- The calls of a conversation -------------------------------------------------

const LOCAL_ERRORS = {
  "too-large": "MessageRefused", "full": "OutboxFull", "closed": "SessionOver",
};

// A breach of the protocol has a code, and is fatal or not.
const BREACHES = {
  "4400 false": "MalformedEnvelope", "1002 false": "SequenceGap", "1002 true": "ImpossibleMark",
  "4413 true": "MessageTooLarge",
};

const nameOf = (error) => error.fatal && /missing/.test(error.message) ? "OutOfStep" : LOCAL_ERRORS[error.code] ?? BREACHES[`${error.code} ${Boolean(error.fatal)}`];

class Replay {
  constructor(library, transcript) {
    this.library = library;
    this.now = milliseconds(transcript.steps[0].now);
    this.machine = new library.ClientMachine(this.now);
    this.largest = transcript.bounds?.message ?? Infinity;
    if (transcript.grant) {
      const terms = { ...transcript.grant };
      for (const name of SECONDS) if (name in terms) terms[name] = milliseconds(terms[name]);
      this.machine.grant = { ...this.machine.grant, ...terms };
      this.machine.inbox.limit = this.machine.grant.message;
    }
  }

  step(step) {
    assert.ok(milliseconds(step.now) >= this.now, "the clock went back");
    this.now = milliseconds(step.now);
    assert.equal(typeof this[step.call], "function", `a call this replay knows: ${step.call}`);
    try {
      const given = this[step.call](...(step.with || []));
      return given === undefined ? null : given;
    } catch (error) {
      if (!nameOf(error)) throw error;
      return { error: nameOf(error) };
    }
  }

  frame(value) {
    const data = readData(value);
    return typeof data === "string" ? this.library.decode(data) : this.library.decodeBinary(data);
  }

  send(messages, options = {}) {
    // How large a message may be is here the grant's word alone.
    const { grant } = this.machine;
    this.machine.grant = { ...grant, message: Math.min(grant.message, this.largest) };
    const items = messages.map((each) => new this.library.Message(readData(each)));
    this.machine.send(items, options.urgent);
  }

  // What the machine has had happen.
  events() { return this.machine.events.splice(0).map(writeEvent); }

  handled(seq) { this.machine.handled(seq, this.now); return this.events(); }
  close(code, reason) { this.machine.close(code, reason, this.now); return this.events(); }
  abort(code, reason) { this.machine.abort(code, reason); return this.events(); }
  detach(attempt) { this.machine.detach(attempt, this.now); return this.events(); }
  timeout() { this.machine.timeout(this.now); return this.events(); }
  ask(attempt) { this.machine.ask(attempt); }
  state() {
    const { closed, closedBy, carrier, commits } = this.machine;
    if (closed) return "closed";
    if (closedBy) return "closing";
    if (carrier) return "attached";
    return commits ? "detached" : "opening";
  }

  receive(attempt, frame) {
    this.machine.receive(attempt, this.frame(frame), this.now);
    return this.events();
  }

  pull(attempt) {
    // Who polls, or is gone, is not asked: a negotiator pulls only for the WebSocket that carries.
    const connection = this.machine.connections[attempt];
    if (!connection || connection.transport !== "websocket") return null;
    const unit = this.machine.pull(attempt, this.now);
    return unit && this.library.encodeFrames(unit).map(writeData);
  }

  deadline() {
    const found = this.machine.deadline();
    return found === Infinity ? null : found / 1000;
  }

  hello(attempt, transport, nonce) {
    return this.library.encode(this.machine.hello(attempt, transport, nonce, this.now));
  }

  welcomed(text) {
    this.machine.welcomed(this.library.decode(text), this.now);
    return this.events();
  }

  commit(attempt) {
    this.machine.commit(attempt);
    const { carrier } = this.machine;
    return [["switched", carrier.attempt, carrier.transport], ...this.events()];
  }

  poll({ wait, limit = null }) {
    return this.library.encode(this.machine.poll(wait === null ? undefined : milliseconds(wait), limit ?? undefined));
  }

  ended(text) { this.machine.ended(this.library.decode(text)); return this.events(); }
}

// Bounds are constants in the file: where a transcript states its own, it gets a copy with them.
const BOUNDS = { messages: ["OUTBOX_MESSAGES", 10_000], bytes: ["OUTBOX_BYTES", 32_000_000] };

function libraryFor({ bounds }) {
  if (!bounds) return core;
  return load(Object.entries(BOUNDS).filter(([name]) => name in bounds)
    .map(([name, [constant, usual]]) => [`${constant} = ${usual};`, `${constant} = ${bounds[name]};`]))._core;
}

const CONVERSATIONS = TRANSCRIPTS.filter(([, found]) => found.role === "client");

for (const [name, transcript] of CONVERSATIONS) {
  test(`${name}: ${transcript.about}`, () => {
    const replay = new Replay(libraryFor(transcript), transcript);
    transcript.steps.forEach((step, index) => {
      const given = replay.step(step);
      const where = `step ${index + 1}: ${JSON.stringify(step)}`;
      if ("gives" in step) {
        const gives = Array.isArray(step.gives) ? step.gives.map((each) => each[0] === "dropped" ? each.slice(0, 3) : each) : step.gives;
        assert.deepEqual(given, gives, where);
      } else {
        assert.ok(!(given && given.error), `${where} gave ${JSON.stringify(given)}`);
      }
    });
  });
}

// --- The codec ----------------------------------------------------------------------

const CASES = TRANSCRIPTS.filter(([, found]) => found.role === "codec")
  .flatMap(([name, found]) => found.cases.map((each, index) => [`${name} ${index}`, each]));

function decodeCase(found) {
  if ("text" in found) return core.decode(found.text);
  if ("base64" in found) return core.decodeBinary(fromBase64(found.base64));
  if ("body" in found) return core.decodeBody(found.body);
  // Bytes that are no UTF-8: a browser replaces them with U+FFFD.
  return core.decodeBody(Buffer.from(found.body64, "base64").toString("utf8"));
}

// What only a server decodes: to a browser it is none of ours.
const isClients = ({ kind, key }) => kind === "hello" || kind === "poll" || (kind === "envelope" && key !== null);

const counts = { decoded: 0, encoded: 0, refused: 0 };

// What Python's texts cannot be and a browser's can: half a surrogate pair; and bytes that are no
// UTF-8, which a browser has repaired before this file sees them.
const isPythons = (found) => "body64" in found || /\\u[dD][89a-fA-F]/.test(found.text);

test("the codec refuses as written", () => {
  for (const [name, found] of CASES.filter(([, each]) => each.unit.error)) {
    if (isPythons(found)) continue;
    // Of another version's heads a browser only knows that they are none of its own.
    assert.match(found.unit.error, /^(MalformedEnvelope|UnsupportedVersion)$/);
    const where = `${name}: ${JSON.stringify(found).slice(0, 300)}`;
    assert.throws(() => decodeCase(found), (error) => nameOf(error) === "MalformedEnvelope", where);
    counts.refused += 1;
  }
});

test("the codec reads what a server sends as written, and nothing else", () => {
  for (const [name, found] of CASES.filter(([, each]) => !each.unit.error)) {
    const where = `${name}: ${JSON.stringify(found).slice(0, 300)}`;
    if (isClients(found.unit)) {
      assert.throws(() => decodeCase(found), (error) => nameOf(error) === "MalformedEnvelope", where);
      continue;
    }
    assert.deepEqual(writeUnit(decodeCase(found)), found.unit, where);
    counts.decoded += 1;
  }
});

test("what another release adds to a head is passed over", () => {
  const grant = { messages: 1, bytes: 1, message: 1, body: 1, wait: 1, keepalive: 1, inactivity: 1 };
  for (const head of [{ welcome: 1, id: "a", attempt: 1, key: "b", grant }, { end: 1000, reason: "over" }]) {
    const more = { ...head, later: { a: [1] }, grant: { ...head.grant, later: 1 } };
    assert.deepEqual(core.decode(JSON.stringify(more)), core.decode(JSON.stringify(head)));
  }
});

test("the codec writes what a client sends as written", () => {
  for (const [name, found] of CASES.filter(([, each]) => !each.unit.error)) {
    if (found.unit.kind === "welcome" || found.unit.kind === "end") continue;
    // This client tells of itself the name of its library alone.
    if (Object.keys(found.unit.client ?? {}).some((each) => each !== "library")) continue;
    const where = `${name}: ${JSON.stringify(found).slice(0, 300)}`;
    const unit = readUnit(found.unit);
    let same;
    if ("text" in found) {
      same = core.encode(unit) === found.text;
    } else if ("base64" in found) {
      same = JSON.stringify(core.encodeFrames(unit).map(writeData)) ===
        JSON.stringify([{ base64: found.base64 }]);
    } else {
      const body = "body" in found ? found.body : Buffer.from(found.body64, "base64").toString();
      same = core.encodeBody(unit) === body;
    }
    assert.equal(same, found.same, where);
    counts.encoded += 1;
  }
});

test("enough was replayed", () => {
  assert.ok(CONVERSATIONS.length >= FLOOR_CONVERSATIONS, `${CONVERSATIONS.length} conversations`);
  const cases = counts.decoded + counts.encoded + counts.refused;
  assert.ok(cases >= FLOOR_CASES, JSON.stringify(counts));
});
