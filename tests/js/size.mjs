// node tests/js/size.mjs: how large the browser file is, as a line of a table.

import fs from "node:fs";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { minified } from "./minify.mjs";

const FILE = new URL("../../static/fallback_transport.js", import.meta.url);

export async function sizes(source) {
  const small = await minified(source);
  return {
    raw: Buffer.byteLength(source), minified: Buffer.byteLength(small),
    gzipped: gzipSync(small, { level: 9 }).length,
  };
}

export function row(found) {
  const cells = Object.entries(found).map(([name, bytes]) => `${name} ${(bytes / 1000).toFixed(1)} kB`);
  return `| ${cells.join(" | ")} |`;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  console.log(row(await sizes(fs.readFileSync(process.argv[2] ?? FILE, "utf8"))));
}
