// A floor, Node's ws: node ws.mjs PORT. See __init__.py; a message's kind is its first letter.

import { createRequire } from "node:module";

const { WebSocketServer, WebSocket } = createRequire(import.meta.url)("ws");
const BURST = 100;

const server = new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1" });
function fan(text) {
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) { client.send(text); }
  }
}
server.on("connection", (client) => {
  client.send("first");
  client.on("message", (data) => {
    const text = data.toString();
    if (text[0] === "e") {
      client.send(text);
    } else if (text[0] === "f") {
      fan(text);
    } else if (text[0] === "b") {
      for (let i = 0; i < BURST; i += 1) { fan("f" + text.slice(1)); }
    } else {
      client.send("e");
    }
  });
});
