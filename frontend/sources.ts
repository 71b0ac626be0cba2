/** The list of what a page was built from, as `sha256sum` writes it: page/sources.sha256, which tests/service/test_built.py reads. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { Plugin } from "vite";

const LEFT_OUT = new Set(["node_modules", "__pycache__", "tests", "README.md", "build.py", "biome.json", ".gitignore"]);

/** Paths, relative to `root` and sorted, of all files that can change the built page. */
export function sources(root: string, folder = root): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !LEFT_OUT.has(entry.name) && !entry.name.startsWith(".env"))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? sources(root, path) : [relative(root, path).replaceAll("\\", "/")];
    })
    .sort();
}

/** Write sources.sha256 beside the built page, and the licence of its font, which Vite's list of licences leaves out. */
export function stampSources(root: string): Plugin {
  return {
    name: "stamp-sources",
    apply: "build",
    generateBundle() {
      const lines = sources(root).map((path) => {
        const digest = createHash("sha256")
          .update(readFileSync(join(root, path)))
          .digest("hex");
        return `${digest}  ${path}\n`;
      });
      this.emitFile({ type: "asset", fileName: "sources.sha256", source: lines.join("") });
      const licence = readFileSync(join(root, "node_modules/@fontsource-variable/inter/LICENSE"));
      this.emitFile({ type: "asset", fileName: "licenses-font.txt", source: licence });
    },
  };
}
