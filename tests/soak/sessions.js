// What a page of the soak does, in Node.js and in Chromium alike: a session of the shipped
// browser file, messages both ways, and a record of all that happens (records.py).
// Modern JavaScript: it runs nowhere else.
(function (root, factory) {
  "use strict";
  if (typeof module === "object" && module.exports) {
    module.exports = factory;
  } else {
    root.soak = factory(function () { return root.FallbackTransport; });
  }
})(typeof self !== "undefined" ? self : this, function (library) {
  "use strict";

  const LARGEST = 50000;
  const BLOCK = 3 * LARGEST;
  const ODD = ["\"", "\\", "\x1e", "\n", "\x00", "\x7f", "é", "漢", "\u2028", "😀"];
  // Every so many messages up ask for a reply.
  const ASK_EVERY = 8;
  // While so many bytes are unconfirmed nothing more is sent.
  const BACKLOG = 1000000;

  // The same numbers for the same text: FNV-1a, then mulberry32.
  function dice(text) {
    let state = 0x811c9dc5;
    for (let i = 0; i < text.length; i++) {
      state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
    }
    return function () {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  const TABLE = Array.from({ length: 256 }, function (_, n) {
    for (let k = 0; k < 8; k++) { n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; }
    return n >>> 0;
  });

  function encoded(data) {
    if (typeof data === "string") { return new TextEncoder().encode(data); }
    return data instanceof ArrayBuffer ? new Uint8Array(data) : data;
  }

  function checksum(data, bytes) {
    let crc = 0xffffffff;
    for (let i = 0; i < bytes.length; i++) { crc = TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8); }
    const digits = ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
    return (typeof data === "string" ? "t" : "b") + digits;
  }

  const random = dice("contents");
  const BYTES = Uint8Array.from({ length: BLOCK }, () => Math.floor(random() * 256));
  const TEXT = Array.from(BYTES, (byte) => random() < 0.01 ?
    ODD[Math.floor(random() * ODD.length)] : String.fromCharCode(32 + byte % 95)).join("");

  // An endless supply; half of them bytes, unless `binary` is false.
  function contents(seed, binary) {
    const die = dice(seed);
    return function () {
      const size = Math.round(Math.pow(LARGEST, die()));
      const at = Math.floor(die() * (BLOCK - size));
      if (binary !== false && die() < 0.5) { return BYTES.slice(at, at + size); }
      // Half a pair is no text that UTF-8 could carry.
      return TEXT.slice(at, at + size).replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, "~");
    };
  }

  const lines = [];

  function line(session, event, way, number, size, value) {
    const text = String(value === undefined ? "" : value).replace(/\s+/g, " ");
    lines.push([(Date.now() / 1000).toFixed(3), session, event, way || "", number || 0, size || 0,
      text].join("\t") + "\n");
  }

  function message(session, event, way, number, data) {
    const bytes = encoded(data);
    line(session, event, way, number, bytes.length, checksum(data, bytes));
  }

  const repeats = { replayed: 0, dropped: 0 };

  // Counts what the machines send again, and drop: around the product, not in it.
  function watch() {
    const core = library()._core;
    const take = core.Inbox.prototype.take;
    core.Inbox.prototype.take = function (seq, items) {
      const fresh = take.call(this, seq, items);
      repeats.dropped += items.length - fresh.length;
      return fresh;
    };
    for (const name of ["pull", "poll", "hello"]) {
      const original = core.ClientMachine.prototype[name];
      core.ClientMachine.prototype[name] = function () {
        const unit = original.apply(this, arguments);
        if (unit && unit.messages.length) {
          const highest = this.soakHighest || 0;
          const last = unit.seq + unit.messages.length - 1;
          repeats.replayed += Math.max(0, Math.min(highest, last) - unit.seq + 1);
          this.soakHighest = Math.max(highest, last);
        }
        return unit;
      };
    }
  }

  // A session that sends `rate` messages a second, at random, until it is told to finish.
  // `done` is called once it is closed.
  function open(plan, done) {
    const { name, seed, rate } = plan;
    const options = Object.assign({ auth: { session: name } }, plan.options);
    const session = library().connect(plan.url, options);
    const next = contents(seed + " " + name + " up");
    const die = dice(seed + " " + name + " pauses");
    let timer = null;
    let finishing = false;
    let sent = 0;
    let asked = 0;

    function one() {
      const number = sent++;
      const data = next();
      const values = ["up", number, data];
      message(name, "sent", "up", number, data);
      if (number % ASK_EVERY === 0) {
        asked += 1;
        line(name, "asked", "up", number);
        values.push(function (error, reply) {
          asked -= 1;
          line(name, error ? "failed" : "answered", "up", number, 0, error || reply);
        });
      }
      session.emit.apply(session, values);
    }

    function again() {
      timer = setTimeout(function () {
        if (session.bufferedAmount < BACKLOG) { one(); }
        again();
      }, -Math.log(1 - die()) * 1000 / rate);
    }

    session.on("down", function (number, data) {
      message(name, "got", "down", number, data);
      return number;
    });
    session.on("question", function (number) {
      line(name, "heard", "question", number);
      return number;
    });
    session.addEventListener("open", function () { line(name, "open"); });
    session.addEventListener("error", function (event) {
      line(name, "error", "", event.code, 0, event.reason);
    });
    session.addEventListener("reset", function (event) {
      line(name, "reset", "", event.code, 0, event.reason);
    });
    session.addEventListener("transport", function (event) {
      line(name, "transport", event.transport || "none", 0, 0, event.why.reason);
    });
    session.addEventListener("close", function (event) {
      clearTimeout(timer);
      line(name, "close", "", event.code, 0, event.reason);
      line(name, "attempts", "", session._core.attempt());
      done();
    });
    session.emit("start", { seed: seed, rate: rate });
    again();
    return {
      session: session,
      // Nothing more is sent by either end; once all is answered, the session is closed.
      finish: function () {
        if (finishing) { return; }
        finishing = true;
        clearTimeout(timer);
        session.emit("finish", null, function finished() {
          if (asked && session.state !== "closed") {
            setTimeout(finished, 50);
          } else if (session.state !== "closed") {
            session.close(1000, "done");
          }
        });
      }
    };
  }

  return {
    open, watch, repeats, contents, dice, line, message,
    // The records since the last call.
    drain: () => lines.splice(0).join("")
  };
});
