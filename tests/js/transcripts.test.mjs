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
  if ("code" in item) return { close: [item.code, item.reason] };
  if (!("offset" in item)) return writeData(item.data);
  return { part: writeData(item.data), offset: item.offset, total: item.total };
}

function writeEvent(event) {
  switch (event.type) {
    case "message": return ["message", event.seq, writeData(event.data)];
    case "close": return ["close", event.seq, event.code, event.reason];
    case "switched": return ["switched", event.attempt, event.transport];
    case "answered": return ["answered", event.attempt, event.time / 1000];
    case "dropped": return ["dropped", event.attempt, event.code, event.reason];
    case "closed":
      return ["closed", event.code, event.reason, event.unconfirmed.map(writeItem)];
    default: return assert.fail(`an event of type ${event.type}`);
  }
}

const ENVELOPE = ["ack", "received", "seq", "messages", "commit", "key", "ask", "answer"];

function writeEnvelope(unit) {
  const found = Object.fromEntries(ENVELOPE.map((name) => [name, unit[name]]));
  return { ...found, ...unit.got ? { got: unit.got } : {}, messages: unit.messages.map(writeItem) };
}

const SECONDS = ["wait", "keepalive", "inactivity"];

function writeUnit(unit) {
  if (unit.kind === "envelope") return { kind: "envelope", ...writeEnvelope(unit) };
  if (unit.kind === "end") return unit;
  const grant = { ...unit.grant };
  for (const name of SECONDS) grant[name] /= 1000;
  const { protocol, ...rest } = unit;
  return {
    ...rest, grant, envelope: writeEnvelope(unit.envelope), ...(protocol ? { protocol } : {}),
  };
}

function readItem(value, { Message, Part, Close }) {
  if (value.part) return new Part(readData(value.part), value.offset, value.total);
  return value.close ? new Close(...value.close) : new Message(readData(value));
}

function readEnvelope(value, library) {
  const messages = value.messages.map((item) => readItem(item, library));
  return library.envelope({ ...value, kind: "envelope", messages });
}

// A unit for encoding, from the file's words.
function readUnit(value) {
  if (value.kind === "envelope") return readEnvelope(value, core);
  const unit = { ...value, envelope: readEnvelope(value.envelope, core) };
  if (value.kind === "poll" && value.wait !== null) unit.wait = milliseconds(value.wait);
  if (value.kind === "hello" && !Object.keys(value.client).length) unit.client = null;
  return unit;
}

// --- The calls of a conversation -------------------------------------------------

const LOCAL_ERRORS = {
  "too-large": "MessageRefused", "full": "OutboxFull", "closed": "SessionOver", "state": "SessionOver",
};

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
      const name = LOCAL_ERRORS[error.code] || error.name;
      if (!/^(MalformedEnvelope|SequenceGap|ImpossibleMark|MessageTooLarge|MessageRefused|OutboxFull|SessionOver)$/.test(name)) {
        throw error;
      }
      return { error: name };
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

  handled(seq) { return this.machine.handled(seq, this.now).map(writeEvent); }
  close(code, reason) { return this.machine.close(code, reason, this.now).map(writeEvent); }
  abort(code, reason) { return this.machine.abort(code, reason).map(writeEvent); }
  detach(attempt) { return this.machine.detach(attempt, this.now).map(writeEvent); }
  timeout() { return this.machine.timeout(this.now).map(writeEvent); }
  ask(attempt) { this.machine.ask(attempt); }
  state() { return this.machine.state; }

  receive(attempt, frame) {
    return this.machine.receive(attempt, this.frame(frame), this.now).map(writeEvent);
  }

  pull(attempt) {
    const unit = this.machine.pull(attempt, this.now);
    return unit && this.library.encodeFrames(unit).map(writeData);
  }

  deadline() {
    const found = this.machine.deadline();
    return found === null ? null : found / 1000;
  }

  hello(attempt, transport, nonce) {
    return this.library.encode(this.machine.hello(attempt, transport, nonce, this.now));
  }

  welcomed(text) {
    return this.machine.welcomed(this.library.decode(text), this.now).map(writeEvent);
  }

  commit(attempt) { return this.machine.commit(attempt).map(writeEvent); }

  poll({ wait, limit = null }) {
    return this.library.encode(this.machine.poll(wait === null ? null : milliseconds(wait), limit));
  }

  ended(text) { return this.machine.ended(this.library.decode(text)).map(writeEvent); }
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
        assert.deepEqual(given, step.gives, where);
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
    assert.throws(() => decodeCase(found), (error) => error.name === "MalformedEnvelope", where);
    counts.refused += 1;
  }
});

test("the codec reads what a server sends as written, and nothing else", () => {
  for (const [name, found] of CASES.filter(([, each]) => !each.unit.error)) {
    const where = `${name}: ${JSON.stringify(found).slice(0, 300)}`;
    if (isClients(found.unit)) {
      assert.throws(() => decodeCase(found), (error) => error.name === "MalformedEnvelope", where);
      continue;
    }
    assert.deepEqual(writeUnit(decodeCase(found)), found.unit, where);
    counts.decoded += 1;
  }
});

test("the codec writes what a client sends as written", () => {
  for (const [name, found] of CASES.filter(([, each]) => !each.unit.error)) {
    if (found.unit.kind === "welcome" || found.unit.kind === "end") continue;
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
