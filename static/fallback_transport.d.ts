/**
 * The browser's half of fallback_transport: one session with a server, over WebSocket or long
 * polling, in which nothing is lost, repeated or reordered.
 *
 * The script defines a global `FallbackTransport`, and is a CommonJS and AMD module; for
 * `import` there is `fallback_transport.mjs`. These are the declarations of all of them.
 */

export as namespace FallbackTransport;

/** Of the library. */
export const version: string;

/**
 * Open a session with the server's mount at `url`, or above it, by default `"/fallback"` of the page's
 * own. It has no query.
 *
 * @throws SessionError where the browser lacks what it takes, for a wrong namespace, or for an `auth`
 *   that JSON cannot express
 */
export function connect(url?: string | URL, options?: Options): Session;
export function connect(options: Options): Session;

/**
 * A session as the browser's WebSocket interface: the path of `url` is, or lies below, one of the
 * server's mounts, and its handlers see path and query.
 */
export const WebSocket: {
  prototype: WebSocketInterface;
  new (url: string | URL, protocols?: string | string[], options?: Options): WebSocketInterface;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
};

type WebSocketInterface = globalThis.WebSocket;

/**
 * Put our WebSocket in the place of `window.WebSocket`, for code that cannot be changed. Only URLs
 * at or below the `paths` (paths of the page's own server, or whole URLs) go over sessions; all others get
 * the browser's own.
 *
 * @returns a function that undoes it
 */
export function install(options: InstallOptions): () => void;

export interface InstallOptions extends Options {
  paths: readonly string[];
}

/** The kind of carrying mechanism. */
export type Transport = "websocket" | "polling";

/** What may be sent as bytes; it arrives as an `ArrayBuffer`. */
export type Bytes = ArrayBuffer | ArrayBufferView;

/** See `connect`; one that is undefined is one that is not given. */
export interface Options {
  /** For the server's `client.auth`: an object, or a function that gives one for each session, not a promise. */
  auth?: object | (() => object | undefined) | undefined;
  /** Both by default. */
  transports?: readonly Transport[] | undefined;
  /** The Socket.IO namespace, by default `"/"`. */
  namespace?: string | undefined;
  /** Send cookies to a server of another origin. */
  withCredentials?: boolean | undefined;
  /** Keep the verdict on WebSocket in `localStorage`, by default `true`. */
  remember?: boolean | undefined;
  /** Go on with the session of the page before in this tab, and leave it to the next. */
  resume?: boolean | undefined;
  /** Times of the client in milliseconds, where they are to differ. */
  timing?: { [Time in keyof Timing]?: Timing[Time] | undefined } | undefined;
}

/** Milliseconds, but for `deaths`. */
export interface Timing {
  /** A WebSocket not proven by then has polling beside it; at least three round trips. */
  hedge: number;
  /** A WebSocket not proven by then is given up; at least five round trips. */
  welcome: number;
  /** WebSocket is tried again at most so long after it failed; then twice as long, and so on. */
  probe: number;
  /** And at most so long. */
  probeMax: number;
  /** A bad verdict on WebSocket is remembered for so long. */
  verdict: number;
  /** Polls are held for at most so long, if the server's `wait` is longer. */
  wait: number;
  /** Polls that a proxy cuts become shorter, and WebSockets are asked sooner, down to this. */
  minWait: number;
  /** The same while there seems to be no second connection to send on. */
  shortWait: number;
  /** And for so long. */
  shortWaitFor: number;
  /** The time after which a proxy cuts, or silences, is remembered for so long. */
  learned: number;
  /** The second retry comes after about so long, each further one after twice the time. */
  retry: number;
  /** And at most so long. */
  retryMax: number;
  /** After 1012, the server restarts, a new session begins at a random time within so long. */
  spread: number;
  /** What is not received, or not answered, by then is missed; at least four round trips. */
  alive: number;
  /** A request that is not held is given up after at most so long. */
  request: number;
  /** A held one at most so long after its `wait`. */
  margin: number;
  /** A timer that is so late means that the device slept. */
  late: number;
  /** A WebSocket that breaks within so long counts as a young death. */
  death: number;
  /** Of so long. */
  deathWindow: number;
  /** So many make WebSocket count as unstable. */
  deaths: number;
}

/** Why a transport is used: of long polling, what is known of WebSocket. */
export type Reason =
  /** Nothing is connected; the text has what the last poll was answered. */
  | "none"
  /** WebSocket is used. */
  | "works"
  /** It is still being tried. */
  | "proving"
  /** The page's options leave it out. */
  | "option"
  /** This browser has none. */
  | "unavailable"
  /** The browser refuses to open one. */
  | "threw"
  /** The handshake was refused. */
  | "refused"
  /** The handshake got no answer. */
  | "unanswered"
  /** It opened, but nothing came through it. */
  | "silent"
  /** It opened and was closed before anything came through it. */
  | "closed"
  /** WebSockets kept breaking soon after they opened. */
  | "unstable"
  /** It stopped answering. */
  | "half-open";

