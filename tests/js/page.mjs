// A page with a session in a fake browser, a network that can be broken, and a fake server.

import assert from "node:assert/strict";

import { FallbackTransport } from "./core.mjs";
import { Clock, FakeEnvironment, FakeStorage, generator, Network, START } from "./fake_environment.mjs";
import { FakeServer } from "./fake_server.mjs";

// What a page is told of a message that is unconfirmed.
export const sent = (event, ...values) => ({ event, data: values[0], values });

export class Page {
  constructor({
    options = {}, seed = 1, random = generator(seed), nonce, webSocket, beside = null,
    storage = beside ? beside.storage : new FakeStorage(), sessionStorage = new FakeStorage(),
    grant, before = () => {}, library = FallbackTransport, connect = true,
    url = "/fallback",
  } = {}) {
    // Another page of the same browser, at the same site.
    this.clock = beside ? beside.clock : new Clock();
    this.server = beside ? beside.server : new FakeServer(this.clock, { grant });
    this.network = beside ? beside.network : new Network(this.clock, this.server);
    this.storage = storage;
    this.sessionStorage = sessionStorage;
    this.environment = new FakeEnvironment(this.network, { random, storage, sessionStorage, nonce, webSocket });
    this.library = library;
    this.options = options;
    this.url = url;
    // What the page heard, in order: [type, event], and what came by name.
    this.heard = [];
    this.messages = [];
    before(this);
    if (connect) this.connect();
  }

  connect() {
    this.session = this.library.connect(this.url, { environment: this.environment, ...this.options });
    for (const type of ["open", "close", "error", "transport", "reset"]) {
      this.session.addEventListener(type, (event) => this.heard.push([type, event]));
    }
    this.session.on("message", (data) => { this.messages.push(data); });
    return this.session;
  }

  get time() { return this.clock.now - START; }

  // The server's newest session.
  get peer() { return this.server.session; }

  count(type) { return this.heard.filter(([found]) => found === type).length; }

  last(type) { return this.heard.filter(([found]) => found === type).map(([, event]) => event).pop(); }

  advance(ms) { this.clock.advance(ms); return this; }

  until(condition, what, limit) { this.clock.until(condition, what, limit); return this; }

  opened() { return this.until(() => this.session.state === "open", "open"); }

  // On the given transport, and nothing else under way.
  on(transport) {
    return this.until(() => this.session.state === "open" && this.session.transport === transport, transport);
  }

  quiet() {
    assert.deepEqual(this.environment.errors, []);
    assert.deepEqual(this.server.faults, []);
    assert.deepEqual(this.server.gaps, [], "gaps");
    return this;
  }

  // The session is closed: nothing is armed, nothing open.
  over() {
    assert.equal(this.session.state, "closed");
    this.advance(2100);
    assert.equal(this.environment.timers(), 0, "timers are armed");
    assert.equal(this.environment.requests.size, 0, "requests are open");
    assert.equal(this.environment.sockets.size, 0, "WebSockets are open");
    for (const [type, found] of Object.entries(this.environment.listeners)) {
      assert.equal(found.size, 0, `listens to ${type}`);
    }
    assert.equal(this.count("close"), 1, "onclose once");
    return this.quiet();
  }

  // Both ways, now: the server answers, in order.
  talks(text = `talk ${this.time}`) {
    const before = this.peer.events.length;
    this.session.send(text);
    this.until(() => this.peer.events.length > before, "the server got it");
    assert.deepEqual(this.peer.events[this.peer.events.length - 1], ["message", text]);
    this.peer.emit("message", `re: ${text}`);
    this.until(() => this.messages[this.messages.length - 1] === `re: ${text}`, "the page got it");
    return this.quiet();
  }

  get posts() { return this.network.posts; }
}
