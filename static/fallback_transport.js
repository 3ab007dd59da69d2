/*!
 * fallback_transport 0.1.0 (MIT licence)
 * One session with a server, over WebSocket or long polling: nothing lost, repeated or reordered.
 */
(function (root, factory) {
  if (typeof module === "object" && module.exports) {
    module.exports = factory(root);
  } else if (typeof define === "function" && define.amd) {
    define([], function () { return factory(root); });
  } else {
    root.FallbackTransport = factory(root);
  }
})(typeof self !== "undefined" ? self : this, function (root) {
  "use strict";

  // This is the file that ships: ES5, no build step, no dependencies. It runs in browsers that
  // have XMLHttpRequest, JSON and typed arrays, with or without WebSocket, Promise, crypto or
  // Function.prototype.bind. The sections up to the packets mirror the Python modules of
  // fallback_transport/protocol and are tested by the same transcripts; PROTOCOL.md says why each
  // rule is as it is. All times are milliseconds.

  // --- Constants ---------------------------------------------------------------------------

  var VERSION = 1;
  var SEPARATOR = "\x1e";
  var END_MARK = SEPARATOR + ".";
  var SUBPROTOCOL = "fallback.v1";

  var MAX_HEAD = 4096;
  var MAX_REASON_BYTES = 123;

  var CLOSE_WAIT = 5000;
  var CANDIDATE_WAIT = 10000;
  var ACK_DELAY = 200;
  var SILENCE_MARGIN = 5000;
  var MAX_ANSWERS = 8;
  var ENVELOPE_BYTES = 64000;
  var ENVELOPE_MESSAGES = 256;
  var HELLO_BYTES = 16000;
  var REQUEST_BYTES = 256000;
  var REQUEST_MESSAGES = 500;
  var OUTBOX_MESSAGES = 10000;
  var OUTBOX_BYTES = 32000000;
  // The least that a sending request carries of a message in parts, however little a proxy allows.
  var LEAST_PART = 250;

  var NORMAL = 1000;
  var GOING_AWAY = 1001;
  var PROTOCOL_ERROR = 1002;
  // What a close frame without a code means (RFC 6455, section 7.1.5).
  var NO_CODE = 1005;
  var SERVICE_RESTART = 1012;
  var TRY_AGAIN = 1013;
  var MALFORMED = 4400;
  var BAD_ORIGIN = 4403;
  var GONE = 4404;
  var INACTIVE = 4408;
  var SUPERSEDED = 4409;
  var TOO_LARGE = 4413;
  var MISDIRECTED = 4421;
  var BAD_VERSION = 4426;

  var DEFAULT_GRANT = {
    messages: 1000, bytes: 4000000, message: 16000000, body: 1000000,
    wait: 25000, keepalive: 25000, inactivity: 120000
  };

  // The negotiator's times, which `options.timing` overrides; PROTOCOL.md, "Negotiation".
  var TIMING = {
    hedge: 600,
    welcome: 2500,
    probe: 30000,
    probeMax: 600000,
    verdict: 600000,
    wait: Infinity,
    minWait: 2000,
    shortWait: 2000,
    shortWaitFor: 60000,
    learned: 600000,
    retry: 500,
    retryMax: 30000,
    spread: 5000,
    alive: 1000,
    request: 15000,
    margin: 10000,
    late: 5000,
    death: 60000,
    deathWindow: 300000,
    deaths: 3
  };

  // By so much a timer may be late: 100 ms are a turn of a busy page's event loop.
  var LATENESS = 100;
  // The first wait behind a message, in units of `alive`: with its margin under 3 s.
  var ATTENTION = 1.5;

  // --- Small things ------------------------------------------------------------------------

  function extend(target, source) {
    for (var name in source) {
      if (Object.prototype.hasOwnProperty.call(source, name)) { target[name] = source[name]; }
    }
    return target;
  }

  function inherit(Child, Parent) {
    Child.prototype = Object.create(Parent.prototype);
    Child.prototype.constructor = Child;
  }

  // `bind`, which Qt 4's WebKit lacks.
  function method(object, name) {
    return function () { return object[name].apply(object, arguments); };
  }

  function failure(code, text) {
    var error = new Error(text);
    error.code = code;
    return error;
  }

  // The peer broke a rule: `code` answers it, `fatal` ends the session and not just a connection.
  function protocolError(name, text) {
    var error = failure(name === "MalformedEnvelope" ? MALFORMED :
      name === "MessageTooLarge" ? TOO_LARGE : PROTOCOL_ERROR, text);
    error.name = name;
    error.fatal = name === "ImpossibleMark" || name === "MessageTooLarge";
    return error;
  }

  function malformed(text) { return protocolError("MalformedEnvelope", text); }

  // How many bytes of UTF-8 a text has; a lone surrogate becomes U+FFFD, three bytes, on the way.
  function utf8Length(text) {
    var bytes = text.length;
    for (var i = 0; i < text.length; i++) {
      var unit = text.charCodeAt(i);
      if (unit < 0x80) { continue; }
      if (unit < 0x800) { bytes += 1; continue; }
      bytes += 2;
      if (unit >= 0xd800 && unit < 0xdc00) {
        var next = text.charCodeAt(i + 1);
        // A pair is four bytes for its two units.
        if (next >= 0xdc00 && next < 0xe000) { i++; }
      }
    }
    return bytes;
  }

  // Not btoa and atob: edbrowse's make other bytes of it.
  var DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  var VALUES = {};
  for (var place = 0; place < 64; place++) { VALUES[DIGITS.charAt(place)] = place; }

  function toBase64(bytes) {
    var text = "";
    for (var i = 0; i < bytes.length; i += 3) {
      var bits = bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];
      text += DIGITS.charAt(bits >> 18) + DIGITS.charAt(bits >> 12 & 63) +
        (i + 1 < bytes.length ? DIGITS.charAt(bits >> 6 & 63) : "=") +
        (i + 2 < bytes.length ? DIGITS.charAt(bits & 63) : "=");
    }
    return text;
  }

  function fromBase64(text) {
    if (text.length % 4 || !/^[A-Za-z0-9+\/]*={0,2}$/.test(text)) { throw malformed("base64"); }
    var bytes = new Uint8Array(text.replace(/=+$/, "").length * 3 >> 2);
    for (var i = 0, at = 0; i < text.length; i += 4) {
      var bits = VALUES[text.charAt(i)] << 18 | VALUES[text.charAt(i + 1)] << 12 |
        VALUES[text.charAt(i + 2)] << 6 | VALUES[text.charAt(i + 3)];
      // What is behind the end goes nowhere.
      bytes[at++] = bits >> 16;
      bytes[at++] = bits >> 8;
      bytes[at++] = bits;
    }
    return bytes;
  }

  // Old WebKit (measured in that of 2011 and of 2013) brings what a page posts into Unicode's form
  // NFC: another text then, and no JSON where an accent follows an escape. What NFC could change is
  // escaped, and what is rare or as dear anyway. The server escapes all that is not ASCII.
  var RISKY =
    /[\u0300-\u0387\u0483-\u1dff\u1f00-\u2fff\u302a-\u302f\u3099\u309a\ua66f-\uabff\ud7a4-\uffff]/g;

  function toJson(value) {
    return JSON.stringify(value).replace(RISKY, function (unit) {
      return "\\u" + ("0" + unit.charCodeAt(0).toString(16)).slice(-4);
    });
  }

  // --- Envelopes: the only place that knows the bytes ----------------------------------------

  // One opaque text or bytes (a Uint8Array).
  function Message(data) {
    this.data = data;
    this.size = typeof data === "string" ? utf8Length(data) : data.length;
  }

  Message.prototype.segment = function () {
    if (typeof this.data !== "string") { return "b" + toBase64(this.data); }
    return this.data.indexOf(SEPARATOR) < 0 ? "m" + this.data : "e" + JSON.stringify(this.data);
  };

  // The stretch from unit `offset` on (of a text, UTF-16 units) that takes about `size` bytes.
  Message.prototype.part = function (offset, size) {
    var data = this.data;
    // One unit takes up to three bytes of UTF-8; escaped, as with U+001E in it, six.
    var place = cut(data, offset, typeof data === "string" && this.size > data.length ? size / 3 : size);
    if (typeof data === "string" && data.slice(place[0], place[1]).indexOf(SEPARATOR) >= 0) {
      place = cut(data, place[0], size / 6);
    }
    return new Part(slice(data, place[0], place[1]), place[0], data.length);
  };

  function slice(data, start, end) {
    return typeof data === "string" ? data.slice(start, end) : data.subarray(start, end);
  }

  // Where a stretch begins and ends: never amid a surrogate pair.
  function cut(data, start, count) {
    if (typeof data !== "string") { return [start, start + Math.max(1, Math.floor(count))]; }
    var end = start + Math.max(2, Math.floor(count));
    return [isLow(data, start) ? start - 1 : start, isLow(data, end) ? end - 1 : end];
  }

  function isLow(text, at) {
    var unit = text.charCodeAt(at);
    return unit >= 0xdc00 && unit < 0xe000;
  }

  // A stretch of a message of `total` units that does not fit an envelope.
  function Part(data, offset, total) {
    this.data = data;
    this.offset = offset;
    this.total = total;
    this.end = offset + data.length;
    if (!data.length || this.end > total) { throw malformed("a part that does not fit its message"); }
    this.size = new Message(data).size;
  }

  Part.prototype.segment = function () {
    return "p" + this.offset + "/" + this.total + "," + new Message(this.data).segment();
  };

  // The last numbered message of a direction.
  function Close(code, reason) {
    this.code = code;
    this.reason = reason;
    this.size = utf8Length(this.segment());
  }

  Close.prototype.segment = function () { return "c" + toJson([this.code, this.reason]); };

  function isNumber(value) {
    return typeof value === "number" && value >= 0 && value < 1e15 && Math.floor(value) === value;
  }

  function envelope(fields) {
    return extend({
      kind: "envelope", ack: 0, received: 0, seq: null, messages: [],
      commit: null, key: null, ask: null, answer: null, got: 0
    }, fields);
  }

  function tokens(unit) {
    var line = "a" + unit.ack;
    if (unit.received !== unit.ack) { line += " r" + unit.received; }
    if (unit.got) { line += " g" + unit.got; }
    if (unit.seq !== null) { line += " s" + unit.seq; }
    if (unit.commit !== null) { line += " c" + unit.commit; }
    if (unit.key !== null) { line += " k" + unit.key; }
    if (unit.ask !== null) { line += " q" + unit.ask; }
    if (unit.answer !== null) { line += " p" + unit.answer; }
    return line;
  }

  function withSegments(head, messages) {
    var parts = [head];
    for (var i = 0; i < messages.length; i++) { parts.push(messages[i].segment()); }
    return parts.join(SEPARATOR);
  }

  // A hello, a polling request or an envelope as one text.
  function encode(unit) {
    var inner = unit.envelope || unit;
    if (unit.kind === "hello") {
      var hello = { hello: VERSION, attempt: unit.attempt };
      if (unit.nonce) { hello.nonce = unit.nonce; }
      if (unit.id) { hello.id = unit.id; hello.key = unit.key; }
      if (unit.client) { hello.client = unit.client; }
      hello.ack = inner.ack;
      hello.received = inner.received;
      if (inner.seq !== null) { hello.seq = inner.seq; }
      if (inner.got) { hello.got = inner.got; }
      return withSegments(JSON.stringify(hello), inner.messages);
    }
    if (unit.kind === "poll") {
      var line = "i" + unit.id + " k" + unit.key + " t" + unit.attempt + " n" + unit.number;
      if (unit.wait !== null) { line += " w" + Math.round(unit.wait); }
      if (unit.limit !== null) { line += " b" + unit.limit; }
      return withSegments(line + " " + tokens(inner), inner.messages);
    }
    return withSegments(tokens(inner), inner.messages);
  }

  function encodeBody(unit) { return encode(unit) + END_MARK; }

  function bytesFrame(head, data) {
    var frame = new Uint8Array(head.length + 1 + data.length);
    for (var i = 0; i < head.length; i++) { frame[i] = head.charCodeAt(i); }
    frame[head.length] = SEPARATOR.charCodeAt(0);
    frame.set(data, head.length + 1);
    return frame;
  }

  // An envelope as WebSocket messages: runs of texts together, bytes one by one. The first has
  // all that is to be said, each states the number of its first message.
  function encodeFrames(unit) {
    var frames = [];
    var run = [];
    var rest = unit;

    function headed(seq, messages) {
      var part = extend(envelope(rest), { seq: seq, messages: messages });
      rest = { ack: unit.ack, received: unit.received, got: unit.got };
      return part;
    }

    function endRun(after) {
      if (run.length) { frames.push(encode(headed(after - run.length, run))); }
      run = [];
    }

    for (var i = 0; i < unit.messages.length; i++) {
      var message = unit.messages[i];
      if (message.data && typeof message.data !== "string") {
        endRun(unit.seq + i);
        frames.push(bytesFrame(tokens(headed(unit.seq + i, [])) + (message instanceof Part ?
          " o" + message.offset + " u" + message.total : ""), message.data));
      } else {
        run.push(message);
      }
    }
    endRun(unit.seq + unit.messages.length);
    return frames.length ? frames : [encode(unit)];
  }

  function parseJson(text) {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw malformed("JSON");
    }
  }

  function decodeSegment(segment) {
    var kind = segment.charAt(0);
    var content = segment.slice(1);
    var value;
    if (kind === "m") { return new Message(content); }
    if (kind === "b") { return new Message(fromBase64(content)); }
    if (kind === "e") {
      value = parseJson(content);
      if (typeof value === "string") { return new Message(value); }
    }
    if (kind === "c") {
      value = parseJson(content);
      if (value instanceof Array && value.length === 2 && isNumber(value[0]) &&
          typeof value[1] === "string" && validClose(value[0], value[1]) === null) {
        return new Close(value[0], value[1]);
      }
    }
    if (kind === "p" && (value = /^(\d{1,15})\/(\d{1,15}),([meb][\s\S]*)$/.exec(content))) {
      return new Part(decodeSegment(value[3]).data, +value[1], +value[2]);
    }
    throw malformed("a segment of kind " + kind);
  }

  // Why code and reason cannot close a session, or null; see codes.py.
  function validClose(code, reason) {
    if (code === NO_CODE && !reason) { return null; }
    if (!(code >= 3000 && code <= 4999 || code >= 1000 && code <= 1003 ||
        code >= 1007 && code <= 1014)) {
      return code + " is not a close code: use 1000, or 3000 to 4999";
    }
    if (utf8Length(reason) > MAX_REASON_BYTES) {
      return "the reason has more than " + MAX_REASON_BYTES + " bytes of UTF-8";
    }
    return null;
  }

  function checked(unit) {
    if ((unit.seq === null) !== (unit.messages.length === 0) || unit.received < unit.ack ||
        unit.seq === 0) {
      throw malformed("marks or numbers that cannot be");
    }
    return unit;
  }

  var TOKEN_FIELDS = { a: "ack", r: "received", s: "seq", c: "commit", q: "ask", p: "answer", g: "got" };

  function decodeTokens(line, messages) {
    var unit = envelope({ messages: messages, ack: null, received: null, got: null });
    var parts = line.split(" ");
    for (var i = 0; i < parts.length; i++) {
      var field = TOKEN_FIELDS[parts[i].charAt(0)];
      var value = parts[i].slice(1);
      // A server sends no other tokens.
      if (!field || unit[field] !== null || !/^(0|[1-9][0-9]{0,14})$/.test(value)) {
        throw malformed("a head of unknown form");
      }
      unit[field] = +value;
    }
    if (unit.ack === null) { throw malformed("no ack"); }
    if (unit.received === null) { unit.received = unit.ack; }
    unit.got = unit.got || 0;
    return checked(unit);
  }

  function number(head, name, fallback) {
    var value = head[name] === undefined ? fallback : head[name];
    if (!isNumber(value)) { throw malformed(name + " must be a whole number"); }
    return value;
  }

  function name(value) {
    if (typeof value !== "string" || !/^[A-Za-z0-9._-]{1,64}$/.test(value)) {
      throw malformed("a name was expected");
    }
    return value;
  }

  function subprotocol(value) {
    if (typeof value !== "string" || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/.test(value)) {
      throw malformed("a subprotocol that cannot be");
    }
    return value;
  }

  function decodeHead(head, messages) {
    if (!head || typeof head !== "object") { throw malformed("a head that is no object"); }
    if (head.end !== undefined) {
      var reason = head.reason === undefined ? "" : head.reason;
      if (typeof reason !== "string" || messages.length) { throw malformed("an end"); }
      return {
        kind: "end", code: number(head, "end"), reason: reason, session: head.session === true,
        ack: number(head, "ack", 0), received: number(head, "received", 0)
      };
    }
    if (number(head, "welcome") !== VERSION) { throw malformed("another protocol version"); }
    var grant = {};
    for (var each in DEFAULT_GRANT) {
      grant[each] = number(head.grant || {}, each);
    }
    return {
      kind: "welcome",
      id: name(head.id),
      attempt: number(head, "attempt"),
      key: head.key === undefined ? null : name(head.key),
      grant: grant,
      protocol: head.protocol === undefined ? "" : subprotocol(head.protocol),
      envelope: checked(envelope({
        ack: number(head, "ack", 0), received: number(head, "received", 0),
        seq: head.seq === undefined ? null : number(head, "seq"), messages: messages,
        got: number(head, "got", 0)
      }))
    };
  }

  // The unit that a server's text holds; throws MalformedEnvelope.
  function decode(text) {
    var parts = text.split(SEPARATOR);
    if (parts[0].length > MAX_HEAD) { throw malformed("a head that is too long"); }
    var messages = [];
    for (var i = 1; i < parts.length; i++) { messages.push(decodeSegment(parts[i])); }
    return parts[0].charAt(0) === "{" ? decodeHead(parseJson(parts[0]), messages) :
      decodeTokens(parts[0], messages);
  }

  // The same for the body of a polling answer: without its end mark it was cut, or is not ours.
  function decodeBody(text) {
    var end = text.length - END_MARK.length;
    if (end < 0 || text.slice(end) !== END_MARK) { throw malformed("no end mark"); }
    return decode(text.slice(0, end));
  }

  function decodeBinary(bytes) {
    var head = "";
    for (var i = 0; i < bytes.length && i <= 128; i++) {
      if (bytes[i] === SEPARATOR.charCodeAt(0)) {
        var data = bytes.subarray(i + 1);
        var place = /^(.*) o(\d{1,15}) u(\d{1,15})$/.exec(head);
        return place ? decodeTokens(place[1], [new Part(data, +place[2], +place[3])]) :
          decodeTokens(head, [new Message(data)]);
      }
      head += String.fromCharCode(bytes[i]);
    }
    throw malformed("a binary envelope without its head");
  }

  // --- Outbox and inbox: exactly once, in order ------------------------------------------------

  function Outbox() {
    this.confirmed = 0;
    this.received = 0;
    // How many units of message `received` + 1 the server has, in parts.
    this.got = 0;
    // How often the marks have risen.
    this.moved = 0;
    this.bytes = 0;
    this.held = 0;
    this._numbered = [];
    this._groups = [];
    // Until the welcome grants more: the first message alone.
    this._credit = { messages: 1, bytes: 0 };
    this._usedMessages = 0;
    this._usedBytes = 0;
  }

  Outbox.prototype.last = function () { return this.confirmed + this._numbered.length; };

  Outbox.prototype.length = function () { return this._numbered.length + this.held; };

  Outbox.prototype.grant = function (messages, bytes) {
    this._credit = { messages: messages, bytes: bytes };
    this._release();
  };

  // Take messages that belong together. Urgent ones (replies) may exceed the server's credit and
  // overtake what waits for it.
  Outbox.prototype.append = function (items, urgent) {
    var size = sizeOf(items);
    var full = this.length() + items.length > OUTBOX_MESSAGES ||
      (this.length() > 0 && this.bytes + size > OUTBOX_BYTES);
    if (full && !(items[0] instanceof Close)) {
      throw failure("full", this.length() + " messages, " + this.bytes + " bytes are unconfirmed");
    }
    this.bytes += size;
    var group = { items: items, urgent: !!urgent, size: size };
    if (urgent || (!this._groups.length && this._hasCredit(group))) {
      this._number(group);
    } else {
      this._groups.push(group);
      this.held += items.length;
    }
  };

  // Take the peer's marks; lower ones are old news. Returns whether any rose.
  Outbox.prototype.confirm = function (handled, received, got) {
    var before = this.confirmed + this.received;
    var gotBefore = this.got;
    var partial = got && received >= this.confirmed && this._numbered[received - this.confirmed];
    if (handled > this.last() || received > this.last() ||
        (partial ? !partial.item.data || got >= partial.item.data.length :
          got && received >= this.last())) {
      throw protocolError("ImpossibleMark", "an ack of what was never sent");
    }
    var gone = this._numbered.splice(0, Math.max(0, handled - this.confirmed));
    for (var i = 0; i < gone.length; i++) {
      this.bytes -= gone[i].item.size;
      if (!gone[i].urgent) {
        this._usedMessages -= 1;
        this._usedBytes -= gone[i].item.size;
      }
    }
    this.confirmed += gone.length;
    var highest = Math.max(received, this.confirmed);
    if (highest > this.received) {
      this.received = highest;
      this.got = 0;
    }
    if (received === this.received) { this.got = Math.max(this.got, got || 0); }
    this._release();
    var news = this.confirmed + this.received > before || this.got > gotBefore;
    if (news) { this.moved += 1; }
    return news;
  };

  // The bytes that the server does not have, or has not confirmed.
  Outbox.prototype.left = function () {
    var partial = this.got ? this._numbered[this.received - this.confirmed].item : null;
    return this.bytes - (partial ? Math.floor(partial.size * this.got / partial.data.length) : 0);
  };

  // The messages from `seq` on: something if there is anything, then up to both limits. The first
  // begins at unit `offset`, and is a part if it does not fit; with `whole` there are no parts, and
  // nothing if the first does not fit.
  Outbox.prototype.read = function (seq, size, count, offset, whole) {
    var items = [];
    var start = seq - this.confirmed - 1;
    var end = Math.min(this._numbered.length, start + count);
    for (var i = start; i < end; i++) {
      var item = this._numbered[i].item;
      if (!items.length && item.data && (offset || item.size > size)) {
        if (whole) { break; }
        item = item.part(offset, size);
      }
      size -= item.size;
      if (items.length && size < 0) { break; }
      items.push(item);
      if (isUnfinished(item)) { break; }
    }
    return items;
  };

  function isUnfinished(item) { return item instanceof Part && item.end < item.total; }

  Outbox.prototype.unconfirmed = function () {
    var items = [];
    for (var i = 0; i < this._numbered.length; i++) { items.push(this._numbered[i].item); }
    for (var j = 0; j < this._groups.length; j++) { items.push.apply(items, this._groups[j].items); }
    return items;
  };

  Outbox.prototype._hasCredit = function (group) {
    // Whatever comes alone is allowed: a credit smaller than it would be a deadlock.
    if (!this._usedMessages || group.items[0] instanceof Close) { return true; }
    return this._usedMessages + group.items.length <= this._credit.messages &&
      this._usedBytes + group.size <= this._credit.bytes;
  };

  Outbox.prototype._number = function (group) {
    for (var i = 0; i < group.items.length; i++) {
      this._numbered.push({ item: group.items[i], urgent: group.urgent });
      if (!group.urgent) {
        this._usedMessages += 1;
        this._usedBytes += group.items[i].size;
      }
    }
  };

  Outbox.prototype._release = function () {
    while (this._groups.length && this._hasCredit(this._groups[0])) {
      var group = this._groups.shift();
      this.held -= group.items.length;
      this._number(group);
    }
  };

  function sizeOf(items) {
    var size = 0;
    for (var i = 0; i < items.length; i++) { size += items[i].size; }
    return size;
  }

  function Inbox() {
    this.limit = DEFAULT_GRANT.message;
    this.received = 0;
    this.handled = 0;
    this.pendingBytes = 0;
    this._sizes = {};
    this._partial = null;
  }

  // How many units of message `received` + 1 have come, in parts.
  Inbox.prototype.got = function () { return this._partial ? this._partial.got : 0; };

  // The new ones among `items`, which begin at `seq`, each with its number.
  Inbox.prototype.take = function (seq, items) {
    if (seq > this.received + 1) {
      throw protocolError("SequenceGap", "expected " + (this.received + 1) + ", got " + seq);
    }
    var fresh = [];
    for (var i = 0; i < items.length; i++) {
      var item = items[i];
      if (seq + i <= this.received) { continue; }
      if (item instanceof Part) {
        // Whatever is behind an unfinished one comes again.
        item = fresh.length && item.offset ? null : this._add(item);
        if (!item) { break; }
      }
      this._limited(item.size);
      this._partial = null;
      this.received += 1;
      this._sizes[this.received] = item.size;
      this.pendingBytes += item.size;
      fresh.push({ seq: this.received, item: item });
      if (item instanceof Close) { break; }
    }
    return fresh;
  };

  // Take a part; the whole message if this was the last of it, else null.
  Inbox.prototype._add = function (part) {
    var isText = typeof part.data === "string";
    var partial = this._partial ||
      { total: part.total, isText: isText, got: 0, size: 0, pieces: [] };
    if (part.offset > partial.got) {
      throw protocolError("SequenceGap", "expected unit " + partial.got + ", got " + part.offset);
    }
    if (partial.isText !== isText || partial.total !== part.total) {
      throw malformed("a part of another message");
    }
    if (part.end > partial.got) {
      // It may have been sent again from an earlier place, on another connection.
      var data = slice(part.data, partial.got - part.offset, part.data.length);
      this._limited(Math.max(part.total, partial.size + data.length));
      partial.pieces.push(data);
      partial.size += data.length;
      partial.got = part.end;
    }
    this._partial = partial;
    return partial.got < partial.total ? null :
      new Message(isText ? partial.pieces.join("") : joined(partial.pieces, partial.total));
  };

  Inbox.prototype._limited = function (size) {
    if (size > this.limit) { throw protocolError("MessageTooLarge", "a message beyond the grant"); }
  };

  function joined(pieces, length) {
    var bytes = new Uint8Array(length);
    var at = 0;
    for (var i = 0; i < pieces.length; i++) {
      bytes.set(pieces[i], at);
      at += pieces[i].length;
    }
    return bytes;
  }

  Inbox.prototype.done = function (seq) {
    if (this._sizes[seq] === undefined) { return; }
    this.pendingBytes -= this._sizes[seq];
    delete this._sizes[seq];
    while (this.handled < this.received && this._sizes[this.handled + 1] === undefined) {
      this.handled += 1;
    }
  };

  // --- The states of a session, and the one table of what changes them -------------------------

  var OPENING = "opening";
  var ATTACHED = "attached";
  var DETACHED = "detached";
  var CLOSING = "closing";
  var CLOSED = "closed";

  var TRANSITIONS = {
    opening: { attach: ATTACHED, detach: OPENING, close: CLOSING, finish: CLOSED },
    attached: { attach: ATTACHED, detach: DETACHED, close: CLOSING, finish: CLOSED },
    detached: { attach: ATTACHED, detach: DETACHED, close: CLOSING, finish: CLOSED },
    closing: { attach: CLOSING, detach: CLOSING, close: CLOSING, finish: CLOSED },
    closed: {}
  };

  // --- The client's machine: pure; `now` goes in, units, events and deadlines come out ---------

  var WEBSOCKET = "websocket";
  var POLLING = "polling";

  function ClientMachine(now) {
    this.grant = DEFAULT_GRANT;
    this.state = OPENING;
    this.outbox = new Outbox();
    this.inbox = new Inbox();
    this.connections = {};
    this.carrier = null;
    this.unattachedSince = now;
    this.id = null;
    this.key = null;
    this.code = NORMAL;
    this.reason = "";
    this.requestBytes = REQUEST_BYTES;
    this._commit = 0;
    this._closedBy = null;
    this._peerClose = null;
    this._closeDeadline = null;
    this._unstatedBytes = 0;
    this._nextAsk = 0;
    this._request = 0;
    this._toAnnounce = null;
  }

  // Take messages that belong together; throws an Error with a `code` if they cannot be sent.
  ClientMachine.prototype.send = function (items, urgent) {
    if (!this.accepts()) {
      throw failure("closed", "the session is " + this.state);
    }
    for (var i = 0; i < items.length; i++) {
      if (items[i].size > this.grant.message) {
        throw failure("too-large", "a message of " + items[i].size +
          " bytes exceeds the limit of " + this.grant.message);
      }
    }
    if (sizeOf(items) > this.grant.bytes + this.grant.message) {
      throw failure("too-large", "more bytes in one event than the server takes");
    }
    this.outbox.append(items, urgent);
  };

  ClientMachine.prototype.accepts = function () {
    return this.state !== CLOSING && this.state !== CLOSED;
  };

  // Whether what has arrived is still for the application.
  ClientMachine.prototype.delivers = function () {
    return this.state !== CLOSED && this._closedBy !== "local";
  };

  ClientMachine.prototype.handled = function (seq, now) {
    var before = this.inbox.pendingBytes;
    this.inbox.done(seq);
    this._unstatedBytes += before - this.inbox.pendingBytes;
    this._scheduleAck(now);
    var told = this._peerClose !== null && this.inbox.handled >= this._peerClose;
    return told && this.state === CLOSING ? this._finish() : [];
  };

  // Close behind all that was sent; confirmed by the server, or given up after 5 s.
  ClientMachine.prototype.close = function (code, reason, now) {
    if (!this.accepts()) { return []; }
    this._change("close");
    this._closedBy = "local";
    this.code = code;
    this.reason = reason;
    this._closeDeadline = now + CLOSE_WAIT;
    this.outbox.append([new Close(code, reason)]);
    return [];
  };

  ClientMachine.prototype.abort = function (code, reason) {
    if (this.state === CLOSED) { return []; }
    this.code = code;
    this.reason = reason;
    return this._finish();
  };

  ClientMachine.prototype.detach = function (attempt, now) {
    var connection = this.connections[attempt];
    delete this.connections[attempt];
    if (connection && connection === this.carrier) {
      this.carrier = null;
      if (this.state !== CLOSED) { this._change("detach"); }
      this.unattachedSince = connection.transport === POLLING ? connection.heardAt : now;
    }
    return [];
  };

  // Nothing could be heard while the device slept: silence counts from now on.
  ClientMachine.prototype.woke = function (now) {
    for (var attempt in this.connections) {
      this.connections[attempt].heardAt = this.connections[attempt].openedAt = now;
    }
    if (this.unattachedSince !== null) { this.unattachedSince = now; }
  };

  ClientMachine.prototype.ask = function (attempt) {
    var connection = this.connections[attempt];
    if (connection) {
      this._nextAsk += 1;
      connection.asks.push(this._nextAsk);
    }
  };

  // Take an envelope; throws SequenceGap (end the connection) or ImpossibleMark (the session).
  ClientMachine.prototype.receive = function (attempt, unit, now) {
    if (this.state === CLOSED) { return []; }
    var events = [];
    var connection = this.connections[attempt];
    if (connection) { connection.heardAt = now; }
    this.outbox.confirm(unit.ack, unit.received, unit.got);
    // What comes behind a close is ignored.
    var fresh = unit.seq === null || this._closedBy === "peer" ? [] :
      this.inbox.take(unit.seq, unit.messages);
    if (connection) {
      if (unit.ask !== null && connection.answers.length < MAX_ANSWERS) {
        connection.answers.push(unit.ask);
      }
      if (unit.answer !== null && connection.asked[unit.answer] !== undefined) {
        events.push({
          type: "answered", attempt: attempt, time: now - connection.asked[unit.answer]
        });
        delete connection.asked[unit.answer];
      }
    }
    return events.concat(this._settle(fresh, now));
  };

  // What is to be sent on a WebSocket now, or null; call it until it is.
  ClientMachine.prototype.pull = function (attempt, now) {
    var connection = this.connections[attempt];
    if (!connection || connection.transport !== WEBSOCKET) { return null; }
    var carries = connection === this.carrier;
    var items = [];
    if (carries && this.state !== CLOSED) {
      this._skip(connection);
      items = this.outbox.read(connection.nextSeq, this._fitting(ENVELOPE_BYTES), ENVELOPE_MESSAGES,
        connection.nextUnit);
    }
    var due = connection.asks.length || connection.answers.length ||
      connection === this._toAnnounce || (carries && this._ackDue(connection, now));
    if (!items.length && !due) { return null; }
    var seq = connection.nextSeq;
    var last = items[items.length - 1];
    connection.nextSeq += items.length;
    if (items.length) { connection.nextUnit = 0; }
    if (isUnfinished(last)) {
      connection.nextSeq -= 1;
      connection.nextUnit = last.end;
    }
    var ask = connection.asks.length ? connection.asks.shift() : null;
    if (ask !== null) { connection.asked[ask] = now; }
    return this._envelope(connection, seq, items, {
      ask: ask, answer: connection.answers.length ? connection.answers.shift() : null
    });
  };

  // Go on behind what the server has received.
  ClientMachine.prototype._skip = function (connection) {
    var outbox = this.outbox;
    if (connection.nextSeq <= outbox.received) {
      connection.nextSeq = outbox.received + 1;
      connection.nextUnit = 0;
    }
    if (connection.nextSeq === outbox.received + 1) {
      connection.nextUnit = Math.max(connection.nextUnit, outbox.got);
    }
  };

  // At most so many bytes of messages, so that they fit an envelope in base64 too.
  ClientMachine.prototype._fitting = function (size) {
    return Math.min(size, Math.floor(this.grant.body / 2));
  };

  ClientMachine.prototype.deadline = function () {
    if (this.state === CLOSED) { return null; }
    var first = this._closeDeadline === null ? Infinity : this._closeDeadline;
    if (this.unattachedSince !== null) {
      first = Math.min(first, this.unattachedSince + this.grant.inactivity);
    }
    for (var attempt in this.connections) {
      var connection = this.connections[attempt];
      first = Math.min(first, connection.heardAt + this._silence(connection));
      if (!connection.commit) { first = Math.min(first, connection.openedAt + CANDIDATE_WAIT); }
      if (connection.transport === WEBSOCKET) {
        if (!isAsked(connection)) {
          first = Math.min(first, connection.heardAt + this.grant.keepalive);
        }
        if (connection.ackAt !== null && connection === this.carrier) {
          first = Math.min(first, connection.ackAt);
        }
      }
    }
    return first === Infinity ? null : first;
  };

  ClientMachine.prototype.timeout = function (now) {
    if (this.state === CLOSED) { return []; }
    if (this._closeDeadline !== null && now >= this._closeDeadline) { return this._finish(); }
    var events = [];
    for (var attempt in this.connections) {
      events = events.concat(this._connectionTimeout(this.connections[attempt], now));
    }
    // Behind the connections: the last one may have ended just now, or long ago.
    var since = this.unattachedSince;
    if (since !== null && now >= since + this.grant.inactivity) {
      events = events.concat(this.abort(INACTIVE, "no connection for " +
        Math.round((now - since) / 1000) + " s"));
    }
    return events;
  };

  // The first text of connection `attempt`. It carries the first message of a new session, which
  // must not wait for the welcome, or the first of those to be replayed.
  ClientMachine.prototype.hello = function (attempt, transport, nonce, now) {
    var seq = this.outbox.received + 1;
    this.connections[attempt] = {
      attempt: attempt, transport: transport, openedAt: now, heardAt: now, nextSeq: seq,
      nextUnit: this.outbox.got, commit: 0, handled: 0, received: 0, got: 0, ackAt: null, asked: {}, asks: [], answers: [],
      // Whether the key was proved is known with the welcome; a hello by nonce proves none.
      keyless: this.id === null
    };
    // On a slow path what is large would keep the welcome from coming in time: it follows.
    var items = this.outbox.read(seq, Math.min(this._fitting(HELLO_BYTES), this.requestBytes),
      // Repeated by a proxy, a hello without a nonce is another session: nothing of the page's may
      // be in it.
      this.id !== null ? REQUEST_MESSAGES : nonce ? 1 : 0, this.outbox.got, true);
    return {
      kind: "hello", attempt: attempt, id: this.id, key: this.key,
      nonce: this.id === null ? nonce : null,
      envelope: envelope({
        ack: this.inbox.handled, received: this.inbox.received,
        seq: items.length ? seq : null, messages: items, got: this.inbox.got()
      })
    };
  };

  ClientMachine.prototype.welcomed = function (welcome, now) {
    if (this.state === CLOSED) { return []; }
    var connection = this.connections[welcome.attempt];
    if (connection) { connection.keyless = connection.keyless && welcome.key === null; }
    this.id = welcome.id;
    this.key = welcome.key || this.key;
    this.grant = welcome.grant;
    this.inbox.limit = welcome.grant.message;
    this.outbox.grant(welcome.grant.messages, welcome.grant.bytes);
    return this.receive(welcome.attempt, welcome.envelope, now);
  };

  // From now on this connection carries the session; `pull` or a request says so.
  ClientMachine.prototype.commit = function (attempt) {
    var connection = this.connections[attempt];
    connection.nextSeq = this.outbox.received + 1;
    connection.nextUnit = this.outbox.got;
    this._toAnnounce = connection;
    this._commit += 1;
    connection.commit = this._commit;
    this.carrier = connection;
    this.unattachedSince = null;
    this._change("attach");
    return [{ type: "switched", attempt: attempt, transport: connection.transport }];
  };

  // The next request of the polling connection that carries: waiting with a `wait`, else sending.
  ClientMachine.prototype.poll = function (wait, limit) {
    var seq = this.outbox.received + 1;
    var items = wait === null ? this.outbox.read(seq, this._fitting(this.requestBytes),
      REQUEST_MESSAGES, this.outbox.got) : [];
    this._request += 1;
    return {
      kind: "poll", id: this.id, key: this.key, attempt: this.carrier.attempt,
      number: this._request, wait: wait, limit: limit,
      envelope: this._envelope(this.carrier, seq, items, {})
    };
  };

  // Take the end of the session, outside the numbering.
  ClientMachine.prototype.ended = function (end) {
    if (this.state === CLOSED) { return []; }
    var last = this.outbox.last();
    this.outbox.confirm(Math.min(end.ack, last), Math.min(end.received, last));
    if (this._closedBy === "local" && !this.outbox.length()) { return this._finish(); }
    return this.abort(end.code, end.reason);
  };

  ClientMachine.prototype._change = function (happened) {
    var next = TRANSITIONS[this.state][happened];
    if (!next) { throw failure("state", happened + " on a " + this.state + " session"); }
    this.state = next;
  };

  ClientMachine.prototype._envelope = function (connection, seq, items, more) {
    connection.handled = this.inbox.handled;
    connection.received = this.inbox.received;
    connection.got = this.inbox.got();
    connection.ackAt = null;
    this._unstatedBytes = 0;
    var unit = envelope(more);
    unit.ack = this.inbox.handled;
    unit.received = this.inbox.received;
    unit.got = connection.got;
    if (items.length) { extend(unit, { seq: seq, messages: items }); }
    if (connection.transport === POLLING) {
      unit.commit = connection.commit || null;
    } else if (connection === this._toAnnounce) {
      unit.commit = connection.commit;
      unit.key = connection.keyless ? this.key : null;
    }
    if (connection === this._toAnnounce) { this._toAnnounce = null; }
    return unit;
  };

  // Deliver what is new, and see what the marks have changed.
  ClientMachine.prototype._settle = function (fresh, now) {
    var events = [];
    for (var i = 0; i < fresh.length; i++) {
      var item = fresh[i].item;
      if (!(item instanceof Close)) {
        if (this._closedBy === null) {
          events.push({ type: "message", seq: fresh[i].seq, data: item.data });
        }
        continue;
      }
      // Where both have closed, the server's code counts.
      this.code = item.code;
      this.reason = item.reason;
      if (this._closedBy === "local") { return events.concat(this._finish()); }
      this._change("close");
      this._closedBy = "peer";
      this._peerClose = fresh[i].seq;
      events.push({ type: "close", seq: fresh[i].seq, code: item.code, reason: item.reason });
    }
    // Also where nothing is new: another connection may have to carry the ack now.
    this._scheduleAck(now);
    if (this.state === CLOSING && this._closedBy === "local" && !this.outbox.length()) {
      events = events.concat(this._finish());
    }
    return events;
  };

  ClientMachine.prototype._finish = function () {
    this._change("finish");
    this.unattachedSince = this._closeDeadline = null;
    var left = this.outbox.unconfirmed().filter(function (item) {
      return !(item instanceof Close);
    });
    return [{ type: "closed", code: this.code, reason: this.reason, unconfirmed: left }];
  };

  ClientMachine.prototype._ackDue = function (connection, now) {
    if (connection.ackAt === null) { return false; }
    var handled = this.inbox.handled - connection.handled;
    return now >= connection.ackAt || this._closedBy === "peer" || (handled > 0 &&
      (handled >= this.grant.messages >> 1 || this._unstatedBytes >= this.grant.bytes >> 1));
  };

  ClientMachine.prototype._scheduleAck = function (now) {
    var connection = this.carrier;
    if (connection && connection.ackAt === null && (connection.handled !== this.inbox.handled ||
        connection.received !== this.inbox.received || connection.got !== this.inbox.got())) {
      connection.ackAt = now + ACK_DELAY;
    }
  };

  ClientMachine.prototype._silence = function (connection) {
    var silence = 2 * this.grant.keepalive + SILENCE_MARGIN;
    return connection.transport === POLLING ? Math.min(silence, this.grant.inactivity) : silence;
  };

  ClientMachine.prototype._connectionTimeout = function (connection, now) {
    var silent = now - connection.heardAt;
    if (silent >= this._silence(connection)) {
      return this._drop(connection, "silent for " + Math.round(silent / 1000) + " s", now);
    }
    if (!connection.commit && now >= connection.openedAt + CANDIDATE_WAIT) {
      return this._drop(connection, "never committed", now);
    }
    if (connection.transport === WEBSOCKET && silent >= this.grant.keepalive &&
        !isAsked(connection)) {
      this.ask(connection.attempt);
    }
    return [];
  };

  ClientMachine.prototype._drop = function (connection, reason, now) {
    this.detach(connection.attempt, now);
    return [{ type: "dropped", attempt: connection.attempt, code: INACTIVE, reason: reason }];
  };

  function isAsked(connection) { return oldestAsk(connection) !== undefined; }

  // The question that has waited longest for its answer; undefined if none does.
  function oldestAsk(connection) {
    return Object.keys(connection.asked).map(Number).concat(connection.asks)[0];
  }

  // --- Socket.IO packets (protocol 5), and ours of type 7 --------------------------------------

  var CONNECT = "0";
  var DISCONNECT = "1";
  var EVENT = "2";
  var ACK = "3";
  var CONNECT_ERROR = "4";
  var BINARY_EVENT = "5";
  var BINARY_ACK = "6";
  var ERROR = "7";

  // `value` with its bytes taken out into `attachments`.
  function deconstruct(value, attachments) {
    if (!value || typeof value !== "object") { return value; }
    // By name: an ArrayBuffer of another window is no instance of this one's.
    var kind = Object.prototype.toString.call(value);
    if (/ (ArrayBuffer|DataView|\w+\d\w*Array)]$/.test(kind)) {
      // Copied, as the page may write to it again.
      attachments.push(new Message(new Uint8Array(value.buffer ?
        new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value))));
      return { _placeholder: true, num: attachments.length - 1 };
    }
    if (kind === "[object Blob]" || kind === "[object File]") {
      throw failure("unserialisable", "read the " + kind.slice(8, -1) +
        " first (FileReader.readAsArrayBuffer), then send its ArrayBuffer");
    }
    var copy = kind === "[object Array]" ? [] : {};
    if (typeof value.toJSON === "function" || (kind !== "[object Object]" && !copy.push)) {
      return value;
    }
    for (var each in value) {
      if (Object.prototype.hasOwnProperty.call(value, each)) {
        copy[each] = deconstruct(value[each], attachments);
      }
    }
    return copy;
  }

  // The messages of a packet; `data` undefined for none.
  function encodePacket(type, namespace, id, data) {
    var attachments = [];
    var json = "";
    try {
      if (data !== undefined) { json = toJson(deconstruct(data, attachments)); }
    } catch (error) {
      throw error.code ? error : failure("unserialisable", String(error));
    }
    if (attachments.length) {
      type = (type === EVENT ? BINARY_EVENT : BINARY_ACK) + attachments.length + "-";
    }
    var prefix = namespace === "/" ? "" : namespace + ",";
    return [new Message(type + prefix + (id === null ? "" : id) + json)].concat(attachments);
  }

  function reconstruct(value, attachments) {
    if (!value || typeof value !== "object") { return value; }
    if (value._placeholder === true) {
      var bytes = attachments[value.num];
      if (!bytes) { throw malformed("a placeholder without its attachment"); }
      return new Uint8Array(bytes).buffer;
    }
    for (var each in value) { value[each] = reconstruct(value[each], attachments); }
    return value;
  }

  // A packet's text; `missing` attachments are to follow.
  function decodePacket(text) {
    var parts = /^([0-7])(?:(\d{1,9})-)?(?:(\/[^,]*)(?:,|$))?(\d{1,15})?([\s\S]*)$/.exec(text);
    if (!parts) { throw malformed("no packet"); }
    return {
      type: parts[1],
      missing: +(parts[2] || 0),
      id: parts[4] === undefined ? null : +parts[4],
      data: parts[5] ? parseJson(parts[5]) : undefined,
      attachments: [],
      seqs: []
    };
  }

  // What stays unconfirmed, as the application sent it: [{event, data}].
  function readable(items) {
    var events = [];
    var packet = null;
    for (var i = 0; i < items.length; i++) {
      var data = items[i].data;
      if (typeof data === "string") {
        packet = decodePacket(data);
        if (packet.type === EVENT || packet.type === BINARY_EVENT) {
          events.push({ event: packet.data[0], data: packet.data[1], packet: packet });
        }
      } else if (packet) {
        packet.attachments.push(data);
      }
    }
    for (var j = 0; j < events.length; j++) {
      var attachments = events[j].packet.attachments;
      if (attachments.length && attachments.length === events[j].packet.missing) {
        events[j].data = reconstruct(events[j].data, attachments);
      }
      delete events[j].packet;
    }
    return events;
  }

  // --- Environment: everything outside, injectable ---------------------------------------------

  function browser() {
    if (typeof XMLHttpRequest === "undefined" || typeof Uint8Array === "undefined") {
      throw failure("unsupported", "this browser has no XMLHttpRequest or no typed arrays");
    }
    var last = 0;
    var offset = 0;
    // The oldest have no pagehide.
    var types = "onpagehide" in root ? {} : { pagehide: "unload" };

    function storage(name) {
      try {
        return root[name] || null;
      } catch (error) {
        // It is forbidden here: nothing is remembered.
        return null;
      }
    }

    return {
      setTimeout: function (callback, delay) { return root.setTimeout(callback, delay); },
      clearTimeout: function (timer) { root.clearTimeout(timer); },
      // Wall-clock milliseconds that never go back; unlike performance.now they count sleep.
      now: function () {
        var time = new Date().getTime();
        if (time + offset < last) { offset = last - time; }
        last = time + offset;
        return last;
      },
      // The clock that all tabs share.
      date: function () { return new Date().getTime(); },
      hidden: function () { return !!(root.document && root.document.hidden); },
      // Whether all requests to `url` share a connection (HTTP/2), as far as the browser tells.
      multiplexes: function (url) {
        var timing = root.performance && root.performance.getEntriesByName ?
          root.performance.getEntriesByName(url).pop() : null;
        return !!timing && /^h[23]/.test(timing.nextHopProtocol);
      },
      random: Math.random,
      nonce: function () {
        var source = root.crypto || root.msCrypto;
        if (!source || !source.getRandomValues) { return null; }
        var bytes = new Uint8Array(16);
        source.getRandomValues(bytes);
        var text = toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
        // edbrowse's source gives zeros: everybody would have the same nonce.
        return /[^A]/.test(text) ? text : null;
      },
      storage: storage("localStorage"),
      // The tab's own. Frames share it with the page around them, and would take its session.
      sessionStorage: root.top === root ? storage("sessionStorage") : null,
      XMLHttpRequest: root.XMLHttpRequest,
      // Old WebKit's constructor is an "object".
      WebSocket: typeof root.WebSocket === "undefined" ? undefined : root.WebSocket,
      listen: function (type, callback) {
        if (root.addEventListener) { root.addEventListener(types[type] || type, callback, false); }
      },
      unlisten: function (type, callback) {
        if (root.removeEventListener) {
          root.removeEventListener(types[type] || type, callback, false);
        }
      },
      beacon: function (url, body) {
        return !!(root.navigator && root.navigator.sendBeacon &&
          root.navigator.sendBeacon(url, body));
      },
      // An absolute URL; the anchor does what `new URL` does where there is none.
      resolve: function (url) {
        if (!root.document) { return url; }
        var anchor = root.document.createElement("a");
        anchor.href = url;
        // In edbrowse it is an object.
        return String(anchor.href);
      }
    };
  }

  // --- Turns: the polling sessions of one site share the browser's connections ------------------

  // Over HTTP/1.1 a browser opens six connections to a host, for all its tabs together. Three may
  // hold polls; the others are for what is sent, and for the site itself.
  var HOLDERS = 3;
  // In a crowd, the longest turn, the longest time from one to the next, and the time after which
  // one was missed.
  var SLOT = 1000;
  var ROUND = 4000;
  var MISSED = 3500;
  // Longer than any poll, and than a minute, the pause between a hidden tab's timers.
  var FORGOTTEN = 90000;

  // Of this page's own sessions: what is stored, a browser tells only to other pages.
  var neighbours = [];

  // What is stored under keys with this prefix. Each value begins with a time: what is older than
  // `age` was left behind by a page that could not clear up, and is removed.
  function fresh(storage, prefix, now, age) {
    var found = {};
    for (var i = storage.length - 1; i >= 0; i--) {
      var key = String(storage.key(i));
      if (key.indexOf(prefix) !== 0) { continue; }
      var value = storage.getItem(key);
      if (Math.abs(now - parseInt(value, 10)) < age) {
        found[key] = value;
      } else {
        storage.removeItem(key);
      }
    }
    return found;
  }

  // One session among those that poll at the same URL: each has a key of its own in localStorage.
  function Turns(environment, url, onchange) {
    this._environment = environment;
    this._url = url;
    this._onchange = onchange;
    this._prefix = "fallback_transport poll " + url + " ";
    this._key = this._prefix + (environment.nonce() || environment.random());
    this._restedAt = 0;
  }

  Turns.prototype.enter = function () {
    this.share();
    neighbours.push(this);
    this._tell();
  };

  Turns.prototype.leave = function () {
    var at = neighbours.indexOf(this);
    if (at < 0) { return; }
    neighbours.splice(at, 1);
    try {
      this._environment.storage.removeItem(this._key);
    } catch (error) {
      // Forbidden by now: it will be forgotten.
    }
    this._tell();
  };

  // For how many milliseconds a poll may be held now; below zero: in how many the next one may.
  Turns.prototype.share = function () {
    var now = this._environment.date();
    var all = this._all(now);
    if (!all || all.visible.length + all.hidden.length <= HOLDERS ||
        this._environment.multiplexes(this._url)) {
      return Infinity;
    }
    // A hidden page's timers are slow: it has no turn, but asks when something wakes it. Where all
    // are hidden one has a turn all the same: answers are not slow, and with them it wakes the rest.
    var turns = all.visible.length ? all.visible : all.hidden.slice(0, 1);
    var groups = Math.ceil(turns.length / HOLDERS);
    var index = turns.indexOf(this._key);
    var rest = Math.min(MISSED, this._restedAt + MISSED - now);
    if (index >= 0) {
      var slot = groups > 1 ? Math.min(SLOT, ROUND / groups) : ROUND;
      var since = (now / slot - index) % groups;
      if (since < 1) { return (1 - since) * slot; }
      rest = Math.min(rest, (groups - since) * slot);
    }
    return rest > 0 ? -Math.ceil(rest) : 0;
  };

  // A poll has brought nothing: no turn is missed before long.
  Turns.prototype.rested = function () { this._restedAt = this._environment.date(); };

  // A storage event: others came, went, or were renewed, which wakes those who are hidden.
  Turns.prototype.heard = function (event) {
    if (!event.key || event.key.indexOf(this._prefix) === 0) { this._onchange(); }
  };

  Turns.prototype._tell = function () {
    neighbours.slice().forEach(function (each) {
      if (each !== this && each._prefix === this._prefix) { each._onchange(); }
    }, this);
  };

  // The keys of all, in the same order for everybody; null where nobody can know.
  Turns.prototype._all = function (now) {
    var all = { visible: [], hidden: [] };
    var mark = this._environment.hidden() ? " hidden" : "";
    try {
      var storage = this._environment.storage;
      var found = fresh(storage, this._prefix, now, FORGOTTEN);
      var own = found[this._key];
      if (!own || now + mark !== own && (own.replace(/\d+/, "") !== mark ||
          Math.abs(now - parseInt(own, 10)) >= ROUND / 2)) {
        found[this._key] = now + mark;
        storage.setItem(this._key, found[this._key]);
      }
    } catch (error) {
      return null;
    }
    for (var key in found) { all[/hidden/.test(found[key]) ? "hidden" : "visible"].push(key); }
    all.visible.sort();
    all.hidden.sort();
    return all;
  };

  // --- Long polling ------------------------------------------------------------------------

  // Calls `doubt` when nothing has come for `delay`. A timer that is late says nothing: in a page
  // that was busy, hidden or asleep what came may be in the queue behind it. Then the next one does.
  function Patience(negotiator, delay, doubt) {
    var self = this;
    var environment = negotiator.environment;
    var due = negotiator.now() + delay;
    this.environment = environment;
    this.timer = environment.setTimeout(function () {
      var late = negotiator.now() - due;
      if (late <= LATENESS) {
        doubt();
        return;
      }
      self.timer = environment.setTimeout(doubt, negotiator.timing.alive);
      if (late > negotiator.timing.late) { negotiator.wake(); }
    }, delay);
  }

  Patience.prototype.stop = function () { this.environment.clearTimeout(this.timer); };

  // One POST. `done(status, text, begun)` is called once, unless it is aborted; status 0 is a
  // failure of the network, or no answer in time. `begun`: since when the answer was coming.
  function post(negotiator, body, limit, done) {
    var environment = negotiator.environment;
    var xhr = new environment.XMLHttpRequest();
    var begun = null;
    // What is large takes longer: a slow path carries 8 bytes a millisecond.
    var patience = new Patience(negotiator, limit + body.length / 8, function () { end(0); });

    function stop() {
      patience.stop();
      patience = null;
    }

    function end(status) {
      if (!patience) { return; }
      stop();
      if (!status) { xhr.abort(); }
      // Asked for only where it may be: from another origin a browser complains of it.
      if (status >= 400) { negotiator.heed(xhr.getResponseHeader("Retry-After")); }
      done(status, status ? xhr.responseText : "", begun);
    }

    xhr.onreadystatechange = function () {
      if (xhr.readyState === 3 && begun === null) { begun = negotiator.now(); }
      if (xhr.readyState === 4) { end(xhr.status); }
    };
    try {
      xhr.open("POST", negotiator.pollUrl, true);
      if (negotiator.options.withCredentials) { xhr.withCredentials = true; }
      // A type that needs no preflight from another origin.
      xhr.setRequestHeader("Content-Type", "text/plain;charset=UTF-8");
      xhr.send(body);
    } catch (error) {
      // The browser forbids it: to us, a network that is down.
      stop();
      patience = new Patience(negotiator, 0, function () { end(0); });
    }
    return {
      abort: function () {
        if (!patience) { return; }
        stop();
        xhr.abort();
      }
    };
  }

  // The ends that say no to one request; any other ends the connection.
  var CURABLE = [MALFORMED, TOO_LARGE, TRY_AGAIN];

  // A lane of a polling connection: at most one request, or the wait before the next.
  function Lane() {
    this.request = null;
    this.timer = null;
    this.failures = 0;
    this.tries = 0;
    this.empties = 0;
  }

  // One run of polls. Phases: greeting, candidate, carrying, done.
  function Poller(negotiator) {
    this.negotiator = negotiator;
    this.transport = POLLING;
    this.attempt = negotiator.nextAttempt();
    this.phase = "greeting";
    this.waiting = new Lane();
    this.sending = new Lane();
    this.stalled = false;
    this._stall = null;
    this._former = undefined;
    this._pause = ATTENTION * negotiator.timing.alive;
    this._heldUntil = 0;
    this._greet();
  }

  Poller.prototype._greet = function () {
    var self = this;
    var owner = this.negotiator;
    var sentAt = owner.now();
    var hello = owner.hello(this.attempt, POLLING);
    this.sending.request = post(owner, encodeBody(hello), owner.greetingTime(),
      function (status, text) {
        self.sending.request = null;
        var unit = self._read(text);
        if (unit && unit.kind === "welcome" && unit.attempt === self.attempt) {
          owner.measured(owner.now() - sentAt);
          self.phase = "candidate";
          owner.welcomed(self, unit);
        } else if (unit && unit.kind === "end" && unit.session) {
          owner.ended(unit);
        } else {
          if (status === 413) { owner.machine.requestBytes = LEAST_PART; }
          owner.lost(self, null, unit);
        }
      });
  };

  Poller.prototype.carry = function () {
    this.phase = "carrying";
    this.negotiator.turns.enter();
  };

  // Do what is to be done: one waiting request always, one sending request when there is something.
  Poller.prototype.kick = function () {
    if (this.phase !== "carrying") { return; }
    var outbox = this.negotiator.machine.outbox;
    if (isFree(this.sending) && outbox.last() > outbox.received) { this._send(); }
    if (isFree(this.waiting) && !this.stalled) { this._wait(); }
  };

  Poller.prototype._wait = function () {
    var self = this;
    var owner = this.negotiator;
    var lane = this.waiting;
    if (owner._timers.turn !== undefined) { return; }
    var share = owner.turns.share();
    if (share < 0) {
      owner._set("turn", -share, owner.flush);
      return;
    }
    // Behind failures an answer is wanted soon, be it empty: it says that the network is back. So
    // it is behind messages: were one swallowed, nobody would know before the wait is over.
    var wait = Math.min(owner.wait(), this._pause, share,
      lane.failures > 1 ? owner.timing.shortWait : Infinity);
    // More of it for what is rare, and for a server that is slow, lest it be asked ever more often.
    var margin = Math.min(owner.timing.margin,
      Math.max(wait / 5, owner.patience() * Math.pow(2, lane.failures)));
    this._heldUntil = owner.now() + wait;
    this._post(lane, owner.machine.poll(wait, owner.limit), wait + margin,
      function (unit, took, news) {
        if (unit.seq === null) { owner.turns.rested(); }
        self._pause = unit.seq === null ? 2 * self._pause : ATTENTION * owner.timing.alive;
        // Let go before its time: it was cut, and the browser has repeated it by itself.
        if (unit.seq === null && !news && took < 0.9 * wait) { owner.pollCut(took, wait, 200); }
        // What says nothing and comes at once is a proxy's or a busy server's; do not run in circles.
        lane.empties = unit.seq === null && !news && took < Math.min(1000, wait / 2) ?
          lane.empties + 1 : 0;
        return owner.backoff(lane.empties);
      });
  };

  Poller.prototype._send = function () {
    var self = this;
    var owner = this.negotiator;
    this._stall = new Patience(owner, owner.patience(), function () {
      // Perhaps no second connection is to be had: the waiting request gives way.
      self.stalled = true;
      owner.shortUntil = owner.now() + owner.timing.shortWaitFor;
      abort(owner, self.waiting);
    });
    // It is answered at once; as much time again for it then, and more where that was too little.
    this._post(this.sending, owner.machine.poll(null, null),
      Math.min(owner.timing.request, owner.patience() * Math.pow(2, 1 + this.sending.failures)),
      function (unit, took) {
        owner.measured(took);
        return 0;
      });
  };

  Poller.prototype._post = function (lane, unit, limit, answered) {
    var self = this;
    var owner = this.negotiator;
    var sentAt = owner.now();
    lane.request = post(owner, encodeBody(unit), limit, function (status, text, begun) {
      var took = owner.now() - sentAt;
      var answer = self._read(text);
      lane.request = null;
      if (lane === self.sending) { self._sent(); }
      if (!answer || answer.kind !== "envelope") {
        self._failed(lane, unit, answer, status, took, begun, text.length);
        return;
      }
      self._relieve(lane === self.waiting ? self.sending : self.waiting, lane.failures > 1);
      lane.failures = lane.tries = 0;
      var outbox = owner.machine.outbox;
      var moved = outbox.moved;
      if (owner.receive(self, answer)) {
        self._later(lane, answered(answer, took, outbox.moved > moved));
      }
    });
  };

  // An answer shows that the network is there: what failed on the other lane is tried again soon.
  // At once, if this was a failing one too: the network is back.
  Poller.prototype._relieve = function (lane, isBack) {
    if (lane.timer && (isBack || lane.tries > 2)) {
      this._later(lane, this.negotiator.backoff(isBack ? 1 : 2));
    }
    lane.tries = Math.min(lane.tries, 1);
  };

  Poller.prototype._sent = function () {
    if (this._stall) { this._stall.stop(); }
    this._stall = null;
    this.stalled = false;
  };

  Poller.prototype._failed = function (lane, unit, answer, status, took, begun, size) {
    var owner = this.negotiator;
    var end = answer && answer.kind === "end" ? answer : {};
    var messages = unit.envelope.messages;
    if (end.session) {
      owner.ended(end);
      return;
    }
    if (end.code && CURABLE.indexOf(end.code) < 0) {
      owner.lost(this, null, end);
      return;
    }
    lane.failures += 1;
    lane.tries += 1;
    // A request that was held for long before it failed was not in vain.
    var delay = owner.backoff(took < 1000 ? lane.tries : lane.tries - 1);
    if (messages.length && (status === 413 || end.code === TOO_LARGE)) {
      if (owner.machine.requestBytes <= LEAST_PART) {
        // Nothing can overtake it: perhaps by WebSocket, else it ends here.
        owner._probe();
        if (lane.failures > 4) {
          owner._act(owner.machine.abort(TOO_LARGE,
            "even " + LEAST_PART + " bytes are refused on the way"));
          return;
        }
      }
      owner.machine.requestBytes = Math.max(LEAST_PART, sizeOf(messages) >> 1);
      // It is no failure of the path to learn what it carries.
      if (owner.machine.requestBytes > LEAST_PART) { lane.failures = lane.tries = 0; }
    } else if (lane === this.waiting) {
      if (!answer && (begun !== null || status === 200)) { owner.answerCut(); }
      if (lane.failures > 1) {
        // Again, and not for its time: the network was down, then, and nobody has cut anything.
        if (took < 1000 || took > unit.wait) { owner.learned.wait = this._former; }
      } else {
        this._former = owner.learned.wait;
        // What was answered by us, or cut amid its answer, was not cut for its time.
        if (!answer && (status ? status !== 200 || !size :
            begun === null || owner.now() - begun > 1000)) {
          owner.pollCut(took, unit.wait, status);
        }
      }
    }
    this._later(lane, delay);
    owner.pollFailed(lane.failures);
  };

  Poller.prototype._later = function (lane, delay) {
    var self = this;
    var environment = this.negotiator.environment;
    environment.clearTimeout(lane.timer);
    lane.timer = delay ? environment.setTimeout(function () {
      lane.timer = null;
      self.kick();
    }, delay) : null;
    if (!delay) { this.negotiator.flush(); }
  };

  // A unit, or null for what is none of ours: a login page, a gateway's error, a cut body.
  Poller.prototype._read = function (text) {
    try {
      return decodeBody(text);
    } catch (error) {
      return null;
    }
  };

  // The network is said to be back: what is on its way may be lost, what waits need not wait.
  Poller.prototype.hurry = function () {
    this._abort();
    this.kick();
  };

  Poller.prototype.stop = function () {
    this.phase = "done";
    this.negotiator._clear("turn");
    this.negotiator.turns.leave();
    this._abort();
  };

  // Others have come or gone. A poll that is held for much longer than its share gives way: the
  // page of a newcomer may be waiting for the connection.
  Poller.prototype.turn = function () {
    var owner = this.negotiator;
    if (this.phase !== "carrying") { return; }
    owner._clear("turn");
    if (this.waiting.request &&
        this._heldUntil > owner.now() + Math.max(0, owner.turns.share()) + SLOT / 4) {
      abort(owner, this.waiting);
      owner.turns.rested();
    }
    this.kick();
  };

  Poller.prototype._abort = function () {
    abort(this.negotiator, this.waiting);
    abort(this.negotiator, this.sending);
    this._sent();
  };

  function isFree(lane) { return !lane.request && !lane.timer; }

  function abort(negotiator, lane) {
    if (lane.request) { lane.request.abort(); }
    negotiator.environment.clearTimeout(lane.timer);
    lane.request = lane.timer = null;
  }

  // --- WebSocket ---------------------------------------------------------------------------

  // One WebSocket. Phases: opening, greeting, candidate, carrying, done. May throw, as the
  // constructor may.
  function Socket(negotiator) {
    var self = this;
    var ws = new negotiator.environment.WebSocket(negotiator.socketUrl, SUBPROTOCOL);

    function lost(opening, open) {
      negotiator.lost(self, self.phase === "opening" ? opening : open);
    }

    this.negotiator = negotiator;
    this.transport = WEBSOCKET;
    this.attempt = negotiator.nextAttempt();
    this.phase = "opening";
    this.startedAt = negotiator.now();
    this.committedAt = 0;
    this.doubted = false;
    this.expects = 0;
    // When anything came; when anything was sent or came, our questions excepted; when the server
    // asked; how long silence may last before we ask.
    this.heardAt = this.activeAt = this.startedAt;
    this.askedAt = -Infinity;
    this.pause = negotiator.timing.alive;
    this.spared = false;
    this.code = null;
    this.ws = ws;
    ws.binaryType = "arraybuffer";
    ws.onopen = function () { self._opened(); };
    ws.onmessage = function (event) { self._message(event.data); };
    ws.onerror = function () { lost("refused", "closed"); };
    ws.onclose = function (event) {
      self.code = event.code;
      lost("refused", "closed");
    };
    this._patience = new Patience(negotiator,
      Math.max(negotiator.timing.welcome, 5 * negotiator.roundTrip),
      function () { lost("unanswered", "silent"); });
  }

  Socket.prototype._opened = function () {
    this.phase = "greeting";
    this._greetedAt = this.negotiator.now();
    this.ws.send(encode(this.negotiator.hello(this.attempt, WEBSOCKET)));
  };

  Socket.prototype._message = function (data) {
    var owner = this.negotiator;
    var unit;
    try {
      unit = typeof data === "string" ? decode(data) : decodeBinary(new Uint8Array(data));
    } catch (error) {
      // Altered on the way, perhaps: this connection ends, not the session.
      unit = {};
    }
    if (unit.kind === "welcome" && this.phase === "greeting" && unit.attempt === this.attempt) {
      this._patience.stop();
      owner.measured(owner.now() - this._greetedAt);
      this.phase = "candidate";
      owner.welcomed(this, unit);
    } else if (unit.kind === "envelope" && this.phase === "carrying") {
      this.heardAt = this.activeAt = owner.now();
      if (unit.ask !== null) { this.askedAt = this.heardAt; }
      // Who was answered waits longer with the next question.
      if (unit.answer !== null) { this.pause *= 2; }
      if (unit.seq !== null) { this.pause = owner.timing.alive; }
      owner.receive(this, unit);
      // A question is answered at once: in a hidden page a timer may take a second, or a minute.
      if (unit.ask === null) { owner.flushSoon(); } else { owner.flush(); }
    } else if (unit.kind === "end" && unit.session) {
      owner.ended(unit);
    } else {
      // What the server says of itself is no fault of the WebSocket.
      if (unit.kind === "end") { this.code = unit.code; }
      owner.lost(this, unit.kind === "end" ? null : "closed", unit);
    }
  };

  Socket.prototype.carry = function () {
    this.phase = "carrying";
    this.committedAt = this.heardAt = this.activeAt = this.negotiator.now();
  };

  // Send what the machine has, while the browser's own buffer is not full of it already.
  Socket.prototype.kick = function () {
    var owner = this.negotiator;
    var unit = null;
    // Closed already, though not told yet: a browser complains of what is sent then.
    if (this.phase !== "carrying" || this.ws.readyState > 1) { return; }
    while (!(this.ws.bufferedAmount >= 1000000) &&
        (unit = owner.machine.pull(this.attempt, owner.now()))) {
      if (unit.ask === null) { this.activeAt = owner.now(); }
      var frames = encodeFrames(unit);
      for (var i = 0; i < frames.length; i++) {
        this.ws.send(typeof frames[i] === "string" ? frames[i] : frames[i].buffer);
      }
    }
    if (this.ws.bufferedAmount >= 1000000) { owner._set("drain", 50, owner.flush); }
  };

  // Whether it is no fault of the path that this one is closed.
  Socket.prototype.isExcused = function () {
    // The server gave up a page that did not answer; but its question has just come through: it was
    // the page that was busy or asleep.
    return this.code === SERVICE_RESTART || this.code === SUPERSEDED ||
      (this.code === INACTIVE && this.negotiator.now() - this.askedAt < 1000);
  };

  Socket.prototype.stop = function () {
    this.phase = "done";
    this._patience.stop();
    this.ws.onopen = this.ws.onmessage = this.ws.onclose = this.ws.onerror = null;
    // Without a code, which old WebKit refuses.
    this.ws.close();
  };

  // --- The negotiator: which connection to open, and when --------------------------------------

  var SENTENCES = {
    unavailable: "this browser has no WebSocket",
    threw: "the browser refuses to open a WebSocket",
    refused: "the WebSocket handshake was refused",
    unanswered: "the WebSocket handshake got no answer in {s} s",
    silent: "the WebSocket opened, but nothing came through it in {s} s",
    closed: "the WebSocket opened and was closed before anything came through it",
    unstable: "WebSockets kept breaking soon after they opened",
    "half-open": "the WebSocket stopped answering",
    option: "the page's options leave WebSocket out",
    proving: "the WebSocket is still being tried"
  };

  // Args: the page's options; what is called with each of the machine's events; what is called
  // when transport, reason or state may have changed.
  function Negotiator(url, options, environment, onevent, onchange) {
    this.options = options;
    this.environment = environment;
    this.timing = extend(extend({}, TIMING), options.timing || {});
    this.onevent = onevent;
    this.onchange = onchange;
    this.pollUrl = environment.resolve(url.replace(/\/$/, "") + "/poll");
    this.socketUrl = this.pollUrl.replace(/^http/, "ws").replace(/poll$/, "ws");
    this.machine = null;
    this.socket = null;
    this.poller = null;
    this.roundTrip = 0;
    this.limit = 500000;
    this.shortUntil = 0;
    this.troubled = false;
    this._attempt = 0;
    this._nonce = null;
    this._begunAt = -Infinity;
    this._young = 0;
    this._polledAt = -Infinity;
    this._notBefore = 0;
    this.learned = {};
    this._wokeAt = -Infinity;
    this._suspicion = null;
    this._deaths = [];
    this._retries = 0;
    this._strangers = 0;
    this._probes = 0;
    this._timers = {};
    this._verdict = this._recall();
    this.turns = new Turns(environment, this.pollUrl, method(this, "_turn"));
    this._listeners = {
      online: method(this, "hurry"), storage: method(this.turns, "heard"),
      visibilitychange: method(this, "_turn")
    };
    if (!this._canOpen() && !this._allows(POLLING)) {
      throw failure("unsupported", "none of the transports wanted can be had in this browser");
    }
    for (var type in this._listeners) { environment.listen(type, this._listeners[type]); }
  }

  Negotiator.prototype.now = function () { return this.environment.now(); };

  Negotiator.prototype.nextAttempt = function () { return ++this._attempt; };

  // Carry a new session, some time within `spread`: many clients hear of a restart together, and
  // must not come together. Where one session after the other ends young, each begins later.
  Negotiator.prototype.begin = function (machine, spread) {
    this._drop();
    this.machine = machine;
    this._nonce = this.environment.nonce();
    this._young = this.now() - this._begunAt < this.timing.death ? this._young + 1 : 0;
    this._begunAt = this.now();
    this._retries = Math.max(0, this._young - 1);
    if (spread) {
      this._notBefore = Math.max(this._notBefore, this.now() + spread * this.environment.random());
    }
    if (this._young || spread) { this._retry(); } else { this._connect(); }
    this._tick();
  };

  Negotiator.prototype.stop = function () {
    for (var type in this._listeners) { this.environment.unlisten(type, this._listeners[type]); }
    this._drop();
  };

  Negotiator.prototype.carrier = function () {
    if (this.socket && this.socket.phase === "carrying") { return this.socket; }
    return this.poller && this.poller.phase === "carrying" ? this.poller : null;
  };

  Negotiator.prototype.hello = function (attempt, transport) {
    var hello = this.machine.hello(attempt, transport, this._nonce, this.now());
    hello.client = { library: FallbackTransport.version };
    return hello;
  };

  // -- What the transports report

  Negotiator.prototype.measured = function (time) {
    this.roundTrip = this.roundTrip ? 0.875 * this.roundTrip + 0.125 * time : time;
  };

  Negotiator.prototype.welcomed = function (connection, welcome) {
    var socket = this.socket;
    if (this.machine.id && welcome.id !== this.machine.id) {
      // A second session, made by a process that did not know of the first.
      this.lost(connection);
      return;
    }
    this._strangers = 0;
    this.troubled = false;
    var events = this._take(connection, welcome);
    if (!events) { return; }
    if (connection === socket) {
      this._discard("poller");
      this._clear("hedge");
      this._clear("probe");
      this._suspicion = null;
      if (this._verdict) { this._judge(null); }
    } else {
      if (socket && socket.phase === "carrying") {
        if (!socket.doubted) {
          this._discard("poller");
          this._act(events);
          return;
        }
        this._suspect("half-open");
        this._buried(socket);
        this._discard("socket");
      }
      this._polled();
    }
    // From now on it carries; only then act on what the welcome brought, so that a page that hears
    // of it finds the session open.
    connection.carry();
    this._act(this.machine.commit(connection.attempt));
    this._act(events);
    if (connection.phase !== "carrying") { return; }
    this.flush();
    this._probeLater();
    this.onchange();
  };

  // A connection is over: for `reason`, if that speaks against WebSocket; `end` is what the server
  // said, if it did.
  Negotiator.prototype.lost = function (connection, reason, end) {
    var machine = this.machine;
    var isSocket = connection === this.socket;
    var carried = connection.phase === "carrying";
    if (!isSocket && connection !== this.poller) { return; }
    if (isSocket && carried) {
      this._buried(connection);
    } else if (reason && !this.troubled) {
      this._suspect(reason);
    }
    this._discard(isSocket ? "socket" : "poller");
    this._turnedAway(end);
    if (machine !== this.machine || machine.state === CLOSED) { return; }
    if (this.carrier()) {
      if (this._polledAt >= connection.startedAt) { this._judgeSuspicion(); }
      this._probeLater();
    } else if (!isSocket) {
      if (!this.socket) { this._retry(); }
    } else if (carried) {
      // At once; but not WebSocket alone, over and over.
      this._retries = this._allows(POLLING) ? 0 : Math.max(0, this._recentDeaths() - 1);
      if (this._retries) { this._retry(); } else { this._connect(); }
    } else {
      this._fallBack();
    }
    this.onchange();
    this._tick();
  };

  Negotiator.prototype.pollFailed = function (failures) {
    // It was not the WebSocket, then, or not it alone.
    this._suspicion = null;
    if (failures < 2) { return; }
    if (!this.troubled) {
      this.troubled = true;
      this.onchange();
    }
    // Another network perhaps: what was known of WebSocket may be wrong.
    if (!this.socket && !this._isJudged() && this._canOpen()) { this._open(); }
  };

  // Polling works: now a suspicion is a verdict. A server that is down says nothing.
  Negotiator.prototype._polled = function () {
    this._polledAt = this.now();
    this._judgeSuspicion();
  };

  Negotiator.prototype.answerCut = function () { this.limit = Math.max(1000, this.limit >> 1); };

  // A waiting request was cut after `took`; without a status perhaps after half of it, because a
  // browser repeats what fails on a connection that it has used before.
  Negotiator.prototype.pollCut = function (took, wait, status) {
    var time = Math.min(took, wait);
    // One that was held for longer than it was to be: cut once and repeated. Or the answer was
    // swallowed, or the server is slow; for these a second lesson would be no help.
    if (took < 1000 || wait <= this.timing.minWait ||
        (took > wait && this.allowed("wait") < Infinity)) { return; }
    this._learn("wait", 0.8 * (status ? time : time / 2));
  };

  Negotiator.prototype._learn = function (what, time) {
    this.learned[what] = {
      time: Math.max(this.timing.minWait, Math.min(time, this.allowed(what))),
      until: this.now() + this.timing.learned
    };
  };

  // For how long the path was seen to allow silence: "wait" in a poll, "idle" on a WebSocket.
  Negotiator.prototype.allowed = function (what) {
    var learned = this.learned[what];
    return learned && learned.until > this.now() ? learned.time : Infinity;
  };

  // A server that is busy says when to come again; not later than in ten minutes.
  Negotiator.prototype.heed = function (seconds) {
    seconds = parseInt(seconds, 10);
    if (seconds > 0) { this._notBefore = this.now() + Math.min(600, seconds) * 1000; }
  };

  // The events of a welcome or an envelope; null if the connection or the session ended for it.
  Negotiator.prototype._take = function (connection, unit) {
    var machine = this.machine;
    var events;
    try {
      events = unit.kind === "welcome" ? machine.welcomed(unit, this.now()) :
        machine.receive(connection.attempt, unit, this.now());
    } catch (error) {
      if (!error.fatal) {
        this.lost(connection, "closed");
        return null;
      }
      events = machine.abort(error.code, error.message);
    }
    if (machine.state !== CLOSED) { return events; }
    this._act(events);
    return null;
  };

  // Take an envelope; false if the session or the connection ended for it.
  Negotiator.prototype.receive = function (connection, unit) {
    var events = this._take(connection, unit);
    if (!events) { return false; }
    var changed = this.troubled || this._suspicion;
    this._retries = 0;
    this.troubled = false;
    if (connection === this.socket) { connection.doubted = false; } else { this._polled(); }
    if (changed) { this.onchange(); }
    this._act(events);
    return connection.phase === "carrying";
  };

  // The session is over, or gone.
  Negotiator.prototype.ended = function (end) { this._act(this.machine.ended(end)); };

  // -- Times

  // The backoff before the n-th attempt again: at once, then growing; with jitter, so that many
  // clients of one server do not come together.
  Negotiator.prototype.backoff = function (n) {
    var cap = n < 2 ? 0 : Math.min(this.timing.retryMax, this.timing.retry * Math.pow(2, n - 1));
    return Math.max(cap * (1 + this.environment.random()) / 2, this._notBefore - this.now());
  };

  // For how long the server may hold a poll just now.
  Negotiator.prototype.wait = function () {
    var grant = this.machine.grant;
    // With its margin, a fifth of it, within one keepalive: a swallowed answer is missed by then.
    var wait = Math.min(grant.wait, 0.8 * grant.keepalive, this.timing.wait, this.allowed("wait"));
    return this.now() < this.shortUntil ? Math.min(wait, this.timing.shortWait) : wait;
  };

  // How long an answer may take before it is missed.
  Negotiator.prototype.patience = function () {
    return Math.max(this.timing.alive, 4 * this.roundTrip);
  };

  // How long a polling hello may take: as a WebSocket's, and more where that was too little.
  Negotiator.prototype.greetingTime = function () {
    return Math.min(this.timing.request,
      Math.max(this.timing.welcome, 5 * this.roundTrip) * Math.pow(2, this._retries));
  };

  // `callback` is told by how much it is late.
  Negotiator.prototype._set = function (name, delay, callback) {
    var self = this;
    var due = this.now() + delay;
    this._clear(name);
    this._timers[name] = this.environment.setTimeout(function () {
      var late = self.now() - due;
      delete self._timers[name];
      if (late > self.timing.late) { self.wake(); }
      callback.call(self, late);
    }, delay);
  };

  Negotiator.prototype._clear = function (name) {
    this.environment.clearTimeout(this._timers[name]);
    delete this._timers[name];
  };

  // -- Opening

  Negotiator.prototype._allows = function (transport) {
    return !this.options.transports || this.options.transports.indexOf(transport) >= 0;
  };

  Negotiator.prototype._canOpen = function () {
    return this._allows(WEBSOCKET) && this.environment.WebSocket !== undefined;
  };

  // Nothing carries and nothing is under way.
  Negotiator.prototype._connect = function () {
    var unstable = this._recentDeaths() >= this.timing.deaths;
    this._suspicion = null;
    if (this._allows(POLLING) && this._retries < 2 && (unstable || this._isJudged())) {
      if (unstable) { this._suspect("unstable"); }
    } else if (this._canOpen()) {
      // Also where polling fails, whatever was thought of WebSocket.
      this._open();
    }
    if (!this.socket) {
      this._fallBack();
    } else if (this._allows(POLLING)) {
      this._set("hedge", Math.max(this.timing.hedge, 3 * this.roundTrip), this._hedge);
    }
  };

  Negotiator.prototype._open = function () {
    try {
      this.socket = new Socket(this);
    } catch (error) {
      this.socket = null;
      this._suspect("threw");
    }
  };

  // Polling beside the WebSocket. Without a nonce the one that is welcomed later is another
  // session, of which nobody hears.
  Negotiator.prototype._hedge = function () {
    if (!this.poller && this._allows(POLLING)) {
      this.poller = new Poller(this);
    }
  };

  // The WebSocket is out of the question for now.
  Negotiator.prototype._fallBack = function () {
    if (this.poller) { return; }
    if (this._allows(POLLING)) {
      this._clear("hedge");
      this.poller = new Poller(this);
    } else {
      this._retry();
    }
  };

  Negotiator.prototype._retry = function () {
    this._retries += 1;
    this._set("retry", Math.max(0, this.backoff(this._retries)), function () {
      if (!this.socket && !this.poller) { this._connect(); }
    });
  };

  Negotiator.prototype._probeLater = function () {
    if (this.socket || !this._canOpen() || this._timers.probe) { return; }
    if (this._isUnstable()) {
      // That one opens says nothing: not before the verdict expires.
      this._set("probe", this._verdict.expires - this.now(), this._probe);
      return;
    }
    var cap = Math.min(this.timing.probeMax, this.timing.probe * Math.pow(2, this._probes));
    this._probes += 1;
    this._set("probe", cap * this.environment.random(), this._probe);
  };

  Negotiator.prototype._probe = function () {
    if (this.socket || !this.poller || !this._canOpen()) { return; }
    this._suspicion = null;
    this._open();
    this._probeLater();
  };

  Negotiator.prototype._drop = function () {
    var poller = this.poller;
    var machine = this.machine;
    // Last words: the acknowledgement of the server's close.
    if (this.socket) { this.socket.kick(); }
    if (poller && poller.phase === "carrying" && machine.state === CLOSED && machine.carrier &&
        machine.carrier.ackAt !== null) {
      post(this, encodeBody(machine.poll(null, null)), this.timing.shortWait, function () {});
    }
    for (var timer in this._timers) { this._clear(timer); }
    this._discard("socket");
    this._discard("poller");
    this.troubled = false;
  };

  Negotiator.prototype._discard = function (which) {
    var connection = this[which];
    this[which] = null;
    if (connection) {
      connection.stop();
      this.machine.detach(connection.attempt, this.now());
    }
  };

  Negotiator.prototype._turnedAway = function (end) {
    var code = end && end.code;
    // Another process of the server answers for ours: three times running, and ours is gone.
    if (code === MISDIRECTED && !this.carrier() && ++this._strangers > 2) {
      this._strangers = 0;
      this._act(this.machine.abort(GONE, "another server process answers"));
    } else if ((code === BAD_ORIGIN || code === BAD_VERSION) && !this.socket && !this.poller) {
      this._act(this.machine.abort(code, end.reason));
    }
  };

  // -- Judging WebSocket

  Negotiator.prototype._suspect = function (reason) {
    this._suspicion = { reason: reason, seconds: this.timing.welcome / 1000 };
  };

  // A WebSocket that carried has died; too many young ones, and they count as unstable.
  Negotiator.prototype._buried = function (socket) {
    var pause = this._pause(socket);
    var silence = this.now() - socket.activeAt;
    var connection = this.machine.connections[socket.attempt];
    var idle = connection && isAsked(connection) ? pause : silence;
    var known = this.allowed("idle");
    var young = this.now() - socket.committedAt < this.timing.death;
    if (!young) { this._probes = 0; }
    // Silent for longer than we are: the page slept, and could not ask.
    if (socket.isExcused() || silence > pause + this.timing.late) { return; }
    // Without a word, that is by a network that allows no such silence. Where a question found it,
    // it may have been since any time after the one before, which was half as long.
    if (idle >= this.timing.minWait && (!socket.code || socket.code === 1006)) {
      this._learn("idle", idle === silence ? 0.8 * idle : idle / 2);
      // If that was all, it will not happen again.
      if (known === Infinity) { return; }
    }
    if (young) { this._deaths.push(this.now()); }
  };

  Negotiator.prototype._recentDeaths = function () {
    var since = this.now() - this.timing.deathWindow;
    this._deaths = this._deaths.filter(function (time) { return time > since; });
    return this._deaths.length;
  };

  Negotiator.prototype._isJudged = function () {
    return this._verdict !== null && this._verdict.expires > this.now();
  };

  Negotiator.prototype._isUnstable = function () {
    return this._isJudged() && this._verdict.reason === "unstable";
  };

  Negotiator.prototype._judgeSuspicion = function () {
    if (this._suspicion) { this._judge(this._suspicion); }
  };

  // Only called while polling is known to work, or to lift a verdict.
  Negotiator.prototype._judge = function (suspicion) {
    this._suspicion = null;
    this._verdict = suspicion && extend({ expires: this.now() + this.timing.verdict }, suspicion);
    if (this.options.remember === false || !this.environment.storage) { return; }
    try {
      if (suspicion) {
        this.environment.storage.setItem(this._storageKey(), JSON.stringify(this._verdict));
      } else {
        this.environment.storage.removeItem(this._storageKey());
      }
    } catch (error) {
      // Full, or forbidden: it is remembered for this page alone.
    }
  };

  Negotiator.prototype._recall = function () {
    if (this.options.remember === false || !this.environment.storage) { return null; }
    try {
      var kept = JSON.parse(this.environment.storage.getItem(this._storageKey()));
      var left = kept.expires - this.now();
      return left > 0 && left <= this.timing.verdict && SENTENCES.hasOwnProperty(kept.reason) ?
        kept : null;
    } catch (error) {
      return null;
    }
  };

  Negotiator.prototype._storageKey = function () { return "fallback_transport " + this.pollUrl; };

  Negotiator.prototype.why = function () {
    var carrier = this.carrier();
    var judged = this._suspicion || this._verdict;
    var reason = null;
    if (!carrier) {
      return new Why(null, "none", "no connection", null);
    }
    if (carrier.transport === WEBSOCKET) {
      return new Why(WEBSOCKET, "works", "WebSocket: works", null);
    }
    if (!this._allows(WEBSOCKET)) {
      reason = "option";
    } else if (this.environment.WebSocket === undefined) {
      reason = "unavailable";
    } else {
      reason = judged ? judged.reason : "proving";
    }
    return new Why(POLLING, reason, "long polling: " +
      SENTENCES[reason].replace("{s}", judged ? judged.seconds : ""),
      judged && judged.expires ? judged.expires : null);
  };

  function Why(transport, reason, text, expires) {
    this.transport = transport;
    this.reason = reason;
    this.text = text;
    // When the verdict expires, in milliseconds of Date; a probe may lift it before.
    this.expires = expires;
  }

  Why.prototype.toString = function () { return this.text; };

  // -- Running

  Negotiator.prototype.flushSoon = function () {
    if (this._timers.flush === undefined) { this._set("flush", 0, this.flush); }
  };

  // Send what there is to send, on whatever carries.
  Negotiator.prototype.flush = function () {
    // First: what is sent just now must not look like a buffer that drains.
    this._watch();
    this._attend();
    if (this.socket) { this.socket.kick(); }
    if (this.poller) { this.poller.kick(); }
    this._tick();
  };

  // The machine's next deadline.
  Negotiator.prototype._tick = function () {
    var deadline = this.machine.deadline();
    if (deadline === null) {
      this._clear("tick");
      return;
    }
    // Not in circles, while a full buffer keeps back what is due.
    deadline = Math.max(deadline, this.now() + (this._timers.drain === undefined ? 0 : 50));
    this._set("tick", deadline - this.now(), function () {
      this._act(this.machine.timeout(this.now()));
      if (this.machine.state !== CLOSED) { this.flush(); }
    });
  };

  // While something sent on the WebSocket is not received: ask, and then doubt it.
  Negotiator.prototype._watch = function () {
    var watched = this._unreceived();
    if (this._timers.alive !== undefined || !watched) { return; }
    var socket = this.socket;
    var buffered = socket.ws.bufferedAmount;
    var moved = this.machine.outbox.moved;
    var question = oldestAsk(watched);
    this._set("alive", this.patience(), function (late) {
      var connection = this._unreceived();
      if (this.socket !== socket || !connection) { return; }
      if (!isAsked(connection)) {
        socket.expects = connection.nextSeq - 1;
        this.machine.ask(socket.attempt);
      } else if (late > LATENESS && !socket.spared) {
        // As with Patience: the answer may be in the queue behind this.
        socket.spared = true;
      } else if (!(socket.ws.bufferedAmount < buffered) && oldestAsk(connection) === question &&
          this.machine.outbox.moved === moved) {
        // A question waits behind all that was sent before; while that moves, the path is but slow.
        socket.doubted = true;
        this._hedge();
      }
      this.flush();
    });
  };

  // The silence after which a WebSocket is asked: with the time for its answer within a keepalive.
  Negotiator.prototype._pause = function (socket) {
    var keepalive = this.machine.grant.keepalive;
    return Math.min(socket.pause, this.allowed("idle"),
      Math.max(keepalive / 2, keepalive - this.patience()));
  };

  // Ask a WebSocket that has fallen silent: soon if it has brought messages, then ever later.
  Negotiator.prototype._attend = function () {
    var socket = this.carrier();
    if (!socket || socket !== this.socket || isAsked(this.machine.carrier)) { return; }
    var due = socket.heardAt + this._pause(socket);
    // One timer for many messages: it is set anew when it fires, or has to fire earlier.
    if (this._timers.attention !== undefined && this._attentionAt <= due) { return; }
    this._attentionAt = due;
    this._set("attention", due - this.now(), function () {
      if (this.carrier() === socket && this.now() >= socket.heardAt + this._pause(socket) &&
          !isAsked(this.machine.carrier)) {
        this.machine.ask(socket.attempt);
      }
      this.flush();
    });
  };

  // The WebSocket's connection, if something sent on it is not received; else null.
  Negotiator.prototype._unreceived = function () {
    var outbox = this.machine.outbox;
    var connection = this.machine.carrier;
    if (!connection || connection.transport !== WEBSOCKET) { return null; }
    return outbox.last() > outbox.received || isAsked(connection) ? connection : null;
  };

  // A timer is so late that the device has slept, or its clock was set: ask before judging anything.
  Negotiator.prototype.wake = function () {
    if (this.machine.state === CLOSED || this.now() - this._wokeAt < this.timing.alive) { return; }
    this._wokeAt = this.now();
    this.machine.woke(this.now());
    this.hurry();
  };

  // The network is said to be back, the page was woken: do not wait for any timer.
  Negotiator.prototype.hurry = function (event) {
    var carrier = this.carrier();
    this._retries = this._probes = 0;
    if (!carrier) {
      // What is under way may be lost in the network that was.
      this._drop();
      this._connect();
    } else if (carrier === this.socket) {
      if (!isAsked(this.machine.carrier)) { this.machine.ask(carrier.attempt); }
    } else {
      carrier.hurry();
      // Not for a sleep alone, where a WebSocket would open and break again.
      if (event || !this._isUnstable()) {
        this._clear("probe");
        this._probe();
      }
    }
    this.flush();
  };

  Negotiator.prototype._turn = function () {
    if (this.poller) { this.poller.turn(); }
  };

  // The page goes: send what is unsent, as far as the browser lets us.
  Negotiator.prototype.lastWords = function () {
    var self = this;
    var machine = this.machine;
    var usual = machine.requestBytes;

    function body(bytes) {
      machine.requestBytes = Math.min(usual, bytes);
      return encodeBody(machine.poll(null, null));
    }

    // A browser takes 64 kB as a beacon, or nothing; base64 makes them more.
    function isTaken() {
      for (var bytes = 60000; bytes > 1000; bytes >>= 1) {
        if (self.environment.beacon(self.pollUrl, body(bytes))) { return true; }
      }
      return false;
    }

    if (this.carrier() !== this.poller) {
      this.flush();
    } else if (this.poller && machine.outbox.last() > machine.outbox.received && !isTaken()) {
      post(this, body(usual), this.timing.shortWait, function () {});
    }
    machine.requestBytes = usual;
  };

  // The page goes, and perhaps comes back: nothing is to be open meanwhile.
  Negotiator.prototype.suspend = function () {
    this._drop();
    this.onchange();
  };

  Negotiator.prototype._act = function (events) {
    var machine = this.machine;
    // A page that hears of one may begin another session.
    for (var i = 0; i < events.length && machine === this.machine; i++) {
      var event = events[i];
      if (event.type === "answered") {
        this.measured(event.time);
        if (this.socket) {
          this.socket.spared = false;
          // In order, so what was sent before the question has been swallowed on the way.
          if (machine.outbox.received < this.socket.expects) { this.lost(this.socket, "closed"); }
        }
      } else if (event.type === "dropped") {
        this._dropped(event.attempt);
      } else if (event.type !== "switched") {
        this.onevent(event);
      }
    }
  };

  Negotiator.prototype._dropped = function (attempt) {
    if (this.socket && this.socket.attempt === attempt) { this.lost(this.socket, "silent"); }
    if (this.poller && this.poller.attempt === attempt) { this.lost(this.poller); }
  };

  // --- Reload: what a page leaves to the next one in its tab ------------------------------------

  function segmentOf(item) { return item.segment(); }

  // The parts of the message that is coming in, as one.
  Inbox.prototype.pack = function () {
    var partial = this._partial;
    return partial && extend(extend({}, partial), { pieces: new Message(partial.isText ?
      partial.pieces.join("") : joined(partial.pieces, partial.got)).segment() });
  };

  Inbox.prototype.unpack = function (packed) {
    this._partial = packed && extend(packed, { pieces: [decodeSegment(packed.pieces).data] });
  };

  // All that another page needs to go on with this session, as JSON can hold it.
  ClientMachine.prototype.pack = function () {
    var outbox = this.outbox;
    return {
      version: VERSION, id: this.id, key: this.key, grant: this.grant,
      commit: this._commit, request: this._request,
      handled: this.inbox.handled, received: this.inbox.received, sizes: this.inbox._sizes,
      pending: this.inbox.pendingBytes, partial: this.inbox.pack(),
      confirmed: outbox.confirmed, taken: outbox.received, got: outbox.got,
      numbered: outbox._numbered.map(function (each) { return [each.urgent, each.item.segment()]; }),
      held: outbox._groups.map(function (group) { return group.items.map(segmentOf); })
    };
  };

  ClientMachine.unpack = function (packed, now) {
    var machine = new ClientMachine(now);
    var outbox = machine.outbox;
    if (packed.version !== VERSION) { throw failure("version", "another version's session"); }
    machine.state = DETACHED;
    machine.id = packed.id;
    machine.key = packed.key;
    machine.grant = packed.grant;
    machine._commit = packed.commit;
    machine._request = packed.request;
    machine.inbox.handled = packed.handled;
    machine.inbox.received = packed.received;
    machine.inbox._sizes = packed.sizes;
    machine.inbox.pendingBytes = packed.pending;
    machine.inbox.limit = packed.grant.message;
    machine.inbox.unpack(packed.partial);
    // What has a number keeps it; then the credit is what it was.
    outbox.confirmed = packed.confirmed;
    outbox.received = packed.taken;
    outbox.got = packed.got;
    outbox.grant(Infinity, Infinity);
    packed.numbered.forEach(function (each) { outbox.append([decodeSegment(each[1])], each[0]); });
    outbox.grant(packed.grant.messages, packed.grant.bytes);
    packed.held.forEach(function (each) { outbox.append(each.map(decodeSegment), false); });
    return machine;
  };

  // --- Faces: what the page holds ----------------------------------------------------------

  var ONCE = "fallback_transport once ";
  var DAY = 86400000;

  // The ends after which a new session begins by itself: the server has lost this one.
  var RESETS = [GONE, INACTIVE, SERVICE_RESTART];

  function Session(url, options) {
    var environment = options.environment || browser();
    this.id = null;
    this.state = "connecting";
    this.transport = null;
    this.onopen = this.onclose = this.onerror = this.ontransport = this.onreset = null;
    this._options = options;
    this._namespace = options.namespace || "/";
    this._environment = environment;
    this._events = {};
    this._listeners = {};
    this._told = "";
    this._machine = this._away = null;
    this._negotiator = new Negotiator(url, options, environment,
      method(this, "_machineEvent"), method(this, "_changed"));
    this._pageEvents = { pagehide: method(this, "_pageHides"), pageshow: method(this, "_pageShows") };
    for (var type in this._pageEvents) { environment.listen(type, this._pageEvents[type]); }
    this._continue();
  }

  Object.defineProperty(Session.prototype, "why", {
    get: function () { return this._negotiator.why(); }
  });

  // Bytes that the server has not confirmed.
  Object.defineProperty(Session.prototype, "bufferedAmount", {
    get: function () { return this._machine.outbox.left(); }
  });

  // The smoothed round trip in milliseconds, null while unknown.
  Object.defineProperty(Session.prototype, "roundTrip", {
    get: function () { return this._negotiator.roundTrip || null; }
  });

  // The highest message sent, and of those confirmed; the highest received, and handled.
  Object.defineProperty(Session.prototype, "counters", {
    get: function () {
      var machine = this._machine;
      return {
        sent: machine.outbox.last(), acknowledged: machine.outbox.confirmed,
        received: machine.inbox.received, handled: machine.inbox.handled
      };
    }
  });

  // Call `listener(data…, reply)` for each message of this name. If the server asked, what it
  // returns is the reply; to answer later it returns nothing and calls `reply(value)`.
  Session.prototype.on = function (name, listener) {
    this._events[":" + name] = list(this._events, name).concat(listener);
    return this;
  };

  Session.prototype.off = function (name, listener) {
    this._events[":" + name] = list(this._events, name).filter(function (each) {
      return listener !== undefined && each !== listener;
    });
    return this;
  };

  Session.prototype.addEventListener = function (type, listener) {
    var listeners = list(this._listeners, type);
    if (listeners.indexOf(listener) < 0) {
      this._listeners[":" + type] = listeners.concat(listener);
    }
  };

  Session.prototype.removeEventListener = function (type, listener) {
    this._listeners[":" + type] = list(this._listeners, type).filter(function (each) {
      return each !== listener;
    });
  };

  // Send a named message: emit(name, data…, [function (error, reply…)]). Throws an Error with a
  // `code` for what cannot be sent: closed, too-large, unserialisable, full.
  Session.prototype.emit = function (name) {
    var values = Array.prototype.slice.call(arguments);
    var callback = typeof values[values.length - 1] === "function" ? values.pop() : null;
    var id = callback ? this._nextId : null;
    this._send(encodePacket(EVENT, this._namespace, id, values), false);
    if (callback) {
      this._nextId += 1;
      this._callbacks[id] = callback;
    }
    return this;
  };

  // Send an unnamed message: text, ArrayBuffer or view.
  Session.prototype.send = function (data, callback) {
    return callback ? this.emit("message", data, callback) : this.emit("message", data);
  };

  // Close behind all that was sent; `onclose` follows. 1000 or 3000 to 4999, as WebSocket has it.
  Session.prototype.close = function (code, reason) {
    code = code === undefined ? NORMAL : code;
    reason = reason === undefined ? "" : String(reason);
    var problem = code === NORMAL || (code >= 3000 && code <= 4999) ?
      validClose(code, reason) : "the code must be 1000, or 3000 to 4999";
    if (problem) { throw failure("close", problem); }
    this._checkPresence();
    this._machine.close(code, reason, this._environment.now());
    this._negotiator.flush();
  };

  Session.prototype._begin = function (spread) {
    var auth = this._options.auth;
    var machine = new ClientMachine(this._environment.now());
    machine.send(encodePacket(CONNECT, this._namespace, null,
      typeof auth === "function" ? auth() : auth), false);
    this._reset(machine);
    this._negotiator.begin(machine, spread);
  };

  Session.prototype._reset = function (machine) {
    this._machine = machine;
    this._callbacks = {};
    this._nextId = 1;
    this._incoming = null;
    this._accepted = this._resumed = this._reopens = false;
    this._refusal = null;
  };

  Session.prototype._send = function (items, urgent) {
    this._checkPresence();
    this._machine.send(items, urgent);
    this._negotiator.flushSoon();
  };

  Session.prototype._machineEvent = function (event) {
    if (event.type === "message") {
      this._message(event);
    } else if (event.type === "close") {
      this._machineHandled([event.seq]);
    } else if (event.type === "closed") {
      this._over(event);
    }
  };

  Session.prototype._machineHandled = function (seqs) {
    for (var i = 0; i < seqs.length; i++) {
      this._negotiator._act(this._machine.handled(seqs[i], this._environment.now()));
    }
  };

  Session.prototype._message = function (event) {
    var packet = this._incoming;
    var machine = this._machine;
    // A page that goes on with a session hears that it is open before it hears anything else.
    if (this._reopens) { this._changed(); }
    // A listener of the message before has closed the session.
    if (!machine.delivers()) { return; }
    try {
      if (typeof event.data === "string") {
        if (packet) { throw malformed("a packet where an attachment was announced"); }
        packet = extend(decodePacket(event.data), { text: event.data });
      } else {
        if (!packet) { throw malformed("an attachment without its packet"); }
        packet.attachments.push(event.data);
      }
      packet.seqs.push(event.seq);
      this._incoming = packet.attachments.length < packet.missing ? packet : null;
      if (this._incoming) { return; }
      if (packet.missing) { packet.data = reconstruct(packet.data, packet.attachments); }
    } catch (error) {
      machine.close(MALFORMED, error.message, this._environment.now());
      this._negotiator.flushSoon();
      return;
    }
    this._packet(packet);
    if (machine === this._machine) { this._machineHandled(packet.seqs); }
  };

  Session.prototype._packet = function (packet) {
    var data = packet.data;
    if (packet.type === CONNECT) {
      this._accepted = this._reopens = true;
      this._changed();
    } else if (packet.type === CONNECT_ERROR) {
      // The close with its code comes behind it.
      this._refusal = data;
    } else if ((packet.type === EVENT || packet.type === BINARY_EVENT) && data instanceof Array) {
      this._deliver(packet.id, String(data[0]), data.slice(1));
    } else if (packet.type === ACK || packet.type === BINARY_ACK) {
      this._answered(packet.id, [null].concat(data));
    } else if (packet.type === ERROR) {
      this._answered(packet.id, [failure(data && data.code, String(data && data.message))]);
    }
  };

  Session.prototype._answered = function (id, values) {
    var callback = this._callbacks[id];
    delete this._callbacks[id];
    if (callback) { this._guard(callback, null, values); }
  };

  Session.prototype._deliver = function (id, name, values) {
    var self = this;
    var machine = this._machine;
    var listeners = list(this._events, name);
    var open = id !== null;

    function answer(type, value) {
      if (!open || machine !== self._machine || !machine.accepts()) { return; }
      self._send(encodePacket(type, self._namespace, id, value), true);
      open = false;
    }

    function reply(value) { answer(ACK, value === undefined ? [] : [value]); }

    function refuse(text) { self._guard(answer, null, [ERROR, { code: 1011, message: text }]); }

    function run(listener) {
      var value = listener.apply(self, values.concat(open ? [reply] : []));
      if (value !== undefined) { reply(value); }
    }

    if (!listeners.length) { refuse("no listener for " + name); }
    for (var i = 0; i < listeners.length; i++) {
      // Also what it returns may be impossible to send.
      if (!this._guard(run, null, [listeners[i]])) { refuse("the listener raised"); }
    }
  };

  // Call a page's function; what it throws is reported like any uncaught error, and harms nothing.
  Session.prototype._guard = function (callback, self, values) {
    try {
      callback.apply(self, values);
      return true;
    } catch (error) {
      this._environment.setTimeout(function () { throw error; }, 0);
      return false;
    }
  };

  Session.prototype._dispatch = function (type, event) {
    event.type = type;
    event.target = this;
    if (typeof this["on" + type] === "function") { this._guard(this["on" + type], this, [event]); }
    var listeners = list(this._listeners, type);
    for (var i = 0; i < listeners.length; i++) { this._guard(listeners[i], this, [event]); }
  };

  Session.prototype._over = function (event) {
    var callbacks = this._callbacks;
    var machine = this._machine;
    var told = {
      code: event.code, reason: event.reason,
      // Closed by one side, and known to the other.
      wasClean: machine._closedBy === "peer" ||
        (machine._closedBy === "local" && !machine.outbox.length()),
      unconfirmed: readable(event.unconfirmed)
    };
    var lost = failure(event.code, "the session ended: " + event.code + " " + event.reason);
    var reset = RESETS.indexOf(event.code) >= 0 && !this._refusal;
    if (reset) {
      this.state = "reconnecting";
      // The page may have no new `auth` to give.
      reset = this._guard(this._begin, this,
        [event.code === SERVICE_RESTART ? this._negotiator.timing.spread : 0]);
    }
    if (!reset) {
      this.state = "closed";
      this.transport = null;
      this._callbacks = {};
      this._negotiator.stop();
      for (var type in this._pageEvents) {
        this._environment.unlisten(type, this._pageEvents[type]);
      }
    }
    this._fail(callbacks, lost);
    if (this._refusal) { told.data = this._refusal.data; }
    // As a WebSocket does: what went wrong first, then that it is over.
    if (!reset && !told.wasClean && event.code !== GOING_AWAY) { this._dispatch("error", extend({}, told)); }
    this._dispatch(reset ? "reset" : "close", told);
    this._changed();
  };

  // The transport, its reason or the state may have changed.
  Session.prototype._changed = function () {
    if (this.state === "closed") { return; }
    var carrier = this._negotiator.carrier();
    var works = carrier && !this._negotiator.troubled;
    if (this._accepted && (works || !this._reopens)) {
      this.state = works ? "open" : "reconnecting";
    }
    this.transport = carrier ? carrier.transport : null;
    var why = this.why;
    var told = this.transport + " " + why.reason;
    // The first news is of a transport; after that, also that there is none.
    if (told !== this._told && (carrier || this._told)) {
      this._told = told;
      this._dispatch("transport", { transport: this.transport, why: why });
    }
    if (this._reopens && works) {
      this._reopens = false;
      this.id = this._machine.id;
      this._dispatch("open", { id: this.id, resumed: this._resumed });
    }
  };

  // -- The page goes, comes, comes back

  Session.prototype._pageHides = function (event) {
    var machine = this._machine;
    if (this._options.resume && this._leave()) { return; }
    if (!event.persisted) { machine.close(GOING_AWAY, "the page was left", this._environment.now()); }
    this._negotiator.lastWords();
    if (event.persisted) {
      this._negotiator.suspend();
    } else {
      // There is no later: who wants to keep what is unconfirmed has to do it now.
      this._negotiator._act(machine.abort(machine.code, machine.reason));
    }
  };

  // From the browser's cache of whole pages.
  Session.prototype._pageShows = function (event) {
    var left = this._away;
    if (!event.persisted) { return; }
    this._away = null;
    var kept = left && this._take();
    if (!left || (kept && kept.by === left)) {
      this._negotiator.hurry();
    } else if (kept && kept.machine) {
      this._fail(this._callbacks, failure(GONE, "another page had the session meanwhile"));
      this._resume(kept);
    } else {
      this._over(notTaken(kept));
    }
  };

  // Leave the session to the next page in this tab; false if that cannot be.
  Session.prototype._leave = function () {
    var environment = this._environment;
    var machine = this._machine;
    var packet = this._incoming;
    if (this._away || !machine.id || !machine.accepts()) { return !!this._away; }
    this._negotiator.lastWords();
    var kept = extend(machine.pack(), {
      by: String(environment.nonce() || environment.random()),
      attempt: this._negotiator._attempt, nextId: this._nextId, accepted: this._accepted,
      // Whose attachments are still to come.
      packet: packet && [packet.text].concat(packet.attachments.map(toBase64))
    });
    try {
      fresh(environment.storage, ONCE, environment.date(), DAY);
      // A duplicate of the tab gets a copy of its sessionStorage. Who takes the session has to take
      // this as well, and there is but one.
      environment.storage.setItem(ONCE + kept.by, environment.date());
      environment.sessionStorage.setItem(this._keptUnder(), JSON.stringify(
        (JSON.parse(environment.sessionStorage.getItem(this._keptUnder())) || []).concat(kept)));
    } catch (error) {
      // Too large, or forbidden.
      return false;
    }
    this._away = kept.by;
    this._negotiator.suspend();
    return true;
  };

  // What a page in this tab has left, taken out for good; with a `machine` if nobody else has it.
  Session.prototype._take = function () {
    var environment = this._environment;
    var name = this._keptUnder();
    var id = this._machine && this._machine.id;
    var kept = null;
    try {
      var all = JSON.parse(environment.sessionStorage.getItem(name)) || [];
      environment.sessionStorage.removeItem(name);
      // Two sessions of one page: a page that comes back takes its own.
      kept = all.filter(function (each) { return each.id === id; })[0] || all[0];
      if (!kept) { return null; }
      if (all.length > 1) {
        all.splice(all.indexOf(kept), 1);
        environment.sessionStorage.setItem(name, JSON.stringify(all));
      }
      kept.left = ClientMachine.unpack(kept, environment.now());
      if (environment.storage.getItem(ONCE + kept.by)) { kept.machine = kept.left; }
      environment.storage.removeItem(ONCE + kept.by);
    } catch (error) {
      // Forbidden, altered, or left by another version.
    }
    return kept;
  };

  Session.prototype._keptUnder = function () {
    return "fallback_transport session " + this._negotiator.pollUrl + " " + this._namespace;
  };

  function notTaken(kept) {
    return {
      code: GONE, reason: "what the page before has left is not to be had",
      unconfirmed: kept && kept.left ? kept.left.outbox.unconfirmed() : []
    };
  }

  // Begin, or go on with what the page before has left.
  Session.prototype._continue = function () {
    var self = this;
    var kept = this._options.resume ? this._take() : null;
    if (kept && kept.machine) {
      this._resume(kept);
      return;
    }
    this._begin(0);
    if (!kept) { return; }
    // Nobody listens yet.
    this._environment.setTimeout(function () {
      var told = notTaken(kept);
      self._dispatch("reset", extend(told, { unconfirmed: readable(told.unconfirmed) }));
    }, 0);
  };

  Session.prototype._resume = function (kept) {
    this._reset(kept.machine);
    this._nextId = kept.nextId;
    this._accepted = this._reopens = kept.accepted;
    this._resumed = true;
    if (kept.packet) {
      this._incoming = extend(decodePacket(kept.packet[0]), {
        text: kept.packet[0], attachments: kept.packet.slice(1).map(fromBase64)
      });
      for (var seq = kept.handled + 1; seq <= kept.received; seq++) { this._incoming.seqs.push(seq); }
    }
    this._negotiator._attempt = Math.max(this._negotiator._attempt, kept.attempt);
    this._negotiator.begin(kept.machine);
  };

  // What comes behind would be lost.
  Session.prototype._checkPresence = function () {
    if (this._away) { throw failure("closed", "the page was left"); }
  };

  Session.prototype._fail = function (callbacks, error) {
    for (var id in callbacks) { this._guard(callbacks[id], null, [error]); }
  };

  // The list kept under a name in a map, never changed but replaced: somebody may be going through
  // it. The colon keeps names like "constructor" apart.
  function list(map, name) { return map[":" + name] || []; }

  var FallbackTransport = {
    version: "0.1.0",

    // Open a session with the server at `url` ("/fallback" of the page's own by default).
    // Options: auth (an object, or a function that gives one, for on_connect), transports,
    // namespace, withCredentials, remember (false: keep no verdict in localStorage), resume (go
    // on with the session of the page before in this tab, and leave it to the next), timing
    // (milliseconds, see TIMING), environment (for tests).
    connect: function (url, options) {
      if (url && typeof url === "object") {
        options = url;
        url = undefined;
      }
      return new Session(url || "/fallback", options || {});
    },

    _core: {
      ClientMachine: ClientMachine, Outbox: Outbox, Inbox: Inbox, Message: Message, Part: Part, Close: Close,
      Negotiator: Negotiator, Session: Session, encode: encode, encodeFrames: encodeFrames,
      encodeBody: encodeBody, decode: decode, decodeBody: decodeBody, decodeBinary: decodeBinary,
      encodePacket: encodePacket, decodePacket: decodePacket, reconstruct: reconstruct,
      envelope: envelope, utf8Length: utf8Length, toBase64: toBase64, fromBase64: fromBase64,
      TRANSITIONS: TRANSITIONS, TIMING: TIMING
    }
  };

  return FallbackTransport;
});
