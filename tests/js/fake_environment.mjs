// A browser without a browser: clock, timers, XMLHttpRequest, WebSocket, storage and page events
// in one place, all driven by one fake clock, and the network between them and a fake server.
//
// Nothing here sleeps. What a page has left armed or open can be counted: `environment.timers()`,
// `environment.requests` and `environment.sockets`.

export const START = 1_700_000_000_000;

// The same numbers for the same seed (mulberry32).
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Clock {
  constructor() {
    this.now = START;
    this._queue = [];
    this._order = 0;
  }

  // Call `run` in `delay` ms. Entries of one owner can be counted.
  schedule(delay, run, owner = "network") {
    const entry = { time: this.now + Math.max(0, delay), order: ++this._order, run, owner };
    let at = this._queue.length;
    while (at > 0 && this._queue[at - 1].time > entry.time) at -= 1;
    this._queue.splice(at, 0, entry);
    return entry;
  }

  cancel(entry) {
    const at = this._queue.indexOf(entry);
    if (at >= 0) this._queue.splice(at, 1);
  }

  pending(owner) { return this._queue.filter((entry) => entry.owner === owner); }

  // Let `ms` pass, with all that happens in it.
  advance(ms) {
    const end = this.now + ms;
    while (this._queue.length && this._queue[0].time <= end) this._step();
    this.now = Math.max(this.now, end);
  }

  // Let time pass until `condition` holds; fails if it does not within `limit` ms.
  until(condition, what = String(condition), limit = 300_000) {
    const end = this.now + limit;
    while (!condition()) {
      if (!this._queue.length || this._queue[0].time > end) {
        throw new Error(`it did not come to this within ${limit} ms: ${what}`);
      }
      this._step();
    }
  }

  // The machine is suspended: nothing runs, and then everything is late.
  sleep(ms) { this.now += ms; }

  _step() {
    const entry = this._queue.shift();
    if (entry.time > this.now) {
      this.now = entry.time;
      this._steps = 0;
    }
    this._steps = (this._steps || 0) + 1;
    if (this._steps > 20_000) throw new Error("a busy loop: 20000 things at the same instant");
    entry.run();
  }
}

// What is between the page and the server. `onpost` and `onsocket` decide each one's fate:
//
// - `onpost(request)` returns nothing (it passes), or an object of
//     lost: nobody ever answers          status, text, headers: this is the answer
//     reaches: the server gets it first  after: ms until the answer (of `status`)
//     cut: ms after which the network ends it (with `status`, 0 if not given)
//     begins: ms after which the answer begins
//     truncate: the answer's text is cut to so many characters (a status "cut": and breaks off)
//     twice: the server gets it a second time, after so many ms
//     delay: ms on the way up, instead of the latency
// - `onsocket(socket)` returns "ok", "threw", "refused", "unanswered", "closed" (once opened),
//   "silent" (opened, and both directions dropped), "upless" or "downless" (one is).
// - `onframe(link, way)` returns how often a WebSocket's message arrives: 1, if all is well.
export class Network {
  constructor(clock, server) {
    this.clock = clock;
    this.server = server;
    this.latency = 10;
    this.down = false;
    this.websocket = "ok";
    this.onpost = () => undefined;
    this.onsocket = () => this.websocket;
    this.onframe = () => 1;
    this.posts = [];
    this.links = [];
  }

  // The WebSockets that got through and are not closed, and the last of all.
  get open() { return this.links.filter((link) => link.state === "open"); }
  get link() { return this.links[this.links.length - 1]; }

