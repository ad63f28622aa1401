/** A real HTTP server that knows nothing of us, and clients for it: Python's and curl, or Node's where they are missing. */
import { accessSync, constants, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../package-root.ts";
import { CommandFailure } from "../report-error.ts";

/** What is fetched: a file that is certainly there. */
export const PAGE = "package.json";

const NODE_SERVER = `
const { createServer } = require("node:http"), { createReadStream } = require("node:fs");
createServer((request, response) => createReadStream("." + request.url).on("error", () => response.destroy()).pipe(response))
  .listen(Number(process.argv[1]), "127.0.0.1");`;
const NODE_CLIENT = `fetch(process.argv[1]).then(async (response) => process.stdout.write(await response.text()));`;

export type ProgramLine = {
  readonly program: string;
  readonly args: readonly string[] /** As one would type it. */;
  readonly shown: string;
};

export function serverLine(port: number): ProgramLine {
  if (isInPath("python3")) {
    const args = ["-m", "http.server", String(port), "--bind", "127.0.0.1"];
    return { program: "python3", args, shown: `python3 ${args.join(" ")}` };
  }
  return { program: requireNode(), args: ["-e", NODE_SERVER, String(port)], shown: `node server.js ${port}` };
}

export function clientLine(url: string): ProgramLine {
  if (isInPath("curl"))
    return { program: "curl", args: ["--silent", "--fail", "--noproxy", "*", url], shown: `curl ${url}` };
  return { program: requireNode(), args: ["-e", NODE_CLIENT, url], shown: `node fetch.js ${url}` };
}

export function expectedPage(): string {
  return readFileSync(join(packageRoot(), PAGE), "utf8");
}

function requireNode(): string {
  if (isInPath("node")) return "node";
  throw new CommandFailure('Cannot show wrap: neither "python3" and "curl" nor "node" is in PATH; install one of them');
}

export function isInPath(program: string): boolean {
  return (process.env["PATH"] ?? "").split(":").some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
