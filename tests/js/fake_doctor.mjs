// The doctor's page without a browser: as much of a document as it needs, one fake clock, and a
// server behind a network that can be broken. Nothing here sleeps.

import assert from "node:assert/strict";
import fs from "node:fs";

import { Clock } from "./fake_environment.mjs";

const read = (name) => fs.readFileSync(new URL(`../../static/${name}`, import.meta.url), "utf8");
const SOURCE = read("doctor.js");
const HTML = read("doctor.html");
const SENTENCES = read("doctor_findings.json");

// One way, in ms.
const LATENCY = 10;

class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], attributes: {}, className: "", hidden: false, text: "", selectedIndex: 0 });
  }

  get options() { return this.children; }
  get value() { return this.tag === "select" ? this.children[this.selectedIndex].value : this.kept; }
  set value(value) { this.kept = value; }
  get firstChild() { return this.children[0] ?? null; }
  get textContent() { return this.text + this.children.map((each) => each.textContent).join(""); }
  set textContent(text) { Object.assign(this, { text, children: [] }); }
  appendChild(child) { return this.insertBefore(child, null); }

  insertBefore(child, before) {
    this.children.splice(before ? this.children.indexOf(before) : this.children.length, 0, child);
    return child;
  }

  removeChild(child) { this.children.splice(this.children.indexOf(child), 1); }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  focus() {}
  select() {}

  find(className) {
    for (const each of this.children) {
      const found = each.className === className ? each : each.find(className);
      if (found) return found;
    }
    return null;
  }
}

// Options:
// - `query`, `protocol`: of the page's address
// - `post(command, body)`: what becomes of a command; nothing if it is answered, else an object of
//     status, text, headers: this is the answer; 0 if the connection ends; `text(whole)`, if it is
//       a function, makes it of the server's. Or "threw": the browser does not send it
//     after: ms until it is there        lost: it never is
//     spread: ms from its first byte to its last
// - `learn(count)`: likewise of the GET of the sentences, the first of which is 1
// - `plain`: likewise of the plain GET of the WebSocket's path
// - `socket(link)`: "ok", "refused", "unanswered" or "threw"; `onframe(link, way, text)`: whether it
//   arrives, or after how many ms more
// - `ahead`: ms by which the page's clock is; `body`: bytes of the largest request; `process()`: which one
//   of the server's answers an echo
// - `seen`: what the server says it saw besides; `root`: what else the browser has
export class Doctor {
  constructor({
    query = "", protocol = "http:", post = () => {}, learn = () => {}, plain, socket = () => "ok", onframe = () => true, ahead = 0,
    body = 300_000, process = () => "one", seen = {}, root = {},
  } = {}) {
    const clock = this.clock = new Clock();
    const page = this;
    Object.assign(this, { commands: [], open: new Set(), links: [], copied: null, learnt: 0, plains: 0, serial: 0 });
    this.behind = { process, post, learn, plain, socket, onframe, ahead, body, seen };
    this.handshakes = [];
    this.timers = new Map();
    this.ids = new Map([...HTML.matchAll(/<(\w+)[^>]* id="([\w-]+)"/g)].map(([, tag, id]) => [id, new Element(tag)]));
    for (const [, value] of HTML.matchAll(/<option value="(\d+)"/g)) this.make("option", this.id("idle")).value = value;
    this.document = {
      hidden: false,
      body: new Element("body"),
      activeElement: null,
      getElementById: (id) => this.id(id),
      createElement: (tag) => new Element(tag),
      createTextNode: (text) => Object.assign(new Element(""), { text }),
      execCommand: () => false,
      createRange: () => ({ selectNodeContents: (element) => { page.selected = element.textContent; } }),
    };
    let timers = 0;
    const later = (run, ms, again) => {
      const timer = ++timers;
      const arm = () => page.timers.set(timer, clock.schedule(ms, () => {
        if (again) arm(); else page.timers.delete(timer);
        run();
      }));
      arm();
      return timer;
    };
    const clear = (timer) => {
      clock.cancel(page.timers.get(timer));
      page.timers.delete(timer);
    };
    class FakeDate extends Date {
      constructor() { super(clock.now + page.behind.ahead); }
    }
    this.root = {
      document: this.document,
      location: { protocol, host: "page.test", pathname: "/fallback/doctor", search: query },
      navigator: { userAgent: "a browser", clipboard: { writeText: (text) => ({ then: (done) => { page.copied = text; done(); } }) } },
      performance: { now: () => clock.now },
      setTimeout: (run, ms) => later(run, ms, false), clearTimeout: clear,
      setInterval: (run, ms) => later(run, ms, true), clearInterval: clear,
      getSelection: () => ({ removeAllRanges() {}, addRange() {} }),
      XMLHttpRequest: requests(this),
      WebSocket: sockets(this),
      ...root,
    };
    new Function("self", "Date", "module", SOURCE)(this.root, FakeDate, undefined);
  }

  id(name) { return this.ids.get(name); }

  make(tag, into) { return into.appendChild(new Element(tag)); }

  get state() { return this.document.body.attributes["data-state"]; }

  advance(ms) {
    this.clock.advance(ms);
    return this;
  }

  until(condition, limit) {
    this.clock.until(condition, String(condition), limit);
    return this;
  }

  finished() { return this.until(() => this.state === "finished"); }

  get report() {
    this.id("copy-json").onclick();
    return JSON.parse(this.copied);
  }

  get codes() { return this.report.findings.map((each) => each.code); }

