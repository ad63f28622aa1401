/**
 * Makes the bundles from the entries: one file for all commands, and one for each that is to start soon, as bytecode. Each
 * is built by itself: what only another needs would be in it otherwise.
 *
 * The runtime takes 2 to 4 ms to load node:fs, a tenth of a start, whether or not anything is called there. So modules of
 * Node are loaded by the first call of one of their functions: the sources say `import`, and mean it on every other runtime.
 */
import { readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const BIN = fileURLToPath(new URL("../bin", import.meta.url));
/** Where to, in place of dist/bundle. */
const OUT = process.argv[2] ?? join(BIN, "../dist/bundle");
const ENTRIES = ["shmlink.ts", "single/inspect.ts", "single/ls.ts", "single/wrap.ts"];
/** Only functions are taken from them, besides node:fs's constants. */
const DEFERRED = ["child_process", "crypto", "fs", "module", "net", "os", "path", "tty", "url"];

/** `import.meta.url` while it runs: the bundler writes down where the source lay, which may be another machine's folder. */
const HERE = "Bun.pathToFileURL(Bun.main).href";

const NAMESPACE = /export \* as (\w+) from "([^"]+)";/g;
const IMPORT = new RegExp(`from "node:(${DEFERRED.join("|")})"`, "g");

/** @type {import("bun").BunPlugin} */
const deferred = {
  name: "deferred",
  setup(build) {
    // The bundler knows modules of the runtime before it asks anybody, so they need another name.
    build.onLoad({ filter: /\/(bin|ffi|lib)\/.*\.ts$/ }, async ({ path }) => {
      const source = await Bun.file(path).text();
      const text = source.replace(IMPORT, 'from "deferred:node:$1"').replaceAll("import.meta.url", HERE);
      return {
        loader: "ts",
        contents: text.replace(NAMESPACE, (_, name, from) => flatten(name, join(path, "..", from))),
      };
    });
    build.onResolve({ filter: /^deferred:/ }, ({ path }) => ({ path, namespace: "deferred" }));
    build.onLoad({ filter: /.*/, namespace: "deferred" }, async ({ path }) => {
      const name = path.slice("deferred:".length);
      return { loader: "js", contents: defer(name, await import(name)) };
    });
  },
};

/** A namespace as an object of what is in it, all of which is constant: the bundler would make a function for each. */
function flatten(name, path) {
  const names = new Bun.Transpiler({ loader: "ts" }).scan(readFileSync(path, "utf8")).exports;
  return `import { ${names.map((each) => `${each} as ${name}_${each}`)} } from "${path}";
export const ${name} = { ${names.map((each) => `${each}: ${name}_${each}`)} };`;
}

/** A module with the functions of another, which it loads when one of them is called. */
function defer(name, module) {
  const lines = Object.entries(module).flatMap(([key, value]) => {
    if (key === "constants") return [`export const constants = ${JSON.stringify(value)};`];
    if (typeof value !== "function" || !/^[a-z]/.test(key) || key === "default") return []; // no class
    return [`export function ${key}(...values) { return loaded().${key}(...values); }`];
  });
  const load = `let module;\nfunction loaded() { return (module ??= process.getBuiltinModule("${name}")); }`;
  return `${load}\n${lines.join("\n")}\n`;
}

rmSync(OUT, { recursive: true, force: true });
for (const entry of ENTRIES) {
  await Bun.build({
    entrypoints: [join(BIN, entry)],
    outdir: OUT,
    naming: `${basename(entry, ".ts")}.[ext]`,
    target: "bun",
    format: "cjs",
    bytecode: true,
    external: ["koffi"],
    minify: { syntax: true, whitespace: true },
    plugins: [deferred],
  });
}
