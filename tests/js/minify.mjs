// How the browser file is minified where its size is told: by terser, with all names of properties
// shortened but those that somebody outside reads.

import { minify } from "terser";

// What a page calls or is told, and its options.
const INTERFACE = `
  FallbackTransport version connect
  on off emit send close addEventListener removeEventListener
  onopen onclose onerror onreset ontransport
  id state transport why roundTrip counters bufferedAmount
  type target code reason wasClean unconfirmed event data values resumed text expires
  sent acknowledged received handled
  unavailable threw half-open refused unanswered silent closed unstable option proving
  auth transports namespace withCredentials remember resume timing environment
  WebSocket install paths
  url readyState extensions protocol binaryType onmessage dispatchEvent
  CONNECTING OPEN CLOSING CLOSED
  hedge welcome probe probeMax verdict wait minWait shortWait shortWaitFor learned retry retryMax
  spread alive request margin late death deathWindow deaths
`;

// What is on the wire, as JSON, or kept in a storage.
const WIRE = `
  hello attempt nonce id key client library why url protocols protocol ack received seq got
  number wait limit commit proof ask answer
  welcome grant messages bytes message body wait keepalive inactivity
  end reason session code _placeholder num
  version machine inbox outbox commits requests sizes partial confirmed numbered held by nextId accepted packet
`;

// What belongs to the language and to the browser.
const PLATFORM = `
  module exports define amd self
  prototype constructor length apply call hasOwnProperty toString toJSON get value
  charAt charCodeAt fromCharCode indexOf slice splice split join concat push pop shift sort
  replace test exec filter map forEach some every reduce keys create defineProperties
  parse stringify min max abs floor ceil round pow random now then
  buffer byteLength byteOffset set subarray
  setTimeout clearTimeout Date Math XMLHttpRequest WebSocket localStorage sessionStorage
  top document hidden createElement href performance getEntriesByName nextHopProtocol
  crypto msCrypto getRandomValues navigator sendBeacon persisted
  online storage visibilitychange pageshow onpagehide pagehide unload
  open abort setRequestHeader getResponseHeader onreadystatechange readyState status responseText
  addEventListener removeEventListener dispatchEvent handleEvent once preventDefault
  defaultPrevented currentTarget Event CloseEvent DOMException EventTarget Reflect construct
  setPrototypeOf isPrototypeOf defineProperty configurable enumerable writable
  Symbol iterator toStringTag hasInstance from toLowerCase reduce
  URL location protocol host baseURI currentScript getAttribute MessageChannel port1 port2 postMessage
  Blob size FileReader readAsArrayBuffer onload onerror result origin
  binaryType onmessage getItem setItem removeItem
`;

// What the file has in texts as well: shortened in one place alone, they would be two names.
const TEXTS = "$ missing";

export const RESERVED = `${INTERFACE} ${WIRE} ${PLATFORM} ${TEXTS}`.trim().split(/\s+/);

const OPTIONS = {
  ecma: 5,
  compress: { passes: 3, keep_fargs: false, pure_getters: true },
  mangle: {
    properties: {
      // A name of the browser's that is none of these lists' is ours.
      builtins: true,
      reserved: RESERVED,
    },
  },
};

export async function minified(source) { return (await minify(source, OPTIONS)).code; }
