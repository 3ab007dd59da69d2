// A small server that speaks PROTOCOL.md, written from it and not from the file under test, with
// its own codec. It checks what a client may not do and throws for it: `server.faults`.
//
// Above it a small application in terms of Socket.IO packets: it accepts every session, notes
// what comes in `session.events`, and sends with `session.emit`.

const SEPARATOR = "\x1e";
const END_MARK = `${SEPARATOR}.`;

export const GRANT = {
  messages: 1000, bytes: 4_000_000, message: 16_000_000, body: 1_000_000,
  wait: 25_000, keepalive: 25_000, inactivity: 120_000,
};

const STATUS = { 4400: 400, 1002: 400, 4403: 403, 4413: 413, 4421: 421, 4426: 426, 1012: 503, 1013: 503 };

// --- The bytes ---------------------------------------------------------------------

function decodeItem(segment) {
  const content = segment.slice(1);
  switch (segment[0]) {
    case "m": return content;
    case "e": return JSON.parse(content);
    case "b": return Uint8Array.from(Buffer.from(content, "base64"));
    case "p": {
      const [, offset, total, inner] = /^(\d+)\/(\d+),([^]*)$/.exec(content);
      return checkedPart({ part: decodeItem(inner), offset: Number(offset), total: Number(total) });
    }
    case "c": {
      const [code, reason] = JSON.parse(content);
      return { close: [code, reason] };
    }
    default: throw new Error(`a segment of kind ${segment[0]}`);
  }
}

function checkedPart(item) {
  if (!item.part.length || item.offset + item.part.length > item.total) throw new Error("a part that does not fit");
  return item;
}

function encodeItem(item) {
  if (item.part) return `p${item.offset}/${item.total},${encodeItem(item.part)}`;
  if (item instanceof Uint8Array) return `b${Buffer.from(item).toString("base64")}`;
  if (typeof item !== "string") return `c${JSON.stringify(item.close)}`;
  return item.includes(SEPARATOR) ? `e${JSON.stringify(item)}` : `m${item}`;
}

// {hello…} or {a, r, g, s, c, k, q, p, i, t, n, w, b}, and the items.
export function decode(text) {
  const [head, ...segments] = text.split(SEPARATOR);
  const items = segments.map(decodeItem);
  if (head[0] === "{") return { ...JSON.parse(head), items };
  const unit = { items };
  for (const token of head.split(" ")) {
    const value = token.slice(1);
    if (token[0] in unit) throw new Error(`twice in a head: ${head}`);
    if (!"ik".includes(token[0]) && !/^(0|[1-9]\d{0,14})$/.test(value)) throw new Error(`a head: ${head}`);
    unit[token[0]] = "ik".includes(token[0]) ? value : Number(value);
  }
  if (!("a" in unit) || ("s" in unit) !== items.length > 0) throw new Error(`a head: ${head}`);
  unit.r ??= unit.a;
  return unit;
}

export function decodeBody(body) {
  if (!body.endsWith(END_MARK)) throw new Error("a request without its end mark");
  return decode(body.slice(0, -END_MARK.length));
}

function decodeFrame(data) {
  if (typeof data === "string") return decode(data);
  const at = data.indexOf(0x1e);
  const head = Buffer.from(data.subarray(0, at)).toString("latin1");
  const { o: offset, u: total, ...unit } = decode(`${head}${SEPARATOR}m`);
  const bytes = data.subarray(at + 1);
  return { ...unit, items: [total === undefined ? bytes : checkedPart({ part: bytes, offset, total })] };
}

function tokens(values) {
  return Object.entries(values).filter(([, value]) => value !== undefined)
    .map(([letter, value]) => letter + value).join(" ");
}

const text = (head, items = []) => [head, ...items.map(encodeItem)].join(SEPARATOR);

// --- One session -------------------------------------------------------------------

