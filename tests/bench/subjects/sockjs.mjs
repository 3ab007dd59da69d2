// sockjs-node: node sockjs.mjs PORT. See __init__.py; a message is a text, its kind the first letter.

import { createServer } from "node:http";
import { createRequire } from "node:module";

const BURST = 100;

const http = createServer();
const sockjs = createRequire(import.meta.url)("sockjs").createServer({ log: () => {} });
const connections = new Set();
function fan(text) { for (const connection of connections) { connection.write(text); } }
sockjs.on("connection", (connection) => {
  connections.add(connection);
  connection.write("first");
  connection.on("data", (text) => {
    if (text[0] === "e") {
      connection.write(text);
    } else if (text[0] === "f") {
      fan(text);
    } else if (text[0] === "b") {
      for (let i = 0; i < BURST; i += 1) { fan("f" + text.slice(1)); }
    } else {
      connection.write("e");
    }
  });
  connection.on("close", () => connections.delete(connection));
});
sockjs.installHandlers(http, { prefix: "/sockjs" });
http.listen(Number(process.argv[2]), "127.0.0.1");
