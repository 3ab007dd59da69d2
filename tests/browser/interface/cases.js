// What the WebSockets standard (https://websockets.spec.whatwg.org/) wants of the interface; each
// case is run over each transport. `install` is the library's, so the native one is kept here.
"use strict";

const Native = window.WebSocket;
const HOST = location.host;
const MOUNT = `ws://${HOST}/mount`;
let transports;

const make = (path, protocols) =>
  new FallbackTransport.WebSocket(path.includes(":") ? path : MOUNT + path, protocols, { transports });
const next = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function same(found, expected, what = "") {
  const [a, b] = [found, expected].map((each) => JSON.stringify(each));
  if (a !== b) throw new Error(`${what} is ${a}, not ${b}`);
}

function throws(name, call, what) {
  try {
    call();
  } catch (error) {
    same(error.name, name, what);
    return;
  }
  throw new Error(`${what}: nothing thrown`);
}

async function opened(path = "/echo", protocols) {
  const ws = make(path, protocols);
  const failed = next(ws, "error").then(() => { throw new Error(`${path} failed`); });
  await Promise.race([next(ws, "open"), failed]);
  failed.catch(() => {});
  return ws;
}

async function closed(ws, ...values) {
  const event = next(ws, "close");
  ws.close(...values);
  const { code, reason, wasClean } = await event;
  return [code, reason, wasClean];
}

// The events of one that fails: an error, and then a close that says nothing.
async function fails(ws, limit = 6000) {
  const seen = [];
  for (const type of ["open", "message", "error"]) ws.addEventListener(type, () => seen.push([type, ws.readyState]));
  const event = await Promise.race([next(ws, "close"), sleep(limit)]);
  if (!event) throw new Error("it has not failed");
  same(seen, [["error", 3]], "events");
  same([event.code, event.reason, event.wasClean], [1006, "", false]);
}

// The next messages, in order.
function listen(ws) {
  const waiting = [];
  const found = [];
  ws.addEventListener("message", ({ data }) => (waiting.shift() || ((value) => found.push(value)))(data));
  return () => found.length ? Promise.resolve(found.shift()) : new Promise((resolve) => waiting.push(resolve));
}

async function content(data) {
  if (typeof data === "string") return data;
  return [...new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data)];
}

