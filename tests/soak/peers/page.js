// The page of each library: as its documentation has it, with WebSocket first. Beside it, in the
// page, sessions.js, which writes down what happens. Modern JavaScript: only Chromium sees it.
window.peer = (() => {
  "use strict";

  // Each makes a connection, and gives a function that sends; what cannot be sent yet is kept by
  // the library where it does so, else here, as whoever uses it would.
  const libraries = {
    "socket.io"(name, opened, got) {
      const socket = io({
        transports: ["websocket", "polling"], tryAllTransports: true, auth: { session: name }
      });
      socket.on("connect", opened);
      socket.on("down", got);
      return (number, data) => socket.emit("up", number, data);
    },

    sockjs(name, opened, got) {
      const waiting = [];
      let sock;

      function connect() {
        sock = new SockJS("/sockjs");
        sock.onopen = () => {
          sock.send(JSON.stringify({ session: name }));
          opened();
          while (waiting.length) { sock.send(waiting.shift()); }
        };
        sock.onmessage = (event) => {
          const { number, data } = JSON.parse(event.data);
          got(number, data);
        };
        sock.onclose = () => setTimeout(connect, 1000);
      }

      connect();
      return (number, data) => {
        const text = JSON.stringify({ number, data });
        if (sock.readyState === SockJS.OPEN) { sock.send(text); } else { waiting.push(text); }
      };
    },

    fallback_transport(name, opened, got) {
      const session = FallbackTransport.connect({ auth: { session: name } });
      session.onopen = opened;
      session.on("down", got);
      return (number, data) => session.emit("up", number, data);
    }
  };

  let timer = null;

  // Connect, and send a message each `pause` seconds from now on, whatever becomes of it.
  function start({ library, name, texts, pause }) {
    let number = 0;
    soak.line(name, "start");
    const send = libraries[library](
      name,
      () => soak.line(name, "open"),
      (which, data) => soak.message(name, "got", "down", which, data)
    );
    timer = setInterval(() => {
      if (number === texts.length) { return; }
      soak.message(name, "sent", "up", number, texts[number]);
      send(number, texts[number]);
      number += 1;
    }, pause * 1000);
  }

  return { start, stop: () => { clearInterval(timer); soak.line("", "stop"); } };
})();
