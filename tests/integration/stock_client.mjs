// Stock Socket.IO clients (npm's socket.io-client), driven by tests/integration/test_stock_clients.py.
//
// One JSON object a line, both ways. In: {id, client, do, …}, answered with {id, value} or
// {id, error}; `do` is the name of a command below. Out, unasked: {client, event: [name, …data]},
// where "connect", "connect_error", "disconnect" and "upgrade" are the client's own.
// Bytes are {"$bytes": base64} in both directions.

import { createInterface } from "node:readline";

import { io } from "socket.io-client";

const clients = new Map();

function tell(line) {
  process.stdout.write(JSON.stringify(packed(line)) + "\n");
}

function packed(value) {
  if (Buffer.isBuffer(value)) { return { $bytes: value.toString("base64") }; }
  if (value instanceof ArrayBuffer) { return packed(Buffer.from(value)); }
  if (Array.isArray(value)) { return value.map(packed); }
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, packed(each)]));
  }
  return value;
}

function unpacked(value) {
  if (Array.isArray(value)) { return value.map(unpacked); }
  if (value && typeof value === "object") {
    if (typeof value.$bytes === "string") { return Buffer.from(value.$bytes, "base64"); }
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, unpacked(each)]));
  }
  return value;
}

const commands = {
  // {url, options}: opens a client; its "connect" event says when it is there.
  open({ client, url, options }) {
    const socket = io(url, { reconnection: false, forceNew: true, ...options });
    clients.set(client, socket);
    const report = (...event) => tell({ client, event });
    socket.on("connect", () => {
      report("connect", socket.id, socket.io.engine.transport.name);
      socket.io.engine.on("upgrade", (transport) => report("upgrade", transport.name));
    });
    socket.on("connect_error", (error) => report("connect_error", error.message, error.data ?? null));
    socket.on("disconnect", (reason) => report("disconnect", reason));
    socket.onAny((name, ...data) => {
      // Whatever asks is answered, a "question" with what it asked.
      const answer = typeof data.at(-1) === "function" ? data.pop() : null;
      report(name, ...data);
      if (answer) { answer(...(name === "question" ? data : [])); }
    });
  },
  emit: ({ client, data }) => void clients.get(client).emit(...data),
  call: ({ client, data, timeout }) => clients.get(client).timeout(timeout).emitWithAck(...data),
  transport: ({ client }) => clients.get(client).io.engine.transport.name,
  disconnect: ({ client }) => void clients.get(client).disconnect(),
  // The network's end, without a word to the server.
  cut: ({ client }) => void clients.get(client).io.engine.transport.ws.terminate(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = unpacked(JSON.parse(line));
  // Not awaited: the next command may be what this one waits for.
  Promise.resolve().then(() => commands[command.do](command)).then(
    (value) => tell({ id: command.id, value: value ?? null }),
    (error) => tell({ id: command.id, error: String(error) }),
  );
}
process.exit(0);