// Whether a hello is the same as one with its nonce; it may be without the message.
function saysAgain(hello, known) {
  const [one, other] = [hello, known].map(({ client: { why, ...client } = {}, items }) =>
    [JSON.stringify(client), items.length ? JSON.stringify(items) : null]);
  return one[0] === other[0] && (!one[1] || !other[1] || one[1] === other[1]);
}

class Session {
  constructor(server, hello) {
    this.server = server;
    this.id = `${server.tag}.${++server.count}`;
    this.key = `key${server.count}`;
    this.nonce = hello.nonce;
    this.hello = hello;
    this.sent = [];
    this.confirmed = 0;
    this.peer = 0;
    // How many units of the next message the client has, and what there is here of the client's.
    this.peerGot = 0;
    this.partial = null;
    this.received = 0;
    this.handled = 0;
    // What of that the last answer to a poll has said.
    this._stated = 0;
    this.messages = [];
    this.events = [];
    this.replies = [];
    this.connects = [];
    // While true, nothing is handled: marks say received, and not handled.
    this.holds = false;
    this.connections = new Map();
    this.carrier = null;
    this.commit = 0;
    this.switches = [];
    this.over = null;
    this.closing = null;
    this._packet = null;
    // How many messages the last packet has that came while nothing was to be handled.
    this._alone = 1;
    this._number = 0;
  }

  // -- The application ---------------------------------------------------------------

  push(...items) {
    if (this.over || this.closing) return;
    this.sent.push(...items);
    this.flush();
  }

  // Send an event; Uint8Arrays among the values go as attachments.
  emit(name, ...values) { this._packetOut("2", "5", "", [name, ...values]); }

  ask(id, name, ...values) { this._packetOut("2", "5", id, [name, ...values]); }

  reply(id, ...values) { this._packetOut("3", "6", id, values); }

  _packetOut(plain, binary, id, values) {
    const found = [];
    const json = JSON.stringify(values, (key, value) => {
      if (!(value instanceof Uint8Array)) return value;
      found.push(value);
      return { _placeholder: true, num: found.length - 1 };
    });
    this.push(`${found.length ? `${binary}${found.length}-` : plain}${id}${json}`, ...found);
  }

  close(code = 1000, reason = "") {
    if (this.over || this.closing) return;
    this.push({ close: [code, reason] });
    this.closing = { by: "server", code, reason };
  }

  // At once, outside the numbering.
  end(code, reason = "") {
    if (this.over) return;
    this.over = { end: code, reason, session: true, ack: this.handled, received: this.received };
    for (const connection of this.connections.values()) {
      if (connection.socket) {
        connection.socket.send(JSON.stringify(this.over));
        connection.socket.close(1000);
      }
      this._answerHeld(connection, this.over);
    }
    this.connections.clear();
    this.carrier = null;
  }

  handle() {
    this._handled();
    this.flush();
  }

  // Packets are handled whole.
  _handled() {
    const parts = this._packet ? 1 + this._packet.attachments.length : 0;
    this.handled = Math.max(this.handled, this.received - parts);
  }

  // -- What arrives --------------------------------------------------------------------