  post(url, body, headers, done, begin = () => {}) {
    const request = { url, body, headers, at: this.clock.now, aborted: false, answered: false };
    this.posts.push(request);
    const fate = this.down ? { status: 0 } : this.onpost(request) || {};
    const answer = (status, text = "", found = {}) => {
      if (request.aborted || request.answered) return;
      request.answered = true;
      request.status = status;
      request.reply = text;
      done(status, text, found);
    };
    const fixed = "status" in fate && !("cut" in fate);
    if (fixed && !fate.reaches) {
      this.clock.schedule(fate.after ?? 2 * this.latency, () => answer(fate.status, fate.text, fate.headers));
      return request;
    }
    if (fate.lost && !fate.reaches) return request;
    const reach = (first) => request.at !== request.abortedAt && this.server.poll(body, (status, text, found) => {
      if (!first || fate.lost) return;
      this.clock.schedule(fate.after ?? this.latency, () => {
        if (fixed) answer(fate.status, fate.text, fate.headers);
        else answer(status, "truncate" in fate ? text.slice(0, fate.truncate) : text, found);
      });
    }, headers);
    this.clock.schedule(fate.delay ?? this.latency, () => reach(true));
    if ("begins" in fate) this.clock.schedule(fate.begins, () => { if (!request.aborted && !request.answered) begin(); });
    if ("twice" in fate) this.clock.schedule(this.latency + fate.twice, () => reach(false));
    if ("cut" in fate) {
      this.clock.schedule(fate.cut, () => answer(fate.status ?? 0, fate.text, fate.headers));
    }
    return request;
  }

  connect(socket) {
    const fate = this.down ? "refused" : this.onsocket(socket);
    if (fate === "threw") throw new Error("SecurityError");
    const link = new Link(this, socket, fate);
    this.links.push(link);
    return link;
  }
}

// One WebSocket on its way. `up` and `down`: whether what goes that way arrives.
class Link {
  constructor(network, socket, fate) {
    this.network = network;
    this.socket = socket;
    this.fate = fate;
    this.at = network.clock.now;
    this.state = "opening";
    this.up = fate !== "silent" && fate !== "upless";
    this.down = fate !== "silent" && fate !== "downless";
    this.sent = [];
    this.received = [];
    this._last = { up: 0, down: 0 };
    if (fate === "unanswered") return;
    this._later(2 * network.latency, () => {
      if (this.state !== "opening") return;
      if (fate === "refused") {
        this.state = "closed";
        socket._closed(1006);
        return;
      }
      this.state = "open";
      if (fate !== "closed") {
        this._server = network.server.socket({
          send: (data) => this._pass("down", () => this.state === "open" && this._arrive(data)),
          close: (code) => this._pass("down", () => this._end(code)),
        });
      }
      socket._opened();
      if (fate === "closed") this._later(1, () => this._end(1006));
    });
  }

  _later(delay, run) { this.network.clock.schedule(delay, run); }

  // In order, whatever becomes of the latency.
  _pass(way, run) {
    const { clock, latency } = this.network;
    this._last[way] = Math.max(this._last[way], clock.now + latency);
    const copies = this.network.onframe(this, way);
    this._later(this._last[way] - clock.now, () => {
      for (let i = 0; i < copies && this[way]; i++) run();
    });
  }

  _arrive(data) {
    this.received.push(data);
    this.socket._message(typeof data === "string" ? data : Uint8Array.from(data).buffer);
  }

  send(data) {
    this.sent.push(data);
    this._pass("up", () => {
      if (this._server && !this._served) {
        this._server.message(typeof data === "string" ? data : new Uint8Array(data));
      }
    });
  }

  // The page closes it.
  leave() {
    // What was sent before arrives before.
    if (this.state === "open") this._later(this.network.latency, () => this._over());
    this.state = "closed";
    this._later(2 * this.network.latency, () => this.socket._closed(1000));
  }

  // The network ends it, on both sides.
  cut() {
    if (this.state === "closed") return;
    this.state = "closed";
    this._later(0, () => {
      this.socket._closed(1006);
      this._over();
    });
  }

  // Nothing passes any more, and nobody is told.
  swallow(way) {
    if (way !== "down") this.up = false;
    if (way !== "up") this.down = false;
  }

  _end(code) {
    if (this.state === "closed") return;
    this.state = "closed";
    this.socket._closed(code);
    this._later(this.network.latency, () => this._over());
  }

  // The server hears that it is over.
  _over() {
    if (this._server && !this._served) this._server.closed();
    this._served = true;
  }
}

const size = (data) => typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;

