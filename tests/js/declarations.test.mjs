// The declarations say what there is, and the module is the script.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { core, FallbackTransport } from "./core.mjs";
import { Page } from "./page.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const STATIC = path.join(HERE, "..", "..", "static");
const TSC = path.join(HERE, "..", "node_modules", "typescript", "bin", "tsc");
const FLAGS = [
  "--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler",
  "--lib", "es2022,dom", "--types", "", "--noUnusedLocals", "--exactOptionalPropertyTypes",
  "--allowUmdGlobalAccess",
];
// Of the tests, of the face of WebSocket, and not for pages.
const INTERNAL = ["environment", "paths"];

async function check(...files) {
  try {
    await promisify(execFile)(process.execPath, [TSC, ...FLAGS, ...files]);
    return "";
  } catch (error) {
    return error.stdout || String(error);
  }
}

const named = (names) => [...new Set(names)].filter((name) => !/^_/.test(name)).sort();

// Every public name that there is when it runs, by the type that should have it.
function names() {
  const page = new Page();
  page.opened();
  const { session } = page;
  const heard = Object.fromEntries(page.heard);
  page.session.close(4000);
  page.until(() => page.count("close"), "closed");
  const source = fs.readFileSync(path.join(STATIC, "fallback_transport.js"), "utf8");
  const options = [...source.matchAll(/\b_?options\.(\w+)/g)].map(([, name]) => name);
  const reasons = Object.keys(new Function(`return ${/SENTENCES = (\{[^]*?\n  \})/.exec(source)[1]}`)());
  return {
    "typeof Library": Object.keys(FallbackTransport),
    "Library.Session": Object.getOwnPropertyNames(session),
    "Library.Session[\"counters\"]": Object.keys(session.counters),
    "Library.Timing": Object.keys(core.TIMING),
    "Library.Options": options.filter((name) => !INTERNAL.includes(name)),
    "Library.Why": ["toString", ...Object.keys(session.why)],
    "Record<Library.Reason, 0>": ["none", "works", ...reasons],
    "Library.OpenEvent": Object.keys(heard.open),
    "Library.TransportEvent": Object.keys(heard.transport),
    "Omit<Library.CloseEvent, \"data\">": Object.keys(page.last("close")),
    // What every EventTarget has comes from there.
    "Omit<WebSocket, keyof EventTarget>": Object.getOwnPropertyNames(FallbackTransport.WebSocket.prototype)
      .filter((name) => name !== "constructor"),
    "typeof Library.WebSocket": ["prototype", ...Object.keys(FallbackTransport.WebSocket)],
    "Library.SessionEvents": ["open", "close", "error", "reset", "transport"],
  };
}

// A file that has an error for each name that is only on one side.
function comparison() {
  const lines = [`import * as Library from ${JSON.stringify(path.join(STATIC, "fallback_transport.js"))};`];
  lines.push("type Only<A, B> = [Exclude<A, B>, Exclude<B, A>];", "const same: [never, never][] = [];");
  for (const [type, found] of Object.entries(names())) {
    const literals = named(found).map((name) => JSON.stringify(name)).join(" | ");
    lines.push(`same.push(null! as Only<keyof (${type}), ${literals}>);`);
  }
  return lines;
}

async function checked(lines) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "declarations-"));
  try {
    fs.writeFileSync(path.join(folder, "names.ts"), lines.join("\n"));
    return await check(path.join(folder, "names.ts"));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

test("a page in TypeScript can use all of it, and nothing else", async () => {
  assert.equal(await check(path.join(HERE, "declarations", "usage.ts")), "");
});

test("the declarations have exactly the names that there are", async () => {
  assert.equal(await checked(comparison()), "");
});

test("a name that only one side has is found", async () => {
  const lines = comparison();
  const more = lines.map((line) => line.replace("\"connect\"", "\"connect\" | \"connects\""));
  assert.match(await checked(more), /"connects"/);
  const fewer = lines.map((line) => line.replace("\"connect\" | ", ""));
  assert.notDeepEqual(fewer, lines);
  assert.match(await checked(fewer), /"connect"/);
});

test("the module is the script, under its names", async () => {
  const module = await import(pathToFileURL(path.join(STATIC, "fallback_transport.mjs")));
  const script = await import(pathToFileURL(path.join(STATIC, "fallback_transport.js")));
  assert.equal(module.default, script.default);
  const { default: whole, ...rest } = module;
  assert.deepEqual(named(Object.keys(rest)), named(Object.keys(whole)));
  for (const [name, value] of Object.entries(rest)) { assert.equal(value, whole[name], name); }
});