/** Which transport is used, and why; as a text, a sentence. */
export interface Why {
  readonly transport: Transport | null;
  readonly reason: Reason;
  readonly text: string;
  /** When a bad verdict on WebSocket expires, in milliseconds of `Date`; null for none. */
  readonly expires: number | null;
  toString(): string;
}

/** A message that the server has not confirmed: it may have been handled all the same. */
export interface Unconfirmed {
  event: string;
  /** The first value that was emitted. */
  data: unknown;
  /** All of them: `emit(event, ...values)` would send it again. */
  values: unknown[];
}

/**
 * An `Error` with a code: a close code, or of `emit` and `send` `"closed"`, `"too-large"`,
 * `"unserialisable"`, `"full"`; of `close` `"close"`; of `connect` `"unsupported"`, `"namespace"`,
 * `"unserialisable"`.
 */
export interface SessionError extends Error {
  code: string | number;
}

export interface OpenEvent {
  type: "open";
  target: Session;
  id: string;
  /** Whether it was the session of the page before. */
  resumed: boolean;
}

export interface CloseEvent<Type extends string = "close"> {
  type: Type;
  target: Session;
  code: number;
  reason: string;
  /** Closed by one side, and known to the other. */
  wasClean: boolean;
  unconfirmed: Unconfirmed[];
  /** What the application said when it refused the session. */
  data?: unknown;
}

export interface TransportEvent {
  type: "transport";
  target: Session;
  transport: Transport | null;
  why: Why;
}

/** What `addEventListener` takes. */
export interface SessionEvents {
  /** The application has accepted the session. */
  open: OpenEvent;
  /** It is over. */
  close: CloseEvent;
  /** Just before a close that neither side asked for. */
  error: CloseEvent<"error">;
  /** The server has lost the session, a new one begins by itself. */
  reset: CloseEvent<"reset">;
  /** Another transport, or another reason. */
  transport: TransportEvent;
}

/** Answers a message for which the server has asked for a reply. */
export type Reply = (...values: any[]) => void;

/** Takes the reply to a message, or why there is none. */
export type Answer = (error: SessionError | null, ...reply: any[]) => void;

/** A conversation with the server, which outlives its connections. */
export interface Session {
  /** What the server has as `client.id`; null until it is open. */
  readonly id: string | null;
  readonly state: "connecting" | "open" | "reconnecting" | "closed";
  /** What carries it; null while nothing does. */
  readonly transport: Transport | null;
  readonly why: Why;
  /** The subprotocol that the server has chosen, as a WebSocket's; else empty. */
  readonly protocol: string;
  /** Bytes that the server has not confirmed. */
  readonly bufferedAmount: number;
  /** Smoothed, in milliseconds; null while unknown. */
  readonly roundTrip: number | null;
  /** Numbers of messages: the highest sent, and of those confirmed; received, and handled. */
  readonly counters: {
    readonly sent: number;
    readonly acknowledged: number;
    readonly received: number;
    readonly handled: number;
  };

  onopen: ((event: OpenEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: CloseEvent<"error">) => void) | null;
  onreset: ((event: CloseEvent<"reset">) => void) | null;
  ontransport: ((event: TransportEvent) => void) | null;
  addEventListener<Type extends keyof SessionEvents>(
    type: Type,
    listener: (event: SessionEvents[Type]) => void,
  ): void;
  removeEventListener<Type extends keyof SessionEvents>(
    type: Type,
    listener: (event: SessionEvents[Type]) => void,
  ): void;

  /**
   * Call `listener` for each message of this name (`"message"`: the unnamed ones). If the server
   * asked, what it returns is the reply, or what the promise gives that it returns; to answer otherwise
   * it returns nothing and calls its last argument, a `Reply`.
   */
  on(name: string, listener: (this: Session, ...data: any[]) => unknown): this;
  /** No longer; without a listener, none of this name. */
  off(name: string, listener?: (this: Session, ...data: any[]) => unknown): this;
  /**
   * Send a named message: what JSON can express, with bytes anywhere in it. A function behind the data
   * is an `Answer`.
   *
   * @throws SessionError for what cannot be sent
   */
  emit(name: string, ...data: [...data: unknown[], answer: Answer]): this;
  emit(name: string, ...data: unknown[]): this;
  /**
   * Send an unnamed message.
   *
   * @throws SessionError for what cannot be sent
   */
  send(data: string | Bytes, answer?: Answer): this;
  /**
   * Close behind all that was sent; `onclose` follows.
   *
   * @param code 1000, or 3000 to 4999
   * @param reason at most 123 bytes of UTF-8
   * @throws SessionError for another code or reason
   */
  close(code?: number, reason?: string): void;
}