  // Throws 1002 for a gap, and ends the session for an impossible mark.
  take(unit) {
    const received = unit.received ?? unit.r;
    const ack = unit.ack ?? unit.a;
    const seq = unit.seq ?? unit.s;
    if (ack > received) throw new Error("handled more than was received");
    if (received > this.sent.length) {
      this.server.fault(`an impossible mark: ${received} of ${this.sent.length}`);
      this.end(1002, "an impossible mark");
      return;
    }
    const got = unit.got ?? unit.g ?? 0;
    if (got && received >= this.peer && got >= (this.sent[received]?.length ?? 0)) {
      this.server.fault(`an impossible mark: ${got} units of ${received + 1}`);
    }
    this.confirmed = Math.max(this.confirmed, ack);
    if (received > this.peer) this.peerGot = 0;
    this.peer = Math.max(this.peer, received);
    if (received === this.peer) this.peerGot = Math.max(this.peerGot, got);
    if (seq !== undefined && seq > this.received + 1) {
      this.server.gaps.push(`${seq} after ${this.received}`);
      throw Object.assign(new Error("a gap"), { code: 1002 });
    }
    unit.items.forEach((found, index) => {
      if (seq + index !== this.received + 1 || this._closedByClient) return;
      const item = found.part ? this._assembled(found, index) : found;
      if (!item) return;
      this.partial = null;
      this.received += 1;
      if (item.close) this._closedByClient = item.close;
      else if (!this.closing) this._message(item);
    });
    // Replies and the close are outside the credit, and one event is always allowed.
    const pending = this.received - this.handled - this.replies.length;
    if (pending > Math.max(this._alone, this.server.grant.messages) + (this._closedByClient ? 1 : 0)) {
      this.server.fault(`${pending} messages beyond what was granted`);
    }
    if (!this.holds) this._handled();
    if (this._closedByClient && this.handled === this.received) {
      const [code, reason] = this._closedByClient;
      if (this.closing) this.end(this.closing.code, this.closing.reason);
      else this.end(code, reason);
    } else if (this.closing && this.confirmed === this.sent.length) {
      this.end(this.closing.code, this.closing.reason);
    }
  }

  // The message, once the last of its parts has come.
  _assembled({ part, offset, total }, index) {
    const isText = typeof part === "string";
    const partial = this.partial ?? { got: 0, total, isText, pieces: [] };
    if (partial.total !== total || partial.isText !== isText) this.server.fault("parts of two messages");
    if (offset > partial.got) {
      if (index) this.server.fault("a part that does not begin with its message, and is not the first");
      this.server.gaps.push(`unit ${offset} after ${partial.got}`);
      throw Object.assign(new Error("a gap"), { code: 1002 });
    }
    const fresh = part.slice(partial.got - offset);
    partial.pieces.push(fresh);
    partial.got += fresh.length;
    this.partial = partial;
    this.server.parts += 1;
    if (partial.got < total) return null;
    return isText ? partial.pieces.join("") : Uint8Array.from(Buffer.concat(partial.pieces));
  }

  // The marks, as tokens have them.
  marks() {
    return {
      a: this.handled, r: this.received === this.handled ? undefined : this.received,
      g: this.partial?.got || undefined,
    };
  }

  // What goes out of message `seq` from `offset` on: all of it, or a part.
  _portion(seq, offset) {
    const item = this.sent[seq - 1];
    if (item.close || (!offset && item.length <= this.server.piece)) return item;
    let end = offset + this.server.piece;
    if (typeof item === "string" && /[\udc00-\udfff]/.test(item[end])) end -= 1;
    return { part: item.slice(offset, end), offset, total: item.length };
  }

  _message(item) {
    this.messages.push(item);
    if (item instanceof Uint8Array) {
      if (!this._packet) return this.server.fault("an attachment without its packet");
      this._packet.attachments.push(item);
    } else {
      if (this._packet) return this.server.fault("a packet where an attachment was announced");
      const [, type, count = 0, id, json] = /^(\d)(?:(\d+)-)?(?:\/[^,]*,)?(\d*)([^]*)$/.exec(item);
      this._packet = { type, count: Number(count), id, json, attachments: [] };
      if (this.received - this.handled === 1) this._alone = 1 + this._packet.count;
    }
    if (this._packet.attachments.length < this._packet.count) return;
    const { type, id, json, attachments } = this._packet;
    this._packet = null;
    const data = json && JSON.parse(json, (key, value) =>
      value && value._placeholder ? attachments[value.num] : value);
    if (type === "0") {
      this.connects.push(data || null);
      this.server.onconnect(this, data);
    } else if (type === "2" || type === "5") {
      this.events.push(data);
      this.server.onevent(this, data, id);
    } else {
      this.replies.push([type, Number(id), data]);
    }
  }

  // -- Connections -----------------------------------------------------------------------