const CASES = {
  "URLs": () => {
    for (const [url, expected] of [
      [`ws://${HOST}/mount/a`, `ws://${HOST}/mount/a`], [`http://${HOST}/mount`, `ws://${HOST}/mount`],
      ["/mount/b?x=1", `ws://${HOST}/mount/b?x=1`], ["mount", `ws://${HOST}/mount`],
      [new URL(`ws://${HOST}/mount/ü`), `ws://${HOST}/mount/%C3%BC`], [`WS://${HOST}`, `ws://${HOST}/`],
      [`https://${HOST}/mount`, `wss://${HOST}/mount`], ["", `ws://${HOST}/`],
    ]) {
      const ws = new FallbackTransport.WebSocket(url, [], { transports });
      same(ws.url, expected, String(url));
      ws.close();
    }
    for (const url of ["ftp://host/", "ws://", "ws://host:port/", "data:,x", "ws://a b/", "mailto:a@b"]) {
      throws("SyntaxError", () => new FallbackTransport.WebSocket(url), url);
    }
  },

  "no URL, no new": () => {
    throws("TypeError", () => new FallbackTransport.WebSocket(), "no URL");
    throws("TypeError", () => FallbackTransport.WebSocket(MOUNT), "no new");
    throws("TypeError", () => new FallbackTransport.WebSocket(Symbol("x")), "a symbol");
  },

  "protocols that are none": () => {
    throws("SyntaxError", () => make("/echo", new Array(2)), "holes");
    for (const protocols of ["", "a b", "a,b", "é", "a\u0000", ["x", "x"], ["x", "X"], ["X", "x"], {}, ["ok", ""], "(", "a/b", null].slice(0, -1)) {
      throws("SyntaxError", () => make("/echo", protocols), JSON.stringify(protocols));
    }
    for (const protocols of [[], "Fine", ["a", "b"], "!#$%&'*+-.^_`|~", new Set(["a"]), undefined]) make("/echo", protocols).close();
  },

  "path, query and protocols reach the server": async () => {
    const ws = make("/tell?a=%20b&c", ["two", "one"]);
    same((await next(ws, "message")).data, "/mount/tell?a=%20b&c two");
    same([ws.protocol, ws.extensions], ["two", ""]);
    ws.send("carrier");
    same((await next(ws, "message")).data, transports[0]);
    await closed(ws);
    const other = make("/tell");
    same((await next(other, "message")).data, "/mount/tell ");
    same(other.protocol, "");
    await closed(other);
  },

  "a subprotocol's name that carries a token": async () => {
    const ws = make("/tell", ["x".repeat(1000), "one"]);
    same((await next(ws, "message")).data, "/mount/tell one");
    await closed(ws);
  },

  "a subprotocol that the server does not have": async () => {
    await fails(make("/echo", "three"));
    const path = `/echo?${transports}-${performance.timeOrigin}`;
    await fails(make(path, ["three", "four"]));
    // Nor does the server keep it.
    let found;
    do { found = (await (await fetch("/closures")).json()).filter(([url]) => url === `/mount${path}`); } while (!found.length);
    same(found.map((each) => each[1]), [1002]);
  },

  "constants": async () => {
    const ws = make("/echo");
    ["CONNECTING", "OPEN", "CLOSING", "CLOSED"].forEach((name, value) => {
      for (const owner of [FallbackTransport.WebSocket, FallbackTransport.WebSocket.prototype]) {
        same(Object.getOwnPropertyDescriptor(owner, name), { value, writable: false, enumerable: true, configurable: false }, name);
      }
      same(ws[name], value, name);
    });
    await next(ws, "open");
    await closed(ws);
  },

  "readyState, step by step": async () => {
    const ws = make("/echo");
    same(ws.readyState, 0);
    throws("InvalidStateError", () => ws.send("too early"), "send");
    await next(ws, "open");
    same(ws.readyState, 1);
    const event = next(ws, "close");
    same(ws.close(), undefined);
    same(ws.readyState, 2);
    ws.close();
    same(ws.send("too late"), undefined);
    await event;
    same(ws.readyState, 3);
    ws.close();
  },

  "attributes cannot be set, and are of the prototype": async () => {
    const ws = await opened();
    for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol"]) {
      throws("TypeError", () => { ws[name] = "x"; }, name);
      throws("TypeError", () => FallbackTransport.WebSocket.prototype[name], name);
    }
    same(Object.prototype.toString.call(ws), "[object WebSocket]");
    same([ws instanceof FallbackTransport.WebSocket, ws instanceof EventTarget], [true, true]);
    await closed(ws);
  },

  "every type that can be sent": async () => {
    const ws = await opened();
    const heard = listen(ws);
    ws.binaryType = "arraybuffer";
    const bytes = Uint8Array.of(0, 1, 127, 128, 255, 30, 46, 0);
    const all = [...bytes];
    for (const [sent, expected] of [
      ["text", "text"], ["", ""], ["é€😀\u0000\u001e", "é€😀\u0000\u001e"], [5, "5"], [null, "null"], [undefined, "undefined"],
      [{ toString: () => "an object" }, "an object"], ["a\ud800b\udc00", "a\ufffdb\ufffd"], ["\ud83d", "\ufffd"],
      [bytes.buffer, all], [bytes, all], [new DataView(bytes.buffer, 1, 3), [1, 127, 128]], [new Uint16Array(bytes.buffer, 2, 1), [127, 128]],
      [bytes.subarray(6), [46, 0]], [new ArrayBuffer(0), []], [new Float64Array(1), [0, 0, 0, 0, 0, 0, 0, 0]],
      [new Blob([bytes]), all], [new File(["a", "b"], "name"), [97, 98]], [new Blob([]), []],
    ]) {
      ws.send(sent);
      same(await content(await heard()), expected, Object.prototype.toString.call(sent));
    }
    throws("TypeError", () => ws.send(), "nothing");
    throws("TypeError", () => ws.send(Symbol("x")), "a symbol");
    same(await closed(ws), [1005, "", true]);
  },

  "what cannot be read is refused, or empty, and holds up nothing": async () => {
    const ws = await opened();
    const heard = listen(ws);
    ws.binaryType = "arraybuffer";
    const detached = new ArrayBuffer(3);
    const view = new Uint8Array(detached, 1);
    structuredClone(detached, { transfer: [detached] });
    for (const empty of [detached, view]) {
      ws.send(empty);
      same(await content(await heard()), [], "detached");
    }
    throws("TypeError", () => ws.send({ [Symbol.toStringTag]: "Blob" }), "no Blob");
    same(ws.bufferedAmount, 0);
    ws.send("behind");
    same(await heard(), "behind");
    same(await closed(ws), [1005, "", true]);
  },

  "what differs from a browser's own": async () => {
    const ws = await opened();
    const heard = listen(ws);
    const seen = [];
    ws.binaryType = "arraybuffer";
    ws.onmessage = () => Promise.resolve().then(() => seen.push("the promise"));
    ws.addEventListener("message", () => seen.push("the next listener"));
    const shared = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer;
    ws.send(new Uint8Array(shared, 0, 2));
    same(await content(await heard()), [0, 0], "shared");
    same(seen, ["the next listener", "the promise"]);
    ws.send(new ArrayBuffer(3, { maxByteLength: 5 }));
    same(await content(await heard()), [0, 0, 0], "resizable");
    await closed(ws);
  },

  "what is sent is what it was then": async () => {
    const ws = await opened();
    const heard = listen(ws);
    const bytes = Uint8Array.of(1, 2, 3);
    ws.send(bytes);
    bytes.fill(9);
    same(await content(await heard()), [1, 2, 3]);
    await closed(ws);
  },

  "Blobs keep their place, and close is behind them": async () => {
    const ws = await opened();
    const found = [];
    ws.onmessage = ({ data }) => found.push(data);
    ws.send("first");
    ws.send(new Blob(["x".repeat(300000)]));
    ws.send("third");
    ws.send(new Blob(["y"]));
    ws.send("fifth");
    // The server's answers come first: it closes behind them.
    ws.send("close");
    const event = await next(ws, "close");
    same([event.code, event.reason, event.wasClean], [4321, "you said so", true]);
    same(found.map((data) => data.size || data), ["first", 300000, "third", 1, "fifth"]);
  },

  "binaryType": async () => {
    const ws = await opened();
    const heard = listen(ws);
    same(ws.binaryType, "blob");
    ws.binaryType = "nonsense";
    same(ws.binaryType, "blob");
    ws.send(Uint8Array.of(1));
    same((await heard()) instanceof Blob, true);
    ws.binaryType = "arraybuffer";
    ws.send(Uint8Array.of(2));
    same((await heard()) instanceof ArrayBuffer, true);
    await closed(ws);
  },

  "bufferedAmount": async () => {
    const ws = await opened();
    const heard = listen(ws);
    same(ws.bufferedAmount, 0);
    ws.send("é");
    ws.send(new ArrayBuffer(10));
    ws.send(new Blob(["abc"]));
    same(ws.bufferedAmount, 15, "at once");
    const request = new XMLHttpRequest();
    request.open("GET", "/later", false);
    request.send();
    same(ws.bufferedAmount, 15, "after a synchronous request");
    for (let i = 0; i < 3; i++) await heard();
    same(ws.bufferedAmount, 0, "answered");
    await closed(ws);
    ws.send("1234");
    same(ws.bufferedAmount, 4, "closed");
    ws.send(new Blob(["56"]));
    same(ws.bufferedAmount, 6, "it only grows");
  },

  "close codes and reasons of the page": async () => {
    for (const [values, expected] of [
      [[], [1005, ""]], [[undefined, "no code"], [1000, "no code"]], [[undefined, ""], [1005, ""]], [[1000], [1000, ""]], [[3000, "r"], [3000, "r"]],
      [[4999, "x" + "é".repeat(61)], [4999, "x" + "é".repeat(61)]], [[3000.5, "even"], [3000, "even"]], [[4000, "\ud800"], [4000, "\ufffd"]],
    ]) {
      const ws = await opened(`/echo?${JSON.stringify(values).length}`);
      same(await closed(ws, ...values), [...expected, true], JSON.stringify(values));
    }
    const ws = await opened();
    for (const code of [0, 999, 1001, 1005, 1006, 2999, 5000, 65536 + 1000, NaN, "x", null, -1]) {
      throws("InvalidAccessError", () => ws.close(code), String(code));
    }
    throws("SyntaxError", () => ws.close(1000, "x".repeat(124)), "124 bytes");
    throws("SyntaxError", () => ws.close(1000, "é".repeat(62)), "124 bytes of UTF-8");
    same(ws.readyState, 1);
    await closed(ws);
  },

  "close codes and reasons of the server": async () => {
    for (const [code, reason] of [[1000, ""], [1001, "away"], [3000, "é"], [4999, "r".repeat(123)]]) {
      const ws = make(`/close?code=${code}&reason=${encodeURIComponent(reason)}`);
      const seen = [];
      for (const type of ["open", "message", "error", "close"]) ws.addEventListener(type, (event) => seen.push([type, event.data]));
      const event = await next(ws, "close");
      same([event.code, event.reason, event.wasClean], [code, reason, true]);
      same(seen.map(([type]) => type), ["open", "message", "close"]);
    }
  },

  "closing while connecting": async () => {
    for (const path of ["/echo", "/slow"]) {
      const ws = make(path);
      ws.close(4000, "never mind");
      same(ws.readyState, 2);
      await fails(ws, 1000);
    }
    const ws = make("/slow");
    await sleep(100);
    ws.close();
    await fails(ws, 1000);
  },

  "closed while it waits for its turn": async () => {
    const all = ["first", "second", "third"].map((name) => make(`/slow?${name}-${transports}`));
    // Only the first one has begun.
    all.slice(1).forEach((ws) => ws.close());
    await Promise.all(all.slice(1).map((ws) => fails(ws, 1000)));
    await next(all[0], "open");
    await closed(all[0]);
    await closed(await opened());
    const found = (await (await fetch("/closures")).json()).map(([url]) => url);
    same(["first", "second", "third"].map((name) => found.includes(`/mount/slow?${name}-${transports}`)), [true, false, false]);
  },

  "one connects at a time": async () => {
    const times = await Promise.all([0, 1].map(async () => {
      const ws = await opened("/slow");
      const time = performance.now();
      await closed(ws);
      return time;
    }));
    if (Math.abs(times[1] - times[0]) < 450) throw new Error(`opened at ${times}`);
  },

  "what the server ends without a close fails, and no session comes after it": async () => {
    // The next browser asks the same server.
    const page = `${transports}-${performance.timeOrigin}`;
    for (const code of [1011, 4404, 4408]) {
      const ws = await opened(`/echo?${code}-${page}`);
      ws.send(`end ${code}`);
      await fails(ws);
    }
    await sleep(200);
    const found = (await (await fetch("/closures")).json()).filter(([url]) => url.endsWith(`?4404-${page}`));
    same(found.map((each) => each[1]), [4404]);
  },

  "what the server refuses fails": () => fails(make("/refuse")),

  "where no server is it fails": () => fails(make("ws://127.0.0.1:1/mount")),

  "events are of their kinds, in their order": async () => {
    const ws = make("/burst");
    const seen = [];
    for (const type of ["open", "message", "error", "close"]) ws[`on${type}`] = (event) => seen.push(event);
    await next(ws, "open");
    while (seen.length < 21) await next(ws, "message");
    await closed(ws, 3001, "r");
    same(seen.map((event) => event.type), ["open", ...Array(20).fill("message"), "close"]);
    same(seen.slice(1, 21).map((event) => event.data), [...Array(20).keys()].map(String));
    same([seen[0].constructor, seen[1].constructor, seen[21].constructor].map((each) => each.name), ["Event", "MessageEvent", "CloseEvent"]);
    same(seen[1].origin, `ws://${HOST}`);
    for (const event of seen) same([event.target === ws, event.bubbles, event.cancelable], [true, false, false]);
  },

  "what a message's listener awaits comes before the next message": async () => {
    const ws = make("/burst");
    const seen = [];
    ws.onmessage = async ({ data }) => {
      seen.push(data);
      await null;
      seen.push(data);
    };
    while (seen.length < 40) await next(ws, "message").then(() => sleep(0));
    same(seen, [...Array(20).keys()].flatMap((number) => [String(number), String(number)]));
    await closed(ws);
  },

  "handler attributes": async () => {
    const ws = await opened();
    const seen = [];
    for (const type of ["open", "message", "error", "close"]) {
      const name = `on${type}`;
      same(ws[name], null, name);
      for (const value of [5, "text", undefined, Symbol.iterator]) {
        ws[name] = value;
        same(ws[name], null, name);
      }
      const f = () => {};
      ws[name] = f;
      same(ws[name] === f, true, name);
      ws[name] = null;
      same(ws[name], null, name);
    }
    ws.onmessage = () => seen.push("replaced");
    ws.addEventListener("message", () => seen.push("listener"));
    ws.onmessage = function () { seen.push(this === ws ? "handler" : "this"); };
    ws.send("x");
    await next(ws, "message");
    same(seen, ["handler", "listener"], "the place in which it was first set");
    await closed(ws);
  },

  "EventTarget's options": async () => {
    const ws = await opened();
    const seen = [];
    const control = new AbortController();
    const both = () => seen.push("one");
    ws.addEventListener("message", both);
    ws.addEventListener("message", both);
    ws.addEventListener("message", () => seen.push("once"), { once: true });
    ws.addEventListener("message", { handleEvent() { seen.push("object"); } });
    ws.addEventListener("message", () => seen.push("aborted"), { signal: control.signal });
    control.abort();
    const heard = listen(ws);
    ws.send("1");
    await heard();
    ws.removeEventListener("message", both);
    ws.send("2");
    await heard();
    same(seen, ["one", "once", "object", "object"]);
    await closed(ws);
  },

  "fifty at once": async () => {
    const all = [...Array(50).keys()].map((number) => make(`/echo?${number}`));
    await Promise.all(all.map(async (ws, number) => {
      await next(ws, "open");
      ws.send(`for ${number}`);
      same((await next(ws, "message")).data, `for ${number}`);
    }));
    await Promise.all(all.map((ws) => closed(ws, 1000)));
  },

  "more than a session keeps": async () => {
    const ws = await opened();
    const all = Array.from({ length: 10100 }, (_, number) => String(number));
    const answer = listen(ws);
    for (const each of all) ws.send(each);
    for (const each of all) same(await answer(), each);
    await closed(ws);
  },

  "of a frame that is removed": async () => {
    const frame = document.createElement("iframe");
    const loaded = next(frame, "load");
    document.body.append(frame);
    await loaded;
    const script = frame.contentDocument.createElement("script");
    script.src = "/mount/fallback_transport.js";
    frame.contentDocument.head.append(script);
    await next(script, "load");
    const ws = new frame.contentWindow.FallbackTransport.WebSocket(`${MOUNT}/echo`, [], { transports });
    const seen = [];
    for (const type of ["message", "error", "close"]) ws.addEventListener(type, () => seen.push(type));
    await next(ws, "open");
    frame.remove();
    same([ws.readyState, seen], [3, []]);
  },

  "in a worker": async () => {
    const code = `importScripts("${location.origin}/mount/fallback_transport.js");
      const ws = new FallbackTransport.WebSocket("${MOUNT}/echo", [], { transports: ${JSON.stringify(transports)} });
      ws.onopen = () => ws.send("x");
      ws.onmessage = ({ data }) => { postMessage(data); ws.close(); };
      ws.onclose = ({ code, wasClean }) => postMessage([code, wasClean]);`;
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    same((await next(worker, "message")).data, "x");
    same((await next(worker, "message")).data, [1005, true]);
    worker.terminate();
  },

  "what Web IDL makes of it": () => {
    const Face = FallbackTransport.WebSocket;
    const proto = Face.prototype;
    same([Face.name, Face.length, proto.send.length, proto.close.length], ["WebSocket", 1, 1, 0]);
    same([Object.getPrototypeOf(Face) === EventTarget, Object.getPrototypeOf(proto) === EventTarget.prototype], [true, true]);
    for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol", "binaryType", "onopen", "onmessage",
      "onerror", "onclose"]) {
      const { get, set, enumerable, configurable } = Object.getOwnPropertyDescriptor(proto, name);
      same([get.name, set ? set.name : "", enumerable, configurable],
        [`get ${name}`, /^(on|binary)/.test(name) ? `set ${name}` : "", true, true], name);
      throws("TypeError", () => get.call({}), name);
    }
    throws("TypeError", () => proto.send.call({}, ""), "send");
    throws("TypeError", () => proto.close.call({}, 1), "close");
    class Loud extends Face { shout() { return "!"; } }
    const ws = new Loud(`${MOUNT}/echo`, [], { transports });
    same([ws instanceof Loud, ws instanceof Face, ws instanceof EventTarget, String(ws), ws.shout(), Object.keys(ws)],
      [true, true, true, "[object WebSocket]", "!", []]);
    ws.close();
    function Old(url) { return Reflect.construct(Face, [url, [], { transports }], Old); }
    Old.prototype = Object.create(Face.prototype);
    const old = new Old(`${MOUNT}/echo`);
    same([old instanceof Old, old instanceof Face], [true, true]);
    old.close();
  },

  "put in the place of WebSocket by the page, it opens the browser's own": async () => {
    window.WebSocket = FallbackTransport.WebSocket;
    try {
      await closed(await opened());
    } finally {
      if (Native) window.WebSocket = Native; else delete window.WebSocket;
    }
  },

  "what a page defines over it is not called by it": async () => {
    class Quiet extends FallbackTransport.WebSocket {
      dispatchEvent() { throw new Error("called"); }
      addEventListener(...values) { if (values[2] !== "ours") super.addEventListener(...values); }
    }
    const ws = new Quiet(`${MOUNT}/echo`, [], { transports });
    await new Promise((resolve) => { ws.onopen = resolve; });
    await closed(ws);
  },

  "close converts its arguments in their order": async () => {
    const ws = await opened();
    const seen = [];
    const code = { valueOf: () => { seen.push("code"); return 1000; } };
    const reason = { toString: () => { seen.push("reason"); return ""; } };
    same(await closed(ws, code, reason), [1000, "", true]);
    same(seen, ["code", "reason"]);
  },

  "two installations": async () => {
    const first = FallbackTransport.install({ paths: ["/mount/tell"], transports });
    const second = FallbackTransport.install({ paths: ["/other"], transports });
    try {
      const ours = new WebSocket(`${MOUNT}/tell`);
      same((await next(ours, "message")).data, "/mount/tell ");
      same([ours instanceof WebSocket, ours instanceof FallbackTransport.WebSocket], [true, true]);
      await closed(ours);
    } finally {
      first();
      if (Native) same(new WebSocket(`${MOUNT}/tell`) instanceof FallbackTransport.WebSocket, false, "the first is undone");
      second();
    }
    same([window.WebSocket === Native, "WebSocket" in window], [true, !!Native]);
  },

  "install": async () => {
    const undo = FallbackTransport.install({ paths: ["/mount"], transports });
    try {
      const Installed = window.WebSocket;
      same(Installed === Native, false);
      const { writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(window, "WebSocket");
      same([writable, enumerable, configurable], [true, false, true], "the property");
      const ours = new Installed(`${MOUNT}/tell`);
      same((await next(ours, "message")).data, "/mount/tell ");
      same([ours instanceof Installed, ours.constructor === Installed, Installed.OPEN], [true, true, 1]);
      await closed(ours);
      for (const path of ["/mountain", "/", "/else/mount"]) {
        if (!Native) continue;
        const other = new Installed(`ws://${HOST}${path}`);
        same([other.constructor === Native, other instanceof Installed], [true, true], path);
        other.close();
      }
    } finally {
      undo();
    }
    same(window.WebSocket === Native, true);
  },
};

// Run one; gives what is wrong.
async function run(name, transport) {
  transports = [transport];
  try {
    await Promise.race([CASES[name](), sleep(8000).then(() => { throw new Error("it takes too long"); })]);
    return "";
  } catch (error) {
    return String(error.stack || error);
  }
}
