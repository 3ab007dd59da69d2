// A page whose connection is cut: node recovery.mjs PROTOCOL TRANSPORT CUT_PORT WHOLE_PORT SECONDS.
//
// One client of the library that belongs to the server listens on CUT_PORT; another one, whose
// connection nobody cuts, has a number sent to everybody every `PACE` ms. "ready" is printed when
// both are up, and at the end, as JSON, what came of the numbers.

import { createRequire } from "node:module";

const PACE = 20;
// Beyond, what has not come is lost: the peers' clients come back after 5 s at the latest.
const SILENCE = 6000;

const require = createRequire(import.meta.url);
const [protocol, transport, cutPort, wholePort, seconds] = process.argv.slice(2);

function fallback(port) {
  const library = require("../../static/fallback_transport.js");
  const { XMLHttpRequest } = require("xmlhttprequest-ssl");
  const environment = {
    XMLHttpRequest, WebSocket: require("ws").WebSocket, Date, Math, setTimeout, clearTimeout, crypto,
  };
  return library.connect(`http://127.0.0.1:${port}/fallback`, { transports: [transport], environment });
}

function socketio(port) {
  return require("socket.io-client").io(`http://127.0.0.1:${port}`, { transports: [transport] });
}

const connect = { fallback, socketio }[protocol];

function opened(port) {
  return new Promise((resolve) => {
    const client = connect(port);
    client.on("first", () => resolve(client));
  });
}

const times = new Map();
let last = 0, gap = 0, twice = 0;
const listener = await opened(cutPort);
const sender = await opened(wholePort);
listener.on("fan", (number) => {
  const now = performance.now();
  if (last) { gap = Math.max(gap, now - last); }
  last = now;
  if (times.has(number)) { twice += 1; }
  times.set(number, now);
});

console.log("ready");
let sent = 0;
const ticks = setInterval(() => { sender.emit("fan", String(sent)); sent += 1; }, PACE);
setTimeout(() => {
  clearInterval(ticks);
  const end = performance.now();
  const done = setInterval(() => {
    if (times.size < sent && performance.now() - Math.max(last, end) < SILENCE) { return; }
    clearInterval(done);
    // Who never came back has a gap up to the end.
    if (times.size < sent) { gap = Math.max(gap, end - last); }
    console.log(JSON.stringify({ sent, messages: times.size, gap, twice }));
    process.exit(0);
  }, PACE);
}, Number(seconds) * 1000);
