// Socket.IO on Node.js: node socket_io.mjs PORT. See __init__.py.

import { createServer } from "node:http";
import { createRequire } from "node:module";

const { Server } = createRequire(import.meta.url)("socket.io");
const BURST = 100;

const http = createServer();
// 1 MB with its frame is more than the default takes.
const io = new Server(http, { maxHttpBufferSize: 4e6 });
io.on("connection", (socket) => {
  socket.emit("first", "");
  socket.on("echo", (data) => socket.emit("echo", data));
  socket.on("fan", (data) => io.emit("fan", data));
  socket.on("burst", (data) => {
    for (let i = 0; i < BURST; i += 1) { io.emit("fan", data); }
  });
  socket.on("sink", () => socket.emit("echo", ""));
});
http.listen(Number(process.argv[2]), "127.0.0.1");
