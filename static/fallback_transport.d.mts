// What TypeScript looks for beside fallback_transport.mjs.
import * as FallbackTransport from "./fallback_transport.js";

export default FallbackTransport;
export * from "./fallback_transport.js";