  greet(hello, socket, key) {
    let connection = this.connections.get(hello.attempt);
    if (!connection || socket) {
      connection = {
        attempt: hello.attempt, socket, commit: 0, next: 1, unit: 0, held: null, highest: 0, stated: "",
        keyless: hello.id === undefined && key === null,
      };
      this.connections.set(hello.attempt, connection);
    }
    this.take(hello);
    if (this.over) return this.over;
    const candidates = [...this.connections.values()].filter((each) => !each.commit);
    if (candidates.length > 3) this._drop(candidates[0], 4429);
    connection.next = this.peer + 1;
    connection.unit = this.peerGot;
    const welcome = {
      welcome: 1, id: this.id, attempt: hello.attempt, key: key ?? undefined,
      grant: this.server.grant, ack: this.handled, received: this.received, got: this.partial?.got,
    };
    const items = socket || this.carrier || connection.keyless || this.peerGot ? [] : this.sent.slice(this.peer);
    const large = items.findIndex((item) => item.length > this.server.piece);
    if (large >= 0) items.length = large;
    return text(JSON.stringify({ ...welcome, seq: items.length ? this.peer + 1 : undefined }), items);
  }

  _drop(connection, code) {
    this.connections.delete(connection.attempt);
    if (this.carrier === connection) this.carrier = null;
    if (connection.socket) connection.socket.close(code);
    this._answerHeld(connection, this.superseded());
  }

  superseded() {
    return { end: 4409, reason: "superseded", session: false, ack: this.handled, received: this.received };
  }

  // Whether the connection goes on.
  committed(connection, unit) {
    if (unit.c === undefined || unit.c <= connection.commit) return true;
    if (connection.keyless && unit.k !== this.key) {
      this.server.fault("a commit that proves no key");
      this._drop(connection, 4404);
      return false;
    }
    if (unit.c <= this.commit) {
      this._drop(connection, 4409);
      return false;
    }
    this.commit = connection.commit = unit.c;
    const before = this.carrier;
    this.carrier = connection;
    this.switches.push(connection.socket ? "websocket" : "polling");
    if (before && before !== connection) this._drop(before, 4409);
    return true;
  }

  detach(connection) {
    if (this.connections.get(connection.attempt) !== connection) return;
    this.connections.delete(connection.attempt);
    if (this.carrier === connection) this.carrier = null;
  }

  // -- Polls ---------------------------------------------------------------------------

  request(unit, respond) {
    if (unit.n <= this._number && unit.w === undefined) this.server.repeats += 1;
    this._number = Math.max(this._number, unit.n);
    let connection = this.connections.get(unit.t);
    if (!connection && unit.c > this.commit && !this.over) {
      connection = { attempt: unit.t, socket: null, commit: 0, next: 1, unit: 0, held: null, highest: 0, stated: "" };
      this.connections.set(unit.t, connection);
    }
    if (connection) connection.keyless = false;
    this.take(unit);
    if (this.over) return respond(this.over);
    if (!connection || !this.committed(connection, unit) || connection !== this.carrier) {
      return respond(this.superseded());
    }
    if (unit.w === undefined) {
      respond(this._answer(connection, false));
      return this.flush();
    }
    if (unit.items.length) this.server.fault("messages on a waiting request");
    this._wait(connection, unit, respond);
    this.flush();
  }

  _wait(connection, unit, respond) {
    const { held } = connection;
    if (held && unit.n === held.number) {
      held.responds.push(respond);
      return;
    }
    if (unit.n < connection.highest) {
      respond(this._answer(connection, false));
      return;
    }
    connection.highest = unit.n;
    this._answerHeld(connection, this._answer(connection, false));
    const mine = { number: unit.n, responds: [respond], limit: unit.b };
    connection.held = mine;
    mine.timer = this.server.clock.schedule(Math.min(unit.w, this.server.grant.wait), () => {
      this._answerHeld(connection, this._answer(connection, true));
    }, "server");
  }