function makeXMLHttpRequest(environment) {
  return class FakeXMLHttpRequest {
    constructor() {
      this.readyState = 0;
      this.status = 0;
      this.responseText = "";
      this.onreadystatechange = null;
      this._headers = {};
      this._found = {};
    }

    open(method, url, asynchronous) {
      if (method !== "POST" || asynchronous !== true) throw new Error("only POST, never blocking");
      this._url = url;
      this.readyState = 1;
    }

    setRequestHeader(name, value) { this._headers[name.toLowerCase()] = value; }

    getResponseHeader(name) { return this._found[name.toLowerCase()] ?? null; }

    send(body) {
      if (environment.forbids) throw new Error("NetworkError");
      if (typeof body !== "string") throw new Error("a text was expected");
      environment.requests.add(this);
      environment.busiest = Math.max(environment.busiest, environment.requests.size);
      this._request = environment.network.post(this._url, body, this._headers, (status, text, found) => {
        if (status === "cut") {
          // The connection breaks amid the body: it had begun, and then was an error.
          this.readyState = 3;
          this.status = 200;
          this.responseText = text;
          if (this.onreadystatechange) this.onreadystatechange();
          status = 0;
          text = "";
        }
        this.status = status;
        this.responseText = text;
        this._found = found;
        if (text) {
          this.readyState = 3;
          if (this.onreadystatechange) this.onreadystatechange();
        }
        environment.requests.delete(this);
        this.readyState = 4;
        if (this.onreadystatechange) this.onreadystatechange();
      }, () => {
        this.readyState = 3;
        if (this.onreadystatechange) this.onreadystatechange();
      });
    }

    // As browsers do it: who listens still hears of state 4.
    abort() {
      if (!environment.requests.delete(this)) return;
      this._request.aborted = true;
      // What is aborted as soon as it was sent has not left the browser.
      this._request.abortedAt = environment.clock.now;
      this.readyState = 4;
      this.status = 0;
      this.responseText = "";
      if (this.onreadystatechange) this.onreadystatechange();
      this.readyState = 0;
    }
  };
}

function makeWebSocket(environment) {
  return class FakeWebSocket {
    constructor(url, protocol) {
      if (!/^wss?:\/\//.test(url)) throw new Error(`SyntaxError: ${url}`);
      this.url = url;
      this.protocol = protocol;
      this.readyState = 0;
      this.bufferedAmount = 0;
      this.binaryType = "blob";
      this.onopen = this.onmessage = this.onclose = this.onerror = null;
      this._link = environment.network.connect(this);
      environment.sockets.add(this);
    }

    send(data) {
      if (this.readyState === 0) throw new Error("InvalidStateError");
      if (this.readyState !== 1) return;
      if (!this._link.up && environment.fills) this.bufferedAmount += size(data);
      this._link.send(data);
    }

    close(code) {
      if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
        throw new Error("InvalidAccessError");
      }
      if (environment.oldClose && code !== undefined) throw new Error("SyntaxError");
      if (this.readyState > 1) return;
      this.readyState = 2;
      environment.sockets.delete(this);
      this._link.leave();
    }

    _opened() {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      if (this.onopen) this.onopen({});
    }

    _message(data) { if (this.readyState === 1 && this.onmessage) this.onmessage({ data }); }

    _closed(code) {
      if (this.readyState === 3) return;
      const failed = this.readyState === 0;
      this.readyState = 3;
      environment.sockets.delete(this);
      if (failed && this.onerror) this.onerror({});
      if (this.onclose) this.onclose({ code, wasClean: code === 1000 });
    }
  };
}

export class FakeStorage {
  constructor(items = new Map()) {
    this.items = items;
    this.fails = false;
    // The most characters it takes.
    this.quota = 5_000_000;
    // The pages that use it.
    this.pages = new Set();
  }

  _check() { if (this.fails) throw new Error("QuotaExceededError"); }
  get length() { this._check(); return this.items.size; }
  key(index) { this._check(); return [...this.items.keys()][index] ?? null; }
  getItem(key) { this._check(); return this.items.has(key) ? this.items.get(key) : null; }

  setItem(key, value, page) {
    this._check();
    if (String(value).length > this.quota) throw new Error("QuotaExceededError");
    this.items.set(key, String(value));
    this._tell(key, String(value), page);
  }

