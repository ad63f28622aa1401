/** `shmlink install`: puts the systemd units in place, or takes them away. Enabling them is left to the user. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { type Command, makeCommand } from "../command.ts";
import { OK } from "../exit-codes.ts";
import { printText } from "../output.ts";
import { launcherPath, packageRoot } from "../package-root.ts";
import { CommandFailure } from "../report-error.ts";
import { UsageError } from "../usage-error.ts";

/** Stands in the units for the path of bin/shmlink. */
const PLACEHOLDER = "@SHMLINK@";

export const command: Command = makeCommand({
  name: "install",
  summary: "put the systemd units in place",
  description: `Writes shmlink.socket and shmlink.service, with the path of this shmlink in them, to where systemd looks:
$XDG_CONFIG_HOME/systemd/user (or ~/.config/systemd/user), or /etc/systemd/system with --system. A file
that was changed by hand is not overwritten, unless --force. Nothing is enabled or started; the next
command to run is printed.`,
  args: {
    user: { type: "boolean", description: "for this user (the default)" },
    system: { type: "boolean", description: "for the whole machine" },
    prefix: { type: "string", valueHint: "DIR", description: "put the units under DIR, as a package builder does" },
    "dry-run": { type: "boolean", alias: "n", description: "say what would be done, and do nothing" },
    force: { type: "boolean", alias: "f", description: "overwrite or remove files that were changed" },
    uninstall: { type: "boolean", description: "remove the units" },
  },
  examples: [
    ["shmlink install && systemctl --user enable --now shmlink.socket", "let systemd start the broker for you"],
    ["shmlink install --uninstall", "undo it"],
  ],
  run: ({ user, system, prefix, "dry-run": dryRun, force, uninstall }) => {
    if (user === true && system === true) throw new UsageError("Cannot use --user with --system: choose one");
    const scope = system === true ? "system" : "user";
    const directory = join(prefix ?? "/", scope === "system" ? "/etc/systemd/system" : userDirectory());
    const files = readUnits(scope).map((unit) => plan(directory, unit, uninstall === true));
    refuseChanged(files, force === true);
    for (const file of files) act(file, directory, dryRun === true);
    printText(
      nextStep(scope, { uninstall: uninstall === true, dryRun: dryRun === true, staged: prefix !== undefined }),
    );
    return OK;
  },
});

type Unit = { readonly name: string; readonly text: string };
type Planned = {
  readonly path: string;
  readonly text: string;
  readonly action: "write" | "keep" | "remove";
  readonly changed: boolean;
};

function userDirectory(): string {
  const xdg = process.env["XDG_CONFIG_HOME"];
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(homedir(), ".config"), "systemd", "user");
}

function readUnits(scope: "user" | "system"): Unit[] {
  const program = launcherPath();
  const source = join(packageRoot(), "systemd", scope);
  if (!existsSync(program) || !existsSync(source)) {
    throw new CommandFailure(`Cannot find "${program}" and "${source}": install from a checkout or the npm package`);
  }
  return readdirSync(source)
    .sort()
    .map((name) => ({ name, text: readFileSync(join(source, name), "utf8").replaceAll(PLACEHOLDER, quote(program)) }));
}

/** systemd.service(5), "Command lines": specifiers are doubled, and a path with spaces is quoted. */
function quote(path: string): string {
  const escaped = path.replaceAll("%", "%%").replaceAll("$", "$$$$").replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return /[\s"'\\;]/.test(path) ? `"${escaped}"` : escaped;
}

function plan(directory: string, { name, text }: Unit, uninstall: boolean): Planned {
  const path = join(directory, name);
  const present = readIfThere(path);
  const changed = present !== undefined && present !== text;
  if (uninstall) return { path, text, action: present === undefined ? "keep" : "remove", changed };
  return { path, text, action: present === text ? "keep" : "write", changed };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw failure("read", path, error);
  }
}

/** All or nothing: looked at before anything is written. */
function refuseChanged(files: readonly Planned[], force: boolean): void {
  const changed = files.find((file) => file.changed);
  if (changed === undefined || force) return;
  const what = changed.action === "remove" ? "remove" : "overwrite";
  throw new CommandFailure(
    `Cannot ${what} "${changed.path}": it differs from what would be installed; use --force, or move it away`,
  );
}

function act({ path, text, action }: Planned, directory: string, dryRun: boolean): void {
  const would = dryRun ? "Would " : "";
  try {
    if (action === "write") {
      if (!dryRun) {
        mkdirSync(directory, { recursive: true });
        writeFileSync(path, text, { mode: 0o644 });
      }
      printText(`${would}${dryRun ? "write" : "Wrote"} ${path}\n`);
    } else if (action === "remove") {
      if (!dryRun) rmSync(path);
      printText(`${would}${dryRun ? "remove" : "Removed"} ${path}\n`);
    }
  } catch (error) {
    throw failure(action, path, error);
  }
}

function failure(action: string, path: string, error: unknown): CommandFailure {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error;
  const hint = code === "EACCES" || code === "EPERM" ? "; is it another user's? --user needs no rights" : "";
  return new CommandFailure(`Cannot ${action} "${path}": ${code}${hint}`, { cause: error });
}

type NextStep = { readonly uninstall: boolean; readonly dryRun: boolean; readonly staged: boolean };

function nextStep(scope: "user" | "system", { uninstall, dryRun, staged }: NextStep): string {
  const systemctl = scope === "user" ? "systemctl --user" : "systemctl";
  if (dryRun) return "Nothing was changed\n";
  if (staged) return "";
  if (uninstall) return `Done. Now run: ${systemctl} daemon-reload\n`;
  return `Done. Now run: ${systemctl} daemon-reload && ${systemctl} enable --now shmlink.socket\n`;
}
