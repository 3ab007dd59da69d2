// Runs in the page before its own script: sessions that keep a diary, and streams of messages
// whose content is known. Modern JavaScript: only Chromium ever sees it.
window.harness = (() => {
  "use strict";

  const sessions = [];
  // For whoever looks into a failure: [milliseconds of the page, what].
  const diary = [];
  const note = (what) => { diary.push([Math.round(performance.now()), what]); };
  let requests = 0;
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (body) {
    requests += 1;
    return send.call(this, body);
  };
  if (window.WebSocket) {
    window.WebSocket = new Proxy(window.WebSocket, {
      construct: (target, values) => { note("WebSocket"); return new target(...values); }
    });
  }
  for (const type of ["online", "offline"]) { window.addEventListener(type, () => note(type)); }
  const now = () => performance.timeOrigin + performance.now();

  // A session; every event is noted with the milliseconds since connect().
  function connect(url, options) {
    const started = now();
    const events = [];
    const session = FallbackTransport.connect(url, options);
    const own = { session, events, started, stream: null };
    for (const type of ["open", "transport", "close", "error", "reset"]) {
      session.addEventListener(type, (event) => {
        const why = session.why;
        note(`${type} ${session.transport} ${why.reason}`);
        events.push({
          type, at: now() - started, id: session.id, state: session.state,
          transport: session.transport, why: why.reason, text: String(why),
          code: event.code, reason: event.reason, unconfirmed: event.unconfirmed
        });
      });
    }
    sessions.push(own);
    return sessions.length - 1;
  }

  function tell(index) {
    const { session, events, started } = sessions[index];
    const why = session.why;
    return {
      started, at: now() - started, id: session.id, state: session.state,
      transport: session.transport, why: why.reason, text: String(why), counters: session.counters, events,
      buffered: session.bufferedAmount, round_trip: session.roundTrip,
      stream: sessions[index].stream && sessions[index].stream.tell()
    };
  }

  // What payloads.py makes of the same numbers.
  function contents(plan) {
    if (!plan) { return { get: () => "x", size: () => 1, same: () => true }; }
    const bytes = Uint8Array.from(atob(plan.bytes), (letter) => letter.charCodeAt(0));
    const get = (number) => {
      const size = plan.sizes[number];
      const at = plan.offsets[number];
      if (plan.binary[number]) { return bytes.slice(at, at + size); }
      const text = plan.text.slice(at, at + size);
      return size > 8 ? plan.pair + text.slice(2) : text;
    };
    const same = (number, data) => {
      const expected = get(number);
      if (typeof expected === "string") { return data === expected; }
      if (!(data instanceof ArrayBuffer) || data.byteLength !== expected.length) { return false; }
      const got = new Uint8Array(data);
      return expected.every((byte, index) => byte === got[index]);
    };
    return { get, same, size: (number) => plan.sizes[number] };
  }

  // Numbered messages both ways. While `backlog` bytes are unconfirmed nothing more is sent.
  function stream(index, plan, up, down) {
    const own = sessions[index];
    const { session } = own;
    const sends = contents(up);
    const expects = contents(down);
    const wrong = [];
    const delays = [];
    const replies = { asked: 0, wrong: [], got: 0 };
    let sent = 0;
    let received = 0;
    let bytes = 0;
    const complain = (what) => { if (wrong.length < 20) { wrong.push(what); } };

    session.on("down", (number, data, sentAt) => {
      if (number !== received) {
        complain(`expected ${received}, got ${number}`);
      } else if (!expects.same(number, data)) {
        complain(`the content of ${number} is wrong`);
      }
      received += 1;
      bytes += typeof data === "string" ? data.length : data.byteLength;
      delays.push([now() / 1000, now() / 1000 - sentAt]);
    });

    function one() {
      const number = sent;
      const values = ["up", number, sends.get(number), now() / 1000];
      if (plan.ask_every && number % plan.ask_every === 0) {
        replies.asked += 1;
        values.push((error, reply) => {
          replies.got += 1;
          if (error || reply !== number) { replies.wrong.push([number, String(error), reply]); }
        });
      }
      session.emit(...values);
      sent += 1;
    }

    let due = now();
    const timer = setInterval(() => {
      try {
        while (sent < plan.number && due <= now() && session.bufferedAmount < plan.backlog) {
          one();
          due += 1000 / plan.rate;
        }
      } catch (error) {
        complain(`emit: ${error}`);
      }
      if (sent >= plan.number || session.state === "closed") { clearInterval(timer); }
    }, Math.min(5, 1000 / plan.rate / 2));
    own.stream = {
      timer,
      tell: () => ({ sent, received, bytes, wrong, replies }),
      delays: () => delays
    };
    session.emit("stream", plan);
  }

  // No more messages, in either direction; resolved once the server has heard of it.
  function finish(session) {
    clearInterval(sessions.find((own) => own.session === session).stream.timer);
    return new Promise((done, failed) => {
      session.emit("stop stream", null, (error) => { error ? failed(error) : done(); });
    });
  }

  return {
    connect, tell, stream, finish, diary,
    session: (index) => sessions[index].session,
    delays: (index) => sessions[index].stream.delays(),
    requests: () => requests
  };
})();