  // By title: the state of a check, its time and what is said of it.
  check(title) {
    for (const group of ["websocket", "polling", "network"]) {
      for (const row of this.id(group).children) {
        if (row.find("title").textContent === title) {
          return {
            state: row.attributes["data-state"], word: row.find("word").textContent, time: row.find("time").textContent,
            said: row.find("said")?.textContent ?? "", finding: row.find("finding")?.textContent ?? "",
          };
        }
      }
    }
    throw new Error(title);
  }

  // How often a command was given.
  count(what) { return this.commands.filter((each) => each.do === what).length; }

  // What the server answers to a command.
  answer(command, body, headers) {
    assert.equal(headers["Content-Type"], "text/plain;charset=UTF-8");
    const { number } = command;
    const whole = (facts, size = 0) => `${JSON.stringify({ number, ...facts })}\n`.padEnd(size - 1, "y") + ".";
    switch (command.do) {
      case "begin": return whole({ library: "9.9", body: this.behind.body, time: this.clock.now });
      case "echo": return whole({ bytes: body.length, header: headers["X-Fallback-Transport-Doctor"] === "1", cookie: true, process: this.behind.process() });
      case "serial": return whole({ serial: ++this.serial });
      case "give": return whole({}, command.bytes);
      case "seen": return whole({ seen: { handshakes: this.handshakes, plain: 0, repeated: 1, proxies: {}, secure: false, ...this.behind.seen } });
      default: return whole({});
    }
  }
}

function requests(page) {
  return class {
    constructor() { Object.assign(this, { readyState: 0, status: 0, responseText: "", headers: {}, onprogress: null }); }

    open(method, url) { Object.assign(this, { method, url, readyState: 1 }); }

    setRequestHeader(name, value) { this.headers[name] = value; }

    getResponseHeader(name) { return this.found[name] ?? null; }

    send(body) {
      page.open.add(this);
      let wait = 2 * LATENCY;
      let spread = 0;
      let answer, fate;
      if (this.url.endsWith("/findings.json")) {
        fate = page.behind.learn(++page.learnt);
        answer = () => SENTENCES;
      } else if (this.method === "GET") {
        page.plains += 1;
        fate = page.behind.plain ?? { status: 426 };
        answer = () => '{"error":"a WebSocket is here"}\n.';
      } else {
        const command = JSON.parse(body.slice(0, body.indexOf("\n")));
        page.commands.push({ ...command, size: body.length, at: page.clock.now });
        fate = page.behind.post(command, body);
        if (fate === "threw") {
          page.open.delete(this);
          throw new Error("NetworkError");
        }
        answer = () => page.answer(command, body, this.headers);
        if (command.do === "hold") wait += command.seconds * 1000;
        if (command.do === "stream") spread = 1000;
      }
      const { status = 200, after = wait, lost = false, headers = {}, ...rest } = fate || {};
      if (lost) return;
      let text = rest.text;
      page.clock.schedule(Math.min(LATENCY, after), () => {
        text = typeof text === "function" ? text(answer()) : text ?? answer();
      });
      spread = rest.spread ?? (status === 200 ? spread : 0);
      page.clock.schedule(after, () => this.onprogress && page.open.has(this) && this.onprogress());
      page.clock.schedule(after + spread, () => {
        if (!page.open.delete(this)) return;
        this.found = { "X-Fallback-Transport-Doctor": "1", ...headers };
        Object.assign(this, { readyState: 4, status, responseText: status ? text : "" });
        this.onreadystatechange();
      });
    }

    // As browsers do it: who listens still hears of state 4.
    abort() {
      if (!page.open.delete(this)) return;
      Object.assign(this, { readyState: 4, status: 0, responseText: "" });
      this.onreadystatechange();
    }
  };
}

function sockets(page) {
  return class {
    constructor(url, protocol) {
      Object.assign(this, { url, protocol, sent: [], at: page.clock.now, over: false });
      const fate = page.behind.socket(this);
      if (fate === "threw") throw new Error("SecurityError");
      page.links.push(this);
      if (fate === "unanswered") return;
      page.clock.schedule(2 * LATENCY, () => {
        if (this.over) return;
        if (fate === "refused") {
          this.cut(1006);
          return;
        }
        page.handshakes.push(this.seen = { upgrade: true, connection: true, key: true, status: 101, up: [], down: [], closed: null });
        this.onopen();
        for (const size of [1, 4096, 65536]) this.pass("down", "x".repeat(size), (text) => this.message(text));
      });
    }

    pass(way, text, arrive) {
      const fate = page.behind.onframe(this, way, text);
      if (fate === false) return;
      page.clock.schedule(LATENCY + (fate === true ? 0 : fate), () => { if (!this.over) arrive(text); });
    }

    message(data) { if (this.onmessage) this.onmessage({ data }); }

    send(text) {
      this.sent.push({ size: text.length, at: page.clock.now });
      this.pass("up", text, () => {
        this.seen.up.push(text.length);
        this.pass("down", `got ${text.length}`, (answer) => this.message(answer));
      });
    }

    // The network ends it.
    cut(code) {
      if (this.over) return;
      this.over = true;
      if (code === 1006 && this.onerror) this.onerror({});
      if (this.onclose) this.onclose({ code });
    }

    close(code) {
      Object.assign(this, { over: true, left: code });
      page.clock.schedule(2 * LATENCY, () => this.onclose && this.onclose({ code }));
    }
  };
}
