// What holds for the whole app: one catalogue of words, one list of pages, a small first load.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".tsx"));

/** Text that people read, written where it is used. */
function loose(name: string, source: string): string[] {
  const found: string[] = [];
  const READ = new Set(["aria-label", "title", "placeholder", "alt", "label", "hint", "text"]);
  const visit = (node: ts.Node) => {
    const words = (text: string) => /\p{L}{2,}/u.test(text);
    if (ts.isJsxText(node) && words(node.text)) found.push(`${name}: ${node.text.trim()}`);
    if (ts.isJsxAttribute(node) && READ.has(node.name.getText()) && node.initializer && ts.isStringLiteral(node.initializer) && words(node.initializer.text)) {
      found.push(`${name}: ${node.initializer.text}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(name, source, ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX));
  return found;
}

describe("words", () => {
  test("stand in the catalogue and nowhere else", () => {
    const allowed = /: (Ctrl K)$/;
    expect(files.flatMap((name) => loose(name, readFileSync(join(root, "src", name), "utf8"))).filter((line) => !allowed.test(line))).toEqual([]);
  });
  test("that stand elsewhere would be found", () => {
    expect(loose("x.tsx", 'const x = <p title="Two words">Some text {m.y}</p>;')).toEqual(["x.tsx: Two words", "x.tsx: Some text"]);
  });
});

test("the server knows every page, and no other", () => {
  const router = readFileSync(join(root, "src/router.tsx"), "utf8");
  const pages = [...router.matchAll(/path: "([^"]+)"/g)].map(([, path]) => path?.replace(/\$(\w+)/g, "{$1}"));
  const known = readFileSync(join(root, "pages.txt"), "utf8").trim().split("\n");
  expect([...pages].sort()).toEqual([...known].sort());
});

test("nothing is kept in the browser but the theme, and nothing makes markup of text", () => {
  for (const name of readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file) && !file.endsWith(".test.ts"))) {
    const source = readFileSync(join(root, "src", name), "utf8");
    if (name !== "app/theme.ts") expect(source, name).not.toMatch(/localStorage|sessionStorage|document\.cookie|indexedDB/);
    expect(source, name).not.toMatch(/dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function/);
  }
});

const app = join(root, "out/dist");
describe.skipIf(!existsSync(app))("what was built", () => {
  test("loads at most 200 KB of script at first, packed", () => {
    const html = readFileSync(join(app, "index.html"), "utf8");
    const first = [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+\.js)"/g)].map(([, path]) => path as string);
    // What is imported at once by what is named, too.
    const seen = new Set<string>();
    const load = (path: string): number => {
      if (seen.has(path)) return 0;
      seen.add(path);
      const source = readFileSync(join(app, path), "utf8");
      const more = [...source.matchAll(/(?:^|[;\n])import(?:[^"'();]*?from)?\s*"\.\/([^"]+\.js)"/g)].map(([, name]) => `/assets/${name}`);
      return gzipSync(source, { level: 9 }).length + more.reduce((sum, one) => sum + load(one), 0);
    };
    expect(first.length).toBeGreaterThan(0);
    expect(first.reduce((sum, path) => sum + load(path), 0)).toBeLessThanOrEqual(200 * 1024);
  });
  test("has no script and no style in its page", () => {
    const html = readFileSync(join(app, "index.html"), "utf8");
    expect(html).not.toMatch(/<script(?![^>]*src=)|<style|\sstyle=|\son\w+=/);
  });
});
