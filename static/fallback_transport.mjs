// The same as a module: `import FallbackTransport from "/fallback/fallback_transport.mjs"`.
// It has no code of its own: where modules know no CommonJS, the script defines its global.
import * as script from "./fallback_transport.js";

// Not `script.default`: of a module that knows no CommonJS, a bundler refuses a name that it has not.
const found = Object(script);
// Parcel gives the script's exports themselves.
const FallbackTransport = found.default || (found.connect ? found :
  (typeof self === "undefined" ? globalThis : self).FallbackTransport);

export default FallbackTransport;
export const { connect, version, WebSocket, install } = FallbackTransport;
