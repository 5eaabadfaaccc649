// Runs the tests of the pages, one after another: they share two processors with the server that they look at.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";

if (!process.env.LANTERN_PROGRAM) {
  console.error("LANTERN_PROGRAM names the program to test, as in: LANTERN_PROGRAM=target/debug/lantern npm run e2e");
  process.exit(2);
}
// All of them, or those that are named.
const named = process.argv.slice(2);
const files = named.length > 0 ? named : readdirSync("e2e").filter((name) => name.endsWith(".test.mjs")).map((name) => `e2e/${name}`);
const args = ["--test", "--test-concurrency=1", "--test-reporter=spec", ...files];
process.exit(spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1);
