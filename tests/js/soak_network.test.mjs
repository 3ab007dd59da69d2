// The network of the soak's sessions in Node.js answers, and fails, as a browser's does.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { browser } from "../soak/network.mjs";

let server;
let origin;
const sockets = new Set();

const doors = {
  "/ok": (request, response, body) => response.end(`${request.headers.origin} ${body}`),
  "/busy": (request, response) => {
    response.writeHead(429, { "Retry-After": "7" });
    response.end("later");
  },
  "/reset": (request) => request.socket.destroy(),
  "/cut": (request, response) => {
    response.writeHead(200, { "Content-Length": "100" });
    response.write("half");
    setTimeout(() => request.socket.destroy(), 20);
  },
  "/never": () => {}
};

before(async () => {
  server = http.createServer((request, response) => {
    sockets.add(request.socket);
    let body = "";
    request.on("data", (chunk) => { body += chunk; });
    request.on("end", () => doors[request.url](request, response, body));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  origin = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

// The states that a request goes through, and what is there at its end.
function post(own, door, body, act = () => {}) {
  return new Promise((done) => {
    const xhr = new own.XMLHttpRequest();
    const states = [];
    xhr.onreadystatechange = () => {
      if (states.at(-1) !== xhr.readyState) { states.push(xhr.readyState); }
      if (xhr.readyState === 4) { done({ states, status: xhr.status, text: xhr.responseText, xhr }); }
    };
    xhr.open("POST", new URL(door, origin).href, true);
    xhr.setRequestHeader("Content-Type", "text/plain;charset=UTF-8");
    xhr.send(body);
    act(xhr);
  });
}

test("an answer comes with its states, over one kept connection", async () => {
  const own = browser(origin);
  sockets.clear();
  for (const body of ["é", "漢"]) {
    const { states, status, text } = await post(own, "/ok", body);
    assert.deepEqual([states, status, text], [[1, 2, 3, 4], 200, `${origin} ${body}`]);
  }
  assert.equal(sockets.size, 1);
  own.leave();
});

test("an error's headers are there", async () => {
  const own = browser(origin);
  const { status, xhr } = await post(own, "/busy", "");
  assert.deepEqual([status, xhr.getResponseHeader("Retry-After")], [429, "7"]);
  assert.equal(xhr.getResponseHeader("X-Other"), null);
  own.leave();
});

test("a network error is status 0 without a text, before and amid an answer", async () => {
  const own = browser(origin);
  for (const [door, expected] of [["/reset", [1, 4]], ["/cut", [1, 2, 3, 4]]]) {
    const { states, status, text, xhr } = await post(own, door, "x");
    assert.deepEqual([states, status, text], [expected, 0, ""]);
    assert.equal(xhr.getResponseHeader("Retry-After"), null);
  }
  own.leave();
});

test("an abort ends a request, and then it is as new", async () => {
  const own = browser(origin);
  const { states, status, xhr } = await post(own, "/never", "x", (xhr) => xhr.abort());
  assert.deepEqual([states, status, xhr.readyState], [[1, 4], 0, 0]);
  own.leave();
});

test("a WebSocket that nobody listens to fails quietly", async () => {
  const own = browser(origin);
  const socket = new own.WebSocket(origin.replace("http", "ws") + "/never", "x");
  const closed = new Promise((done) => { socket.onclose = done; });
  socket.onerror = null;
  socket.close();
  await closed;
  own.leave();
});