  _answerHeld(connection, unit) {
    const { held } = connection;
    if (!held) return;
    connection.held = null;
    this.server.clock.cancel(held.timer);
    for (const respond of held.responds) respond(unit);
  }

  _answer(connection, waiting) {
    let items = [];
    this._stated = this.handled;
    if (waiting) {
      let room = connection.held.limit ?? Infinity;
      for (let seq = this.peer + 1; seq <= this.sent.length; seq++) {
        const item = this._portion(seq, seq === this.peer + 1 ? this.peerGot : 0);
        const data = item.part ?? item;
        room -= typeof data === "string" ? Buffer.byteLength(data) : data.length || 0;
        if (items.length && room < 0) break;
        items.push(item);
        if (item.part && item.offset + item.part.length < item.total) break;
      }
    }
    return text(tokens({ ...this.marks(), s: items.length ? this.peer + 1 : undefined }), items);
  }

  // -- Sending -----------------------------------------------------------------------------

  sender() {
    if (this.carrier) return this.carrier;
    return [...this.connections.values()].filter((each) => each.greeted && !each.keyless).pop() || null;
  }

  flush() {
    const sender = this.sender();
    if (!sender) return;
    if (!sender.socket) {
      const granted = this.handled - this._stated;
      if (sender.held && (this.sent.length > this.peer || (granted && granted >= this.server.grant.messages >> 1))) {
        this._answerHeld(sender, this._answer(sender, true));
      }
      return;
    }
    if (sender.next <= this.peer) Object.assign(sender, { next: this.peer + 1, unit: 0 });
    if (sender.next === this.peer + 1) sender.unit = Math.max(sender.unit, this.peerGot);
    const marks = this.marks();
    const stated = tokens(marks);
    const run = [];
    const endRun = () => {
      if (!run.length) return;
      sender.socket.send(text(tokens({ ...marks, s: sender.next - run.length }), run));
      run.length = 0;
      sender.stated = stated;
    };
    while (sender.next <= this.sent.length) {
      const item = this._portion(sender.next, sender.unit);
      const data = item.part ?? item;
      const unfinished = item.part && item.offset + item.part.length < item.total;
      if (data instanceof Uint8Array) {
        endRun();
        const place = item.part ? { o: item.offset, u: item.total } : {};
        const head = tokens({ ...marks, s: sender.next, ...place });
        sender.socket.send(Buffer.concat([Buffer.from(head + SEPARATOR), data]));
        sender.stated = stated;
      } else if (unfinished) {
        endRun();
        sender.socket.send(text(tokens({ ...marks, s: sender.next }), [item]));
        sender.stated = stated;
      } else {
        run.push(item);
      }
      if (unfinished) {
        sender.unit = item.offset + item.part.length;
        continue;
      }
      sender.next += 1;
      sender.unit = 0;
    }
    endRun();
    if (sender.stated !== stated) {
      sender.stated = stated;
      sender.socket.send(stated);
    }
  }
}

// --- The server ---------------------------------------------------------------------

export class FakeServer {
  constructor(clock, { grant = {} } = {}) {
    this.clock = clock;
    this.grant = { ...GRANT, ...grant };
    this.tag = "a";
    this.count = 0;
    this.sessions = new Map();
    // Those of processes that are no more.
    this.buried = [];
    this.faults = [];
    this.gaps = [];
    this.repeats = 0;
    // Messages of more units go in parts; how many parts have come.
    this.piece = Infinity;
    this.parts = 0;
    this.hellos = [];
    // What it refuses every hello with, if anything: {end, reason, session, headers}.
    this.refuses = null;
    this.asks = true;
    this.onconnect = (session) => session.push(`0{"sid":"${session.id}"}`);
    this.onevent = () => {};
  }

  fault(what) { this.faults.push(what); }

  get session() { return [...this.sessions.values()].pop(); }

  // Another process from now on: it knows no session, and says so (or does not even that).
  restart({ tag = `${this.tag}x` } = {}) {
    for (const session of this.sessions.values()) {
      for (const connection of session.connections.values()) {
        if (connection.socket) connection.socket.close(1012);
      }
    }
    this.tag = tag;
    this.buried.push(...this.sessions.values());
    this.sessions.clear();
  }