  removeItem(key, page) {
    this._check();
    if (this.items.delete(key)) this._tell(key, null, page);
  }

  // As one page sees it: what it writes, the browser tells to all others.
  seenBy(page) {
    this.pages.add(page);
    const storage = this;
    return {
      get length() { return storage.length; },
      key: (index) => storage.key(index),
      getItem: (key) => storage.getItem(key),
      setItem: (key, value) => storage.setItem(key, value, page),
      removeItem: (key) => storage.removeItem(key, page),
    };
  }

  _tell(key, newValue, writer) {
    for (const page of this.pages) {
      if (page !== writer) page.clock.schedule(1, () => page.fire("storage", { key, newValue }), "storage");
    }
  }
}

// One page. What it throws uncaught is kept in `errors`.
export class FakeEnvironment {
  constructor(network, {
    random = generator(1), storage = new FakeStorage(), sessionStorage = new FakeStorage(), nonce = true, webSocket = true,
  } = {}) {
    this.network = network;
    this.clock = network.clock;
    this.random = random;
    this.storage = storage && storage.seenBy(this);
    this.sessionStorage = sessionStorage;
    this.isHidden = false;
    this.isPrerendering = false;
    this.http2 = false;
    this.errors = [];
    this.requests = new Set();
    this.sockets = new Set();
    this.busiest = 0;
    this.beacons = [];
    this.onpagehide = null;
    this.listeners = {};
    // A browser may forbid requests, keep what a WebSocket cannot send, refuse close codes.
    this.forbids = this.fills = this.oldClose = false;
    this._timers = new Map();
    this._ids = 0;
    this._nonces = nonce;
    this._name = Math.floor(random() * 1e9);
    this.XMLHttpRequest = makeXMLHttpRequest(this);
    this.WebSocket = webSocket ? makeWebSocket(this) : undefined;
  }

  timers() { return this._timers.size; }

  setTimeout(callback, delay) {
    const id = ++this._ids;
    // Longer than 2**31 - 1, and browsers do not wait at all.
    const wait = delay > 0x7fffffff ? 0 : delay;
    this._timers.set(id, this.clock.schedule(wait, () => {
      this._timers.delete(id);
      try {
        callback();
      } catch (error) {
        this.errors.push(error);
      }
    }, "page"));
    return id;
  }

  clearTimeout(id) {
    const entry = this._timers.get(id);
    if (entry) this.clock.cancel(entry);
    this._timers.delete(id);
  }

  // -- As a window has them

  get localStorage() { return this.storage; }
  get top() { return this; }
  get Date() { return { now: () => this.clock.now }; }
  get Math() { return { random: this.random }; }
  get performance() { return { getEntriesByName: () => [{ nextHopProtocol: this.http2 ? "h2" : "http/1.1" }] }; }
  get navigator() { return { sendBeacon: (url, body) => this.beacon(url, body) }; }

  get document() {
    return {
      hidden: this.isHidden,
      prerendering: this.isPrerendering,
      // What it hears, its window does not.
      addEventListener: (type, callback) => this.addEventListener(`document ${type}`, callback),
      createElement: () => ({ set href(url) { this.url = new URL(url, "http://page.test/").href; }, get href() { return this.url; } }),
    };
  }

  get crypto() {
    return this._nonces && {
      getRandomValues: (bytes) => {
        new DataView(bytes.buffer).setUint32(0, this._name);
        new DataView(bytes.buffer).setUint32(4, ++this._ids);
      },
    };
  }

  addEventListener(type, callback) { (this.listeners[type] ??= new Set()).add(callback); }

  removeEventListener(type, callback) { this.listeners[type]?.delete(callback); }

  // What one listener throws does not keep the next from being called; but it may remove it.
  fire(type, event = {}) {
    for (const callback of [...(this.listeners[type] || [])]) {
      try {
        if (this.listeners[type].has(callback)) callback(event);
      } catch (error) {
        this.errors.push(error);
      }
    }
  }

  beacon(url, body) {
    if (!this.beacons) return false;
    this.beacons.push(body);
    this.network.post(url, body, { "content-type": "text/plain;charset=UTF-8" }, () => {});
    return true;
  }
}
