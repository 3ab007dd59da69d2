// What old engines do to text and bytes on the way, and that it cannot matter.

import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import vm from "node:vm";

import { core } from "./core.mjs";

// As a page posts it: a packet's text.
const packet = (data) => core.encodePacket("2", "/", "", ["name", data])[0].data;

// The character after the one unit that a packet of `text` has it as, or null if it is escaped.
const isRaw = (text) => packet(text).includes(text);

test("a packet is in form NFC, whatever characters it has: old WebKit makes it so", () => {
  // Of what is not escaped, nothing may be changed by NFC, neither alone nor beside one another:
  // no raw character decomposes, is reordered, or is the second one of a composition.
  const seconds = new Set();
  let raw = 0;
  for (let point = 0; point <= 0x10ffff; point++) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const parts = [...String.fromCodePoint(point).normalize("NFD")];
    for (const part of parts.slice(1)) seconds.add(part.codePointAt(0));
  }
  // Hangul's vowels and finals compose by rule.
  for (let point = 0x1161; point < 0x11c3; point++) seconds.add(point);
  for (let point = 0x20; point <= 0x10ffff; point++) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const text = String.fromCodePoint(point);
    if (!isRaw(text)) continue;
    raw += 1;
    assert.equal(text.normalize("NFC"), text, point.toString(16));
    // U+0345 is of the highest combining class: any other mark goes before it.
    assert.equal(`\u0345${text}`.normalize("NFD").slice(0, 1), "\u0345", point.toString(16));
    assert.ok(!seconds.has(point), point.toString(16));
  }
  assert.ok(raw > 30_000, "most of what people write stays as it is");
});

test("an accent behind an escape stays behind it", () => {
  const text = packet("\n\u0301");
  assert.equal(text, '2["name","\\n\\u0301"]');
  assert.equal(text.normalize("NFC"), text);
});

test("what is escaped is the same text", () => {
  const odd = "é漢字かなЖ\u0301\u212b\u2028\ufeff\uffff😀👩\u{10ffff}\u{1d15e}ئ한\u1100\u1161";
  assert.deepEqual(JSON.parse(packet(odd).slice(1)), ["name", odd]);
  for (const each of "éŁ漢字かなЖя한") assert.ok(isRaw(each), each);
  for (const each of ["😀", "\u0301", "ئ"]) assert.ok(!isRaw(each), each);
});

test("the reason of a close, too", () => {
  assert.equal(core.segment(new core.Close(4000, "e\u0301")), 'c[4000,"e\\u0301"]');
});

test("base64 is that of RFC 4648, for every length and every byte", () => {
  for (let length = 0; length < 300; length++) {
    const bytes = Uint8Array.from({ length }, (_, place) => place * 7 + length & 255);
    const text = core.toBase64(bytes);
    assert.equal(text, Buffer.from(bytes).toString("base64"));
    assert.deepEqual(core.fromBase64(text), bytes);
  }
});

test("no other base64 is taken", () => {
  for (const text of ["A", "AA", "AAA", "AA=A", "A===", "====", "AAA ", "AA-_", "AAAA=", "é===", "AAAA\n"]) {
    assert.throws(() => core.fromBase64(text), { code: 4400 }, text);
  }
});

test("zeros are no nonce: of a random source that is a stub, nothing is taken", () => {
  const source = fs.readFileSync(new URL("../../static/fallback_transport.js", import.meta.url), "utf8");
  const hello = (fill) => {
    const bodies = [];
    function XMLHttpRequest() {}
    Object.assign(XMLHttpRequest.prototype, {
      open() {}, setRequestHeader() {}, abort() {}, send(body) { bodies.push(body); },
    });
    const window = vm.createContext({
      XMLHttpRequest, crypto: { getRandomValues: (bytes) => bytes.fill(fill) },
      setTimeout: () => 1, clearTimeout() {},
    });
    vm.runInContext(source, window);
    vm.runInContext("FallbackTransport.connect('http://page.test/fallback')", window);
    return JSON.parse(bodies[0].split("\x1e")[0]);
  };
  assert.equal(hello(0).nonce, undefined);
  assert.equal(hello(255).nonce, "255.255.255.255.255.255.255.255.255.255.255.255.255.255.255.255");
});
