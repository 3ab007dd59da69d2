// node tests/js/es5_gate.mjs FILE...
//
// The browser file must load in every browser since ECMAScript 5, and say so
// when it cannot work there. This checks what no such browser is needed for:
//
// - it parses as ECMAScript 5;
// - run where nothing is but the language (no window, no timers, no
//   XMLHttpRequest), it throws nothing and defines one global, or none if it is a page's own;
// - what ECMAScript 5 and the oldest browsers do not have (Promise, Map,
//   WebSocket, ...) is used by name only if `typeof` asks for it somewhere.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

import { parse } from "acorn";

const GLOBAL = "FallbackTransport";
// What belongs to a page of ours: nobody else's script has to do with it.
const OF_PAGES = ["doctor.js"];

const LANGUAGE = (
  "undefined NaN Infinity arguments eval parseInt parseFloat isNaN isFinite " +
  "encodeURI encodeURIComponent decodeURI decodeURIComponent escape unescape " +
  "Object Function Array String Boolean Number Date RegExp Math JSON " +
  "Error EvalError RangeError ReferenceError SyntaxError TypeError URIError"
).split(" ");
const EVERY_BROWSER = "setTimeout clearTimeout setInterval clearInterval".split(" ");

export function breaches(source, globals = [GLOBAL]) {
  let tree;
  try {
    tree = parse(source, { ecmaVersion: 5, sourceType: "script", locations: true });
  } catch (error) {
    return [`not ECMAScript 5: ${error.message}`];
  }
  return [...globalBreaches(source, globals), ...nameBreaches(tree)];
}

function globalBreaches(source, globals) {
  const context = vm.createContext({});
  try {
    vm.runInContext(source, context);
  } catch (error) {
    return [`does not load without a browser: ${error}`];
  }
  const found = Object.getOwnPropertyNames(vm.runInContext("this", context));
  const usual = Object.getOwnPropertyNames(vm.runInContext("this", vm.createContext({})));
  const defined = found.filter((name) => !usual.includes(name));
  if (defined.join() !== globals.join()) {
    return [`defines the globals [${defined.join(", ")}], not [${globals.join(", ")}]`];
  }
  return [];
}

// A name counts as declared if any scope of the file declares it: the file has
// one author, and a name that is local in one function and a bare global in
// another would mislead a reader as well.
function nameBreaches(tree) {
  const known = new Set([...LANGUAGE, ...EVERY_BROWSER]);
  const used = [];
  visit(tree, (node, parent, key) => {
    if (node.type !== "Identifier") return;
    const { type } = parent;
    if ((type === "MemberExpression" && key === "property" && !parent.computed) ||
        (type === "Property" && key === "key") || key === "label") return;
    if ((key === "id" || key === "params" || key === "param") ||
        (type === "UnaryExpression" && parent.operator === "typeof")) {
      known.add(node.name);
    } else {
      used.push(node);
    }
  });
  return used.filter((node) => !known.has(node.name)).map((node) =>
    `line ${node.loc.start.line}: ${node.name} is not in every browser, and no typeof asks for it`);
}

function visit(node, see, parent = {}, key = "") {
  see(node, parent, key);
  for (const [name, value] of Object.entries(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (child && typeof child.type === "string") visit(child, see, node, name);
    }
  }
}

function main(files) {
  if (files.length === 0) {
    console.error("usage: es5_gate.mjs FILE...");
    return 2;
  }
  let count = 0;
  for (const file of files) {
    const globals = OF_PAGES.includes(path.basename(file)) ? [] : [GLOBAL];
    for (const breach of breaches(fs.readFileSync(file, "utf8"), globals)) {
      console.error(`${file}: ${breach}`);
      count += 1;
    }
  }
  console.log(`${files.join(", ")}: ${count} breach(es)`);
  return count ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.exitCode = main(process.argv.slice(2));
}
