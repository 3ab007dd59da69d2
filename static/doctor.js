/*!
 * fallback_transport's doctor (MIT licence): examines the network between this page and the server.
 */
(function (root, factory) {
  var doctor = factory(root);
  if (typeof module === "object" && module.exports) {
    module.exports = doctor;
  } else if (root.document) {
    doctor.open(root.document);
  }
})(typeof self !== "undefined" ? self : this, function (root) {
  "use strict";

  // ES5, and no global: it runs in whatever has XMLHttpRequest and JSON. What is asked, observed
  // and concluded is written down in DOCTOR.md; the section "Judging" mirrors doctor/findings.py
  // and is tested by the same cases.

  var SUBPROTOCOL = "fallback.v1";
  var HEADER = "X-Fallback-Transport-Doctor";
  // The lengths of the messages that prove a direction of the WebSocket.
  var PROOF = [1, 4096, 65536];
  var ROUND_TRIPS = 8;
  var BODIES = [1000, 4000, 16000, 64000, 256000];
  var ANSWERS = [4000, 64000, 500000];
  var TRIES = 3;
  var PATIENCE = 5000;
  // A slow line is no broken one: a second more for each 8 kB.
  var BYTES_PER_MS = 8;
  var MAX_IDLE = 300;

  var SLOW = 1000;
  var HELD_BACK = 650;
  var SKEW = 60;
  // "Network Authentication Required" (RFC 6585, section 6): a gateway's login, and no failure.
  var LOGIN_REQUIRED = 511;
  var FORBIDDEN = 403;
  // What the server says to a handshake that lacks a part.
  var ALTERED = [400, 426];

  // --- Judging -----------------------------------------------------------------------------

  // `kinds`: findings.json by code.
  function diagnose(observations, kinds) {
    var tls = observations.tls || {};
    function finding(code, data) { return makeFinding(kinds, code, data || {}); }
    if (known(observations.unreachable)) {
      return verdict([finding("unreachable", { why: observations.unreachable })]);
    }
    if (known(tls.error)) { return verdict([finding("tls-untrusted", { why: tls.error })]); }
    return verdict(judgePresence(observations, finding).concat(
      judgeWebSocket(observations, observations.websocket || {}, finding),
      judgePolling(observations, observations.polling || {}, finding),
      judgeNetwork(observations, finding)));
  }

  function judgePresence(observations, finding) {
    return wentAway(observations) ? [finding("went-away", { why: orNull(observations.polling.why) })] : [];
  }

  // Whether requests were answered, and at the end nothing is there any more.
  function wentAway(observations) {
    var polling = observations.polling || {}, idle = (observations.websocket || {}).idle || {};
    return (polling.round_trips || []).length > 0 && !known(observations.server) && !idle.alive &&
      !(polling.hold || {}).alive;
  }

  function verdict(findings) {
    var codes = findings.map(function (each) { return each.code; });
    var transport = codes.indexOf("ws-ok") >= 0 ? "websocket" : codes.indexOf("poll-ok") >= 0 ? "polling" : "none";
    var texts = [];
    if (codes[0] === "went-away") {
      return { verdict: { transport: "none", text: findings[0].text }, findings: findings };
    }
    ["websocket", "polling"].forEach(function (about) {
      var first = findings.filter(function (each) { return each.about === about; })[0];
      if (first) { texts.push(first.text); }
    });
    return {
      verdict: { transport: transport, text: texts.join(" ") || findings[0].text },
      findings: findings
    };
  }

  function judgeWebSocket(observations, seen, finding) {
    var handshakes = (observations.server || {}).handshakes || [];
    var refused = handshakes.filter(function (each) { return each.status !== 101; })[0];
    var no = (observations.polling || {}).refused;
    if (!seen.present) { return [finding("ws-absent")]; }
    if (seen.handshake === "open") { return judgeOpened(seen, handshakes, finding); }
    if (seen.handshake === "unanswered") { return [finding("ws-unanswered", { seconds: tenths(seen.seconds) })]; }
    if (known(seen.tunnel)) { return [finding("ws-tunnel-refused", { status: seen.tunnel })]; }
    if (seen.status === 101 || handshakes.some(function (each) { return ALTERED.indexOf(each.status) >= 0; })) {
      return [finding("ws-stripped")];
    }
    // An origin that is not allowed is refused at both doors, unless somebody else is seen at this one.
    if (!refused && no && no.status === FORBIDDEN && (!known(seen.status) || seen.status === FORBIDDEN) &&
        !(seen.plain && seen.plain.ours === false)) {
      refused = no;
    }
    if (refused) { return [finding("ws-server-refused", { status: refused.status })]; }
    if (observations.by === "terminal" && !known(seen.status)) { return [finding("ws-reset")]; }
    return [finding("ws-refused", { status: orNull(seen.status) })];
  }

  function judgeOpened(seen, handshakes, finding) {
    var up = handshakes.reduce(function (all, each) { return all.concat(each.up); }, seen.up || []);
    var down = seen.down || [];
    var missing = PROOF.filter(function (size) { return up.indexOf(size) < 0 || down.indexOf(size) < 0; });
    if (missing.length && seen.closed) { return [finding("ws-closed", { close: orNull(seen.closed.code) })]; }
    if (!up.length && !down.length) { return [finding("ws-silent")]; }
    if (!up.length) { return [finding("ws-up-blocked")]; }
    if (!down.length) { return [finding("ws-down-blocked")]; }
    if (missing.length) { return [finding("ws-limit", { bytes: missing[0] })]; }
    var found = [finding("ws-ok", { ms: whole(seen.ms) })];
    if (seen.idle && !seen.idle.alive) { found.push(finding("ws-cut-idle", { seconds: tenths(seen.idle.seconds) })); }
    return found;
  }

  function judgePolling(observations, seen, finding) {
    var trips = sorted(seen.round_trips || []);
    if (!trips.length) {
      if (seen.why === "status 407") { return [finding("proxy-credentials")]; }
      if (seen.refused) {
        return [finding("poll-refused", { status: seen.refused.status, why: seen.refused.error })];
      }
      if (seen.foreign && ((seen.foreign.status || 0) < 500 || seen.foreign.status === LOGIN_REQUIRED)) {
        return [finding("login-page", { status: orNull(seen.foreign.status) })];
      }
      return [finding("poll-blocked", { why: orNull(seen.why) })];
    }
    var middle = median(trips);
    var hold = seen.hold, body = seen.body || {}, answer = seen.answer || {};
    var times = (observations.server || {}).repeated || 0;
    var found = [seen.processes > 1 ? finding("several-processes", { processes: seen.processes })
      : finding("poll-ok", { ms: whole(middle) })];
    function add(holds, code, data) { if (holds) { found.push(finding(code, data)); } }
    add(seen.failed, "poll-unreliable", { failed: orNull(seen.failed), requests: orNull(seen.requests) });
    add(middle > SLOW, "poll-slow");
    add(seen.stream && seen.stream.spread < HELD_BACK, "poll-buffered");
    if (hold && !hold.alive) {
      found.push(finding("poll-cut", { seconds: tenths(hold.seconds), status: orNull(hold.status) }));
    }
    add(body.refused, "body-limit", { bytes: orNull(body.refused), status: orNull(body.status) });
    add(answer.refused, "answer-limit", { bytes: orNull(answer.refused) });
    add(headersDropped(seen), "headers-dropped");
    add(seen.cookie === false, "cookies-dropped");
    add(times > 1, "repeated", { times: times });
    add(seen.cached, "cached");
    add(seen.encoded, "compressed");
    return found;
  }

  function judgeNetwork(observations, finding) {
    var tls = observations.tls, server = observations.server || {}, polling = observations.polling || {};
    var proxies = server.proxies || {};
    // Behind a door that ends TLS, the last entry of each is the site's own proxy's.
    var own = tls && !server.secure ? 1 : 0;
    var found = [], evidence = [];
    Object.keys(proxies).sort().forEach(function (name) {
      var entries = proxies[name].slice(0, proxies[name].length - own);
      if (entries.length) { evidence.push(name + " (" + entries[0] + ")"); }
    });
    if (tls && headersDropped(polling)) { evidence.push("headers dropped"); }
    if (tls && polling.cookie === false) { evidence.push("cookies dropped"); }
    if (evidence.length) {
      found.push(finding(tls ? "intercepted" : "proxied", { evidence: evidence.join(", ") }));
    }
    if (tls && tls["private"]) { found.push(finding("private-ca", { issuer: orNull(tls.issuer) })); }
    var ahead = (observations.clock || {}).ahead || 0;
    if (Math.abs(ahead) >= SKEW) {
      found.push(finding("clock-skew", {
        seconds: whole(Math.abs(ahead)), direction: ahead > 0 ? "ahead" : "behind"
      }));
    }
    return found;
  }

  function headersDropped(polling) {
    var header = polling.header || {};
    return header.up === false || header.down === false;
  }

  function makeFinding(kinds, code, data) {
    // Where the sentences could not be had, the code has to do.
    var kind = kinds[code] || { about: "network", severity: /-ok$/.test(code) ? "good" : "bad", text: code };
    var text = kind.text.replace(/\[([^\]]*)\]/g, function (all, inner) {
      var names = inner.match(/\{\w+\}/g) || [];
      return names.every(function (name) { return known(data[name.slice(1, -1)]); }) ? inner : "";
    }).replace(/\{(\w+)\}/g, function (all, name) { return String(data[name]); });
    return { code: code, about: kind.about, severity: kind.severity, text: text, data: data };
  }

  function known(value) { return value !== undefined && value !== null; }

  function orNull(value) { return value === undefined ? null : value; }

  function whole(number) { return known(number) ? Math.floor(number + 0.5) : null; }

  function tenths(number) { return known(number) ? Math.floor(number * 10 + 0.5) / 10 : null; }

  function sorted(numbers) { return numbers.slice().sort(function (a, b) { return a - b; }); }

  // Of an even number of them, the lower of the two.
  function median(ordered) { return ordered[(ordered.length - 1) >> 1]; }

  // --- Examining -----------------------------------------------------------------------------

  // One examination. `base`: the doctor's address, without a slash at the end; `idle`: the seconds
  // for which connections are left alone. `see(check, event)` is called with "begin", "end" and
  // "skip" of each check; `done(observations, library)` once, unless it is stopped before.
  function Examination(base, idle, see, done) {
    this.observations = {
      by: "page",
      unreachable: null,
      tls: /^https:/.test(base) ? { error: null, issuer: null, "private": null } : null,
      websocket: {
        present: !!root.WebSocket, handshake: null, status: null, tunnel: null, seconds: null, plain: null,
        up: [], down: [], ms: null, closed: null, idle: null
      },
      polling: {
        requests: 0, failed: 0, round_trips: [], why: null, foreign: null, refused: null, stream: null, hold: null,
        body: null, answer: null, header: null, cookie: null, processes: null, cached: null, encoded: null
      },
      clock: null,
      server: null
    };
    this._base = base;
    this._idle = idle;
    this._see = see;
    this._done = done;
    this._run = randomName();
    // No other run's: a cache may have kept what that was answered.
    this._number = Math.floor(Math.random() * 1e8);
    this._library = null;
    this._processes = {};
    this._bodies = BODIES;
    this._answered = false;
    this._stopped = false;
    this._timers = [];
    this._requests = [];
    this._socket = null;
  }

  Examination.prototype.start = function () {
    var self = this;
    this._see("clock", "begin");
    this._small({ "do": "begin" }, function (answer) {
      if (answer.facts) { self._begun(answer); }
      self._see("clock", answer.facts ? "end" : "skip");
      // They mostly wait, so they may do it at the same time.
      together([
        function (next) { self._examineWebSocket(next); },
        function (next) { self._examinePolling(!!answer.facts, next); }
      ], function () { self._finish(!!answer.facts); });
    });
    return this;
  };

  Examination.prototype.stop = function () {
    this._stopped = true;
    this._timers.forEach(function (timer) { root.clearTimeout(timer); });
    this._requests.slice().forEach(function (request) { request.abort(); });
    this._leave();
  };

  Examination.prototype._begun = function (answer) {
    this._library = answer.facts.library;
    this._bodies = BODIES.filter(function (size) { return size <= answer.facts.body; });
    // The server's clock was read about halfway between question and answer.
    this.observations.clock = { ahead: ((answer.sentAt + answer.cameAt) / 2 - answer.facts.time) / 1000 };
  };

  Examination.prototype._finish = function (begun) {
    var self = this, seen = this.observations;
    function over() { self._done(self.observations, self._library); }
    if (!begun) {
      // Not a single answer of any kind, where there was a page before.
      if (!this._answered && seen.websocket.handshake !== "open") { seen.unreachable = "no answer"; }
      this._see("repeats", "skip");
      this._see("proxies", "skip");
      over();
      return;
    }
    this._see("repeats", "begin");
    this._see("proxies", "begin");
    this._small({ "do": "seen" }, function (answer) {
      if (answer.facts) { seen.server = answer.facts.seen; }
      self._see("repeats", answer.facts || wentAway(seen) ? "end" : "skip");
      self._see("proxies", answer.facts ? "end" : "skip");
      over();
    });
  };

  // WebSocket

  Examination.prototype._examineWebSocket = function (done) {
    var self = this, seen = this.observations.websocket, polling = this.observations.polling;
    this._see("present", "begin");
    this._see("present", "end");
    if (!seen.present) {
      ["handshake", "up", "down", "idle"].forEach(function (check) { self._see(check, "skip"); });
      this._askPlainly(done);
      return;
    }
    this._see("handshake", "begin");
    // A network that loses some of all connections refuses none.
    function attempt(tries) {
      var started = now(), timer, socket;
      function settle(how) {
        self._clear(timer);
        seen.handshake = how;
        seen.seconds = since(started);
        if (how === "open") {
          polling.requests += TRIES - tries;
          polling.failed += TRIES - tries;
          self._see("handshake", "end");
          self._prove(done);
          return;
        }
        self._leave();
        if (how === "failed" && tries > 1) {
          attempt(tries - 1);
          return;
        }
        self._askPlainly(function () {
          self._see("handshake", "end");
          ["up", "down", "idle"].forEach(function (check) { self._see(check, "skip"); });
          done();
        });
      }
      timer = self._later(PATIENCE, function () { settle("unanswered"); });
      try {
        socket = self._socket = new root.WebSocket(
          self._base.replace(/^http/, "ws") + "/ws?run=" + self._run, SUBPROTOCOL);
      } catch (error) {
        settle("failed");
        return;
      }
      socket.onopen = function () { settle("open"); };
      socket.onerror = socket.onclose = function () { settle("failed"); };
    }
    attempt(TRIES);
  };

  // Both ends speak at once, so that each direction is proven by itself.
  Examination.prototype._prove = function (done) {
    var self = this, seen = this.observations.websocket, socket = this._socket, opened = now(), timer;
    function full(sizes) { return PROOF.every(function (size) { return sizes.indexOf(size) >= 0; }); }
    function settle() {
      self._clear(timer);
      ["up", "down"].forEach(function (check) { if (!full(seen[check])) { self._see(check, "end"); } });
      if (full(seen.up) && full(seen.down)) {
        self._leaveAlone(done);
        return;
      }
      self._leave();
      self._see("idle", "skip");
      done();
    }
    this._see("up", "begin");
    this._see("down", "begin");
    socket.onerror = null;
    socket.onclose = function (event) {
      seen.closed = { code: event && event.code || 1006, seconds: since(opened) };
      settle();
    };
    socket.onmessage = function (event) {
      var text = String(event.data), got = /^got (\d+)$/.exec(text), way = got ? "up" : "down";
      if (full(seen[way])) { return; }
      if (text === "got 1") { seen.ms = rounded(now() - opened, 10); }
      seen[way].push(got ? Number(got[1]) : text.length);
      if (full(seen[way])) { self._see(way, "end"); }
      if (full(seen.up) && full(seen.down)) { settle(); }
    };
    timer = this._later(PATIENCE, function () {
      // What has begun to come, a slow line may still bring.
      if (!seen.up.length && !seen.down.length) {
        settle();
      } else {
        timer = self._later((PROOF[0] + PROOF[1] + PROOF[2]) / BYTES_PER_MS, settle);
      }
    });
    PROOF.forEach(function (size) { socket.send(repeat("x", size)); });
  };

  Examination.prototype._leaveAlone = function (done) {
    var self = this, seen = this.observations.websocket, socket = this._socket, started = now(), timer;
    function settle(alive, seconds) {
      self._clear(timer);
      self._leave();
      seen.idle = { asked: self._idle, alive: alive, seconds: seconds };
      self._see("idle", "end");
      done();
    }
    this._see("idle", "begin");
    socket.onmessage = null;
    socket.onclose = function () { settle(false, since(started)); };
    timer = this._later(this._idle * 1000, function () {
      socket.onmessage = function () { settle(true, self._idle); };
      // Nobody has said when it died.
      timer = self._later(PATIENCE, function () { settle(false, self._idle); });
      socket.send("x");
    });
  };

  // A page cannot see why a handshake failed; but what the same path answers to a plain request.
  Examination.prototype._askPlainly = function (done) {
    var seen = this.observations.websocket;
    this._request("GET", this._base + "/ws?run=" + this._run + "&plain", null, PATIENCE, function (answer) {
      seen.plain = answer.status ? { status: answer.status, ours: answer.ours } : null;
      done();
    });
  };

  Examination.prototype._leave = function () {
    var socket = this._socket;
    this._socket = null;
    if (socket) {
      socket.onopen = socket.onerror = socket.onmessage = socket.onclose = null;
      try { socket.close(1000); } catch (error) { /* it never was open, in an old browser */ }
    }
  };

  // Long polling

  Examination.prototype._examinePolling = function (begun, done) {
    var self = this, lane = ["_tripRound", "_streams", "_cache", "_body", "_answer"];
    if (!begun) {
      this._see("round-trip", "begin");
      this._see("round-trip", "end");
      ["headers", "stream", "cache", "body", "answer", "hold"].forEach(function (check) { self._see(check, "skip"); });
      done();
      return;
    }
    together([
      function (next) { self._hold(next); },
      function (next) {
        lane.reduceRight(function (then, name) { return function () { self[name](then); }; }, next)();
      }
    ], done);
  };

  Examination.prototype._tripRound = function (next) {
    var self = this, seen = this.observations.polling;
    this._see("round-trip", "begin");
    this._see("headers", "begin");
    function trip(left) {
      if (!left) {
        self._see("round-trip", "end");
        next();
        return;
      }
      self._small({ "do": "echo" }, function (answer) {
        if (answer.facts) {
          seen.round_trips.push(rounded(answer.ms, 10));
          self._compare(answer);
        } else if (!seen.round_trips.length) {
          self._see("headers", "skip");
          left = 1;
        }
        trip(left - 1);
      });
    }
    trip(ROUND_TRIPS);
  };

  Examination.prototype._compare = function (answer) {
    var seen = this.observations.polling, first = !seen.header, before = seen.header || { up: true, down: true };
    seen.header = { up: before.up && answer.facts.header, down: before.down && answer.header };
    // Who has switched cookies off knows it, and no network did it.
    if ((root.navigator || {}).cookieEnabled !== false) {
      seen.cookie = seen.cookie !== false && answer.facts.cookie;
    }
    this._processes[answer.facts.process] = true;
    seen.processes = Object.keys(this._processes).length;
    if (first) { this._see("headers", "end"); }
  };

  Examination.prototype._streams = function (next) {
    var self = this;
    // Where a browser hands over nothing before the end, it is not the network that holds it back.
    if (!("onprogress" in new root.XMLHttpRequest())) {
      this._see("stream", "skip");
      next();
      return;
    }
    this._see("stream", "begin");
    this._small({ "do": "stream" }, function measured(answer) {
      var polling = self.observations.polling;
      var before = polling.stream;
      if (answer.facts) {
        polling.stream = { spread: Math.max(Math.round(answer.spread), before ? before.spread : 0) };
        // The first pieces may have waited for a busy page: what a network holds back, it holds
        // back again.
        if (!before && polling.stream.spread < HELD_BACK) {
          self._small({ "do": "stream" }, measured);
          return;
        }
      }
      self._see("stream", polling.stream ? "end" : "skip");
      next();
    });
  };

  Examination.prototype._cache = function (next) {
    var self = this;
    this._see("cache", "begin");
    // Without a number: the two must be equal to the byte.
    this._small({ "do": "serial" }, function (one) {
      self._small({ "do": "serial" }, function (two) {
        var both = one.facts && two.facts;
        if (both) { self.observations.polling.cached = one.facts.serial === two.facts.serial; }
        self._see("cache", both ? "end" : "skip");
        next();
      });
    });
  };

  Examination.prototype._body = function (next) {
    var self = this;
    this._limits("body", this._bodies, next, function (size, done) {
      self._command({ "do": "echo" }, size, PATIENCE + size / BYTES_PER_MS, function (answer) {
        done(!!answer.facts && answer.facts.bytes === size, answer);
      });
    });
  };

  Examination.prototype._answer = function (next) {
    var self = this;
    this._limits("answer", ANSWERS, next, function (size, done) {
      self._command({ "do": "give", bytes: size }, 0, PATIENCE + size / BYTES_PER_MS, function (answer) {
        done(!!answer.facts && answer.bytes === size, answer);
      });
    });
  };

  // Each size, up to the first that is refused, or fails as often as a small one may.
  Examination.prototype._limits = function (check, sizes, next, ask) {
    var self = this, seen = this.observations.polling, found = seen[check] = { passed: 0, refused: null };
    if (check === "body") { found.status = null; }
    this._see(check, "begin");
    function attempt(place, tries, lost) {
      if (place === sizes.length || found.refused) {
        self._see(check, "end");
        next();
        return;
      }
      ask(sizes[place], function (passed, answer) {
        // What is waited for in vain takes long, and once it may be lost.
        var left = tries - (answer.late ? 2 : 1);
        if (passed) {
          found.passed = sizes[place];
          // It was not for their size that the others failed.
          seen.requests += lost;
          seen.failed += lost;
          attempt(place + 1, TRIES, 0);
          return;
        }
        if (left < 1 || answer.status === 413) {
          found.refused = sizes[place];
          if (check === "body") { found.status = answer.status || null; }
        }
        attempt(place, left, lost + 1);
      });
    }
    attempt(0, TRIES, 0);
  };

  Examination.prototype._hold = function (next) {
    var self = this, asked = this._idle;
    function attempt(tries) {
      var started = now();
      self._command({ "do": "hold", seconds: asked }, 0, asked * 1000 + PATIENCE, function (answer) {
        // A refusal of the server's own says nothing of the network.
        var told = !!answer.facts || !answer.ours, seconds = since(started);
        // What fails so soon was not cut for being held.
        if (!answer.facts && seconds < 1 && tries > 1) {
          attempt(tries - 1);
          return;
        }
        if (told) {
          self.observations.polling.hold = {
            asked: asked, seconds: seconds, status: answer.facts ? null : answer.status || null,
            // An answer that was given in time, and lost or cut on the way, was held.
            alive: !!answer.facts || (!answer.late && seconds >= asked)
          };
        }
        self._see("hold", told ? "end" : "skip");
        next();
      });
    }
    this._see("hold", "begin");
    attempt(TRIES);
  };

  // Requests

  // One that is tried again, and counted.
  Examination.prototype._small = function (command, done) {
    var self = this, seen = this.observations.polling;
    function attempt(left) {
      seen.requests += 1;
      self._command(command, 0, PATIENCE, function (answer) {
        if (!answer.facts) {
          seen.failed += 1;
          seen.why = answer.why || (answer.status ? "status " + answer.status : "no answer");
        }
        if (answer.facts || left === 1) {
          done(answer);
        } else {
          attempt(left - 1);
        }
      });
    }
    attempt(TRIES);
  };

  Examination.prototype._command = function (command, size, timeout, done) {
    var self = this, seen = this.observations.polling, sent = { run: this._run }, head;
    if (command["do"] !== "serial") { sent.number = ++this._number; }
    Object.keys(command).forEach(function (name) { sent[name] = command[name]; });
    head = JSON.stringify(sent) + "\n";
    this._request("POST", this._base + "/poll", head + repeat("x", size - head.length), timeout,
      function (answer) {
        if (answer.status && !answer.ours) { seen.foreign = { status: answer.status, type: answer.type }; }
        if (answer.ours) { seen.encoded = seen.encoded || answer.encoded; }
        if (answer.ours && answer.facts.error) {
          seen.refused = { status: answer.status, error: String(answer.facts.error) };
        }
        // Also refused is what was begun with status 200: an answer in pieces.
        if (answer.status !== 200 || !answer.ours || answer.facts.error) {
          answer.facts = null;
        } else if (answer.facts.number !== sent.number) {
          // A cache's, which goes by the address alone.
          answer.facts = null;
          answer.ours = false;
          answer.status = 0;
          answer.why = "the answer to another request came, as from a cache";
        }
        if (!self._stopped) { done(answer); }
      });
  };

  Examination.prototype._request = function (method, url, body, timeout, done) {
    var self = this, request = new root.XMLHttpRequest(), started = now(), sentAt = new Date().getTime();
    var timer, first = 0;
    function settle(late) {
      var text = "", answer;
      if (!timer) { return; }
      self._clear(timer);
      timer = null;
      self._requests.splice(self._requests.indexOf(request), 1);
      try { text = request.responseText || ""; } catch (error) { /* there is none */ }
      answer = {
        status: request.readyState === 4 ? request.status : 0, ms: now() - started, spread: first ? now() - first : 0,
        sentAt: sentAt, cameAt: new Date().getTime(), bytes: text.length, facts: facts(text), late: late === true
      };
      answer.ours = !!answer.facts;
      if (answer.status) {
        answer.type = request.getResponseHeader("Content-Type");
        answer.encoded = !!request.getResponseHeader("Content-Encoding");
        answer.header = request.getResponseHeader(HEADER) === "1";
        self._answered = true;
      } else {
        request.abort();
      }
      if (!self._stopped) { done(answer); }
    }
    timer = this._later(timeout, function () { settle(true); });
    this._requests.push(request);
    request.open(method, url, true);
    if (body !== null) { request.setRequestHeader("Content-Type", "text/plain;charset=UTF-8"); }
    request.setRequestHeader(HEADER, "1");
    request.onreadystatechange = function () { if (request.readyState === 4) { settle(); } };
    request.onprogress = function () { first = first || now(); };
    try { request.send(body); } catch (error) { settle(); }
  };

  // What an answer says, if it is one of the doctor's, and whole.
  function facts(text) {
    var end = text.indexOf("\n"), found;
    if (end < 0 || text.charAt(text.length - 1) !== ".") { return null; }
    try { found = JSON.parse(text.slice(0, end)); } catch (error) { return null; }
    return found && typeof found === "object" ? found : null;
  }

  Examination.prototype._later = function (ms, action) {
    var self = this, timer = root.setTimeout(function () { if (!self._stopped) { action(); } }, ms);
    this._timers.push(timer);
    return timer;
  };

  Examination.prototype._clear = function (timer) {
    root.clearTimeout(timer);
    this._timers = this._timers.filter(function (each) { return each !== timer; });
  };

  function together(tasks, done) {
    var left = tasks.length;
    function over() { if (--left === 0) { done(); } }
    tasks.forEach(function (task) { task(over); });
  }

  function now() {
    return root.performance && root.performance.now ? root.performance.now() : new Date().getTime();
  }

  function since(start) { return rounded((now() - start) / 1000, 1000); }

  function rounded(number, parts) { return Math.round(number * parts) / parts; }

  function repeat(text, count) {
    var all = "";
    for (; count > 0; count = count >> 1, text += text) { if (count & 1) { all += text; } }
    return all;
  }

  // It keeps two examinations apart, and opens nothing.
  function randomName() {
    var letters = "abcdefghijklmnopqrstuvwxyz0123456789", name = "";
    while (name.length < 24) { name += letters.charAt(Math.floor(Math.random() * letters.length)); }
    return name;
  }

  // --- What the page says of each check ----------------------------------------------------------

  var UNPROVEN = ["ws-closed", "ws-silent", "ws-up-blocked", "ws-down-blocked", "ws-limit"];

  // For the progress bar: the round trips that it takes, and the further seconds; `waits`: so many
  // as are chosen.
  // `say`: what was observed, as a sentence that judges nothing.
  var CHECKS = [
    { name: "present", group: "websocket", title: "Support in this browser", codes: ["ws-absent"], trips: 0,
      say: function (seen) { return seen.websocket.present ? "This browser has WebSocket." : "There is none."; } },
    { name: "handshake", group: "websocket", title: "Handshake", trips: 2,
      codes: ["ws-stripped", "ws-tunnel-refused", "ws-refused", "ws-server-refused", "ws-reset", "ws-unanswered"],
      say: sayHandshake },
    { name: "up", group: "websocket", title: "Messages to the server", trips: 1, codes: UNPROVEN,
      say: function (seen) { return sayProof(arrivedUp(seen)); } },
    { name: "down", group: "websocket", title: "Messages from the server", trips: 1, codes: UNPROVEN,
      say: function (seen) { return sayProof(seen.websocket.down); } },
    { name: "idle", group: "websocket", title: "Idle WebSocket", codes: ["ws-cut-idle"], trips: 1, waits: true,
      say: function (seen) {
        var idle = seen.websocket.idle;
        return (idle.alive ? "Still open after " : "Over after ") + duration(idle.seconds) + " of silence.";
      } },
    { name: "round-trip", group: "polling", title: "Round trip", trips: ROUND_TRIPS,
      codes: ["unreachable", "poll-blocked", "poll-refused", "login-page", "proxy-credentials",
        "several-processes", "poll-unreliable", "poll-slow"],
      say: sayRoundTrip },
    { name: "headers", group: "polling", title: "Headers and cookies", trips: 0,
      codes: ["headers-dropped", "cookies-dropped"],
      say: function (seen) {
        return seen.polling.cookie === null ? "Headers arrive both ways; this browser keeps no cookies."
          : "Both arrive, both ways.";
      } },
    { name: "stream", group: "polling", title: "Answers in pieces", trips: 1, seconds: 1,
      codes: ["poll-buffered", "compressed"],
      say: function (seen) {
        return "Passed on piece by piece, over " + milliseconds(seen.polling.stream.spread) + ".";
      } },
    { name: "cache", group: "polling", title: "Cached answers", trips: 2, codes: ["cached"],
      say: function () { return "None: each request got its own."; } },
    { name: "body", group: "polling", title: "Large requests", trips: BODIES.length, codes: ["body-limit"],
      say: function (seen) { return bytes(seen.polling.body.passed) + " get through, the most tried."; } },
    { name: "answer", group: "polling", title: "Large answers", trips: ANSWERS.length, codes: ["answer-limit"],
      say: function (seen) { return bytes(seen.polling.answer.passed) + " arrive whole, the most tried."; } },
    { name: "hold", group: "polling", title: "A request that waits", codes: ["poll-cut"], trips: 1, waits: true,
      say: function (seen) { return "Held for " + duration(seen.polling.hold.seconds) + ", then answered."; } },
    { name: "repeats", group: "network", title: "Repeated requests", trips: 1,
      codes: ["repeated", "went-away"],
      say: function () { return "None: each reached the server once."; } },
    { name: "proxies", group: "network", title: "Proxies and interception", trips: 0,
      codes: ["intercepted", "proxied", "private-ca"],
      say: function () { return "The server sees no trace of any."; } },
    { name: "clock", group: "network", title: "Clock of this device", trips: 1,
      codes: ["clock-skew", "tls-untrusted"],
      say: function (seen) {
        var ahead = seen.clock.ahead;
        return Math.abs(ahead) < 1 ? "Right, to the second."
          : Math.round(Math.abs(ahead)) + " s " + (ahead > 0 ? "ahead of" : "behind") + " the server's.";
      } }
  ];

  var MEANINGS = {
    websocket: "The application has the best connection there is.",
    polling: "The application works here all the same: by long polling, without WebSocket.",
    none: "The application does not work from here. Whoever runs this network, or support, can tell more " +
      "from the report."
  };
  var WORDS = {
    waiting: "Waiting", running: "Running", good: "OK", note: "Note", bad: "Problem", skipped: "Not tested"
  };
  // What stands beside the verdict.
  var SIGNS = { websocket: "good", polling: "note", none: "bad" };
  var GROUPS = { websocket: "WebSocket", polling: "Long polling", network: "The network" };

  function sayHandshake(seen) {
    var of = seen.websocket, after = milliseconds(of.seconds * 1000);
    if (of.handshake === "open") { return "Answered after " + after + "."; }
    return (of.handshake === "failed" ? "Failed after " + after + ". " : "No answer in " + after + ". ") +
      (!of.plain ? "A plain request to the same address gets no answer, either."
        : of.plain.ours ? "A plain request to the same address reaches the server."
          : "A plain request to the same address is answered by something else (status " + of.plain.status + ").");
  }

  // Seconds of a round trip, as far as they are known.
  function pace(seen) {
    var trips = seen.polling.round_trips;
    return (trips.length ? median(sorted(trips)) : 50) / 1000;
  }

  function arrivedUp(seen) {
    return ((seen.server || {}).handshakes || []).reduce(function (all, each) { return all.concat(each.up); },
      seen.websocket.up);
  }

  function sayProof(sizes) {
    var arrived = PROOF.filter(function (size) { return sizes.indexOf(size) >= 0; }).map(bytes);
    if (!arrived.length) { return "None arrived."; }
    return (arrived.length < PROOF.length ? "Only " : "") + listed(arrived) + " arrived.";
  }

  function sayRoundTrip(seen) {
    var trips = sorted(seen.polling.round_trips), last = trips[trips.length - 1];
    return !trips.length ? "No request was answered."
      : "Half of them within " + milliseconds(median(trips)) + ", the longest " + milliseconds(last) + ".";
  }

  // What was found by a check. What concerns both directions is said of the first that fails.
  function findingsOf(check, seen, findings) {
    var up = proven(arrivedUp(seen));
    if ((check.name === "up" && up) || (check.name === "down" && !up)) { return []; }
    return findings.filter(function (each) { return check.codes.indexOf(each.code) >= 0; });
  }

  // The state of a check that is over: the worst that was found.
  function stateOf(check, seen, found) {
    if (check.name === "handshake" && seen.websocket.handshake !== "open") { return "bad"; }
    if (check.name === "up" && !proven(arrivedUp(seen))) { return "bad"; }
    if (check.name === "down" && !proven(seen.websocket.down)) { return "bad"; }
    return found.reduce(function (worst, each) { return worst === "bad" ? worst : each.severity; }, "good");
  }

  function proven(sizes) { return PROOF.every(function (size) { return sizes.indexOf(size) >= 0; }); }

  function listed(words) {
    return words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words[words.length - 1];
  }

  // 4096 is 4 kB here, and 4000, too.
  function bytes(count) {
    return count < 1000 ? count + " B" : Math.round(count / (count % 1000 ? 1024 : 1000)) + " kB";
  }

  function milliseconds(ms) { return ms < 999.5 ? whole(ms) + " ms" : tenths(ms / 1000) + " s"; }

  function duration(seconds) {
    return seconds < 60 || seconds % 60 ? tenths(seconds) + " s" : seconds / 60 + " min";
  }

  // --- The page ------------------------------------------------------------------------------------

  function open(document) { return new Page(document).begin(); }

  function Page(document) {
    this._document = document;
    this._place = root.location.protocol + "//" + root.location.host + root.location.pathname;
    this._kinds = {};
    this._rows = {};
    this._examination = null;
    this._report = null;
    this._slept = false;
    this._again = false;
    CHECKS.forEach(this._addRow, this);
  }

  Page.prototype.begin = function () {
    var self = this, asked = /[?&]idle=(\d{1,3})(&|$)/.exec(root.location.search);
    if (asked) { this._choose(Math.min(Math.max(Number(asked[1]), 1), MAX_IDLE)); }
    this._write("address", this._place.replace(/\/doctor$/, ""));
    this._write("websocket-address", this._place.replace(/\/doctor$/, "/ws").replace(/^http/, "ws"));
    this._write("polling-address", this._place.replace(/\/doctor$/, "/poll"));
    this._find("options").onsubmit = function () { self._run(); return false; };
    this._find("copy-text").onclick = function () { self._copy(self._text(), "The report is copied."); };
    this._find("copy-json").onclick = function () {
      self._copy(JSON.stringify(self._report, null, 2), "The report is copied, as JSON.");
    };
    // Should it come back, from the browser's cache of pages, its connections were not.
    root.onpagehide = function () { self._slept = true; };
    this._run();
    return this;
  };

  // A time that a link names, beside those that the page offers.
  Page.prototype._choose = function (seconds) {
    var list = this._find("idle"), option, i;
    for (i = 0; i < list.options.length && Number(list.options[i].value) < seconds; i++) { /* its place */ }
    if (i === list.options.length || Number(list.options[i].value) !== seconds) {
      option = this._document.createElement("option");
      option.value = String(seconds);
      option.appendChild(this._document.createTextNode(seconds + (seconds === 1 ? " second" : " seconds")));
      list.insertBefore(option, list.options[i] || null);
    }
    list.selectedIndex = i;
  };

  Page.prototype._run = function () {
    var self = this, idle = Number(this._find("idle").value);
    if (this._examination) { this._examination.stop(); }
    root.clearInterval(this._ticks);
    this._report = null;
    this._slept = false;
    this._ticked = new Date().getTime();
    this._idle = idle;
    this._started = now();
    this._state("running");
    this._write("verdict", "Examining the connection \u2026");
    this._write("meaning", this._again ? "This page had slept meanwhile: it examines once more." : "");
    this._again = false;
    this._write("copied", "");
    this._write("again", "Start again");
    this._find("bar").value = 0;
    CHECKS.forEach(function (check) { self._show(check, "waiting", ""); });
    this._examination = new Examination(this._place, idle, function (name, event) {
      self._saw(name, event);
    }, function (observations, library) {
      var examination = self._examination;
      self._learn(1, PATIENCE, function () {
        if (examination === self._examination) { self._finished(observations, library); }
      });
    });
    this._progress();
    this._ticks = root.setInterval(function () {
      self._watch();
      self._progress();
      if (self._again && !self._document.hidden) { self._run(); }
    }, 200);
    // A check gives up sooner: what it found is to be said in words on a slow path, too.
    this._learn(TRIES, 6 * PATIENCE, function () { /* they are there in time */ });
    this._examination.start();
  };

  // A page that sleeps is late for answers, and its connections die. In one that is hidden the
  // browser may only hold back its timers: that does no harm.
  Page.prototype._watch = function () {
    var at = new Date().getTime();
    this._slept = this._slept || Math.abs(at - this._ticked) > PATIENCE;
    this._ticked = at;
  };

  // The sentences are the server's: one file for this page and for the terminal.
  Page.prototype._learn = function (tries, patience, done) {
    var self = this, request, timer;
    function settle() {
      if (!timer) { return; }
      root.clearTimeout(timer);
      timer = null;
      try {
        JSON.parse(request.responseText).forEach(function (kind) { self._kinds[kind.code] = kind; });
      } catch (error) { /* then once more */ }
      request.abort();
      self._learn(tries - 1, patience, done);
    }
    if (this._kinds["ws-ok"] || !tries) {
      done();
      return;
    }
    request = new root.XMLHttpRequest();
    timer = root.setTimeout(settle, patience);
    request.open("GET", this._place + "/findings.json", true);
    request.onreadystatechange = function () { if (request.readyState === 4) { settle(); } };
    request.send(null);
  };

  Page.prototype._saw = function (name, event) {
    var row = this._rows[name], check = row.check, at = now();
    if (event === "begin") {
      row.begun = at;
      this._show(check, "running", "");
    } else if (event === "skip") {
      this._show(check, "skipped", "");
    } else {
      row.ended = at;
      this._conclude(check, diagnose(this._examination.observations, this._kinds).findings);
    }
    this._progress();
  };

  Page.prototype._conclude = function (check, findings) {
    var seen = this._examination.observations, row = this._rows[check.name];
    var found = findingsOf(check, seen, findings);
    // What was seen of WebSocket stands beside what it means; elsewhere the finding says both.
    var said = found.length && check.group !== "websocket" ? "" : check.say(seen);
    this._show(check, stateOf(check, seen, found), said, found, milliseconds(row.ended - row.begun));
  };

  Page.prototype._finished = function (observations, library) {
    var self = this, judged = diagnose(observations, this._kinds), counts;
    this._watch();
    this._again = this._slept && judged.findings.some(function (each) { return each.severity !== "good"; });
    // The next tick sees to it, as soon as the page is seen.
    if (this._again) { return; }
    root.clearInterval(this._ticks);
    CHECKS.forEach(function (check) {
      // The server's part may have changed what is to be said.
      if (self._rows[check.name].ended) { self._conclude(check, judged.findings); }
    });
    this._report = {
      doctor: 1, library: library, url: this._place.replace(/\/doctor$/, ""), at: timestamp(new Date()),
      agent: (root.navigator || {}).userAgent || null, verdict: judged.verdict, findings: judged.findings,
      observations: observations
    };
    counts = ["bad", "note"].map(function (severity) {
      return judged.findings.filter(function (each) { return each.severity === severity; }).length;
    });
    this._write("report", this._text());
    this._write("again", "Run again");
    this._write("took", "Finished in " + milliseconds(now() - this._started) + ": " + plural(counts[0], "problem") +
      ", " + plural(counts[1], "note") + ".");
    this._state("finished");
    this._write("meaning", MEANINGS[judged.verdict.transport]);
    this._write("verdict", judged.verdict.text);
  };

  // The report for people.
  Page.prototype._text = function () {
    var self = this, report = this._report;
    var lines = [
      report.verdict.text, "", "Address  " + report.url, "Time     " + report.at, "Browser  " + report.agent,
      "Library  fallback_transport " + (report.library || "unknown"), "", "Findings"
    ];
    report.findings.forEach(function (each) {
      lines.push("  " + pad(WORDS[each.severity], 12) + each.text + " [" + each.code + "]");
    });
    Object.keys(GROUPS).forEach(function (group) {
      lines.push("", GROUPS[group]);
      CHECKS.forEach(function (check) {
        var row = self._rows[check.name];
        if (check.group !== group) { return; }
        lines.push("  " + pad(row.word, 12) + check.title + (row.time ? " (" + row.time + ")" : "") +
          (row.said ? ": " + row.said : ""));
      });
    });
    return lines.join("\n") + "\n";
  };

  Page.prototype._progress = function () {
    var self = this, all = 0, done = 0, over = 0, bar = this._find("bar"), trip = pace(this._examination.observations);
    var seconds, text;
    // What is done at the same time.
    var left = { websocket: 0, idle: 0, polling: 0, hold: 0, network: 0 };
    CHECKS.forEach(function (check) {
      var row = self._rows[check.name];
      var weight = check.trips * trip + (check.waits ? self._idle : check.seconds || 0);
      var part = row.state === "waiting" ? 0 : row.state !== "running" ? 1
        : Math.min(0.95, (now() - row.begun) / 1000 / (weight || 1));
      // What takes long is seen to go on.
      if (row.state === "running" && now() - row.begun >= 1000) {
        self._write(row.timeWord, Math.floor((now() - row.begun) / 1000) + " s");
      }
      all += weight;
      done += weight * part;
      over += part === 1;
      left[check.waits ? check.name : check.group] += weight * (1 - part);
    });
    seconds = Math.ceil(Math.max(left.websocket + left.idle, left.polling, left.hold) + left.network);
    text = over + " of " + CHECKS.length + " checks done, about " + seconds + " s left";
    // What takes longer than it seemed sets it back by nothing.
    bar.value = Math.max(bar.value, done / all);
    bar.setAttribute("aria-valuetext", text);
    this._write("progress-text", text);
  };

  Page.prototype._addRow = function (check) {
    var self = this, row = { check: check };
    function make(tag, name, into) {
      var element = self._document.createElement(tag);
      element.className = name;
      return into ? into.appendChild(element) : element;
    }
    row.element = make("li", "check", this._find(check.group));
    row.mark = make("span", "mark", row.element);
    var what = make("div", "what", row.element), how = make("div", "how", row.element);
    make("h3", "title", what).appendChild(this._document.createTextNode(check.title));
    row.text = make("div", "text", what);
    row.stateWord = make("span", "word", how);
    how.appendChild(this._document.createTextNode(" "));
    row.timeWord = make("span", "time", how);
    row.make = make;
    this._rows[check.name] = row;
  };

  // Shows the state of a check: in a word, by its mark, and what there is to say.
  Page.prototype._show = function (check, state, said, findings, time) {
    var self = this, row = this._rows[check.name];
    if (state === "waiting") { row.ended = 0; }
    row.state = state;
    row.word = WORDS[state];
    row.said = said;
    row.time = time || "";
    row.element.setAttribute("data-state", state);
    this._write(row.stateWord, row.word);
    this._write(row.timeWord, row.time);
    draw(this._document, row.mark, state);
    while (row.text.firstChild) { row.text.removeChild(row.text.firstChild); }
    if (said) { this._write(row.make("p", "said", row.text), said); }
    (findings || []).forEach(function (each) {
      var line = row.make("p", "finding", row.text);
      line.appendChild(self._document.createTextNode(each.text + " "));
      self._write(row.make("code", "", line), each.code);
    });
  };

  Page.prototype._state = function (state) {
    var body = this._document.body, transport = this._report ? this._report.verdict.transport : "";
    var running = state === "running";
    body.setAttribute("data-state", state);
    body.setAttribute("data-transport", transport);
    this._find("options").hidden = false;
    this._find("progress").hidden = !running;
    this._find("outcome").hidden = running;
    this._find("details").hidden = running;
    draw(this._document, this._find("sign"), running ? "running" : SIGNS[transport]);
  };

  // Marks are drawn, and say nothing to a screen reader: the word beside them does.
  var MARKS = {
    good: "M5.5 10.4l3 3 6-6.6", note: "M10 8.9v5.3M10 5.7v.1", bad: "M6.6 6.6l6.8 6.8M13.4 6.6l-6.8 6.8",
    skipped: "M6.4 10h7.2", running: "M10 2.5a7.5 7.5 0 0 1 7.5 7.5", waiting: ""
  };

  function draw(document, place, state) {
    var names = "http://www.w3.org/2000/svg", picture, path;
    if (place.getAttribute("data-mark") === state || !document.createElementNS) { return; }
    place.setAttribute("data-mark", state);
    while (place.firstChild) { place.removeChild(place.firstChild); }
    picture = document.createElementNS(names, "svg");
    picture.setAttribute("viewBox", "0 0 20 20");
    picture.setAttribute("aria-hidden", "true");
    picture.setAttribute("focusable", "false");
    path = document.createElementNS(names, "circle");
    [["cx", 10], ["cy", 10], ["r", state === "running" || state === "waiting" ? 7.5 : 9]].forEach(function (pair) {
      path.setAttribute(pair[0], String(pair[1]));
    });
    picture.appendChild(path);
    path = document.createElementNS(names, "path");
    path.setAttribute("d", MARKS[state] || "M0 0");
    picture.appendChild(path);
    place.appendChild(picture);
  }

  // By the clipboard, where pages may use it; else as browsers did before; else it is laid out
  // for the reader to do it.
  Page.prototype._copy = function (text, success) {
    var self = this, clipboard = (root.navigator || {}).clipboard;
    function tell(copied) {
      if (!copied) { self._select(text); }
      self._write("copied", copied ? success
        : "The report is selected below: press Ctrl+C (or Command+C) to copy it.");
    }
    this._write("copied", "");
    if (clipboard && clipboard.writeText) {
      clipboard.writeText(text).then(function () { tell(true); }, function () { tell(self._copyByCommand(text)); });
    } else {
      tell(this._copyByCommand(text));
    }
  };

  Page.prototype._copyByCommand = function (text) {
    var document = this._document, active = document.activeElement, copied = false;
    var box = document.createElement("textarea");
    box.value = text;
    box.readOnly = true;
    box.className = "unseen";
    document.body.appendChild(box);
    box.select();
    try { copied = document.execCommand("copy"); } catch (error) { /* it cannot */ }
    document.body.removeChild(box);
    if (active && active.focus) { active.focus(); }
    return copied;
  };

  Page.prototype._select = function (text) {
    var range = this._document.createRange(), selection = root.getSelection();
    this._write("report", text);
    this._find("details").setAttribute("open", "");
    range.selectNodeContents(this._find("report"));
    selection.removeAllRanges();
    selection.addRange(range);
  };

  Page.prototype._find = function (id) { return this._document.getElementById(id); };

  // Only what changed: a screen reader says what is written into a live region, again, too.
  Page.prototype._write = function (place, text) {
    var element = typeof place === "string" ? this._find(place) : place;
    if (element.textContent !== text) { element.textContent = text; }
  };

  function plural(count, word) { return (count || "no") + " " + word + (count === 1 ? "" : "s"); }

  function pad(text, width) { return text + repeat(" ", width - text.length); }

  function timestamp(date) {
    function two(number) { return (number < 10 ? "0" : "") + number; }
    return date.getUTCFullYear() + "-" + two(date.getUTCMonth() + 1) + "-" + two(date.getUTCDate()) + "T" +
      two(date.getUTCHours()) + ":" + two(date.getUTCMinutes()) + ":" + two(date.getUTCSeconds()) + "Z";
  }

  return { diagnose: diagnose, open: open };
});