  _find(id, key) {
    const session = this.sessions.get(id);
    if (session && session.key === key) return session.over || session;
    if (!String(id).startsWith(`${this.tag}.`)) return { end: 4421, reason: "another's", session: false };
    return { end: 4404, reason: "no such session", session: true };
  }

  // A text, or an end.
  _greet(hello, socket) {
    this.hellos.push({ ...hello, transport: socket ? "websocket" : "polling", at: this.clock.now });
    if (this.refuses) return this.refuses;
    let session;
    let key = null;
    if (hello.id !== undefined) {
      session = this._find(hello.id, hello.key);
      if (!(session instanceof Session)) return session;
    } else {
      session = hello.nonce && [...this.sessions.values()].find((each) => each.nonce === hello.nonce);
      if (!session) {
        session = new Session(this, hello);
        this.sessions.set(session.id, session);
      }
      if (!saysAgain(hello, session.hello)) {
        return { end: 4400, reason: "a nonce that is in use, with another hello", session: false };
      }
      if (session.over) return session.over;
      if (!session.commit) key = session.key;
    }
    return session.greet(hello, socket, key);
  }

  _refuse(respond, end) {
    const status = end.session ? 200 : STATUS[end.end] ?? 200;
    const { headers = {}, ...rest } = end;
    respond(status, JSON.stringify(rest) + END_MARK, headers);
  }

  // A POST; `respond(status, text, headers)` is called once.
  poll(body, respond, headers = {}) {
    if (headers["content-type"] !== "text/plain;charset=UTF-8") this.fault("a content type");
    const give = (unit) => typeof unit === "string" ? respond(200, unit + END_MARK, {}) : this._refuse(respond, unit);
    let unit;
    try {
      unit = decodeBody(body);
    } catch (error) {
      this.fault(`${error.message}: ${body.slice(0, 200)}`);
      return give({ end: 4400, reason: "malformed", session: false });
    }
    if (Buffer.byteLength(body) > this.grant.body) return give({ end: 4413, reason: "too large", session: false });
    try {
      if (unit.hello) return give(this._greet(unit, null));
      const session = this._find(unit.i, unit.k);
      if (!(session instanceof Session)) return give(session);
      session.request(unit, give);
    } catch (error) {
      if (!error.code) throw error;
      give({ end: error.code, reason: error.message, session: false });
    }
  }

  // A WebSocket: what to call for what comes on it.
  socket({ send, close }) {
    let session = null;
    let connection = null;
    const socket = { send, close };
    return {
      message: (data) => {
        let unit;
        try {
          unit = decodeFrame(data);
        } catch (error) {
          this.fault(`${error.message}: ${String(data).slice(0, 200)}`);
          close(4400);
          return;
        }
        if (unit.hello) {
          const answer = this._greet(unit, socket);
          if (typeof answer !== "string") {
            const { headers, ...end } = answer;
            send(JSON.stringify(end));
            close(end.session ? 1000 : end.end);
            return;
          }
          send(answer);
          session = [...this.sessions.values()].find((each) =>
            [...each.connections.values()].some((found) => found.socket === socket));
          connection = session.connections.get(unit.attempt);
          connection.greeted = true;
          session.flush();
          return;
        }
        if (!connection || session.over || session.connections.get(connection.attempt) !== connection) return;
        try {
          session.take(unit);
        } catch (error) {
          send(JSON.stringify({ end: error.code, reason: error.message, session: false }));
          close(error.code);
          session.detach(connection);
          return;
        }
        if (session.over || !session.committed(connection, unit)) return;
        if (unit.q !== undefined && this.asks) {
          send(tokens({ ...session.marks(), p: unit.q }));
        }
        session.flush();
      },
      closed: () => { if (connection) session.detach(connection); },
    };
  }
}
