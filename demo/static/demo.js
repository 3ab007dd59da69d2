// The demo's page. ES5, like the library: it runs wherever that runs.
(function () {
  "use strict";

  var CURSOR_INTERVAL = 50;
  var CURSOR_IDLE = 8000;
  // Cursors are not worth queueing: while so many bytes are unconfirmed, they wait.
  var CURSOR_BACKLOG = 2000;
  var SLOW = 250;
  var MINUTE = 60;
  var PICTURE_SIDE = 1024;
  var PICTURE_BYTES = 400000;
  // What a second's bar shows at most.
  var LONGEST_TRIP = 2000;

  function find(id) { return document.getElementById(id); }

  function make(tag, className, text) {
    var element = document.createElement(tag);
    if (className) { element.className = className; }
    if (text !== undefined) { element.textContent = text; }
    return element;
  }

  // Only what changed: screen readers announce a live region whenever it is written.
  function write(id, text) {
    var element = typeof id === "string" ? find(id) : id;
    text = String(text);
    if (element.textContent !== text) { element.textContent = text; }
  }

  function grouped(number) { return String(number).replace(/\B(?=(\d{3})+$)/g, "\u2009"); }

  // Of a session, always the same one of eight; the colours are in demo.css.
  function shade(id) {
    var sum = 0;
    for (var i = 0; i < id.length; i++) { sum = (sum * 31 + id.charCodeAt(i)) % 9973; }
    return "shade" + sum % 8;
  }

  // --- Who I am ------------------------------------------------------------------------------

  var ADJECTIVES = ["Quiet", "Amber", "Early", "Brave", "Silver", "Gentle", "Lucky", "Northern"];
  var ANIMALS = ["Heron", "Otter", "Lynx", "Swift", "Badger", "Wren", "Marten", "Plover"];

  function pick(list) { return list[Math.floor(Math.random() * list.length)]; }

  function recall() {
    try { return sessionStorage.getItem("name"); } catch (error) { return null; }
  }

  var nameBox = find("name");
  nameBox.value = recall() || pick(ADJECTIVES) + " " + pick(ANIMALS);
  nameBox.onchange = function () {
    nameBox.value = nameBox.value.trim() || pick(ADJECTIVES) + " " + pick(ANIMALS);
    try { sessionStorage.setItem("name", nameBox.value); } catch (error) { /* kept by the page */ }
  };
  find("address").textContent = location.protocol + "//" + location.host;

  // --- The session, and the count of what goes over it ------------------------------------------

  if (!window.FallbackTransport) {
    write("why", "The browser's half of the library could not be loaded.");
    return;
  }

  var session = window.FallbackTransport.connect("/fallback", {
    auth: function () { return { name: nameBox.value }; },
    // Back to WebSocket within 2 s of its working again, instead of half a minute and more; and
    // whoever plays with the switches is not to make WebSocket count as unstable.
    timing: { probe: 1500, probeMax: 1500, deaths: 1000 }
  });

  var counts;

  function startCounting() {
    counts = {
      sent: 0, handled: 0, up: true,
      received: 0, told: 0, arrived: 0, down: true,
      tick: null, ticks: 0, missed: 0, trip: 0, asked: null,
      ticker: 0, tickers: 0, first: null
    };
  }

  startCounting();

  // False if it cannot be sent, for example because too much is unconfirmed.
  function say(name, data, callback) {
    try {
      if (callback) { session.emit(name, data, callback); } else { session.emit(name, data); }
    } catch (error) {
      write("chat-alert", "Not sent: " + error.message);
      return false;
    }
    counts.sent += 1;
    return true;
  }

  function hear(name, listener) {
    session.on(name, function (data) {
      listener(data);
      counts.received += 1;
    });
  }

  // --- The light --------------------------------------------------------------------------------

  var NAMES = { websocket: "WebSocket", polling: "Long polling" };
  var cutAt = null;
  var lastLight = null;

  // How long a message and its reply take; or have taken up to now.
  function trip() {
    return Math.max(counts.trip, counts.asked === null ? 0 : Date.now() - counts.asked);
  }

  function light() {
    var slow = trip() > SLOW;
    var recent = cutAt !== null && Date.now() - cutAt < 2500;
    var state = session.state === "open" ? session.transport : session.state;
    var name = NAMES[state] || state.charAt(0).toUpperCase() + state.slice(1);
    var why = session.state === "open" ? String(session.why) : {
      connecting: "The page asks the server for a session.",
      reconnecting: "No connection; the session waits for one, and so do your messages.",
      closed: "The session is over. Reload the page for a new one."
    }[session.state];
    why = why.charAt(0).toUpperCase() + why.slice(1).replace(/\.?$/, ".");
    if (session.state === "open" && recent) {
      name += ", resumed";
      why += " Every connection was cut; the session went on over a new one.";
    } else if (session.state === "open" && slow) {
      name += ", slow";
      why += " Messages arrive, but late.";
    }
    return { state: state, name: name, why: why, shape: recent ? "resumed" : slow ? "slow" : "" };
  }

  function showLight() {
    var now = light();
    var key = now.state + now.shape;
    if (key !== lastLight) {
      lastLight = key;
      document.body.setAttribute("data-state", now.state);
      document.body.setAttribute("data-shape", now.shape);
    }
    write("light-name", now.name);
    write("small-light", now.name);
    write("why", now.why);
    write("state", session.state);
  }

  function showNumbers() {
    var smoothed = session.roundTrip;
    var marks = session.counters;
    var time = trip();
    write("trip", !time ? "" : time < 1000 ? time + " ms" : (time / 1000).toFixed(1) + " s");
    write("smoothed", smoothed === null ? "unknown" : Math.round(smoothed) + " ms smoothed");
    write("up-seq", grouped(marks.sent));
    write("up-ack", grouped(marks.acknowledged));
    write("down-seq", grouped(marks.received));
    write("down-ack", grouped(marks.handled));
    write("up-sent", grouped(counts.sent));
    write("up-handled", grouped(counts.handled));
    write("down-sent", grouped(counts.told));
    write("down-received", grouped(counts.arrived));
    write("ticker-sent", grouped(counts.ticker));
    write("ticker-arrived", grouped(counts.tickers));
    write("ticker-replaced", grouped(counts.ticker - counts.tickers));
    write("missed", grouped(counts.missed));
    write("ticks", grouped(counts.ticks));
    showEqual("up-equal", counts.up, counts.sent - counts.handled);
    showEqual("down-equal", counts.down, 0);
  }

  function showEqual(id, equal, underWay) {
    var text = !counts.ticks ? "" : !equal ? "\u2260" : underWay ? "+" + underWay : "=";
    write(id, text);
    find(id).className = !equal ? "equal unequal" : underWay ? "equal under-way" : "equal";
    find(id).title = !equal ? "not equal" : underWay ? underWay + " on the way" : "equal";
  }

  // One bar a second, as high as the round trip is long.
  var minute = find("minute");
  for (var i = 0; i < MINUTE; i++) { minute.appendChild(make("i")); }

  function showSecond() {
    var bar = make("i", session.state === "open" ? session.transport : session.state);
    var time = Math.max(1, Math.min(trip(), LONGEST_TRIP));
    bar.style.height = Math.round(14 + 86 * Math.log(time) / Math.log(LONGEST_TRIP)) + "%";
    minute.removeChild(minute.firstChild);
    minute.appendChild(bar);
  }

  setInterval(showLight, 100);
  setInterval(showNumbers, 250);
  setInterval(showSecond, 1000);

  session.onopen = function () { write("session", session.id); };
  session.ontransport = showLight;
  session.onclose = function (event) {
    showLight();
    write("chat-alert", "The session is over: " + event.code + " " + event.reason);
  };
  session.onreset = function () {
    var unsure = lost();
    startCounting();
    find("log").textContent = "";
    write("chat-alert", "The server no longer has this session; a new one begins." +
      (unsure.length ? " Perhaps not delivered: " + unsure.join(", ") : ""));
  };

  // --- The ticker -------------------------------------------------------------------------------

  hear("tick", function (tick) {
    var me = tick.people.filter(function (each) { return each.id === session.id; })[0];
    if (counts.tick !== null) { counts.missed += Math.abs(tick.number - counts.tick - 1); }
    counts.tick = tick.number;
    counts.ticks += 1;
    if (me) {
      // In order, so that it is exact: what was sent before this tick has been received before it.
      counts.told = me.sent;
      counts.arrived = counts.received;
      counts.down = counts.told === counts.arrived;
    }
    showPeople(tick.people);
    report();
  });

  // Not counted with the others: of its numbers, those that did not come were replaced.
  session.on("ticker", function (number) {
    if (counts.first === null) { counts.first = number; }
    counts.ticker = number - counts.first + 1;
    counts.tickers += 1;
  });

  // The same the other way: the reply is how many messages were handled, this one included.
  function report() {
    var current = counts;
    var expected = counts.sent + 1;
    var asked = Date.now();
    if (counts.asked === null) { counts.asked = asked; }
    say("report", { name: nameBox.value, equal: counts.up && counts.down }, function (error, handled) {
      if (error || counts !== current) { return; }
      counts.handled = handled;
      counts.up = handled === expected;
      counts.trip = Date.now() - asked;
      counts.asked = null;
    });
  }

  function showPeople(people) {
    var list = find("people");
    var agree = 0;
    var checked = 0;
    people.forEach(function (person, place) {
      var item = list.children[place] || list.appendChild(make("li"));
      var carried = NAMES[person.transport] || "away";
      var counted = grouped(person.handled) + " up, " + grouped(person.sent) + " down";
      var equal = person.equal === null ? "" : person.equal ? ", equal" : ", NOT equal";
      if (!item.firstChild) {
        item.appendChild(make("span", "face"));
        item.appendChild(make("span", "who"));
        item.appendChild(make("span", "by"));
      }
      checked += person.equal !== null;
      agree += person.equal === true;
      item.setAttribute("data-transport", person.transport || "none");
      item.children[0].className = "face " + shade(person.id);
      write(item.children[0], person.name.charAt(0).toUpperCase());
      write(item.children[1], person.name + (person.id === session.id ? " (you)" : ""));
      write(item.children[2], carried + " \u00b7 " + counted + equal);
    });
    while (list.children.length > people.length) { list.removeChild(list.lastChild); }
    write("agreement", checked ? "Sent and arrived are equal for " + agree + " of " + checked +
      (checked === 1 ? " browser." : " browsers.") : "");
    dropCursors(people);
  }

  // --- The chat ---------------------------------------------------------------------------------

  var log = find("log");
  var scroll = find("scroll");
  // Said, and not come back yet: in order, so the first to come back is the first of these.
  var pending = [];

  function add(item, above) {
    var near = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
    find("empty").style.display = "none";
    if (above) { log.insertBefore(item, above); } else { log.appendChild(item); }
    var before = item.previousElementSibling;
    if (before && before.getAttribute("data-who") === item.getAttribute("data-who")) {
      item.className += " again";
    }
    if (near) { scroll.scrollTop = scroll.scrollHeight; }
  }

  function entry(who, name, text) {
    var mine = who === session.id;
    var item = make("li", mine ? "mine" : "");
    item.setAttribute("data-who", who);
    item.appendChild(make("span", "face " + shade(who), name.charAt(0).toUpperCase()));
    item.appendChild(make("b", "", name));
    item.appendChild(make("p", "", text));
    return item;
  }

  function show(item) {
    var element = entry(item.who, item.name, item.text);
    var picture;
    if (item.picture) {
      picture = make("img");
      picture.alt = "Picture: " + item.text;
      picture.src = URL.createObjectURL(new Blob([item.picture]));
      picture.onload = function () {
        URL.revokeObjectURL(picture.src);
        scroll.scrollTop = scroll.scrollHeight;
      };
      element.insertBefore(picture, element.lastChild);
    }
    if (item.who === session.id && pending.length) { log.removeChild(pending.shift()); }
    add(element, pending[0]);
  }

  hear("said", show);
  hear("recent", function (items) { items.forEach(show); });

  function wait(text) {
    var item = entry(session.id || "", nameBox.value, text);
    item.className += " pending";
    item.appendChild(make("span", "unseen", "not delivered yet"));
    pending.push(item);
    add(item);
    scroll.scrollTop = scroll.scrollHeight;
  }

  // What they were about.
  function lost() {
    return pending.splice(0).map(function (item) {
      log.removeChild(item);
      return "\u201c" + item.querySelector("p").textContent + "\u201d";
    });
  }

  find("composer").onsubmit = function () {
    var text = find("text").value.trim();
    if (text && say("say", text)) {
      write("chat-alert", "");
      wait(text);
      find("text").value = "";
    }
    return false;
  };

  // --- Pictures ---------------------------------------------------------------------------------

  function sendPicture(file) {
    if (!file || !/^image\//.test(file.type)) {
      write("chat-alert", "That is not a picture.");
      return;
    }
    write("chat-alert", "");
    shrink(file, function (bytes) {
      if (!bytes || bytes.byteLength > PICTURE_BYTES) {
        write("chat-alert", "This picture cannot be read, or is too large.");
        return;
      }
      if (say("picture", { name: file.name, bytes: bytes })) { wait(file.name); }
    });
  }

  function read(blob, done) {
    var reader = new FileReader();
    reader.onload = function () { done(reader.result); };
    reader.onerror = function () { done(null); };
    reader.readAsArrayBuffer(blob);
  }

  // To at most 1024 pixels a side, where the browser can.
  function shrink(file, done) {
    var image = new Image();
    var canvas = make("canvas");
    if (!canvas.toBlob || file.size < 60000) {
      read(file, done);
      return;
    }
    image.onload = function () {
      var scale = Math.min(1, PICTURE_SIDE / Math.max(image.width, image.height));
      URL.revokeObjectURL(image.src);
      canvas.width = Math.max(1, Math.round(image.width * scale));
      canvas.height = Math.max(1, Math.round(image.height * scale));
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(function (blob) { read(blob, done); }, "image/jpeg", 0.85);
    };
    image.onerror = function () { done(null); };
    image.src = URL.createObjectURL(file);
  }

  find("picture").onchange = function () {
    sendPicture(this.files[0]);
    this.value = "";
  };

  function carriesFiles(event) {
    return event.dataTransfer && Array.prototype.indexOf.call(event.dataTransfer.types, "Files") >= 0;
  }

  document.addEventListener("dragover", function (event) {
    if (!carriesFiles(event)) { return; }
    event.preventDefault();
    find("drop").className = "drop shown";
  });
  document.addEventListener("dragleave", function (event) {
    if (!event.relatedTarget) { find("drop").className = "drop"; }
  });
  document.addEventListener("drop", function (event) {
    find("drop").className = "drop";
    if (!carriesFiles(event)) { return; }
    event.preventDefault();
    sendPicture(event.dataTransfer.files[0]);
  });

  // --- Cursors: in ten thousandths of the page ----------------------------------------------------

  var cursors = {};
  var place = null;
  var cursorTimer = null;

  function page() {
    var root = document.documentElement;
    return { width: root.scrollWidth, height: root.scrollHeight };
  }

  document.addEventListener(window.PointerEvent ? "pointermove" : "mousemove", function (event) {
    var size = page();
    place = [Math.round(10000 * event.pageX / size.width),
      Math.round(10000 * event.pageY / size.height)];
    if (cursorTimer === null) { sendCursor(); }
  });

  function sendCursor() {
    cursorTimer = null;
    if (place === null) { return; }
    if (session.state === "open" && session.bufferedAmount < CURSOR_BACKLOG) {
      say("cursor", place);
      place = null;
    }
    cursorTimer = setTimeout(sendCursor, CURSOR_INTERVAL);
  }

  hear("cursor", function (moved) {
    var id = moved[0];
    var size = page();
    var cursor = cursors[id];
    if (!cursor) {
      cursor = cursors[id] = make("div", "cursor " + shade(id));
      cursor.appendChild(make("span", "", ""));
      find("cursors").appendChild(cursor);
    }
    cursor.style.transform = "translate(" + moved[1] / 10000 * size.width + "px, " +
      moved[2] / 10000 * size.height + "px)";
    cursor.className = "cursor " + shade(id);
    clearTimeout(cursor.idle);
    cursor.idle = setTimeout(function () { cursor.className += " idle"; }, CURSOR_IDLE);
  });

  function dropCursors(people) {
    var names = {};
    people.forEach(function (person) { names[person.id] = person.name; });
    for (var id in cursors) {
      if (names[id]) {
        write(cursors[id].firstChild, names[id]);
      } else {
        find("cursors").removeChild(cursors[id]);
        delete cursors[id];
      }
    }
  }

  // --- The switches: plain requests, which the broken network spares ---------------------------------

  var network = find("network");
  var cuts = null;

  function showNetwork(state) {
    var choices = network.elements.websocket;
    for (var i = 0; i < choices.length; i++) {
      choices[i].checked = choices[i].value === state.websocket;
    }
    find("latency").checked = state.latency;
    if (cuts !== null && state.cuts > cuts) {
      cutAt = Date.now();
      showLight();
    }
    cuts = state.cuts;
  }

  function ask(method, wanted) {
    var request = new XMLHttpRequest();
    request.open(method, "/network");
    request.onload = function () {
      if (request.status === 200) {
        write("network-alert", "");
        // What was cut is only known to be mended when the session itself says so.
        var state = JSON.parse(request.responseText);
        if (cuts !== null) { state.cuts = cuts; }
        showNetwork(state);
      } else {
        request.onerror();
      }
    };
    request.onerror = function () { write("network-alert", "The switch did not answer. Try again."); };
    if (wanted) { request.setRequestHeader("Content-Type", "application/json"); }
    request.send(wanted ? JSON.stringify(wanted) : null);
  }

  function chosen() {
    var checked = network.querySelector("input[name=websocket]:checked");
    return { websocket: checked.value, latency: find("latency").checked };
  }

  network.onchange = function () { ask("POST", chosen()); };
  network.onsubmit = function () { return false; };
  find("cut").onclick = function () { ask("POST", { cut: true }); };
  find("off").onclick = function () { ask("POST", { websocket: "clear", latency: false }); };
  hear("network", function (state) {
    showNetwork(state);
    report();
  });
  ask("GET");
})();
