import { defineConfig } from "vitest/config";

// What is built is embedded in the program, which looks for it in `out/dist`. Nothing is inlined: the pages' policy forbids it.
export default defineConfig({
  build: {
    outDir: "out/dist",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      // Directives are for servers that render; here there is none.
      onwarn: (warning, warn) => warning.code !== "MODULE_LEVEL_DIRECTIVE" && warn(warning),
    },
  },
  esbuild: { jsx: "automatic" },
  server: { proxy: { "^/(v1|auth|healthz|readyz)(/|$)": process.env.LANTERN_API_URL ?? "http://127.0.0.1:8080" } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
});
