// Many sessions in one process: node node_sessions.mjs PLAN-AS-JSON.
//
// The plan: {origins, sessions, seed, rate, records, life}. Each session lives in a browser of its
// own, behind one of the paths; every other one is closed after some time (`life`: seconds, from
// and to), and its browser opens the next. A line "finish" on stdin ends them all; a last line on
// stdout tells that they have ended. What no handler has caught ends the process with 1.

import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { FallbackTransport as library } from "../js/core.mjs";
import { browser, storage } from "./network.mjs";

const require = createRequire(import.meta.url);
const soak = require("./sessions.js")(() => library);
const plan = JSON.parse(process.argv[2]);

// Probes soon and often, and no verdict "unstable": transports change all the time.
const RESTLESS = { probe: 500, probeMax: 2000, deaths: 1000000 };
// How a browser differs from the next one.
const KINDS = [{}, { timing: RESTLESS }, { websocket: false }, {}, { timing: RESTLESS }];

let finishing = false;
let open = 0;
const slots = [];

class Slot {
  constructor(number) {
    this.number = number;
    this.path = number % plan.origins.length;
    this.kind = KINDS[Math.floor(number / plan.origins.length) % KINDS.length];
    this.storage = storage();
    this.generation = 0;
    this.talk = null;
    this.timer = null;
    this.die = soak.dice(`${plan.seed} life ${number}`);
    this.open();
  }

  open() {
    const name = `p${this.path}.n${this.number}.${this.generation++}`;
    const origin = plan.origins[this.path];
    const own = browser(origin, { storage: this.storage, websocket: this.kind.websocket !== false });
    const options = { environment: own };
    if (this.kind.timing) { options.timing = this.kind.timing; }
    open += 1;
    this.talk = soak.open({ name, seed: plan.seed, rate: plan.rate, url: "/fallback", options }, () => {
      this.talk = null;
      open -= 1;
      own.leave();
      if (!finishing) { this.open(); }
    });
    if (this.number % 2) {
      const [from, to] = plan.life;
      this.timer = setTimeout(() => this.talk.finish(), (from + this.die() * (to - from)) * 1000);
    }
  }

  finish() {
    clearTimeout(this.timer);
    if (this.talk) { this.talk.finish(); }
  }
}

function write() { appendFileSync(plan.records, soak.drain()); }

soak.watch();
for (let number = 0; number < plan.sessions; number++) { slots.push(new Slot(number)); }
setInterval(write, 500);
createInterface({ input: process.stdin }).on("line", () => {
  finishing = true;
  for (const slot of slots) { slot.finish(); }
  setInterval(() => {
    if (open) { return; }
    write();
    process.stdout.write(JSON.stringify(soak.repeats) + "\n");
    process.exit(0);
  }, 50);
});
