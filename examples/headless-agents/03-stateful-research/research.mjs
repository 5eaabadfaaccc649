// The same as research.py: reads pages, one step each, and counts how often their words are in all of them.

import { readFileSync } from "node:fs";
import { get, log, step } from "./lantern.mjs";

const asked = JSON.parse(readFileSync(0, "utf8") || "null") ?? {};
const total = new Map();
for (const url of asked.pages ?? []) {
  const text = await step("fetch", () => get(url));
  const words = await step("count", () => {
    const counted = {};
    for (const word of text.toLowerCase().match(/[a-z]{4,}/g) ?? []) counted[word] = (counted[word] ?? 0) + 1;
    return counted;
  });
  for (const [word, n] of Object.entries(words)) total.set(word, (total.get(word) ?? 0) + n);
  await log(`read ${url}`);
}
const best = [...total].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).slice(0, asked.top ?? 5);
console.log(best.map(([word, n]) => `${word}=${n}`).join(" "));
