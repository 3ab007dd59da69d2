// The WebSocket interface in a page that came by https; the rest of it is tested in browsers.

import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./core.mjs";
import { Page } from "./page.mjs";

function socket(url, page) {
  const { environment } = new Page({ connect: false });
  const root = { location: { protocol: new URL(page).protocol, href: page }, document: { baseURI: page }, URL, DOMException };
  return new (load([], { self: root }).WebSocket)(url, [], { environment });
}

for (const url of ["ws://page.test/chat", "http://page.test/chat", "ws://127.example.test.page.test:1/", "ws://localhost.page.test/"]) {
  test(`from an https page, ${url} is a SecurityError`, () => {
    assert.throws(() => socket(url, "https://page.test/"), (error) => error instanceof DOMException && error.name === "SecurityError");
    assert.equal(socket(url, "http://page.test/").url, url.replace("http", "ws"));
  });
}

for (const [url, seen] of [
  ["wss://page.test/chat", "wss://page.test/chat"], ["/chat", "wss://page.test/chat"],
  ["ws://localhost/", "ws://localhost/"], ["ws://app.localhost:5000/", "ws://app.localhost:5000/"],
  ["ws://127.0.0.1:5000/", "ws://127.0.0.1:5000/"], ["ws://[::1]:5000/", "ws://[::1]:5000/"],
]) {
  test(`from an https page, ${url} is none`, () => assert.equal(socket(url, "https://page.test/").url, seen));
}
