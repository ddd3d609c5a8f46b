/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The built pages are part of the Python package, so that nobody who uses smelt needs Node.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../smelt/studio/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // nothing inline: the server's policy allows files of its own alone
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/studio": "http://127.0.0.1:8420", "/v1": "http://127.0.0.1:8420" } },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"], setupFiles: ["src/test-setup.ts"] },
});
