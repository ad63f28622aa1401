/** Finds a program as execvp(3) does, and says what is in the way of one that cannot be run. */
import { checkExecutable, constants, errno, SyscallError, stat } from "../../ffi/mod.ts";
import { dirname } from "../util/path.ts";
import { CommandError } from "./errors.ts";

/** Why execve(2) would fail. `isThere`: there is something of this name, so that a search for it ends in 126. */
type Obstacle = { readonly exitCode: 126 | 127; readonly isThere: boolean; readonly why: string };

/** The path of `name`: itself if it has a slash, else the first executable in `search`. @throws CommandError */
export function findProgram(name: string, search: string): string {
  if (name.includes("/")) {
    const obstacle = obstacleOf(name);
    if (obstacle === undefined) return name;
    throw new CommandError(obstacle.exitCode, `Cannot run "${name}": ${obstacle.why}`);
  }
  let first: CommandError | undefined;
  for (const folder of name === "" ? [] : search.split(":")) {
    const path = `${folder === "" ? "." : folder}/${name}`;
    const obstacle = obstacleOf(path);
    if (obstacle === undefined) return path;
    // What others' folders in PATH hide is not what was meant.
    if (obstacle.isThere) first ??= new CommandError(126, `Cannot run "${path}": ${obstacle.why}`);
  }
  throw first ?? new CommandError(127, `Cannot run "${name}": it is not in PATH`);
}

function obstacleOf(path: string): Obstacle | undefined {
  try {
    const status = stat(path);
    if (status === undefined) return explainPath(path, "ENOENT");
    const isFolder = (status.mode & constants.S_IFMT) === constants.S_IFDIR;
    if (isFolder) return { exitCode: 126, isThere: true, why: "it is a directory" };
  } catch (error) {
    return explainPath(path, codeOf(error));
  }
  try {
    checkExecutable(path);
    return undefined;
  } catch (error) {
    const code = codeOf(error);
    const why = code === "EACCES" ? "it is not executable" : `it cannot be run (${code})`;
    return { exitCode: 126, isThere: true, why };
  }
}

/** @param code  of stat(2), which looks up the same names as execve(2) */
function explainPath(path: string, code: string): Obstacle {
  const because = (why: string): Obstacle => ({ exitCode: 126, isThere: false, why });
  if (code === "ENOENT") return { ...because("no such file"), exitCode: 127 };
  const above = nearest(path, (folder) => codeOfStat(folder) === undefined);
  if (code === "EACCES") return because(`folder "${above}" may not be searched (EACCES)`);
  if (code === "ENOTDIR") return because(`"${above}" is not a folder (ENOTDIR)`);
  return because(`it cannot be looked up (${code})`);
}

/** The last folder on the way to `path` that can be looked at. */
function nearest(path: string, isFound: (folder: string) => boolean): string {
  let folder = dirname(path);
  while (!isFound(folder) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}

function codeOfStat(path: string): string | undefined {
  try {
    return stat(path) === undefined ? "ENOENT" : undefined;
  } catch (error) {
    return codeOf(error);
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

/** Whether execve(2) said that the file is none of the kernel's formats: a script without a first line. */
export function needsShell(error: unknown): boolean {
  return error instanceof SyscallError && error.syscall === "execve" && error.errno === errno.ENOEXEC;
}

/** What execve(2) said of a program that was found. @returns the error itself when it is none of execve(2)'s */
export function explainExecve(error: unknown, name: string): unknown {
  if (!(error instanceof SyscallError) || error.syscall !== "execve") return error;
  const cause = { cause: error };
  if (error.errno === errno.ENOENT)
    return new CommandError(127, `Cannot run "${name}": the interpreter that its first line names is missing`, cause);
  return new CommandError(126, `Cannot run "${name}": ${error.message}`, cause);
}
