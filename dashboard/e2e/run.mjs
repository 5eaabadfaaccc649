// Runs the tests of the pages, one after another: they share two processors with the server that they look at.
import { spawnSync } from "node:child_process";

if (!process.env.LANTERN_PROGRAM) {
  console.error("LANTERN_PROGRAM names the program to test, as in: LANTERN_PROGRAM=target/debug/lantern npm run e2e");
  process.exit(2);
}
const args = ["--test", "--test-concurrency=1", "--test-reporter=spec", "e2e/dashboard.test.mjs"];
process.exit(spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1);
