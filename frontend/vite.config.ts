import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { loadEnv } from "vite";
import { defineConfig } from "vitest/config";
import { refuseKeys } from "./env.ts";
import { stampSources } from "./sources.ts";

export default defineConfig(({ mode }) => {
  const root = import.meta.dirname;
  refuseKeys(loadEnv(mode, root, "VITE_"));
  return {
    root,
    plugins: [react(), tailwindcss(), stampSources(root)],
    server: { port: 3000, strictPort: true },
    build: {
      outDir: "../visavox/service/page",
      emptyOutDir: true,
      assetsInlineLimit: 0, // data: addresses are refused by the page's Content-Security-Policy
      license: { fileName: "licenses.md" },
    },
    test: { environment: "jsdom", include: ["tests/**/*.test.{ts,tsx}"] },
  };
});
