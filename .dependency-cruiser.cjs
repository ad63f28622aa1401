/**
 * The layers: bin → cli → broker, wrap, client → protocol, transport, channel, config → wire, ring, policy → util and
 * the leaves; ffi under all, importing nothing of lib. A file imports from lower layers or from its own folder.
 */
const LEAF = "^lib/(util/|errors\\.ts|log\\.ts|version\\.ts)";
const FFI = "^ffi/mod\\.ts$";
const PURE = ["wire", "ring", "policy"];
const MIDDLE = ["protocol", "transport", "channel", "config"];
const UPPER = ["broker", "wrap", "client"];

/** Files of `folder` may import only what matches one of `allowed`, within the project. */
function only(folder, allowed) {
  return {
    name: `${folder}-imports-downwards`,
    severity: "error",
    comment: "conventions: imports go down the levels; what must go up is handed in as an argument",
    from: { path: `^lib/${folder}/` },
    to: { path: "^(lib|ffi|bin|test|bench)/", pathNot: [`^lib/${folder}/`, LEAF, ...allowed] },
  };
}

const folders = (names) => names.map((name) => `^lib/${name}/`);
const noFfi = "lib/util and the leaves are below ffi and above nothing";

module.exports = {
  forbidden: [
    {
      name: "no-circular",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "ffi-imports-nothing-of-lib",
      severity: "error",
      from: { path: "^ffi/" },
      to: { path: "^(lib|bin|test|bench)/" },
    },
    {
      name: "ffi-through-its-door",
      severity: "error",
      comment: "ffi/mod.ts is the only door",
      from: { path: "^(lib|bin|bench)/" },
      to: { path: "^ffi/", pathNot: FFI },
    },
    {
      name: "backends-only-by-the-loader",
      severity: "error",
      from: { path: "^ffi/", pathNot: "^ffi/(load\\.ts|backends/)" },
      to: { path: "^ffi/backends/" },
    },
    {
      name: "leaves-import-leaves",
      severity: "error",
      comment: noFfi,
      from: { path: LEAF },
      to: { path: "^(lib|ffi|bin|test|bench)/", pathNot: [LEAF, FFI] },
    },
    ...PURE.map((folder) => only(folder, [])),
    {
      name: "pure-layers-have-no-io",
      severity: "error",
      comment: "wire, ring and policy are bytes and values in, values out",
      from: { path: `^lib/(${PURE.join("|")})/` },
      to: { dependencyTypes: ["core", "npm"] },
    },
    ...MIDDLE.map((folder) => only(folder, [...folders(PURE), ...folders(MIDDLE), FFI])),
    ...UPPER.map((folder) => only(folder, [...folders(PURE), ...folders(MIDDLE), FFI])),
    only("cli", [...folders(PURE), ...folders(MIDDLE), ...folders(UPPER), FFI, "^lib/mod\\.ts$"]),
    {
      name: "bin-calls-the-cli",
      severity: "error",
      from: { path: "^bin/" },
      to: { path: "^(lib|ffi)/", pathNot: "^lib/(cli/(main|command-table)\\.ts|cli/commands/|util/)" },
    },
    {
      name: "product-imports-no-tests",
      severity: "error",
      from: { path: "^(lib|ffi|bin)/" },
      to: { path: "^(test|bench)/" },
    },
    {
      name: "product-uses-runtime-dependencies",
      severity: "error",
      from: { path: "^(lib|ffi|bin)/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"] },
    },
    { name: "resolvable", severity: "error", from: {}, to: { couldNotResolve: true, pathNot: "^bun(:|$)" } },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)dist/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { conditionNames: ["import", "node", "default", "types"], exportsFields: ["exports"] },
  },
};
