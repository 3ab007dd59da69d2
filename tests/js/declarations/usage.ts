// What a page in TypeScript does with all of it; only type-checked. Where `@ts-expect-error`
// stands, it is an error if there is none.

import Whole, { connect, install, version, WebSocket as Socket } from "../../../static/fallback_transport.mjs";
import * as Library from "../../../static/fallback_transport.js";

const told: string = version + Whole.version + Library.version + FallbackTransport.version;

const options: Library.Options = {
  auth: () => ({ token: told }),
  transports: ["polling"],
  namespace: "/",
  withCredentials: true,
  remember: false,
  resume: true,
  timing: { hedge: 300, deaths: 2 },
};
// What may be undefined, and what is constant.
declare const perhaps: { user: string } | undefined;
connect({ auth: perhaps, transports: ["polling"] as const, timing: { retry: perhaps && 1 } });
connect({ namespace: undefined, withCredentials: undefined, remember: undefined, resume: undefined });
// @ts-expect-error: there is no such transport
connect("/fallback", { transports: ["pigeon"] });
// @ts-expect-error: there is no such option
connect({ polling: true });
// @ts-expect-error: there is no such time
connect({ timing: { patience: 1 } });

const session: Library.Session = connect("/fallback", options);
const others: Library.Session[] = [connect(), connect({ auth: {} }), connect(new URL("https://host/chat"), options), FallbackTransport.connect("/chat")];

session
  .on("chat", function (text: string, reply: Library.Reply) {
    this.emit("seen", text);
    reply({ text });
  })
  .on("message", (data) => data.byteLength)
  .off("chat")
  .emit("chat", { text: "hello", bytes: new Uint8Array(3) })
  .emit("chat", "hello", (error, reply) => {
    const code: string | number | null = error && error.code;
    return [code, reply.length];
  })
  .emit("ask", (error, ...replies) => [error, replies])
  .emit("ask", 1, "two", (error, reply: string) => [error?.code, reply.length])
  .emit("pair", 1, "two", null)
  .send("text")
  .send(new ArrayBuffer(1), (error) => error?.message)
  .send(new Uint16Array(1));
// @ts-expect-error: data that is neither text nor bytes goes by emit
session.send({ text: "hello" });
// @ts-expect-error: a name is a text
session.emit(1);
session.close();
session.close(4000, "enough");
// @ts-expect-error: a code is a number
session.close("1000");

session.onopen = (event) => [event.type === "open", event.target === session, event.id, event.resumed];
session.onclose = ({ type, code, reason, wasClean, unconfirmed, data }) => {
  const first: Library.Unconfirmed | undefined = unconfirmed[0];
  return [type === "close", code > 1000, reason.length, wasClean, first?.event, first?.data, data];
};
session.onerror = (event) => event.type === "error";
session.onreset = (event: Library.CloseEvent<"reset">) => event.unconfirmed.length;
session.ontransport = ({ transport, why }: Library.TransportEvent) => {
  const reason: Library.Reason = why.reason;
  return [transport === "polling", why.transport, reason === "half-open", why.text, why.expires, `${why}`];
};
session.ontransport = null;
const closed = (event: Library.SessionEvents["close"]) => event.code;
session.addEventListener("close", closed);
session.removeEventListener("close", closed);
session.addEventListener("open", (event) => event.id);
session.addEventListener("error", (event) => event.code);
session.addEventListener("reset", (event) => event.code);
session.addEventListener("transport", (event) => event.why.reason);
// @ts-expect-error: there is no such event
session.addEventListener("message", () => 0);

const id: string | null = session.id;
const state: "connecting" | "open" | "reconnecting" | "closed" = session.state;
const transport: Library.Transport | null = session.transport;
const figures: (number | null)[] = [
  session.bufferedAmount, session.roundTrip, session.counters.sent, session.counters.acknowledged,
  session.counters.received, session.counters.handled,
];
// @ts-expect-error: it is the session's to say
session.state = "open";

// The face is what code for a WebSocket takes.
function old(socket: WebSocket): void {
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => event.data;
  socket.addEventListener("close", (event) => event.code);
  if (socket.readyState === socket.OPEN) { socket.send(new Blob(["x"])); }
  socket.close(1000, "done");
}

old(new Socket("/chat?room=1"));
old(new Socket(new URL("wss://host/chat"), ["chat.v2", "chat.v1"]));
old(new FallbackTransport.WebSocket("wss://host/chat", "chat", options));
old(new Library.WebSocket("wss://host/chat", [], { timing: {} }));
const numbers: [0, 1, 2, 3] = [Socket.CONNECTING, Socket.OPEN, Socket.CLOSING, Socket.CLOSED];
const isOne: boolean = {} instanceof Socket;
// @ts-expect-error: a URL is needed
new Socket();

const undo: () => void = install({ paths: ["/chat", "wss://host/news"], transports: ["polling"] });
undo();
install({ paths: ["/chat"] as const, transports: undefined, timing: undefined });
// @ts-expect-error: it takes over no path that it is not told
install({});
window.WebSocket = Socket;

export { figures, id, isOne, numbers, others, state, told, transport };
