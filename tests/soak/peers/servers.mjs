// The servers on Node.js: node servers.mjs socket.io|sockjs PORT OPTIONS-AS-JSON, where the options
// are {records, plan, pause}. GET /start and /stop let them send, and stop them.

import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const soak = require("../sessions.js")(null);
const [library, port] = process.argv.slice(2);
const options = JSON.parse(process.argv[4]);
const texts = JSON.parse(readFileSync(options.plan, "utf8")).down;
const SCRIPTS = {
  "socket.io": "socket.io-client/dist/socket.io.min.js",
  sockjs: "sockjs-client/dist/sockjs.min.js"
};
const script = readFileSync(new URL(`../../node_modules/${SCRIPTS[library]}`, import.meta.url));
const page = "<!doctype html><meta charset=utf-8><title>peer</title>" +
  "<link rel=icon href=data:,><script src=/client.js></script>";

let sending = false;
const known = new Set();

// A user has come, again perhaps: from the first time on there are messages for them.
function connected(name, send) {
  soak.line(name, "connect");
  if (known.has(name)) { return; }
  known.add(name);
  let number = 0;
  const timer = setInterval(() => {
    if (!sending) { clearInterval(timer); return; }
    if (number === texts.length) { return; }
    soak.message(name, "sent", "down", number, texts[number]);
    send(number, texts[number]);
    number += 1;
  }, options.pause * 1000);
}

function got(name, number, data) { soak.message(name, "got", "up", number, data); }

const server = createServer((request, response) => {
  if (request.url === "/page") {
    response.setHeader("Content-Type", "text/html");
    response.end(page);
  } else if (request.url === "/client.js") {
    response.setHeader("Content-Type", "text/javascript");
    response.end(script);
  } else if (request.url === "/start" || request.url === "/stop") {
    sending = request.url === "/start";
    response.end("{}");
  } else if (library !== "sockjs") {
    response.statusCode = 404;
    response.end();
  }
});

const servers = {
  "socket.io"() {
    const { Server } = require("socket.io");
    const io = new Server(server, {
      connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true }
    });
    io.on("connection", (socket) => {
      const name = socket.handshake.auth.session;
      socket.join(name);
      socket.on("up", (number, data) => got(name, number, data));
      connected(name, (number, data) => io.to(name).emit("down", number, data));
    });
  },

  sockjs() {
    const users = new Map();
    const echo = require("sockjs").createServer({ sockjs_url: "/client.js", log: () => {} });
    echo.on("connection", (connection) => {
      let name = null;
      connection.on("data", (text) => {
        const message = JSON.parse(text);
        if (message.session) {
          name = message.session;
          users.set(name, connection);
          connected(name, (number, data) => {
            const user = users.get(name);
            if (user) { user.write(JSON.stringify({ number, data })); }
          });
        } else {
          got(name, message.number, message.data);
        }
      });
      connection.on("close", () => {
        if (users.get(name) === connection) { users.delete(name); }
      });
    });
    echo.installHandlers(server, { prefix: "/sockjs" });
  }
};

servers[library]();
server.listen(Number(port), "127.0.0.1");
setInterval(() => appendFileSync(options.records, soak.drain()), 200);
