// The page of a run, as application.py serves it: ECMAScript 3 and no DOM to speak of, for engines
// of every age. Opens a session, exchanges numbered messages with the server, and reports what
// this end saw; nothing is judged here.
(function () {
  var options = window.RUN;
  var UP = 1;
  var DOWN = 2;
  var report = {
    run: options.run, agent: navigator.userAgent, opened: null, transport: null, reason: null,
    why: null, complete: false, received: [], replies: [], events: [], errors: []
  };
  var sent = 0;
  var asked = 0;
  var answered = 0;
  var over = false;
  var started = 0;
  var session = null;

  function now() { return new Date().getTime(); }

  function complain(what) { if (report.errors.length < 20) { report.errors.push(String(what)); } }

  window.onerror = function (text, file, line) { complain(text + " (" + file + ":" + line + ")"); };

  // As contents.py has it.
  function content(direction, number) {
    var state = direction * 1000003 + number * 7919 + 1;
    var size = options.sizes[number % options.sizes.length];
    var bytes = number % options.kinds === 2 ? new Uint8Array(size) : null;
    var text = [];
    for (var i = 0; i < size; i++) {
      state = state * 16807 % 2147483647;
      if (bytes) { bytes[i] = state % 256; } else {
        text.push(options.characters[state % options.characters.length]);
      }
    }
    return bytes || text.join("");
  }

  function digest(data) {
    var isText = typeof data === "string";
    var units = isText ? data : new Uint8Array(data);
    var checksum = 0;
    for (var i = 0; i < units.length; i++) {
      checksum = (checksum * 31 + (isText ? units.charCodeAt(i) : units[i])) % 4294967291;
    }
    return [isText ? "text" : "bytes", units.length, checksum];
  }

  function take(number, data) { report.received.push([number].concat(digest(data))); }

  function send(number) {
    var asks = number % options.asks === 0;
    if (!asks) {
      session.emit("up", number, content(UP, number));
      return;
    }
    asked += 1;
    session.emit("up", number, content(UP, number), function (error, reply) {
      answered += 1;
      report.replies.push([number, error ? String(error) : reply]);
      look();
    });
  }

  function sendUntil(end) {
    try {
      while (sent < end) {
        send(sent);
        sent += 1;
      }
    } catch (error) {
      complain("emit " + sent + ": " + error);
    }
    look();
  }

  // Has everything happened, on the server too? The reason is not known before WebSocket has been
  // judged.
  function look() {
    if (over || sent < options.number || answered < asked || session.bufferedAmount ||
        report.received.length < options.number || session.why.reason === "proving") { return; }
    report.complete = true;
    finish();
  }

  function finish() {
    if (over) { return; }
    over = true;
    if (session) {
      report.transport = session.transport;
      report.reason = session.why.reason;
      report.why = String(session.why);
    }
    // What comes twice may come late.
    setTimeout(post, 300);
  }

  // Whoever drives this engine waits for one of them.
  function reported() {
    document.title = window.status = "reported";
    document.body.appendChild(document.createTextNode("reported"));
    if (session) { session.close(); }
  }

  function post() {
    var request = new XMLHttpRequest();
    request.open("POST", "report", true);
    request.onreadystatechange = function () {
      if (request.readyState !== 4) { return; }
      if (request.status === 200 && request.responseText === "reported") {
        reported();
      } else if (request.status === 413) {
        // Too large for a proxy, but not for the session.
        session.emit("report", report, reported);
      } else {
        setTimeout(post, 300);
      }
    };
    request.send(JSON.stringify(report));
  }

  function note(type) {
    return function (event) {
      report.events.push([type, now() - started, session.transport, session.why.reason,
        event.code === undefined ? null : event.code]);
      look();
    };
  }

  function open() {
    var half = options.number >> 1;
    report.opened = now() - started;
    sendUntil(half);
    setTimeout(function () { sendUntil(options.number); }, options.pause);
  }

  function run() {
    var types = ["open", "transport", "close", "error", "reset"];
    started = now();
    session = FallbackTransport.connect("/fallback", {
      auth: {
        run: options.run, number: options.number, pause: options.pause, limit: options.limit
      }
    });
    for (var i = 0; i < types.length; i++) { session.addEventListener(types[i], note(types[i])); }
    session.onopen = open;
    // What the server confirms raises no event.
    setInterval(look, 100);
    session.onclose = finish;
    session.onreset = function () {
      complain("the session was reset");
      finish();
    };
    session.on("down", function (number, data) {
      take(number, data);
      look();
    });
    session.on("ask", function (number, data) {
      take(number, data);
      look();
      return 2 * number + 1;
    });
  }

  setTimeout(finish, options.limit);
  // Behind the page's own loading.
  setTimeout(function () {
    try {
      run();
    } catch (error) {
      complain(error);
      finish();
    }
  }, 0);
})();
