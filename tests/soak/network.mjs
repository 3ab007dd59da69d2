// XMLHttpRequest and WebSocket over Node.js's own network, as far as the browser file uses them,
// and as browsers have them: each browser keeps its own connections, six to a server at most.

import http from "node:http";

import { WebSocket } from "ws";

const UNSENT = 0;
const OPENED = 1;
const HEADERS = 2;
const LOADING = 3;
const DONE = 4;

// The window of a page of its own in a browser of its own; `origin` is the page's.
export function browser(origin, { storage = null, websocket = true, random = Math.random } = {}) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 6 });

  class BrowserRequest {
    constructor() {
      this.readyState = UNSENT;
      this.status = 0;
      this.responseText = "";
      this.onreadystatechange = null;
      this._headers = {};
      this._response = null;
      this._request = null;
    }

    open(method, url) {
      this._method = method;
      this._url = url;
      this._change(OPENED);
    }

    setRequestHeader(name, value) { this._headers[name] = value; }

    getResponseHeader(name) {
      const value = this._response && this._response.headers[name.toLowerCase()];
      return value === undefined ? null : value;
    }

    send(body) {
      const content = Buffer.from(body, "utf8");
      const headers = {
        Accept: "*/*", Origin: origin, "Sec-Fetch-Site": "same-origin",
        ...this._headers, "Content-Length": content.length
      };
      const request = http.request(this._url, { method: this._method, agent, headers });
      this._request = request;
      request.on("response", (response) => this._answered(response));
      request.on("error", () => this._failed());
      request.end(content);
    }

    abort() {
      const request = this._request;
      this._request = null;
      if (request) {
        request.destroy();
        this._end();
      }
      this.readyState = UNSENT;
    }

    _answered(response) {
      const chunks = [];
      if (!this._request) { return; }
      this._response = response;
      this.status = response.statusCode;
      this._change(HEADERS);
      response.on("data", (chunk) => {
        chunks.push(chunk);
        if (this._request) { this._change(LOADING); }
      });
      response.on("end", () => {
        if (!this._request) { return; }
        if (!response.complete) { this._failed(); return; }
        this._request = null;
        this.responseText = Buffer.concat(chunks).toString("utf8");
        this._change(DONE);
      });
      response.on("error", () => this._failed());
      response.on("close", () => this._failed());
    }

    // A network error: as if nothing had been answered.
    _failed() {
      if (!this._request) { return; }
      this._request = null;
      this._end();
    }

    _end() {
      this._response = null;
      this.status = 0;
      this.responseText = "";
      this._change(DONE);
    }

    _change(state) {
      this.readyState = state;
      if (this.onreadystatechange) { this.onreadystatechange(); }
    }
  }

  class BrowserSocket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { origin });
      // To a browser, an error that nobody listens to is none.
      this.on("error", () => {});
    }
  }

  return {
    setTimeout: (callback, delay) => setTimeout(callback, delay),
    clearTimeout: (timer) => clearTimeout(timer),
    Date,
    Math: { random },
    crypto,
    localStorage: storage,
    XMLHttpRequest: BrowserRequest,
    WebSocket: websocket ? BrowserSocket : undefined,
    document: {
      createElement: () => ({
        set href(url) { this.url = new URL(url, origin).href; },
        get href() { return this.url; }
      })
    },
    // Not of the browser file's: ends what is kept alive.
    leave: () => agent.destroy()
  };
}

// What localStorage is to the pages of one browser.
export function storage() {
  const kept = new Map();
  return {
    get length() { return kept.size; },
    key: (index) => [...kept.keys()][index] ?? null,
    getItem: (name) => (kept.has(name) ? kept.get(name) : null),
    setItem: (name, value) => { kept.set(name, String(value)); },
    removeItem: (name) => { kept.delete(name); }
  };
}
