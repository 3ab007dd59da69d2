/*! fallback_transport 0.1.0 (MIT licence) */
(function (root, script) {
  "use strict";

  // One session with a server, over WebSocket or long polling: nothing lost, repeated or reordered.
  //
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
  // What a close frame without a code means; a connection that failed; a message that is too large
  // (RFC 6455, section 7.4.1).
  var NO_CODE = 1005;
  var ABNORMAL = 1006;
  var TOO_BIG = 1009;
  var INTERNAL_ERROR = 1011;
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
  // Of one answer to a poll, the most and the least bytes of messages.
  var LARGEST_ANSWER = 500000;
  var LEAST_ANSWER = 1000;
  // How long after an answer was cut, or a request refused or swallowed, more is tried again, at first:
  // nobody knows whether it was for its size. Longer behind an answer that is cut again.
  var REFUSED_FOR = 5000;
  var CUT_FOR = 60000;
  // What is smaller than a packet of the network is not swallowed for its size.
  var PACKET = 1000;
  // So often in a row what came did not follow what is here: bytes were altered, on the way or before.
  var REFUSALS = 10;
  // So often a WebSocket of a page tries the server before it counts as out of reach: for a second, if
  // it refuses.
  var TRIES = 2;
  // The first wait behind a message, in units of `alive`: with its margin under 3 s.
  var ATTENTION = 1.5;

  // --- Small things ------------------------------------------------------------------------

  // With what `source` says: an option that is undefined is one that is not given.
  function extend(target, source) {
    Object.keys(source || {}).forEach(function (name) {
      if (source[name] !== undefined) { target[name] = source[name]; }
    });
    return target;
  }

  // Where the peer broke a rule `code` answers it; `fatal` ends the session and not just a connection.
  function failure(code, text, fatal) {
    return extend(new Error(text), { code: code, fatal: fatal });
  }

  function malformed() { return failure(MALFORMED, "malformed"); }

  function isText(data) { return typeof data === "string"; }

  // Whether a surrogate pair's second half is there.
  function isLow(text, at) { return text.charCodeAt(at) >> 10 === 0x37; }

  // How many bytes of UTF-8 a text has; a lone surrogate becomes U+FFFD, three bytes, on the way.
  function utf8Length(text) {
    var bytes = 0;
    for (var i = 0; i < text.length; i++) {
      var unit = text.charCodeAt(i);
      bytes += unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3;
      // A pair is four bytes for its two units.
      if (unit >> 10 === 0x36 && isLow(text, i + 1)) {
        bytes += 1;
        i++;
      }
    }
    return bytes;
  }

  // Not btoa and atob: edbrowse's make other bytes of it.
  var LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  var DIGITS = LETTERS + LETTERS.toLowerCase() + "0123456789+/";

  function toBase64(bytes) {
    var text = "";
    for (var i = 0; i < bytes.length; i += 3) {
      var bits = bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];
      for (var shift = 18; shift >= 0; shift -= 6) { text += DIGITS.charAt(bits >> shift & 63); }
    }
    // What is behind the end counted as zeros.
    return text.slice(0, text.length + bytes.length - i) + "==".slice(2 + bytes.length - i);
  }

  function fromBase64(text) {
    if (text.length % 4 || !/^[A-Za-z0-9+\/]*={0,2}$/.test(text)) { throw malformed(); }
    var bytes = new Uint8Array(text.replace(/=+$/, "").length * 3 >> 2);
    var bits = 0;
    var at = 0;
    for (var i = 0; i < text.length; i++) {
      bits = bits << 6 | DIGITS.indexOf(text.charAt(i));
      // What is behind the end goes nowhere.
      if (i % 4) { bytes[at++] = bits >> 6 - i % 4 * 2; }
    }
    return bytes;
  }

  // Old WebKit (measured in that of 2011 and of 2013) brings what a page posts into Unicode's form
  // NFC: another text then, and no JSON where an accent follows an escape. What NFC could change is
  // escaped, and what is rare or as dear anyway.
  var RISKY =
    /[\u0300-\u0387\u0483-\u1dff\u1f00-\u2fff\u302a-\u302f\u3099\u309a\ua66f-\uabff\ud7a4-\uffff]/g;

  function escaped(json) {
    return json.replace(RISKY, function (unit) {
      return "\\u" + ("0" + unit.charCodeAt(0).toString(16)).slice(-4);
    });
  }

  // --- Envelopes: the only place that knows the bytes ----------------------------------------

  // One opaque text or bytes (a Uint8Array); with a `total`, the part from unit `offset` on of a
  // message of `total` units that does not fit an envelope.
  function Message(data, offset, total) {
    this.data = data;
    this.size = isText(data) ? utf8Length(data) : data.length;
    if (total !== undefined) {
      this.offset = +offset;
      this.total = +total;
      this.end = this.offset + data.length;
      if (!data.length || this.end > this.total) { throw malformed(); }
    }
  }

  // The last numbered message of a direction.
  function Close(code, reason) {
    this.code = code;
    this.reason = reason;
    this.data = "";
    this.size = utf8Length(segment(this));
  }

  function segment(item) {
    var data = item.data;
    if (item.code) { return "c" + escaped(toJson([item.code, item.reason])); }
    return (item.total ? "p" + item.offset + "/" + item.total + "," : "") +
      (!isText(data) ? "b" + toBase64(data) :
        data.indexOf(SEPARATOR) < 0 ? "m" + data : "e" + JSON.stringify(data));
  }

  function slice(data, start, end) {
    return isText(data) ? data.slice(start, end) : data.subarray(start, end);
  }

  // The stretch of a message from unit `offset` on (of a text, UTF-16 units) that takes about `size`
  // bytes; never amid a surrogate pair.
  function partOf(message, offset, size) {
    var data = message.data;
    var text = isText(data);

    function stretch(count) {
      var end = offset + Math.max(text ? 2 : 1, Math.floor(count));
      return slice(data, offset, text && isLow(data, end) ? end - 1 : end);
    }

    if (text && isLow(data, offset)) { offset -= 1; }
    // One unit takes up to three bytes of UTF-8; escaped, as with U+001E in it, six.
    var part = stretch(message.size > data.length ? size / 3 : size);
    return new Message(text && part.indexOf(SEPARATOR) >= 0 ? stretch(size / 6) : part,
      offset, data.length);
  }

  function isUnfinished(item) { return item && item.end < item.total; }

  function isNumber(value) {
    return typeof value === "number" && value >= 0 && value < 1e15 && value % 1 === 0;
  }

  // What a head has, in this order, but for a hello's, which is JSON.
  var TOKENS = ("i:id k:key t:attempt n:number w:wait b:limit a:ack r:received g:got s:seq c:commit " +
    "k:proof q:ask p:answer").split(" ");

  function tokens(unit) {
    return TOKENS.filter(function (token) {
      var value = unit[token.slice(2)];
      return value !== undefined && (token !== "r:received" || value !== unit.ack);
    }).map(function (token) { return token.charAt(0) + unit[token.slice(2)]; }).join(" ");
  }

  // A hello, a polling request or an envelope as one text.
  function encode(unit) {
    return [unit.hello ? JSON.stringify(unit, function (name, value) {
      return name === "messages" ? undefined : value;
    }) : tokens(unit)]
      .concat(unit.messages.map(segment)).join(SEPARATOR);
  }

  function encodeBody(unit) { return encode(unit) + END_MARK; }

  // An envelope as WebSocket messages: runs of texts together, bytes one by one. The first has
  // all that is to be said, each states the number of its first message.
  function encodeFrames(unit) {
    var frames = [];
    var items = unit.messages;
    for (var at = 0, end; !at || at < items.length; at = end) {
      var first = items[at] || { data: "" };
      var head = at ? { ack: unit.ack, received: unit.received, got: unit.got } : extend({}, unit);
      if (items.length) { head.seq = unit.seq + at; }
      end = at + 1;
      if (isText(first.data)) {
        while (end < items.length && isText(items[end].data)) { end++; }
        head.messages = items.slice(at, end);
        frames.push(encode(head));
      } else {
        frames.push(bytesFrame(tokens(head) +
          (first.total ? " o" + first.offset + " u" + first.total : "") + SEPARATOR, first.data));
      }
    }
    return frames;
  }

  function bytesFrame(head, data) {
    var frame = new Uint8Array(head.length + data.length);
    for (var i = 0; i < head.length; i++) { frame[i] = head.charCodeAt(i); }
    frame.set(data, i);
    return frame;
  }

  function parseJson(text) {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw malformed();
    }
  }

  function decodeSegment(text) {
    var kind = text.charAt(0);
    var content = text.slice(1);
    if (kind === "m") { return new Message(content); }
    if (kind === "b") { return new Message(fromBase64(content)); }
    if (kind === "p") {
      var part = /^(\d{1,15})\/(\d{1,15}),([meb][\s\S]*)$/.exec(content);
      if (part) { return new Message(decodeSegment(part[3]).data, part[1], part[2]); }
    }
    var value = parseJson(content);
    if (kind === "e" && isText(value)) { return new Message(value); }
    if (kind === "c" && value instanceof Array && value.length === 2 &&
        isText(value[1]) && canClose(value[0], value[1])) {
      return new Close(value[0], value[1]);
    }
    throw malformed();
  }

  // Whether code and reason can close a session; see codes.py.
  function canClose(code, reason) {
    return isNumber(code) && (code === NO_CODE && !reason || (code >= 3000 && code <= 4999 ||
      code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014) &&
      utf8Length(reason) <= MAX_REASON_BYTES);
  }

  function checked(unit) {
    if ((unit.seq === undefined) !== !unit.messages.length || unit.received < unit.ack ||
        unit.seq === 0) {
      throw malformed();
    }
    return unit;
  }

  function decodeTokens(line, messages) {
    var unit = { messages: messages };
    line.split(" ").forEach(function (part) {
      // A server sends no other tokens.
      if (!/^[argscqp](0|[1-9]\d{0,14})$/.test(part)) { throw malformed(); }
      var field = TOKENS.filter(function (token) { return token.charAt(0) === part.charAt(0); })[0]
        .slice(2);
      if (unit[field] !== undefined) { throw malformed(); }
      unit[field] = +part.slice(1);
    });
    if (unit.ack === undefined) { throw malformed(); }
    return checked(extend({ received: unit.ack, got: 0 }, unit));
  }

  function number(head, name, usual) {
    var value = head[name] === undefined ? usual : head[name];
    if (!isNumber(value)) { throw malformed(); }
    return value;
  }

  function name(value) {
    if (!isText(value) || !/^[A-Za-z0-9._-]{1,64}$/.test(value)) { throw malformed(); }
    return value;
  }

  // RFC 7230's token, of which subprotocols' names are made.
  var TOKEN = /^[\w!#$%&'*+.^`|~-]+$/;

  // An end has a `code`, a welcome a `grant`, and an envelope neither.
  function decodeHead(head, messages) {
    var unit = { ack: number(head, "ack", 0), received: number(head, "received", 0) };
    if (head.end !== undefined) {
      var reason = head.reason === undefined ? "" : head.reason;
      if (!isText(reason) || messages.length) { throw malformed(); }
      return extend(unit,
        { code: number(head, "end"), reason: reason, session: head.session === true });
    }
    if (head.welcome !== VERSION) { throw malformed(); }
    unit.grant = {};
    Object.keys(DEFAULT_GRANT).forEach(function (each) {
      unit.grant[each] = number(head.grant || {}, each);
    });
    unit.id = name(head.id);
    unit.attempt = number(head, "attempt");
    if (head.key !== undefined) { unit.key = name(head.key); }
    if (head.seq !== undefined) { unit.seq = number(head, "seq"); }
    var chosen = head.protocol;
    if (chosen !== undefined && !(isText(chosen) && chosen.length <= 256 && TOKEN.test(chosen))) {
      throw malformed();
    }
    unit.protocol = chosen;
    unit.got = number(head, "got", 0);
    unit.messages = messages;
    return checked(unit);
  }

  // The unit that a server's text holds; throws what is malformed.
  function decode(text) {
    var parts = text.split(SEPARATOR);
    var head = parts.shift();
    if (head.length > MAX_HEAD) { throw malformed(); }
    var messages = parts.map(decodeSegment);
    return head.charAt(0) === "{" ? decodeHead(parseJson(head), messages) :
      decodeTokens(head, messages);
  }

  // The same for the body of a polling answer: without its end mark it was cut, or is not ours.
  function decodeBody(text) {
    if (text.slice(-END_MARK.length) !== END_MARK) { throw malformed(); }
    return decode(text.slice(0, -END_MARK.length));
  }

  function decodeBinary(bytes) {
    var head = "";
    for (var i = 0; i < 192 && bytes[i] !== 0x1e; i++) {
      head += String.fromCharCode(bytes[i]);
    }
    var found = /^([\s\S]*?)(?: o(\d{1,15}) u(\d{1,15}))?$/.exec(head);
    if (bytes[i] !== 0x1e) { throw malformed(); }
    return decodeTokens(found[1], [new Message(bytes.subarray(i + 1), found[2], found[3])]);
  }

  // --- Outbox and inbox: exactly once, in order ------------------------------------------------

  function sizeOf(items) {
    // Not reduce: Prototype.js 1.6 has another one.
    var size = 0;
    items.forEach(function (item) { size += item.size; });
    return size;
  }

  function Outbox() {
    this.confirmed = 0;
    this.received = 0;
    // How many units of message `received` + 1 the server has, in parts.
    this.got = 0;
    this.bytes = 0;
    // What is unconfirmed; the first of it, so many, have numbers.
    this.items = [];
    this.numbered = 0;
    // Until the welcome grants more: the first message alone.
    this.credit = { messages: 1, bytes: 0 };
  }

  Outbox.prototype = {
    last: function () { return this.confirmed + this.numbered; },

    // Take messages that belong together. Urgent ones (replies) may exceed the server's credit and
    // overtake what waits for it.
    append: function (items, urgent) {
      var size = sizeOf(items);
      var waiting = this.items.length;
      if ((waiting + items.length > OUTBOX_MESSAGES ||
          (waiting && this.bytes + size > OUTBOX_BYTES)) && !items[0].code) {
        throw failure("full", waiting + " messages, " + this.bytes + " bytes are unconfirmed");
      }
      this.bytes += size;
      items[0].group = items;
      items.forEach(function (item) { item.urgent = !!urgent; });
      this.items.splice.apply(this.items, [urgent ? this.numbered : waiting, 0].concat(items));
      if (urgent) { this.numbered += items.length; }
      this._release();
    },

    // Take the peer's marks; lower ones are old news.
    confirm: function (handled, received, got) {
      var last = this.last();
      var partial = this.items[received - this.confirmed];
      // What is handled is received.
      if (received > last || (got && received >= this.confirmed &&
          (received === last || got >= partial.data.length))) {
        throw failure(PROTOCOL_ERROR, "an ack of what was not sent", true);
      }
      // Of a lower mark, less than none.
      var gone = this.items.splice(0, handled - this.confirmed);
      this.bytes -= sizeOf(gone);
      this.confirmed += gone.length;
      this.numbered -= gone.length;
      if (received > this.received) {
        this.received = received;
        this.got = 0;
      }
      if (received === this.received && got > this.got) { this.got = got; }
      this._release();
    },

    marks: function () { return [this.confirmed, this.received, this.got].join(); },

    // The bytes that the server does not have, or has not confirmed.
    left: function () {
      var partial = this.items[this.received - this.confirmed];
      return this.bytes - (this.got && Math.floor(partial.size * this.got / partial.data.length));
    },

    // The messages from `seq` on: something if there is anything, then up to both limits. The first
    // begins at unit `offset`, and is a part if it does not fit; with `whole` there are no parts, and
    // nothing if the first does not fit.
    read: function (seq, size, count, offset, whole) {
      var items = [];
      var start = seq - this.confirmed - 1;
      var end = Math.min(this.numbered, start + count);
      for (var i = start; i < end && !isUnfinished(items[items.length - 1]); i++) {
        var item = this.items[i];
        if (!items[0] && !item.code && (offset || item.size > size)) {
          if (whole) { break; }
          item = partOf(item, offset, size);
        }
        size -= item.size;
        if (items[0] && size < 0) { break; }
        items.push(item);
        // How much of it the network was ever given.
        this.items[i].given = isUnfinished(item) ?
          Math.max(this.items[i].given || 0, item.end / item.total) : 1;
      }
      return items;
    },

    // Number what waits, as far as there is credit for it.
    _release: function () {
      for (var next; (next = this.items[this.numbered]); this.numbered += next.group.length) {
        var group = next.group;
        var used = this.items.slice(0, this.numbered).filter(function (item) { return !item.urgent; });
        // Whatever comes alone is allowed: a credit smaller than it would be a deadlock.
        if (used.length && !next.code && (used.length + group.length > this.credit.messages ||
            sizeOf(used.concat(group)) > this.credit.bytes)) {
          return;
        }
      }
    }
  };

  function Inbox() {
    this.limit = DEFAULT_GRANT.message;
    this.received = 0;
    this.handled = 0;
    // How many units of message `received` + 1 have come, in parts, and what they are.
    this.got = 0;
    this.partial = null;
    this.sizes = {};
    // How often, since anything came, what came did not follow it.
    this.refusals = 0;
  }

  Inbox.prototype = {
    // The new ones among `items`, which begin at `seq`, each with its number.
    take: function (seq, items) {
      if (seq > this.received + 1) { this._refuse(PROTOCOL_ERROR); }
      var fresh = [];
      for (var i = 0; i < items.length; i++) {
        var item = items[i];
        if (seq + i <= this.received) { continue; }
        if (item.total) {
          // Whatever is behind an unfinished one comes again.
          item = fresh.length && item.offset ? null : this._add(item);
          if (!item) { break; }
        }
        this._limited(item.size);
        this.refusals = this.got = 0;
        this.partial = null;
        this.received += 1;
        this.sizes[this.received] = item.size;
        item.seq = this.received;
        fresh.push(item);
        if (item.code) { break; }
      }
      return fresh;
    },

    // Take a part; the whole message if this was the last of it, else null.
    _add: function (part) {
      var data = part.data;
      var text = isText(data);
      var partial = this.partial;
      if (part.offset > this.got) { this._refuse(PROTOCOL_ERROR); }
      if (this.got && (partial.total !== part.total || isText(partial.data) !== text)) {
        this._refuse(MALFORMED);
      }
      this._limited(part.total);
      if (!this.got) {
        partial = this.partial =
          { total: part.total, data: text ? "" : new Uint8Array(part.total) };
      }
      if (part.end > this.got) {
        // It may have been sent again from an earlier place, on another connection.
        data = slice(data, this.got - part.offset);
        if (text) { partial.data += data; } else { partial.data.set(data, this.got); }
        this.got = part.end;
        this.refusals = 0;
      }
      return this.got < part.total ? null : new Message(partial.data);
    },

    _limited: function (size) {
      if (size > this.limit) { throw failure(TOO_LARGE, "a message too large", true); }
    },

    // The connection ends; the session does where no resume helps, for what either end knows is wrong.
    _refuse: function (code) {
      throw failure(code, "messages are missing", ++this.refusals >= REFUSALS);
    },

    marks: function () { return [this.handled, this.received, this.got].join(); },

    // Message `seq` is handled: how many bytes it had.
    done: function (seq) {
      var size = this.sizes[seq] || 0;
      delete this.sizes[seq];
      while (this.handled < this.received && this.sizes[this.handled + 1] === undefined) {
        this.handled += 1;
      }
      return size;
    }
  };

  // --- The client's machine: pure; `now` goes in, units and deadlines come out, and events -----

  var WEBSOCKET = "websocket";
  var POLLING = "polling";

  function ClientMachine(now) {
    this.grant = DEFAULT_GRANT;
    this.outbox = new Outbox();
    this.inbox = new Inbox();
    this.connections = {};
    this.carrier = null;
    this.unattachedSince = now;
    this.code = NORMAL;
    this.reason = "";
    // What has happened, for the one who runs the machine to take out.
    this.events = [];
    // Who closed the session first, "local" or "peer"; and whether it is over.
    this.closedBy = null;
    this.closed = false;
    // When a close that is not confirmed is given up.
    this.closeDeadline = Infinity;
    this._unstatedBytes = 0;
    this.commits = 0;
    this._nextAsk = 0;
    this.requests = 0;
    // The connection whose commit the server is to hear of, perhaps once more.
    this.toAnnounce = null;
  }

  ClientMachine.prototype = {
    // Take messages that belong together; throws an Error with a `code` if they cannot be sent.
    send: function (items, urgent) {
      var grant = this.grant;
      if (!this.accepts()) { throw failure("closed", "the session is over"); }
      if (sizeOf(items) > grant.bytes + grant.message ||
          items.some(function (item, at) { return item.size > grant.message || at > grant.messages; })) {
        throw failure("too-large", sizeOf(items) + " bytes exceed what the server takes");
      }
      this.outbox.append(items, urgent);
    },

    accepts: function () { return !this.closedBy && !this.closed; },

    handled: function (seq, now) {
      this._unstatedBytes += this.inbox.done(seq);
      this._scheduleAck(now);
      // The peer's close is the last that was received.
      if (!this.closed && this.closedBy === "peer" && this.inbox.handled === this.inbox.received) {
        this._finish();
      }
    },

    // Close behind all that was sent; confirmed by the server, or given up after 5 s.
    close: function (code, reason, now) {
      if (!this.accepts()) { return; }
      // First: who is stopped amid this may close again.
      this.outbox.append([new Close(code, reason)]);
      this.closedBy = "local";
      this.code = code;
      this.reason = reason;
      this.closeDeadline = now + CLOSE_WAIT;
    },

    // Whether the server has all, with our close behind it.
    isLeft: function () { return this.closedBy === "local" && !this.outbox.items.length; },

    abort: function (code, reason) {
      if (this.closed) { return; }
      this.code = code;
      this.reason = reason;
      this._finish();
    },

    detach: function (attempt, now) {
      var connection = this.connections[attempt];
      delete this.connections[attempt];
      if (connection === this.carrier) {
        this.carrier = null;
        this.unattachedSince = connection.transport === POLLING ? connection.heardAt : now;
      }
    },

    // Nothing could be heard while the device slept: silence counts from now on.
    woke: function (now) {
      var self = this;
      // Not "in": what a page has added to Object.prototype is there, too.
      Object.keys(this.connections).forEach(function (attempt) {
        extend(self.connections[attempt], { openedAt: now, heardAt: now });
      });
      if (!this.carrier) { this.unattachedSince = now; }
    },

    ask: function (attempt) { this.connections[attempt].asks.push({ number: ++this._nextAsk }); },

    // Take an envelope; throws what ends the connection, or, if it is `fatal`, the session.
    receive: function (attempt, unit, now) {
      var self = this;
      var connection = this.connections[attempt];
      if (this.closed) { return; }
      if (connection) { connection.heardAt = now; }
      this.outbox.confirm(unit.ack, unit.received, unit.got);
      // What comes behind a close is ignored.
      var fresh = unit.seq && this.closedBy !== "peer" ?
        this.inbox.take(unit.seq, unit.messages) : [];
      if (connection) {
        if (unit.ask !== undefined && connection.answers.length < MAX_ANSWERS) {
          connection.answers.push(unit.ask);
        }
        connection.asks = connection.asks.filter(function (question) {
          var open = question.number !== unit.answer || question.at === undefined;
          if (!open) {
            self.events.push({ type: "answered", attempt: attempt, time: now - question.at });
          }
          return open;
        });
      }
      fresh.forEach(function (item) {
        if (!item.code) {
          if (!self.closedBy) {
            self.events.push({ type: "message", seq: item.seq, data: item.data });
          }
          return;
        }
        // Where both have closed, the server's code counts.
        self.code = item.code;
        self.reason = item.reason;
        if (self.closedBy) { self._finish(); }
        self.closedBy = "peer";
        if (self.closed) { return; }
        self.events.push({ type: "close", seq: item.seq, code: item.code, reason: item.reason });
      });
      if (this.closed) { return; }
      // Also where nothing is new: another connection may have to carry the ack now.
      this._scheduleAck(now);
      if (this.isLeft()) { this._finish(); }
    },

    // What is to be sent on a WebSocket now, or null; call it until it is.
    pull: function (attempt, now) {
      var connection = this.connections[attempt];
      var outbox = this.outbox;
      var items = [];
      var carries = connection === this.carrier;
      if (carries && !this.closed) {
        // Go on behind what the server has received.
        if (connection.nextSeq <= outbox.received) {
          this._rewind(connection);
        } else if (connection.nextSeq === outbox.received + 1) {
          connection.nextUnit = Math.max(connection.nextUnit, outbox.got);
        }
        items = outbox.read(connection.nextSeq, this._fitting(ENVELOPE_BYTES), ENVELOPE_MESSAGES,
          connection.nextUnit);
      }
      var question = connection.asks.filter(function (each) { return each.at === undefined; })[0];
      if (!items.length && !question && !connection.answers.length &&
          connection !== this.toAnnounce && !(carries && this._ackDue(connection, now))) {
        return null;
      }
      var unit = this._envelope(connection, connection.nextSeq, items);
      var last = items[items.length - 1];
      if (last) {
        connection.nextSeq += items.length - (isUnfinished(last) ? 1 : 0);
        connection.nextUnit = isUnfinished(last) ? last.end : 0;
      }
      if (question) {
        question.at = now;
        unit.ask = question.number;
      }
      unit.answer = connection.answers.shift();
      return unit;
    },

    _rewind: function (connection) {
      connection.nextSeq = this.outbox.received + 1;
      connection.nextUnit = this.outbox.got;
    },

    // At most so many bytes of messages, so that they fit an envelope in base64 too.
    _fitting: function (size) { return Math.min(size, Math.floor(this.grant.body / 2)); },

    // What is to happen when, as pairs; what comes first in the list comes first.
    _agenda: function () {
      var self = this;
      var grant = this.grant;
      var agenda = [[this.closeDeadline, function () { self._finish(); }]];
      if (this.closed) { return []; }
      Object.keys(this.connections).forEach(function (attempt) {
        var connection = self.connections[attempt];
        var isSocket = connection.transport === WEBSOCKET;
        var silence = 2 * grant.keepalive + SILENCE_MARGIN;

        function drop(now) {
          self.detach(attempt, now);
          self.events.push({ type: "dropped", attempt: connection.attempt, code: INACTIVE });
        }

        agenda.push([connection.heardAt +
          (isSocket ? silence : Math.min(silence, grant.inactivity)), drop]);
        if (!connection.commit) { agenda.push([connection.openedAt + CANDIDATE_WAIT, drop]); }
        if (isSocket && !connection.asks.length) {
          agenda.push([connection.heardAt + grant.keepalive, function () { self.ask(attempt); }]);
        }
        // That is for `pull`.
        if (isSocket && connection === self.carrier) { agenda.push([connection.ackAt]); }
      });
      // Behind the connections: the last one may have ended just now, or long ago.
      agenda.push([this.unattachedSince + grant.inactivity, function (now) {
        self.abort(INACTIVE, "no connection for " +
          Math.round((now - self.unattachedSince) / 1000) + " s");
      }]);
      return agenda;
    },

    // When `timeout` or `pull` is to be called next; Infinity for never.
    deadline: function () {
      return Math.min.apply(null, this._agenda().map(function (each) { return each[0]; }));
    },

    timeout: function (now) {
      var due;
      while ((due = this._agenda().filter(function (each) { return each[1] && each[0] <= now; })[0])) {
        due[1](now);
      }
    },

    // The first text of connection `attempt`. It carries the first message of a new session, which
    // must not wait for the welcome, or the first of those to be replayed; of `bytes` at most.
    hello: function (attempt, transport, nonce, now, bytes) {
      var seq = this.outbox.received + 1;
      var isNew = !this.id;
      this.connections[attempt] = {
        attempt: attempt, transport: transport, openedAt: now, heardAt: now, nextSeq: seq,
        nextUnit: this.outbox.got, commit: 0, handled: 0, stated: "0,0,0", ackAt: Infinity,
        asks: [], answers: [],
        // Whether the key was proved is known with the welcome; a hello by nonce proves none.
        keyless: isNew
      };
      // On a slow path what is large would keep the welcome from coming in time: it follows.
      var items = this.outbox.read(seq, this._fitting(bytes || HELLO_BYTES),
        // Repeated by a proxy, a hello without a nonce is another session: nothing of the page's may
        // be in it.
        isNew ? nonce ? 1 : 0 : REQUEST_MESSAGES, this.outbox.got, true);
      return extend({
        hello: VERSION, attempt: attempt, nonce: isNew && nonce || undefined,
        id: this.id, key: this.key
      }, this._unit(seq, items));
    },

    welcomed: function (welcome, now) {
      var connection = this.connections[welcome.attempt];
      if (connection && welcome.key) { connection.keyless = false; }
      this.id = welcome.id;
      this.key = welcome.key || this.key;
      this.grant = welcome.grant;
      this.inbox.limit = welcome.grant.message;
      // What that lets go is numbered as its marks are taken.
      this.outbox.credit = welcome.grant;
      this.receive(welcome.attempt, welcome, now);
    },

    // From now on this connection carries the session; `pull` or a request says so.
    commit: function (attempt) {
      var connection = this.connections[attempt];
      this._rewind(connection);
      this.toAnnounce = this.carrier = connection;
      connection.commit = ++this.commits;
      this.unattachedSince = Infinity;
    },

    // The next request of the polling connection that carries: waiting with a `wait`, else sending,
    // `bytes` at most.
    poll: function (wait, limit, bytes) {
      var seq = this.outbox.received + 1;
      return extend(this._envelope(this.carrier, seq, wait === undefined ? this.outbox.read(seq,
        this._fitting(bytes || REQUEST_BYTES), REQUEST_MESSAGES, this.outbox.got) : []), {
        id: this.id, key: this.key, attempt: this.carrier.attempt, number: ++this.requests,
        wait: wait, limit: limit
      });
    },

    // Take the end of the session, outside the numbering.
    ended: function (end) {
      var last = this.outbox.last();
      if (this.closed) { return; }
      this.outbox.confirm(Math.min(end.ack, end.received, last), Math.min(end.received, last));
      if (this.isLeft()) {
        this._finish();
      } else {
        // It has our close, and has closed as well.
        if (this.closedBy === "local" && this.outbox.received === last) { this.closedBy = "peer"; }
        this.abort(end.code, end.reason);
      }
    },

    // An envelope's marks and messages.
    _unit: function (seq, items) {
      return {
        ack: this.inbox.handled, received: this.inbox.received,
        seq: items.length ? seq : undefined, got: this.inbox.got || undefined, messages: items
      };
    },

    _envelope: function (connection, seq, items) {
      var unit = this._unit(seq, items);
      var polls = connection.transport === POLLING;
      connection.handled = this.inbox.handled;
      connection.stated = this.inbox.marks();
      connection.ackAt = Infinity;
      this._unstatedBytes = 0;
      if (polls || connection === this.toAnnounce) {
        unit.commit = connection.commit;
        this.toAnnounce = null;
        if (connection.keyless && !polls) { unit.proof = this.key; }
      }
      return unit;
    },

    _finish: function () {
      this.closed = true;
      this.events.push({
        type: "closed", code: this.code, reason: this.reason,
        unconfirmed: this.outbox.items.filter(function (item) { return !item.code; })
      });
    },

    _ackDue: function (connection, now) {
      var handled = this.inbox.handled - connection.handled;
      return connection.ackAt < Infinity && (now >= connection.ackAt || this.closedBy === "peer" ||
        (handled > 0 && (handled >= this.grant.messages >> 1 ||
        this._unstatedBytes >= this.grant.bytes >> 1)));
    },

    _scheduleAck: function (now) {
      var connection = this.carrier;
      if (connection && connection.ackAt === Infinity && connection.stated !== this.inbox.marks()) {
        connection.ackAt = now + ACK_DELAY;
      }
    }
  };

  // --- Socket.IO packets (protocol 5), and ours of type 7 --------------------------------------

  var CONNECT = "0";
  var EVENT = "2";
  var ACK = "3";
  var CONNECT_ERROR = "4";
  var BINARY_EVENT = "5";
  var BINARY_ACK = "6";
  var ERROR = "7";

  var BYTES = /^((Shared)?ArrayBuffer|DataView|\w+\d\w*Array)$/;
  var BLOB = /^(Blob|File)$/;

  function kindOf(value) { return {}.toString.call(value).slice(8, -1); }

  // A value's JSON, its bytes taken out into `attachments`.
  function toJson(value, attachments) {
    // What is being written, and all that it is in.
    var nest = [];
    return JSON.stringify(value, function (name, json) {
      // What toJSON was not asked of yet.
      var found = this[name];
      // By name: an ArrayBuffer of another window is no instance of this one's.
      var kind = kindOf(found);
      // Prototype.js 1.6 gives arrays a toJSON that makes texts of them.
      if (kind === "Array") { json = found; }
      if (BYTES.test(kind)) {
        // In quotes: bundlers may shorten names of ours that have a "_" at an end, and this is Socket.IO's.
        json = { "_placeholder": true, num: attachments.length };
        // Copied, as the page may write to it again.
        attachments.push(new Message(new Uint8Array(
          new Uint8Array(found.buffer || found, found.byteOffset || 0, found.byteLength))));
      }
      if (/^(Blob|File|Promise)$/.test(kind)) { throw "wait for the " + kind + ", or its ArrayBuffer"; }
      nest.length = nest.indexOf(this) + 1;
      // Of what is deeper the server thinks that somebody means it ill.
      if (json === Object(json) && nest.push(json) > 100) { throw "too deep"; }
      return json;
    });
  }

  // The messages of a packet; `data` undefined for none.
  function encodePacket(type, namespace, id, data) {
    var attachments = [];
    var json = "";
    try {
      if (data !== undefined) { json = escaped(toJson(data, attachments)); }
      // There are none in `auth`. And Socket.IO would take a value of the page's own for bytes; in a
      // text its quotes were escaped.
      if (attachments[0] && (type === CONNECT ||
          json.split('"_placeholder":')[attachments.length + 1])) {
        throw "bytes in auth, or a _placeholder";
      }
    } catch (error) {
      throw failure("unserialisable", String(error));
    }
    // An EVENT's type becomes BINARY_EVENT, an ACK's BINARY_ACK.
    if (attachments[0]) { type = +type + 3 + (attachments.length + "-"); }
    return [new Message(type + (namespace === "/" ? "" : namespace + ",") +
      id + json)].concat(attachments);
  }

  function reconstruct(value, attachments) {
    if (value !== Object(value)) { return value; }
    if (value["_placeholder"] === true) {
      var bytes = attachments[value.num];
      if (!bytes) { throw malformed(); }
      return new Uint8Array(bytes).buffer;
    }
    Object.keys(value).forEach(function (each) {
      value[each] = reconstruct(value[each], attachments);
    });
    return value;
  }

  // A packet's text; `missing` attachments are to follow.
  function decodePacket(text) {
    var parts = /^([0-7])(?:(\d{1,9})-)?(?:(\/[^,]*)(?:,|$))?(\d{1,15})?([\s\S]*)$/.exec(text);
    if (!parts) { throw malformed(); }
    return {
      text: text,
      type: parts[1],
      isEvent: parts[1] === EVENT || parts[1] === BINARY_EVENT,
      missing: +(parts[2] || 0),
      id: parts[4] || "",
      data: parts[5] ? parseJson(parts[5]) : undefined,
      attachments: [],
      seqs: []
    };
  }

  // What stays unconfirmed, as the application sent it: [{event, data}].
  function readable(items) {
    var packets = [];
    items.forEach(function (item) {
      if (isText(item.data)) {
        packets.push(decodePacket(item.data));
      } else if (packets.length) {
        packets[packets.length - 1].attachments.push(item.data);
      }
    });
    return packets.filter(function (packet) { return packet.isEvent; }).map(function (packet) {
      var data = packet.data;
      if (packet.missing && packet.attachments.length === packet.missing) {
        reconstruct(data, packet.attachments);
      }
      return { event: data[0], data: data[1], values: data.slice(1) };
    });
  }

  // --- Reload: what a page leaves to the next one in its tab ------------------------------------

  function copy(source, names) {
    var target = {};
    names.split(" ").forEach(function (name) { target[name] = source[name]; });
    return target;
  }

  // All that another page needs to go on with this session, as JSON can hold it.
  function pack(machine) {
    var inbox = machine.inbox;
    var outbox = machine.outbox;
    return {
      version: VERSION,
      machine: copy(machine, "id key grant commits requests"),
      inbox: copy(inbox, "handled received sizes"),
      outbox: copy(outbox, "confirmed received got"),
      partial: inbox.got &&
        segment(new Message(slice(inbox.partial.data, 0, inbox.got), 0, inbox.partial.total)),
      numbered: outbox.items.slice(0, outbox.numbered).map(function (item) {
        return [item.urgent, segment(item)];
      }),
      held: outbox.items.slice(outbox.numbered).filter(function (item) { return item.group; })
        .map(function (item) { return item.group.map(segment); })
    };
  }

  function unpack(packed, now) {
    var machine = extend(new ClientMachine(now), packed.machine);
    var outbox = extend(machine.outbox, packed.outbox);
    if (packed.version !== VERSION) { throw malformed(); }
    extend(machine.inbox, packed.inbox).limit = machine.grant.message;
    if (packed.partial) { machine.inbox._add(decodeSegment(packed.partial)); }
    // What has a number keeps it; then the credit is what it was.
    outbox.credit = { messages: Infinity, bytes: Infinity };
    packed.numbered.forEach(function (each) { outbox.append([decodeSegment(each[1])], each[0]); });
    outbox.credit = machine.grant;
    packed.held.forEach(function (each) { outbox.append(each.map(decodeSegment)); });
    return machine;
  }

  // --- The session: which connection to open when, and what the page holds -----------------------

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

  // The ends that say no to one request; any other ends the connection.
  var CURABLE = [MALFORMED, TOO_LARGE, TRY_AGAIN];

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

  function Why(transport, reason, text, expires) {
    this.transport = transport;
    this.reason = reason;
    this.text = text;
    // When the verdict expires, in milliseconds of Date; a probe may lift it before.
    this.expires = expires || null;
  }

  // Not by assignment: a page may have frozen Object.prototype.
  Why.prototype = { toString: function () { return this.text; } };

  // What is stored under keys with this prefix. The first number of each value is a time: what is
  // older than `age` was left behind by a page that could not clear up, and is removed.
  function fresh(storage, prefix, now, age) {
    var found = {};
    for (var i = storage.length - 1; i >= 0; i--) {
      var key = String(storage.key(i));
      if (key.indexOf(prefix)) { continue; }
      var value = storage.getItem(key);
      if (Math.abs(now - /\d+/.exec(value)) <= age) {
        found[key] = value;
      } else {
        storage.removeItem(key);
      }
    }
    return found;
  }

  // 16 bytes that nobody guesses; null where there is no source of them.
  function nonce(window) {
    var source = window.crypto || window.msCrypto;
    if (!source || !source.getRandomValues) { return null; }
    var bytes = new Uint8Array(16);
    source.getRandomValues(bytes);
    var text = [].join.call(bytes, ".");
    // edbrowse's source gives zeros: everybody would have the same nonce.
    return /[1-9]/.test(text) ? text : null;
  }

  // A unit; for what is none of ours (a login page, a gateway's error, a cut body) an empty one.
  function read(decoder, data) {
    try {
      return decoder(data);
    } catch (error) {
      return {};
    }
  }

  function isEnvelope(unit) { return unit.messages && !unit.grant; }

  var ONCE = "fallback_transport once ";
  var DAY = 86400000;

  // What a server says that would say it again: this origin, this version, a server that is started
  // in a way that cannot work.
  var FINAL = [BAD_ORIGIN, BAD_VERSION, INTERNAL_ERROR];

  // The timers of a session; behind that of a lane's request comes that of its pause.
  var WAITING = 0;
  var SENDING = 2;
  var STALL = 4;
  var TURN = 5;
  var BEQUEST = 6;
  var GREETING = 7;
  var DRAIN = 8;
  var ASKING = 9;
  var MISSING = 10;
  var HEDGE = 11;
  var RETRY = 12;
  var PROBE = 13;
  var FLUSH = 14;
  var TICK = 15;

  // What the page holds, and what it rides on: the variables are the session's state, nobody else's,
  // and shorter than properties in the file that is served. In this order: time, turns, long polling,
  // WebSocket, what connections report, opening, judging WebSocket, running, what the page calls and is
  // told, and how it comes and goes. All times of `timing` are in PROTOCOL.md, "Negotiation".
  function Session(url, options, face) {
    var session = this;
    // For tests, another one.
    var window = options.environment || root;
    if (!window.XMLHttpRequest || typeof Uint8Array === "undefined") {
      throw failure("unsupported", "no XMLHttpRequest or typed arrays");
    }
    this.onopen = this.onclose = this.onerror = this.ontransport = this.onreset = null;

    var random = window.Math.random;
    // The clock that all tabs share.
    var date = window.Date.now;
    var timing = extend(extend({}, TIMING), options.timing);
    var pollUrl = locate.call(window, url).mount + "/poll";
    var namespace = options.namespace || "/";
    if (!/^\/[^,]*$/.test(namespace)) {
      throw failure("namespace", "a namespace begins with /");
    }
    var verdictUnder = "fallback_transport " + pollUrl;
    var keptUnder = "fallback_transport session " + pollUrl + " " + namespace;
    // Frames share the tab's own storage with the page around them, and would take its session. A page
    // that is rendered in advance (prerendered) has a copy, and the page before is still there.
    var resumes = options.resume && window.top === window && !is("prerendering");

    // What the page listens to, by name and by type; the last news of the transport; the session's
    // name while it is left to another page.
    var named = {};
    var typed = {};
    var lastWhy = "";
    var away;
    // Of the session that is: the callbacks of what was asked; a packet whose attachments are to
    // come; why the application has refused it; whether it has accepted it, it was the page's before,
    // and the page is to hear that it is open.
    var callbacks;
    var nextId;
    var incoming;
    var refusal;
    var isAccepted;
    var isResumed;
    var reopens;

    // The machine, the connections, and that of the two which carries the session.
    var machine = null;
    var socket = null;
    var poller = null;
    var carrier = null;
    var attempt = 0;
    var sessionNonce = null;
    var roundTrip = 0;
    var troubled = false;
    var timers = {};
    var lastTime = 0;
    var lastDate = 0;
    var attentionAt = 0;
    // Of polls: how large hellos, requests and answers may be; until when waits are short.
    var helloBytes = HELLO_BYTES;
    var posts = new Limit(REQUEST_BYTES, LEAST_PART, 0);
    var answers = new Limit(LARGEST_ANSWER, LEAST_ANSWER, CUT_FOR);
    var shortUntil = 0;
    var learned = {};
    var begunAt = -Infinity;
    var polledAt = -Infinity;
    var wokeAt = -Infinity;
    var notBefore = 0;
    // How many sessions, one after the other, were lost young; of WebSockets, when they died young.
    var young = 0;
    var deaths = [];
    var suspicion = null;
    var verdict = null;
    var retries = 0;
    // What the last poll was answered that brought no welcome, while there is no connection; and when.
    var setback = "";
    var awayAt = -Infinity;
    var strangers = 0;
    // The processes that sessions were lost from while others answered, and until when that counts:
    // one that was out of reach may come back. Ids begin with their names.
    var lostFrom = {};
    var probes = 0;
    // Since when a WebSocket does not answer, which is kept for a while where it is all there is.
    var doubted = 0;

    var listeners = {
      online: hurry, storage: heard, visibilitychange: heard, pageshow: pageShows
    };
    // The oldest have no pagehide.
    var leaving = "onpagehide" in window ? "pagehide" : "unload";
    listeners[leaving] = hidesAgain;
    // Which try to say goodbye this is; 0 when it is said.
    var hiding = 0;

    // What the document says of the page; a worker has none.
    function is(name) { return window.document && window.document[name]; }

    function listen(method) {
      if (!window[method]) { return; }
      // Before the other one.
      window[method](leaving, hides, false);
      Object.keys(listeners).forEach(function (type) {
        window[method](type, listeners[type], false);
      });
    }

    // -- Time

    // Wall-clock milliseconds that never go back; unlike performance.now they count sleep.
    function now() {
      var time = date();
      lastTime += Math.max(0, time - lastDate);
      lastDate = time;
      return lastTime;
    }

    // `callback` is told by how much it is late.
    function set(name, delay, callback) {
      clear(name);
      // More than 24.8 days a browser takes for none.
      delay = Math.min(delay, 0x7fffffff);
      var due = now() + delay;
      var timer = timers[name] = window.setTimeout(function () {
        var late = now() - due;
        if (late > timing.late) { wake(); }
        if (timers[name] === timer) {
          delete timers[name];
          callback(late);
        }
      }, delay);
    }

    function clear(name) {
      window.clearTimeout(timers[name]);
      delete timers[name];
    }

    // Calls `doubt` when nothing has come for `delay`. A timer that is late says nothing: in a page
    // that was busy, hidden or asleep what came may be in the queue behind it. Then the next one does.
    function setPatience(name, delay, doubt) {
      set(name, delay, function (late) {
        if (late > LATENESS) { set(name, timing.alive, function () { doubt(); }); } else { doubt(); }
      });
    }

    // How long an answer may take before it is missed.
    function patience() { return Math.max(timing.alive, 4 * roundTrip); }

    // How long a welcome may take, and a WebSocket's handshake with it, behind so many failures.
    function greeting(failures) { return Math.max(timing.welcome * Math.pow(2, failures), 5 * roundTrip); }

    // The backoff before the n-th attempt again: at once, then growing; with jitter, so that many
    // clients of one server do not come together.
    function backoff(n) {
      var cap = n < 2 ? 0 : Math.min(timing.retryMax, timing.retry * Math.pow(2, n - 1));
      return Math.max(cap * (1 + random()) / 2, notBefore - now());
    }

    // What took longer than this was asleep, or its peer was.
    function measured(time) {
      roundTrip += (Math.min(time, timing.late) - roundTrip) / (roundTrip ? 8 : 1);
    }

    // A server that is busy says when to come again; not later than in ten minutes.
    function heed(seconds) {
      if (seconds > 0) { notBefore = now() + Math.min(600, seconds) * 1000; }
    }

    function learn(what, time) {
      learned[what] = {
        time: Math.max(timing.minWait, Math.min(time, allowed(what))), until: now() + timing.learned
      };
    }

    // For how long the path was seen to allow silence: "wait" in a poll, "idle" on a WebSocket.
    function allowed(what) {
      return learned[what] && learned[what].until > now() ? learned[what].time : Infinity;
    }

    // A timer is so late that the device has slept, or its clock was set: ask before judging anything.
    function wake() {
      if (machine.closed || now() - wokeAt < timing.alive) { return; }
      machine.woke(wokeAt = now());
      hurry();
    }

    // -- Turns: the polling sessions of one site share the browser's connections; each has a key of
    // its own in localStorage

    var turnsUnder = "fallback_transport poll " + pollUrl.split("/", 3).join("/") + " ";
    var ownKey = turnsUnder + (nonce(window) || random());
    var neighbour = { key: turnsUnder, own: ownKey, turn: turn };
    // When a poll has brought nothing: no turn is missed before long.
    var restedAt = 0;

    function tell() {
      neighbours.slice().forEach(function (each) {
        if (each !== neighbour && each.key === turnsUnder) { each.turn(); }
      });
    }

    function unregister() {
      var at = neighbours.indexOf(neighbour);
      if (at < 0) { return; }
      neighbours.splice(at, 1);
      try {
        window.localStorage.removeItem(ownKey);
      } catch (error) {
        // Forbidden by now: it will be forgotten.
      }
      tell();
    }

    // For how many milliseconds a poll may be held now; below zero: in how many the next one may.
    function share() {
      var time = date();
      var mark = is("hidden") ? " hidden" : "";
      var visible = [];
      var hidden = [];
      var found = {};
      try {
        found = fresh(window.localStorage, turnsUnder, time, FORGOTTEN);
        var own = found[ownKey] || "";
        if (own.replace(/\d+/, "") !== mark || Math.abs(time - /\d+/.exec(own)) >= ROUND / 2) {
          found[ownKey] = time + mark;
          window.localStorage.setItem(ownKey, found[ownKey]);
        }
      } catch (error) {
        // Forbidden, as in a worker: this page's own alone.
        neighbours.forEach(function (each) {
          if (each.key === turnsUnder) { found[each.own] = mark; }
        });
      }
      Object.keys(found).sort().forEach(function (key) {
        (/hidden/.test(found[key]) ? hidden : visible).push(key);
      });
      if (visible.length + hidden.length <= HOLDERS || multiplexes()) { return Infinity; }
      // A hidden page's timers are slow: it has no turn, but asks when something wakes it. Where all
      // are hidden one has a turn all the same: answers are not slow, and with them it wakes the rest.
      var turns = visible.length ? visible : hidden.slice(0, 1);
      var groups = Math.ceil(turns.length / HOLDERS);
      var index = turns.indexOf(ownKey);
      var rest = Math.min(MISSED, restedAt + MISSED - time);
      if (index >= 0) {
        var slot = groups > 1 ? Math.min(SLOT, ROUND / groups) : ROUND;
        var since = (time / slot - index) % groups;
        if (since < 1) { return (1 - since) * slot; }
        rest = Math.min(rest, (groups - since) * slot);
      }
      return Math.min(0, -Math.ceil(rest));
    }

    // Whether all polls share a connection (HTTP/2), as far as the browser tells.
    function multiplexes() {
      var performance = window.performance;
      var entry = performance && performance.getEntriesByName &&
        performance.getEntriesByName(pollUrl).pop();
      return entry && /^h\d/.test(entry.nextHopProtocol);
    }

    // This page is shown or hidden, or others came, went, or were renewed, which wakes the hidden. Or
    // the WebSocket of one works: a browser opens one after the other, and what was judged may have been
    // the time that ours was kept waiting.
    function heard(event) {
      if (!event.key || !event.key.indexOf(turnsUnder)) {
        turn();
      } else if (carrier && !event.newValue && event.key === verdictUnder) {
        hurry();
      }
    }

    function turn() { if (carrier && carrier.turn) { carrier.turn(); } }

    // -- Long polling

    // One POST; gives what aborts it. `done(status, text, begun)` is called once, unless it is
    // aborted; status 0 is a failure of the network, or no answer in time. `begun`: since when the
    // answer was coming.
    function post(name, body, limit, done) {
      var xhr = new window.XMLHttpRequest();
      var open = true;
      var begun = 0;

      function end(status) {
        if (!open) { return; }
        open = false;
        clear(name);
        if (!status) { xhr.abort(); }
        // Asked for only where it may be: from another origin a browser complains of it.
        if (status >= 400) { heed(xhr.getResponseHeader("Retry-After")); }
        done(status || 0, status ? xhr.responseText : "", begun);
      }

      // What is large takes longer: a slow path carries 8 bytes a millisecond.
      setPatience(name, limit + body.length / 8, end);
      xhr.onreadystatechange = function () {
        if (xhr.readyState === 3) { begun = begun || now(); }
        if (xhr.readyState === 4) { end(xhr.status); }
      };
      try {
        xhr.open("POST", pollUrl, true);
        if (options.withCredentials) { xhr.withCredentials = true; }
        // A type that needs no preflight from another origin.
        xhr.setRequestHeader("Content-Type", "text/plain;charset=UTF-8");
        xhr.send(body);
      } catch (error) {
        // The browser forbids it: to us, a network that is down.
        setPatience(name, 0, end);
      }
      return function () {
        done = ignore;
        end();
      };
    }

    function ignore() {}

    // How many bytes one answer, or one request, may have: fewer where such were cut or refused. After
    // a while more is tried; where that fails, not before `rest`, then ever less often.
    function Limit(largest, least, rest) {
      var limit = this;
      // What held before the failures since the last full one; how many others have come behind them.
      var former;
      var others;

      limit.next = 0;
      limit.size = largest;
      limit.pause = REFUSED_FOR;

      // One came through, which was full enough or not. With the second that was not, all has come that was
      // in those that failed: that was less than what passes, and did not fail for its size.
      limit.passed = function (isFull) {
        if (!isFull) {
          if (++others > 1) { extend(limit, former); }
          return;
        }
        former = null;
        if (now() < limit.next) { return; }
        limit.isTrial = limit.size < largest;
        if (limit.isTrial) { limit.size = Math.min(largest, 2 * limit.size); } else { limit.pause = REFUSED_FOR; }
      };

      // One did not: so many bytes are tried next. Where that is a guess, more is as soon as they pass; also
      // behind a cut or a trial: they did not fail for their size, if less fails as well.
      limit.failed = function (bytes, isGuess) {
        former = former || extend({}, limit);
        others = 0;
        if (limit.isTrial) {
          limit.pause = Math.min(timing.learned, Math.max(rest, 2 * limit.pause));
          isGuess = limit.isTrial = false;
        }
        limit.next = isGuess ? 0 : now() + limit.pause;
        limit.size = Math.max(least, bytes);
      };
    }

    // A lane of a polling connection: at most one request, or the wait before the next.
    function Lane(timer) {
      this.timer = timer;
      this.again = timer + 1;
      this.failures = 0;
      this.tries = 0;
      // Since when it fails; when that was sent which was answered last.
      this.failedAt = Infinity;
      this.provenAt = 0;
    }

    function isFree(lane) { return !lane.abort && !timers[lane.again]; }

    function abort(lane) {
      if (lane.abort) { lane.abort(); }
      lane.abort = null;
      clear(lane.again);
    }

    // One run of polls.
    function Poller() {
      var connection = this;
      var waiting = new Lane(WAITING);
      var sending = new Lane(SENDING);
      var stalled;
      var empties = 0;
      var former;
      var pause = ATTENTION * timing.alive;
      var heldUntil = 0;

      connection.attempt = ++attempt;
      connection.startedAt = now();
      connection.kick = kick;

      sending.abort = post(SENDING, encodeBody(hello(connection, POLLING)),
        Math.min(timing.request, greeting(0) * Math.pow(2, retries)), function (status, text) {
          var unit = read(decodeBody, text);
          sending.abort = null;
          if (unit.grant && unit.attempt === connection.attempt) {
            measured(now() - connection.startedAt);
            welcomed(connection, unit);
          } else if (unit.session) {
            ended(unit);
          } else {
            // The next one is to get through, whatever this died of.
            helloBytes = LEAST_PART;
            setback = ": status " + status + " from " + pollUrl;
            awayAt = now();
            lost(connection, null, unit);
          }
        });

      // Do what is to be done: one waiting request always, one sending request when there is something.
      function kick() {
        if (carrier !== connection) { return; }
        if (isFree(sending) && isMissing()) {
          if (machine.outbox.last() > machine.outbox.received) {
            send();
          } else if (!timers[STALL]) {
            // Nothing stalls now. No pause of the lane: a reply, or what has credit at last, goes at once.
            set(STALL, ATTENTION * patience(), send);
          }
        }
        if (isFree(waiting) && !stalled) { wait(); }
      }

      function wait() {
        // Who is closing waits for nothing but the server's word, which comes soon.
        var closes = machine.closedBy;
        if (timers[TURN] && !closes) { return; }
        var shared = share();
        if (shared < 0) {
          if (!closes) {
            set(TURN, -shared, flush);
            return;
          }
          shared = SLOT / 4;
        }
        var grant = machine.grant;
        // With its margin, a fifth of it, within one keepalive: a swallowed answer is missed by then.
        // Behind messages, an answer is wanted soon: were one swallowed, nobody would know before the
        // wait is over. So it is behind failures, be it empty: it says that the network is back.
        var time = Math.min(grant.wait, 0.8 * grant.keepalive, timing.wait, allowed("wait"), pause,
          shared, now() < shortUntil || waiting.failures > 1 ? timing.shortWait : Infinity);
        // More of it for what is rare, and for a server that is slow, lest it be asked ever more often.
        var margin = Math.min(timing.margin,
          Math.max(time / 5, patience() * Math.pow(2, waiting.failures)));
        heldUntil = now() + time;
        request(waiting, machine.poll(Math.round(time), answers.size), time + margin,
          function (unit, took, news) {
            if (!unit.seq) { restedAt = date(); }
            pause = unit.seq ? ATTENTION * timing.alive : 2 * pause;
            // Let go before its time: it was cut, and the browser has repeated it by itself.
            if (!unit.seq && !news && took < 0.9 * time) { pollCut(took, time, 200); }
            // What says nothing, or nothing new, and comes at once is a proxy's or a busy server's; do
            // not run in circles.
            empties = !news && took < Math.min(1000, time / 2) ? empties + 1 : 0;
            return backoff(empties);
          });
      }

      function send() {
        setPatience(STALL, patience(), function () {
          // Perhaps no second connection is to be had: the waiting request gives way.
          stalled = true;
          shortUntil = now() + timing.shortWaitFor;
          abort(waiting);
          // Not for as long as it takes: what comes down is not to wait for what is slow to go up.
          set(STALL, 2 * patience(), function () {
            sent();
            flush();
          });
        });
        // It is answered at once; as much time again for it then, and more where that was too little.
        var unit = machine.poll(undefined, undefined, posts.size);
        // What it is to bring may have come by the other lane meanwhile.
        var before = progress();
        request(sending, unit,
          Math.min(timing.request, patience() * Math.pow(2, 1 + sending.failures)),
          function (answer, took) {
            measured(took);
            posts.passed(isLarge(unit));
            return unit.seq && progress() === before && backoff(2);
          });
      }

      // Other with all that is new in an answer.
      function progress() { return machine.outbox.marks() + machine.inbox.marks(); }

      function sent() {
        clear(STALL);
        stalled = false;
      }

      function request(lane, unit, limit, answered) {
        var sentAt = now();
        lane.abort = post(lane.timer, encodeBody(unit), limit, function (status, text, begun) {
          var took = now() - sentAt;
          var answer = read(decodeBody, text);
          var other = lane === waiting ? sending : waiting;
          lane.abort = null;
          if (lane === sending) { sent(); }
          if (!isEnvelope(answer)) {
            failed(lane, unit, answer, status, took, begun, text);
            return;
          }
          // The server counts three bytes for a unit of text, lest it cut one that has them.
          if (lane === waiting) { answers.passed(6 * text.length > answers.size); }
          var isBack = lane.failures > 1;
          lane.failedAt = Infinity;
          lane.provenAt = sentAt;
          lane.failures = lane.tries = 0;
          var before = progress();
          if (receive(connection, answer)) {
            later(lane, answered(answer, took, progress() !== before));
            // It shows that the network is there: what failed on the other lane is tried again soon. At
            // once, if this was a failing one too: the network is back.
            if (timers[other.again] && (isBack || other.tries > 2)) {
              later(other, backoff(isBack ? 1 : 2));
            }
            other.tries = Math.min(other.tries, 1);
          }
        });
      }

      function failed(lane, unit, answer, status, took, begun, text) {
        if (answer.session) {
          ended(answer);
          return;
        }
        if (answer.code && CURABLE.indexOf(answer.code) < 0) {
          lost(connection, null, answer);
          return;
        }
        lane.failures += 1;
        lane.tries += 1;
        lane.failedAt = Math.min(lane.failedAt, now());
        // A request that was held for long before it failed was not in vain.
        var delay = backoff(took < 1000 ? lane.tries : lane.tries - 1);
        if (unit.messages.length && (status === 413 || answer.code === TOO_LARGE)) {
          if (posts.size === LEAST_PART) {
            // Nothing can overtake it: perhaps by WebSocket, else it ends here.
            probe();
            if (lane.failures > 4) {
              giveUp(TOO_LARGE, LEAST_PART + " bytes are refused");
              return;
            }
          }
          refused(unit, 1);
        } else if (lane === sending) {
          // A firewall's no (400 to 407); or a waiting one came through in between: perhaps what is large
          // is swallowed, or cut. That costs more time than a refusal. Too many requests were those of
          // others, or too often: smaller ones would be more of them.
          if (sizeOf(unit.messages) > PACKET && status !== 429 && status !== 503 && (status >> 3 === 50 ||
              (posts.isTrial && isLarge(unit)) || waiting.provenAt > lane.failedAt)) {
            refused(unit, 2);
          }
        } else {
          // Perhaps for its size, as above; if not, the next ones are soon as large as before.
          if (answer.ack === undefined && status !== 429 && status !== 503) {
            cutShort(status ? status !== 200 : !begun);
          }
          if (lane.failures > 1) {
            // Again, and not for its time: the network was down, then, and nobody has cut anything.
            if (took < 1000 || took > unit.wait) { learned.wait = former; }
          } else {
            former = learned.wait;
            // What was answered by us, or cut amid its answer, was not cut for its time.
            if (answer.ack === undefined && (status ? status !== 200 || !text : now() - begun > 1000)) {
              pollCut(took, unit.wait, status);
            }
          }
        }
        later(lane, delay);
        // It was not the WebSocket, then, or not it alone.
        suspicion = null;
        if (lane.failures < 2) { return; }
        troubled = true;
        changed();
        // Another network perhaps: what was known of WebSocket may be wrong. Or not: then once.
        if (!socket && (!isJudged() || lane.failures === 3)) { open(); }
      }

      // Of a text with a letter beyond ASCII a part is a third of what may be.
      function isLarge(unit) { return 4 * sizeOf(unit.messages) > posts.size; }

      function refused(unit, shift) {
        posts.failed(sizeOf(unit.messages) >> shift);
        sending.failedAt = now();
        if (posts.size > LEAST_PART) { sending.failures = sending.tries = 0; }
      }

      function cutShort(isGuess) {
        // It is no failure of the path to learn what it carries.
        if (answers.isTrial) { waiting.failures = waiting.tries = 0; }
        answers.failed(answers.size >> 1 + isGuess, isGuess);
      }

      function later(lane, delay) {
        clear(lane.again);
        if (delay) { set(lane.again, delay, kick); }
        flush();
      }

      connection.carry = function () {
        share();
        neighbours.push(neighbour);
        tell();
      };

      // The network is said to be back: what is on its way may be lost, what waits need not wait.
      connection.hurry = function () {
        abort(waiting);
        abort(sending);
        sent();
        kick();
      };

      connection.stop = function () {
        clear(TURN);
        unregister();
        connection.hurry();
      };

      // Others have come or gone. A poll that is held for much longer than its share gives way: the
      // page of a newcomer may be waiting for the connection.
      connection.turn = function () {
        clear(TURN);
        if (waiting.abort && heldUntil > now() + Math.max(0, share()) + SLOT / 4) {
          abort(waiting);
          restedAt = date();
        }
        kick();
      };
    }

    // A waiting request was cut after `took`; without a status perhaps after half of it, because a
    // browser repeats what fails on a connection that it has used before.
    function pollCut(took, wait, status) {
      // One that was held for longer than it was to be: cut once and repeated. Or the answer was
      // swallowed, or the server is slow; for these a second lesson would be no help.
      if (took >= 1000 && wait > timing.minWait && (took <= wait || allowed("wait") === Infinity)) {
        learn("wait", 0.8 * Math.min(took, wait) / (status ? 1 : 2));
      }
    }

    // -- WebSocket

    // One WebSocket. May throw, as the constructor may.
    function Socket() {
      var connection = this;
      var ws = new window.WebSocket(pollUrl.replace(/^http/, "ws").replace(/poll$/, "ws"), SUBPROTOCOL);
      // When it has opened.
      var opened = 0;

      connection.attempt = ++attempt;
      connection.startedAt = now();
      // How long silence may last before we ask.
      connection.pause = timing.alive;
      connection.ws = ws;

      ws.binaryType = "arraybuffer";
      ws.onopen = function () {
        ws.send(encode(hello(connection, WEBSOCKET)));
        opened = now();
      };
      ws.onerror = ws.onclose = function (event) {
        connection.code = event.code;
        lost(connection, opened ? "closed" : "refused");
      };
      // Where it is all there is, nothing else tells how slow the path is.
      setPatience(GREETING, greeting(allows(POLLING) ? 0 : Math.min(3, retries)), function () {
        // Behind an outage Firefox keeps it waiting, for up to a minute after the last that failed.
        lost(connection, opened ? "silent" : now() - awayAt < timing.death ? null : "unanswered");
      });

      ws.onmessage = function (event) {
        var data = event.data;
        // Altered on the way, perhaps: then this connection ends, not the session.
        var unit = isText(data) ? read(decode, data) : read(decodeBinary, new Uint8Array(data));
        if (unit.grant && carrier !== connection && unit.attempt === connection.attempt) {
          clear(GREETING);
          measured(now() - opened);
          welcomed(connection, unit);
        } else if (carrier === connection && isEnvelope(unit)) {
          connection.heardAt = connection.activeAt = now();
          // Who was answered waits longer with the next question.
          if (unit.answer !== undefined) { connection.pause = 2 * pauseOf(); }
          if (unit.seq) { connection.pause = timing.alive; }
          receive(connection, unit);
          // A question is answered at once: in a hidden page a timer may take a second, or a minute.
          if (unit.ask === undefined) {
            flushSoon();
          } else {
            connection.askedAt = now();
            flush();
          }
        } else if (unit.session) {
          ended(unit);
        } else {
          // What the server says of itself is no fault of the WebSocket.
          connection.code = unit.code;
          lost(connection, unit.code ? null : "closed", unit);
        }
      };

      // When anything came; when anything was sent or came, our questions excepted.
      connection.carry = function () {
        connection.committedAt = connection.heardAt = connection.activeAt = now();
      };

      // Send what the machine has, while the browser's own buffer is not full of it already.
      connection.kick = function () {
        function put(frame) { ws.send(isText(frame) ? frame : frame.buffer); }

        // First: what is sent just now must not look like a buffer that drains.
        watch();
        attend();
        for (;;) {
          // Closed already, though not told yet: a browser complains of what is sent then.
          if (ws.readyState > 1 || ws.bufferedAmount >= 1000000) {
            set(DRAIN, 50, flush);
            return;
          }
          var unit = machine.pull(connection.attempt, now());
          if (!unit) { return; }
          if (unit.ask === undefined) { connection.activeAt = now(); }
          encodeFrames(unit).forEach(put);
        }
      };

      connection.stop = function () {
        clear(GREETING);
        clear(ASKING);
        clear(MISSING);
        ws.onopen = ws.onmessage = ws.onerror = ws.onclose = null;
        // Without a code, which old WebKit refuses.
        ws.close();
      };
    }

    // The silence after which a WebSocket is asked: with the time for its answer within a keepalive.
    function pauseOf() {
      var keepalive = machine.grant.keepalive;
      return Math.min(socket.pause, allowed("idle"),
        Math.max(keepalive / 2, keepalive - patience()));
    }

    // Ask the WebSocket that carries, unless that was done; its commit may have been swallowed, too.
    function ask() {
      if (question()) { return; }
      machine.toAnnounce = machine.carrier;
      // What must be received once the answer comes.
      socket.expects = machine.carrier.nextSeq - 1;
      machine.ask(socket.attempt);
    }

    // The one that has waited longest for its answer.
    function question() { return machine.carrier && machine.carrier.asks[0]; }

    // Ask a WebSocket that has fallen silent: soon if it has brought messages, then ever later.
    function attend() {
      if (question()) { return; }
      var due = socket.heardAt + pauseOf();
      // One timer for many messages: it is set anew when it fires, or has to fire earlier.
      if (!timers[ASKING] || attentionAt > due) {
        attentionAt = due;
        set(ASKING, due - now(), function () {
          if (now() >= socket.heardAt + pauseOf()) { ask(); }
          flush();
        });
      }
    }

    // Whether something is not received, or waits for credit, of which the word may have been swallowed.
    function isMissing() {
      return question() || machine.outbox.items[machine.outbox.received - machine.outbox.confirmed];
    }

    // While that is so: ask, and then doubt it.
    function watch() {
      if (timers[MISSING] || !isMissing()) { return; }
      var buffered = socket.ws.bufferedAmount;
      var marks = machine.outbox.marks();
      var asked = question();
      set(MISSING, patience(), function (late) {
        if (!isMissing()) { return; }
        ask();
        // A question waits behind all that was sent before; while that moves, the path is but slow.
        if (question() === asked && machine.outbox.marks() === marks &&
            !(socket.ws.bufferedAmount < buffered)) {
          // The answer may be in the queue behind this, if it is late: once, it gets more time.
          if (late > LATENESS && !socket.spared) { socket.spared = true; } else { doubt(); }
        }
        flush();
      });
    }

    // Where polling is not to be had, a new WebSocket may get through; but on a slow path one envelope
    // takes 8 s, and would begin anew.
    function doubt() {
      doubted = doubted || now();
      if (poller || now() < doubted + timing.margin) {
        hedge();
      } else {
        lost(socket);
        // The server may have it for as long as any silent one: the session is not over before.
        machine.unattachedSince += timing.death;
      }
    }

    // -- What the connections report

    function hello(connection, transport) {
      return extend(machine.hello(connection.attempt, transport, sessionNonce, now(), helloBytes),
        { client: extend({ library: FallbackTransport.version, why: reason() }, face && face.client) });
    }

    function welcomed(connection, welcome) {
      if (machine.id && welcome.id !== machine.id) {
        // A second session, made by a process that did not know of the first.
        lost(connection);
        return;
      }
      if (now() < lostFrom[welcome.id.split(".")[0]]) {
        // It is still there: each session would be lost so.
        giveUp(MISDIRECTED, "several server processes answer, and share no sessions");
        return;
      }
      troubled = false;
      setback = "";
      shown.protocol = welcome.protocol || shown.protocol;
      if (!take(connection, welcome)) { return; }
      if (connection === socket) {
        discard(poller);
        clear(HEDGE);
        clear(PROBE);
        judge(null);
      } else {
        if (carrier && !doubted) {
          discard(poller);
          act();
          return;
        }
        if (carrier) {
          suspicion = "half-open";
          buried();
          discard(socket);
        }
        polled();
      }
      // From now on it carries; only then act on what the welcome brought, so that a page that hears
      // of it finds the session open.
      carrier = connection;
      doubted = 0;
      connection.carry();
      machine.commit(connection.attempt);
      act();
      if (carrier !== connection) { return; }
      flush();
      probeLater();
      changed();
    }

    // A connection is over: for `reason`, if that speaks against WebSocket; `end` is what the server
    // said, if it did.
    function lost(connection, reason, end) {
      var former = machine;
      var isSocket = connection === socket;
      var carried = connection === carrier;
      if (!isSocket && connection !== poller) { return; }
      if (isSocket && carried) {
        buried();
      } else if (reason && !troubled) {
        suspicion = reason;
      }
      discard(connection);
      end = end || {};
      var code = end.code;
      // Another process of the server answers for ours: three times running, and ours is gone.
      if (code === MISDIRECTED && !carrier && !(++strangers % 3)) {
        // Unless it is a move, which may be taken back soon.
        if (!machine.settled) { lostFrom[machine.id.split(".")[0]] = now() + timing.death; }
        giveUp(GONE, "another server process answers");
      } else if (FINAL.indexOf(code) >= 0 && !socket && !poller) {
        giveUp(code, end.reason);
      }
      if (former !== machine || machine.closed) { return; }
      if (carrier) {
        if (suspicion && polledAt >= connection.startedAt) { judge(suspicion); }
        probeLater();
      } else if (!isSocket) {
        if (!socket) { retry(); }
      } else if (carried) {
        // At once; but not WebSocket alone, over and over.
        retries = allows(POLLING) ? 0 : Math.max(0, recentDeaths() - 1);
        if (retries) { retry(); } else { connect(); }
      } else {
        fallBack();
      }
      changed();
      tick();
    }

    function giveUp(code, reason) {
      machine.abort(code, reason);
      act();
    }

    // Polling works: now a suspicion is a verdict. A server that is down says nothing.
    function polled() {
      polledAt = now();
      if (suspicion) { judge(suspicion); }
    }

    // Let the machine have a welcome or an envelope; false if the connection or the session ended
    // for it.
    function take(connection, unit) {
      try {
        if (unit.grant) {
          machine.welcomed(unit, now());
        } else {
          machine.receive(connection.attempt, unit, now());
        }
      } catch (error) {
        if (!error.fatal) {
          lost(connection, "closed");
          return false;
        }
        machine.abort(error.code, error.message);
      }
      if (machine.closed) { act(); }
      return !machine.closed;
    }

    // Take an envelope; false if the session or the connection ended for it.
    function receive(connection, unit) {
      if (!take(connection, unit)) { return false; }
      // It has led to the same process for a while: that it led to another one before was a move, and
      // so it is if it does so next.
      machine.settled = connection.startedAt < now() - timing.margin;
      if (machine.settled) { lostFrom = {}; }
      retries = strangers = doubted = 0;
      troubled = false;
      if (connection === poller) { polled(); }
      changed();
      act();
      return carrier === connection;
    }

    // The session is over, or gone.
    function ended(end) {
      machine.ended(end);
      act();
    }

    // -- Opening

    // Carry a new session, some time within `spread`: many clients hear of a restart together, and
    // must not come together. Where one session after the other ends young, each begins later.
    function begin(next, spread) {
      drop();
      machine = next;
      sessionNonce = nonce(window);
      young = now() - begunAt < timing.death ? young + 1 : 0;
      begunAt = now();
      retries = Math.max(0, young - 1);
      if (spread) {
        notBefore = Math.max(notBefore, now() + spread * random());
        // That another process answers is no wonder then.
        lostFrom = {};
      }
      if (young || spread) { retry(); } else { connect(); }
      tick();
    }

    function allows(transport) {
      return !options.transports || options.transports.indexOf(transport) >= 0;
    }

    // Not for what a page has put in its place where there is none: ours.
    function canOpen() {
      var found = window.WebSocket;
      return allows(WEBSOCKET) && found !== undefined &&
        (original || Object(found).prototype !== members);
    }

    // Nothing carries and nothing is under way.
    function connect() {
      if (is("prerendering")) {
        // Until it is shown, if ever, a browser keeps its WebSockets waiting.
        machine.unattachedSince = Infinity;
        // Also where a late timer has woken it just before.
        wokeAt = -Infinity;
        window.document.addEventListener("prerenderingchange", wake);
        return;
      }
      var unstable = recentDeaths() >= timing.deaths;
      suspicion = null;
      if (allows(POLLING) && retries < 2 && (unstable || isJudged())) {
        if (unstable) { suspicion = "unstable"; }
      } else {
        // Also where polling fails, whatever was thought of WebSocket.
        open();
      }
      if (!socket) {
        fallBack();
      } else {
        set(HEDGE, Math.max(timing.hedge, 3 * roundTrip), hedge);
      }
    }

    function open() {
      if (!canOpen()) { return; }
      try {
        socket = new Socket();
      } catch (error) {
        suspicion = "threw";
      }
    }

    // Polling beside the WebSocket. Without a nonce the one that is welcomed later is another
    // session, of which nobody hears.
    function hedge() {
      if (!poller && allows(POLLING)) { poller = new Poller(); }
    }

    // The WebSocket is out of the question for now.
    function fallBack() {
      clear(HEDGE);
      hedge();
      if (!poller) { retry(); }
    }

    function retry() {
      // Behind a doubt it is the network, perhaps, that is away for a while.
      if (retries < 2 || now() > doubted + timing.margin + timing.death) { retries += 1; }
      if (face && !machine.id && retries >= TRIES) {
        giveUp(ABNORMAL, "the server is out of reach");
        return;
      }
      set(RETRY, backoff(retries), connect);
    }

    function probeLater() {
      if (socket || !canOpen() || timers[PROBE]) { return; }
      // That one opens says nothing, if they are unstable: not before the verdict expires.
      set(PROBE, isJudged() && verdict.reason === "unstable" ? verdict.expires - now() : random() *
        Math.min(timing.probeMax, timing.probe * Math.pow(2, probes++)), probe);
    }

    function probe() {
      if (socket || !poller) { return; }
      suspicion = null;
      open();
      probeLater();
    }

    function drop() {
      // Last words: the acknowledgement of the server's close.
      if (carrier && carrier === socket) { socket.kick(); }
      Object.keys(timers).forEach(clear);
      if (carrier && carrier === poller && machine.closed && machine.carrier.ackAt < Infinity) {
        post(BEQUEST, encodeBody(machine.poll()), timing.shortWait, ignore);
      }
      discard(socket);
      discard(poller);
      troubled = false;
    }

    function discard(connection) {
      if (!connection) { return; }
      if (connection === socket) { socket = null; } else { poller = null; }
      if (connection === carrier) { carrier = null; }
      connection.stop();
      machine.detach(connection.attempt, now());
    }

    // -- Judging WebSocket

    // A WebSocket that carried has died; too many young ones, and they count as unstable.
    function buried() {
      var code = socket.code;
      var pause = pauseOf();
      // Until it was doubted: that it was kept for a while, as all there is, says nothing.
      var silence = (doubted || now()) - socket.activeAt;
      var isAsked = question();
      var known = allowed("idle");
      var age = now() - socket.committedAt;
      if (age >= timing.death) {
        probes = 0;
        // It has borne far longer ones of the server: not for this.
        if (now() - socket.heardAt < socket.pause / 3) { return; }
      }
      // No fault of the path. Firefox closes it where a link leads to a download. Or the server gave up a
      // page that did not answer, but its question has just come through: it was the page that was busy or
      // asleep. Or silent for longer than we are: the page slept, and could not ask.
      if (code === SERVICE_RESTART || code === SUPERSEDED ||
          (code === GOING_AWAY && age > timing.late) ||
          (code === INACTIVE && now() - socket.askedAt < 1000) || silence > pause + timing.late) {
        return;
      }
      // Without a word, that is by a network that allows no such silence. Where a question found it,
      // it may have been since any time after the one before, which was half as long.
      if ((isAsked ? pause : silence) >= timing.minWait && (!code || code === ABNORMAL)) {
        learn("idle", isAsked ? pause / 2 : 0.8 * silence);
        // If that was all, it will not happen again.
        if (known === Infinity) { return; }
      }
      if (age < timing.death) { deaths.push(now()); }
    }

    function recentDeaths() {
      var since = now() - timing.deathWindow;
      deaths = deaths.filter(function (time) { return time > since; });
      return deaths.length;
    }

    function isJudged() { return verdict && verdict.expires > now(); }

    // Only called while polling is known to work, or to lift a verdict.
    function judge(found) {
      suspicion = null;
      verdict = found && { reason: found, expires: now() + timing.verdict };
      if (options.remember === false) { return; }
      try {
        // What expired as long ago as one is usually kept; however long another mount keeps its own.
        fresh(window.localStorage, "fallback_transport http", now() + 1e15 - TIMING.verdict, 1e15);
        if (verdict) {
          window.localStorage.setItem(verdictUnder, JSON.stringify(verdict));
        } else {
          window.localStorage.removeItem(verdictUnder);
        }
      } catch (error) {
        // Full, or forbidden: it is remembered for this page alone.
      }
    }

    function recall() {
      try {
        var kept = JSON.parse(window.localStorage.getItem(verdictUnder));
        var left = kept.expires - now();
        if (left > 0 && left <= timing.verdict && SENTENCES.hasOwnProperty(kept.reason)) {
          verdict = kept;
        }
      } catch (error) {
        // There is none, or it is forbidden.
      }
    }

    // Why polling, if it is polling.
    function reason() {
      return !allows(WEBSOCKET) ? "option" : !canOpen() ? "unavailable" :
        suspicion || (verdict ? verdict.reason : doubted ? "half-open" : "proving");
    }

    function why() {
      if (!carrier) { return new Why(null, "none", "no connection" + setback); }
      if (carrier === socket) { return new Why(WEBSOCKET, "works", "WebSocket: works"); }
      return new Why(POLLING, reason(), "long polling: " +
        SENTENCES[reason()].replace("{s}", timing.welcome / 1000),
        !suspicion && verdict && verdict.expires);
    }

    // -- Running

    function flushSoon() {
      if (!timers[FLUSH]) { set(FLUSH, 0, flush); }
    }

    // Send what there is to send, on whatever carries.
    function flush() {
      if (carrier) { carrier.kick(); }
      tick();
    }

    // The machine's next deadline.
    function tick() {
      var deadline = machine.deadline();
      clear(TICK);
      if (deadline === Infinity) { return; }
      // Not in circles, while a full buffer keeps back what is due. What is overdue wakes: nobody was there
      // to look when it was due, as when the clock is set.
      set(TICK, Math.max(deadline - now(), timers[DRAIN] ? 50 : -Infinity), function () {
        machine.timeout(now());
        act();
        if (!machine.closed) { flush(); }
      });
    }

    // The network is said to be back, the page was woken: do not wait for any timer.
    function hurry(event) {
      retries = probes = 0;
      if (!carrier) {
        // What is under way may be lost in the network that was.
        drop();
        connect();
      } else if (carrier === socket) {
        ask();
      } else {
        poller.hurry();
        // Not for a sleep alone, where a WebSocket would open and break again.
        if (event || !(isJudged() && verdict.reason === "unstable")) {
          clear(PROBE);
          probe();
        }
      }
      flush();
    }

    // The page goes: send what is unsent, as far as the browser lets us.
    function lastWords() {
      var ws = carrier && carrier.ws;
      var navigator = window.navigator;

      function body(bytes) {
        return encodeBody(machine.poll(undefined, undefined, Math.min(posts.size, bytes)));
      }

      // Where another page comes, Firefox has closed the WebSocket by now.
      if (ws && ws.readyState < 2 && hiding < 2) {
        flush();
      } else if (machine.id && machine.outbox.last() > machine.outbox.received) {
        if (!carrier || ws) {
          machine.hello(++attempt, POLLING, null, now());
          machine.commit(attempt);
        }
        // A browser takes 64 kB as a beacon, or nothing; base64 makes them more.
        for (var bytes = 60000; bytes > 1000; bytes >>= 1) {
          if (navigator && navigator.sendBeacon && navigator.sendBeacon(pollUrl, body(bytes))) { return; }
        }
        post(BEQUEST, body(Infinity), timing.shortWait, ignore);
      }
    }

    // Act on what has happened in the machine. A page that hears of it may begin another session.
    function act() {
      for (var event; (event = machine.events.shift());) {
        if (event.type === "message") {
          received(event);
        } else if (event.type === "close") {
          machine.handled(event.seq, now());
        } else if (event.type === "closed") {
          over(event);
        } else if (event.type === "answered") {
          measured(event.time);
          if (socket) {
            socket.spared = false;
            // In order, so what was sent before the question has been swallowed on the way.
            if (machine.outbox.received < socket.expects) { lost(socket); }
          }
        } else {
          if (socket && socket.attempt === event.attempt) { lost(socket, "silent"); }
          if (poller && poller.attempt === event.attempt) { lost(poller); }
        }
      }
    }

    // -- What the page calls

    // The list kept under a name in a map, never changed but replaced: somebody may be going through
    // it. The colon keeps names like "constructor" apart.
    function list(map, name) { return map[":" + name] || []; }

    function without(map, name, listener) {
      map[":" + name] = list(map, name).filter(function (each) { return each !== listener; });
    }

    // Call `listener(data…, reply)` for each message of this name. If the server asked, what it
    // returns, or promises, is the reply; else it returns nothing and calls `reply(value…)`.
    this.on = function (name, listener) {
      named[":" + name] = list(named, name).concat(listener);
      return session;
    };

    this.off = function (name, listener) {
      if (listener) { without(named, name, listener); } else { delete named[":" + name]; }
      return session;
    };

    this.addEventListener = function (type, listener) {
      var all = list(typed, type);
      if (all.indexOf(listener) < 0) { typed[":" + type] = all.concat(listener); }
    };

    this.removeEventListener = function (type, listener) { without(typed, type, listener); };

    // Send a named message: emit(name, data…, [function (error, reply…)]). Throws an Error with a
    // `code` for what cannot be sent: closed, too-large, unserialisable, full.
    this.emit = function (name) {
      var values = [].slice.call(arguments);
      if (!isText(name) || /^(dis)?connect$/.test(name)) {
        throw failure("unserialisable", "no name");
      }
      var callback = typeof values[values.length - 1] === "function" && values.pop();
      put(EVENT, callback ? nextId : "", values);
      if (callback) { callbacks[nextId++] = callback; }
      return session;
    };

    // Send an unnamed message: text, ArrayBuffer or view.
    this.send = function (data, callback) {
      return session.emit.apply(session, ["message", data].concat(callback || []));
    };

    // For a WebSocket, below. Nothing is on its way before the page's script has ended.
    if (face) {
      face.take = function (items) {
        machine.send(items);
        flushSoon();
      };
      face.end = function (code, reason) {
        machine.close(code, reason, now());
        flushSoon();
      };
    }

    // Close behind all that was sent; `onclose` follows. 1000 or 3000 to 4999, as WebSocket has it.
    this.close = function (code, reason) {
      code = code === undefined ? NORMAL : code;
      reason = reason === undefined ? "" : scalars(reason);
      if ((code !== NORMAL && !(code >= 3000)) || !canClose(code, reason)) {
        throw failure("close", "the code must be 1000, or 3000 to 4999; the reason must be at most " +
          MAX_REASON_BYTES + " bytes of UTF-8");
      }
      if (away) { throw failure("closed", "the page was left"); }
      machine.close(code, reason, now());
      flush();
    };

    // What the page sees, be the session frozen, and does not change.
    var shown = {
      id: null, protocol: "", state: "connecting",

      get transport() { return why().transport; },

      get why() { return why(); },

      // Bytes that the server has not confirmed.
      get bufferedAmount() { return machine.outbox.left(); },

      // The smoothed round trip in milliseconds, null while unknown.
      get roundTrip() { return roundTrip || null; },

      // The highest message sent, and of those confirmed; the highest received, and handled.
      get counters() {
        return {
          sent: machine.outbox.last(), acknowledged: machine.outbox.confirmed,
          received: machine.inbox.received, handled: machine.inbox.handled
        };
      }
    };
    Object.keys(shown).forEach(function (name) {
      Object.defineProperty(session, name, { get: function () { return shown[name]; } });
    });

    function put(type, id, data, urgent) {
      var items = encodePacket(type, namespace, id, data);
      // What comes behind what a page has left would be lost.
      if (away) { throw failure("closed", "the page was left"); }
      machine.send(items, urgent);
      flushSoon();
    }

    // Call a page's function; what it throws is reported like any uncaught error, and harms nothing.
    function guard(callback, values) {
      try {
        callback.apply(session, values);
        return true;
      } catch (error) {
        window.setTimeout(function () { throw error; }, 0);
      }
    }

    function dispatch(type, event) {
      event.type = type;
      event.target = session;
      [session["on" + type]].concat(list(typed, type)).forEach(function (listener) {
        if (typeof listener === "function") { guard(listener, [event]); }
      });
    }

    // -- What the session tells

    function reset() {
      callbacks = {};
      nextId = 1;
      incoming = refusal = null;
      isAccepted = isResumed = reopens = false;
    }

    function start(spread) {
      var auth = options.auth;
      var next = new ClientMachine(now());
      next.send(encodePacket(CONNECT, namespace, "", typeof auth === "function" ? auth() : auth));
      reset();
      begin(next, spread);
    }

    function received(event) {
      var former = machine;
      var packet = incoming;
      // A page that goes on with a session hears that it is open before it hears anything else.
      if (reopens) { changed(); }
      // A listener of the message before has closed the session.
      if (machine.closed || machine.closedBy === "local") { return; }
      try {
        // A packet where an attachment was announced, or the other way around.
        if (isText(event.data) !== !packet) { throw malformed(); }
        if (packet) { packet.attachments.push(event.data); } else { packet = decodePacket(event.data); }
        packet.seqs.push(event.seq);
        incoming = packet.attachments.length < packet.missing ? packet : null;
        if (incoming) { return; }
        if (packet.missing) { packet.data = reconstruct(packet.data, packet.attachments); }
      } catch (error) {
        machine.close(MALFORMED, "a malformed packet", now());
        flushSoon();
        return;
      }
      deliver(packet);
      if (machine === former) { packet.seqs.forEach(function (seq) { machine.handled(seq, now()); }); }
    }

    function deliver(packet) {
      var type = packet.type;
      var data = packet.data;
      if (type === CONNECT) {
        isAccepted = reopens = true;
        changed();
      } else if (type === CONNECT_ERROR) {
        // The close with its code comes behind it.
        refusal = data;
      } else if (packet.isEvent && data instanceof Array) {
        call(packet.id, String(data[0]), data.slice(1));
      } else if (type === ACK || type === BINARY_ACK) {
        answer(packet.id, [null].concat(data));
      } else if (type === ERROR) {
        data = data || {};
        answer(packet.id, [failure(data.code, String(data.message))]);
      }
    }

    function answer(id, values) {
      var callback = callbacks[id];
      delete callbacks[id];
      if (callback) { guard(callback, values); }
    }

    function call(id, name, values) {
      var former = machine;
      var all = list(named, name);
      var open = id !== "";

      function respond(type, value) {
        if (!open || machine !== former || !machine.accepts()) { return; }
        put(type, id, value, true);
        open = false;
      }

      function reply() { respond(ACK, [].slice.call(arguments)); }

      function refuse(text) { guard(respond, [ERROR, { code: INTERNAL_ERROR, message: text }]); }

      function run(callback, value) {
        if (!guard(callback, [value])) { refuse("the listener raised"); }
      }

      // What it returns, or promises, may be impossible to send.
      function give(value) {
        if (open && value && typeof value.then === "function") {
          value.then(function (found) { run(give, found); }, function (error) {
            run(function () { throw error; });
          });
        } else if (value !== undefined) {
          reply(value);
        }
      }

      if (!all.length) { refuse("no listener for " + name); }
      all.forEach(function (listener) {
        run(function () { give(listener.apply(session, values.concat(open ? reply : []))); });
      });
    }

    function fail(all, error) {
      Object.keys(all).forEach(function (id) { guard(all[id], [error]); });
    }

    function over(event) {
      var open = callbacks;
      var told = {
        code: event.code, reason: event.reason,
        // Closed by one side, and known to the other.
        wasClean: machine.closedBy === "peer" || machine.isLeft(),
        unconfirmed: readable(event.unconfirmed)
      };
      // A new session begins by itself where the server has lost this one; not where the page has closed.
      // As codes that somebody closes with they are the application's own.
      var isReset = machine.closeDeadline === Infinity && !refusal && !face &&
        (event.code === SERVICE_RESTART || (!machine.closedBy && (event.code === GONE || event.code === INACTIVE)));
      if (isReset) {
        shown.state = "reconnecting";
        // The page may have no new `auth` to give.
        isReset = guard(start, [event.code === SERVICE_RESTART ? timing.spread : 0]);
      }
      if (!isReset) {
        shown.state = "closed";
        callbacks = {};
        listen("removeEventListener");
        drop();
      }
      fail(open, failure(event.code, "the session ended: " + event.code + " " + event.reason));
      if (refusal) { told.data = refusal.data; }
      // As a WebSocket does: what went wrong first, then that it is over.
      if (!isReset && !told.wasClean && event.code !== GOING_AWAY) {
        dispatch("error", extend({}, told));
      }
      dispatch(isReset ? "reset" : "close", told);
      changed();
    }

    // The transport, its reason or the state may have changed.
    function changed() {
      if (shown.state === "closed") { return; }
      var works = carrier && !troubled;
      var reason = why();
      if (isAccepted && (works || !reopens)) { shown.state = works ? "open" : "reconnecting"; }
      // The first news is of a transport; after that, also that there is none.
      var news = reason.transport + reason.reason;
      if (lastWhy !== news && (carrier || lastWhy)) {
        lastWhy = news;
        dispatch("transport", { transport: reason.transport, why: reason });
      }
      if (reopens && works && !machine.closed && machine.closedBy !== "local") {
        reopens = false;
        shown.id = machine.id;
        dispatch("open", { id: machine.id, resumed: isResumed });
      }
    }

    // -- The page goes, comes, comes back

    function hides(event) {
      hiding = 1;
      pageHides(event);
      hiding = 0;
    }

    // Firefox stops one script, wherever it is, when the page goes; and calls the next listener.
    function hidesAgain(event) {
      if (hiding) {
        hiding = 2;
        pageHides(event);
      }
    }

    function pageHides(event) {
      if (resumes && leave()) { return; }
      if (!event.persisted) { machine.close(GOING_AWAY, "the page was left", now()); }
      lastWords();
      if (event.persisted) {
        drop();
        changed();
      } else {
        // A WebSocket's page hears no more of it.
        if (face) { face.readyState = 3; }
        // There is no later: who wants to keep what is unconfirmed has to do it now.
        giveUp(machine.code, machine.reason);
      }
    }

    // From the browser's cache of whole pages.
    function pageShows(event) {
      var left = away;
      if (!event.persisted) { return; }
      away = null;
      var kept = left && takeBack();
      if (!left || (kept && kept.isOurs && kept.by === left)) {
        hurry();
      } else if (kept && kept.isOurs) {
        fail(callbacks, failure(GONE, "another page has the session"));
        resume(kept);
      } else {
        over(notTaken(kept));
      }
    }

    // Leave the session to the next page in this tab; false if that cannot be.
    function leave() {
      if (away || !machine.id || !machine.accepts()) { return away; }
      lastWords();
      var kept = extend(pack(machine), {
        by: String(nonce(window) || random()),
        attempt: attempt, nextId: nextId, accepted: isAccepted,
        // Whose attachments are still to come.
        packet: incoming && [incoming.text].concat(incoming.attachments.map(toBase64))
      });
      try {
        fresh(window.localStorage, ONCE, date(), DAY);
        // A duplicate of the tab gets a copy of its sessionStorage. Who takes the session has to take
        // this as well, and there is but one.
        window.localStorage.setItem(ONCE + kept.by, date());
        window.sessionStorage.setItem(keptUnder, toJson(
          (JSON.parse(window.sessionStorage.getItem(keptUnder)) || []).concat(kept)));
      } catch (error) {
        // Too large, or forbidden.
        return false;
      }
      away = kept.by;
      // Perhaps it comes back: nothing is to be open meanwhile.
      drop();
      changed();
      return true;
    }

    // What a page in this tab has left, taken out for good; `isOurs` if nobody else has it.
    function takeBack() {
      var kept;
      try {
        var all = JSON.parse(window.sessionStorage.getItem(keptUnder)) || [];
        window.sessionStorage.removeItem(keptUnder);
        // Two sessions of one page: a page that comes back takes its own.
        kept = all.filter(function (each) { return machine && each.machine.id === machine.id; })[0] || all[0];
        if (!kept) { return null; }
        all.splice(all.indexOf(kept), 1);
        if (all[0]) { window.sessionStorage.setItem(keptUnder, toJson(all)); }
        kept.left = unpack(kept, now());
        kept.isOurs = window.localStorage.getItem(ONCE + kept.by);
        window.localStorage.removeItem(ONCE + kept.by);
      } catch (error) {
        // Forbidden, altered, or left by another version.
      }
      return kept;
    }

    function notTaken(kept) {
      return {
        code: GONE, reason: "another page has the session",
        unconfirmed: kept && kept.left ? kept.left.outbox.items : []
      };
    }

    function resume(kept) {
      reset();
      nextId = kept.nextId;
      isAccepted = reopens = kept.accepted;
      isResumed = true;
      if (kept.packet) {
        incoming = decodePacket(kept.packet[0]);
        incoming.attachments = kept.packet.slice(1).map(fromBase64);
        for (var seq = kept.inbox.handled + 1; seq <= kept.inbox.received; seq++) { incoming.seqs.push(seq); }
      }
      attempt = Math.max(attempt, kept.attempt);
      begin(kept.left);
    }

    // Begin, or go on with what the page before has left.
    if (options.remember !== false) { recall(); }
    if (!canOpen() && !allows(POLLING)) {
      throw failure("unsupported", "no such transport");
    }
    var left = resumes && takeBack();
    if (left && left.isOurs) {
      resume(left);
    } else {
      start();
      // Nobody listens yet.
      if (left) {
        window.setTimeout(function () {
          var told = notTaken(left);
          dispatch("reset", extend(told, { unconfirmed: readable(told.unconfirmed) }));
        }, 0);
      }
    }
    // Last: whoever could not begin hears of nothing.
    listen("addEventListener");
  }

  // --- The browser's WebSocket interface, over a session ----------------------------------------

  // As https://websockets.spec.whatwg.org/ has it; its messages are a session's unnamed ones.

  // Where there is more to send than a session keeps, so long until it is asked again.
  var FULL = 50;

  // Who connects, and who is to, by host. One does at a time (RFC 6455, section 4.1): what it learns
  // of the network, the others need not find out.
  var queues = {};

  var channel;
  var tasks = [];

  // Each event is a task of its own: what a page does behind it is done before the next one comes.
  // Not a timer's, which are slow in a hidden page.
  function pageTask(callback) {
    if (!channel) {
      channel = new root.MessageChannel();
      channel.port1.onmessage = function () { tasks.shift()(); };
    }
    tasks.push(callback);
    channel.port2.postMessage(0);
  }

  function domException(name, text) {
    try {
      return new root.DOMException(text, name);
    } catch (error) {
      // There is none, or none for pages to make.
      return extend(new Error(text), { name: name });
    }
  }

  // A text without lone surrogates, as UTF-8 can have it. For a symbol it throws, as it should.
  function scalars(value) {
    return "".concat(value).replace(/([\ud800-\udbff][\udc00-\udfff])|[\ud800-\udfff]/g,
      function (found, pair) { return pair || "\ufffd"; });
  }

  // Where a URL leads that is in the window `this`. There has to be a server.
  function locate(url) {
    var document = this.document;
    var base = document ? document.baseURI : Object(this.location).href;
    var URL = base && this.URL;
    var parts;
    try {
      // The anchor does what `new URL` does where a page can make none: such a one takes no arguments.
      url = String(URL && URL.length ? new URL(url, base).href : document ?
        // Edbrowse has no base, and here an object.
        extend(document.createElement("a"), { href: url }).href :
        // A worker has no anchor.
        /^\/\b/.test(url) ? base.split("/", 3).join("/") + url : url);
      // Without user and password: it becomes a key of localStorage.
      parts = /^(?:ws|http)(s?:\/\/)(?:[^\/?#]*@)?([^\/?#%]+)(\/[^?#]*)(\?[^#]*)?$/.exec(url);
    } catch (error) {
      // It is none.
    }
    if (!parts) { throw domException("SyntaxError", "no server: " + url); }
    var site = parts[1] + parts[2];
    return {
      url: url.replace(/^http/, "ws"), origin: "ws" + site, mount: "http" + site + parts[3].replace(/\/$/, ""),
      path: parts[3] + (parts[4] || ""),
      // From a page that came by https nothing goes unencrypted, but to the same machine.
      isMixed: parts[1] === "://" && Object(root.location).protocol === "https:" &&
        !/^(.*\.)?localhost(:|$)|^127\.[\d.:]+$|^\[::1]/.test(parts[2])
    };
  }

  // The inside of a page's WebSocket. Args: that; what its constructor got: a URL, one subprotocol or
  // several, and options of `connect`.
  function Face(page, values) {
    var own = this;
    var options = Object(values[2]);
    var window = options.environment || root;
    var iterator = root.Symbol && root.Symbol.iterator;
    var url = scalars(values[0]);
    var names = values[1] === undefined ? [] : values[1];
    names = (iterator && names === Object(names) && names[iterator] ? Array.from(names) : [].concat(names))
      .map(function (name) { return "".concat(name); });
    var place = locate.call(root, url);
    names.forEach(function (name, at) {
      if (!TOKEN.test(name) || names.join().toLowerCase().split(",").indexOf(name.toLowerCase()) < at) {
        throw domException("SyntaxError", "no subprotocol, or twice: " + name);
      }
    });
    if (place.isMixed) { throw domException("SecurityError", "this page has to use wss:"); }

    var session;
    var queue = queues[place.origin] = queues[place.origin] || [];
    // What has come before it is open.
    var early = [];
    // What the session has not taken, what the network was not given, and its bytes, with those that
    // neither will get.
    var waiting = [];
    var buffered = [];
    var amount = 0;
    var isFull = false;

    this.client = {
      url: place.path, protocols: names.join(", ") || undefined
    };
    this.url = place.url;
    this.readyState = 0;
    this.protocol = this.extensions = "";
    this.binaryType = "blob";
    this.handlers = {};
    this.listeners = {};

    function task(callback, value) {
      function run() { callback(value); }

      if (window === root && root.MessageChannel) { pageTask(run); } else { window.setTimeout(run, 0); }
    }

    function dispatch(kind, type, init) {
      var event;
      try {
        // The browser's Event: MooTools puts another one in the place of it.
        event = new (kind ? root[kind] : Object.getPrototypeOf(root.CloseEvent))(type, init);
      } catch (error) {
        // The browser makes none of this kind.
        event = extend(Target ? new root.Event(type) : { type: type }, init);
      }
      // Not the page's own method of this name.
      members.dispatchEvent.call(page, event);
    }

    function connect() {
      // Closed while it waited; the next one's turn comes when the page is told.
      if (own.readyState) { return; }
      try {
        session = new Session(place.mount, extend(extend({}, options), {
          namespace: "/", resume: false
        }), own);
      } catch (error) {
        // Neither transport is to be had.
        task(over, {});
        return;
      }
      session.onopen = accept;
      session.on("message", function (data) {
        if (early) { early.push(data); } else { task(message, data); }
      });
      session.onclose = function (event) {
        // Closed by `on_connect`, which has not refused it.
        if (event.wasClean && !("data" in event)) { accept(); }
        task(over, event);
      };
    }

    // It is open, or has failed: the next one's turn. Whether it was in the queue.
    function settle() {
      var at = queue.indexOf(connect);
      if (at >= 0) { queue.splice(at, 1); }
      if (!at && queue[0]) { queue[0](); }
      return at >= 0;
    }

    function accept() {
      if (!early) { return; }
      task(opened);
      early.forEach(function (data) { task(message, data); });
      early = null;
    }

    function opened() {
      var chosen = session.protocol;
      if (own.readyState) { return; }
      if (names.length ? names.indexOf(chosen) < 0 : chosen) {
        leave(PROTOCOL_ERROR);
        over({});
        return;
      }
      own.protocol = chosen;
      own.readyState = 1;
      settle();
      dispatch(0, "open");
    }

    function message(data) {
      if (own.readyState !== 1) { return; }
      if (BYTES.test(kindOf(data))) {
        if (own.binaryType === "blob") { data = new root.Blob([data]); }
      } else if (!isText(data)) {
        data = JSON.stringify(data);
      }
      dispatch("MessageEvent", "message", { data: data, origin: place.origin });
    }

    // It is over, as the session tells, or failed.
    function over(event) {
      if (own.readyState === 3) { return; }
      own.readyState = 3;
      // So has what was never open.
      var isClean = !settle() && !!event.wasClean;
      if (!isClean) { dispatch(0, "error"); }
      dispatch("CloseEvent", "close", {
        code: isClean ? event.code : ABNORMAL, reason: isClean ? event.reason : "", wasClean: isClean
      });
    }

    // The session ends by itself: what it still tells comes behind `over`.
    function leave(code) {
      if (session) { own.end(code, ""); }
    }

    // Hand to the session what is ready, in order.
    function pump() {
      var next;
      while ((next = waiting[0]) && !isFull && (next.items || next.code)) {
        try {
          if (next.code) { own.end(next.code, next.reason); } else { own.take(next.items); }
        } catch (error) {
          if (error.code === "full") {
            isFull = true;
            window.setTimeout(function () {
              isFull = false;
              pump();
            }, FULL);
          } else if (error.code === "too-large") {
            own.readyState = 2;
            own.end(TOO_BIG, "");
          }
          // Closed by the server: it stays here.
          return;
        }
        waiting.shift();
      }
    }

    // The bytes of it that the network was not given.
    function left(entry) {
      var items = entry.items;
      return items ? entry.size * (1 - (items[items.length - 1].given || 0)) : entry.size;
    }

    // The network is given one after the other: of what is behind the first it has nothing.
    this.amount = function () {
      var first;
      while ((first = buffered[0]) && !left(first)) { amount -= buffered.shift().size; }
      return Math.ceil(first ? amount - first.size + left(first) : amount);
    };

    this.send = function (data, kind) {
      var entry = { size: isText(data) ? utf8Length(data) : BLOB.test(kind) ? data.size : data.byteLength };

      function take(content) { entry.items = encodePacket(EVENT, "/", "", ["message", content]); }

      if (own.readyState > 1) {
        amount += entry.size;
        return;
      }
      // First what may throw: nothing is to wait behind what cannot be sent.
      if (BLOB.test(kind)) {
        var reader = new root.FileReader();
        reader.onload = function () {
          take(reader.result);
          pump();
        };
        reader.onerror = function () {
          leave(GOING_AWAY);
          task(over, {});
        };
        reader.readAsArrayBuffer(data);
      } else {
        // A buffer that is detached is empty, but cannot be read.
        take(entry.size || isText(data) ? data : new Uint8Array(0));
      }
      own.amount();
      amount += entry.size;
      buffered.push(entry);
      waiting.push(entry);
      pump();
    };

    this.close = function (code, reason) {
      if (!own.readyState) {
        leave(GOING_AWAY);
        task(over, {});
      } else if (own.readyState === 1) {
        waiting.push({ code: code, reason: reason });
        pump();
      }
      own.readyState = Math.max(own.readyState, 2);
    };

    if (queue.push(connect) === 1) { connect(); }
  }

  // The browser's own, if a page can make one; else what there is of it in `listening`.
  var Target;
  try {
    Target = root.Reflect && new root.EventTarget() && root.EventTarget;
  } catch (error) {
    // It cannot.
  }

  var listening = {
    addEventListener: function (type, listener, options) {
      var known = this.$.listeners[type] || [];
      if (listener && !known.some(function (each) { return each[0] === listener; })) {
        this.$.listeners[type] = known.concat([[listener, Object(options).once]]);
      }
    },
    removeEventListener: function (type, listener) {
      this.$.listeners[type] = (this.$.listeners[type] || []).filter(function (each) {
        return each[0] !== listener;
      });
    },
    dispatchEvent: function (event) {
      var page = this;
      var all = page.$.listeners;
      try {
        event.target = event.currentTarget = page;
      } catch (error) {
        // The browser's, by the page itself.
      }
      (all[event.type] || []).forEach(function (each) {
        if (all[event.type].indexOf(each) < 0) { return; }
        if (each[1]) { page.removeEventListener(event.type, each[0]); }
        try {
          if (each[0].handleEvent) { each[0].handleEvent(event); } else { each[0].call(page, event); }
        } catch (error) {
          root.setTimeout(function () { throw error; }, 0);
        }
      });
      return !event.defaultPrevented;
    }
  };

  function inside(page) {
    if (!(Object(page).$ instanceof Face)) { throw new TypeError("no WebSocket"); }
    return page.$;
  }

  function handler(page, type) {
    var known = inside(page).handlers[type];
    return known ? known.value : null;
  }

  // It is called in the place in which it was first set.
  function handle(page, type, value) {
    var handlers = inside(page).handlers;
    var known = handlers[type];
    if (value !== Object(value)) {
      handlers[type] = null;
      if (known) { members.removeEventListener.call(page, type, known.run); }
    } else if (known) {
      known.value = value;
    } else {
      known = handlers[type] = {
        value: value,
        run: function (event) {
          if (typeof known.value === "function" && known.value.call(page, event) === false &&
              event.preventDefault) {
            event.preventDefault();
          }
        }
      };
      members.addEventListener.call(page, type, known.run);
    }
  }

  // What a page sees: functions are named, and throw, as those of the browser do.
  var members = {
    get url() { return inside(this).url; },
    get readyState() { return inside(this).readyState; },
    get bufferedAmount() { return inside(this).amount(); },
    get onopen() { return handler(this, "open"); },
    set onopen(value) { handle(this, "open", value); },
    get onerror() { return handler(this, "error"); },
    set onerror(value) { handle(this, "error", value); },
    get onclose() { return handler(this, "close"); },
    set onclose(value) { handle(this, "close", value); },
    get extensions() { return inside(this).extensions; },
    get protocol() { return inside(this).protocol; },
    get onmessage() { return handler(this, "message"); },
    set onmessage(value) { handle(this, "message", value); },
    get binaryType() { return inside(this).binaryType; },
    set binaryType(value) {
      var own = inside(this);
      value = "".concat(value);
      if (value === "blob" || value === "arraybuffer") { own.binaryType = value; }
    },
    close: function close() {
      var own = inside(this);
      var code = arguments[0];
      if (code !== undefined) {
        // Web IDL's [Clamp]: the nearest whole number there is, and of two the even one.
        code = Math.min(0xffff, +code) || 0;
        code = code % 1 === 0.5 ? 2 * Math.round(code / 2) : Math.round(code);
      }
      var reason = arguments[1] === undefined ? "" : scalars(arguments[1]);
      if (code !== undefined && code !== NORMAL && !(code >= 3000 && code <= 4999)) {
        throw domException("InvalidAccessError", "the code must be 1000, or 3000 to 4999");
      }
      if (utf8Length(reason) > MAX_REASON_BYTES) {
        throw domException("SyntaxError",
          "the reason must be at most " + MAX_REASON_BYTES + " bytes of UTF-8");
      }
      own.close(code || (reason ? NORMAL : NO_CODE), reason);
    },
    send: function send(data) {
      var own = inside(this);
      var kind = kindOf(data);
      if (!arguments.length) { throw new TypeError("no data"); }
      if (!BYTES.test(kind) && !BLOB.test(kind)) { data = scalars(data); }
      if (!own.readyState) { throw domException("InvalidStateError", "the WebSocket is not open"); }
      own.send(data, kind);
    }
  };

  if (Target) { Object.setPrototypeOf(members, Target.prototype); } else { extend(members, listening); }

  function fix(object, name, value, more) {
    Object.defineProperty(object, name, extend({ value: value }, more));
  }

  function numbered(object) {
    "CONNECTING OPEN CLOSING CLOSED".split(" ").forEach(function (name, number) {
      fix(object, name, number, { enumerable: true });
    });
    return object;
  }

  // Makes a constructor of ours.
  function shape(made) {
    if (Target) { Object.setPrototypeOf(made, Target); }
    fix(made, "prototype", members, { writable: false });
    return numbered(made);
  }

  // A new one, of the class that was called: `page` is of it, whatever its `constructor` says.
  function make(page, values) {
    if (!(page instanceof PageWebSocket)) { throw new TypeError("new is missing"); }
    if (!values.length) { throw new TypeError("no URL"); }
    // A session asks for it, be it of another copy of this file: the browser's.
    if (/fallback.v1/.test(values[1])) { return new original(values[0], values[1]); }
    var made = Target ? Object.setPrototypeOf(new Target(), Object.getPrototypeOf(page)) : page;
    fix(made, "$", new Face(made, values));
    return made;
  }

  var PageWebSocket = shape(function WebSocket(url) { return make(this, arguments); });

  fix(numbered(members), "constructor", PageWebSocket, { writable: true, configurable: true });
  if (root.Symbol) { fix(members, root.Symbol.toStringTag, "WebSocket", { configurable: true }); }

  // The browser's own.
  var original = root.WebSocket;

  // What undoes installations that were under another one.
  var late = [];

  // Put ours in the place of `WebSocket`, for what is at `paths` or below; returns what undoes that.
  function install(options) {
    var before = root.WebSocket;
    // Another installation has paths of its own.
    var Native = before === PageWebSocket ? original : before;
    var places = options.paths.map(locate, root);

    function isOurs(url) {
      try {
        var place = locate.call(root, scalars(url));
      } catch (error) {
        return false;
      }
      return places.some(function (each) {
        return (place.mount + "/").indexOf(each.mount + "/") === 0;
      });
    }

    var Installed = shape(function WebSocket(url) {
      if (!(this instanceof PageWebSocket) || !arguments.length || !Native || isOurs(url)) {
        return make(this, arguments.length ? [url, arguments[1], options] : []);
      }
      return arguments[1] === undefined ? new Native(url) : new Native(url, arguments[1]);
    });

    if (Native && root.Symbol) {
      fix(Installed, root.Symbol.hasInstance, function (value) {
        return this.prototype.isPrototypeOf(value) || (this === Installed && value instanceof Native);
      });
    }

    function undo() {
      members.constructor = PageWebSocket;
      // One that came later may go on calling this one.
      places = [];
      if (root.WebSocket === Installed) {
        if (!(root.WebSocket = before)) { delete root.WebSocket; }
        late.splice(0).forEach(function (each) { each(); });
      } else {
        late.push(undo);
      }
    }

    // As the browser's own is: a page that lists the window's members does not see it.
    if (!("WebSocket" in root)) { fix(root, "WebSocket", 0, { writable: true, configurable: true }); }
    members.constructor = root.WebSocket = Installed;
    return undo;
  }

  // The mount of the page's own server, which may have said on this script's element.
  var element = root.document && root.document.currentScript;
  var home = element && element.getAttribute("data-url") || "/fallback";

  var FallbackTransport = {
    version: "0.1.0",

    // Open a session with the server at `url` (by default what is `data-url` of the script's element,
    // or "/fallback").
    // Options: auth (an object, or a function that gives one, for on_connect), transports,
    // namespace, withCredentials, remember (false: keep no verdict in localStorage), resume (go
    // on with the session of the page before in this tab, and leave it to the next), timing
    // (milliseconds, see TIMING), environment (another window, for tests).
    connect: function (url, options) {
      // A URL may be an object, too.
      if (url === Object(url) && !url.href) {
        options = url;
        url = home;
      }
      return new Session(String(url || home), options || {});
    },

    // `new FallbackTransport.WebSocket(url, protocols, options)`, for one and for all.
    WebSocket: PageWebSocket,
    install: install
  };

  if (typeof module === "object" && module.exports) {
    module.exports = FallbackTransport;
  } else if (script && typeof define === "function" && define.amd) {
    define(function () { return FallbackTransport; });
  } else {
    root.FallbackTransport = FallbackTransport;
  }
  // An ES module has no `this`, and nothing to do with a page's AMD loader.
})(typeof self !== "undefined" ? self : typeof globalThis !== "undefined" ? globalThis : this, this);
