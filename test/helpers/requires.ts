/**
 * What a test needs from outside: a program of a Debian package, or a feature of this kernel, machine or user. A test
 * whose need is not met is skipped and its name says why. Under SHMLINK_TEST_STRICT=1, which CI sets after installing
 * the packages, a missing program is a failure; only features may be missing.
 */
import { test } from "bun:test";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export type Requirement = {
  /** The sentence for the report, or undefined where the need is met. */
  readonly missing: string | undefined;
  readonly installable: boolean;
};

/** Whether `name` is in PATH or one of the places for daemons, which an ordinary user's PATH lacks. @returns its path */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @param debianPackage  what to install to get it */
function program(name: string, debianPackage: string): Requirement {
  const missing = `"${name}" is not installed (Debian: ${debianPackage})`;
  return { missing: findProgram(name) === undefined ? missing : undefined, installable: true };
}

/** A file of a Debian package that is no program, such as a header. */
function file(path: string, debianPackage: string): Requirement {
  try {
    accessSync(path);
    return { missing: undefined, installable: true };
  } catch {
    return { missing: `"${path}" is not there (Debian: ${debianPackage})`, installable: true };
  }
}

/** Something that no package brings. @param sentence  what is missing, for example "this kernel has no IPv6" */
function feature(available: boolean, sentence: string): Requirement {
  return { missing: available ? undefined : sentence, installable: false };
}

function root(): Requirement {
  return feature(process.getuid?.() === 0, "it needs root");
}

function ordinaryUser(): Requirement {
  return feature(process.getuid?.() !== 0, "it needs an ordinary user");
}

const STRICT = process.env["SHMLINK_TEST_STRICT"] === "1";

/** bun's test(), run only where every need is met. */
function guarded(
  needs: readonly Requirement[],
  name: string,
  body: () => void | Promise<void>,
  timeoutMs?: number,
): void {
  const unmet = needs.filter(({ missing }) => missing !== undefined);
  const reasons = unmet.map(({ missing }) => missing).join("; ");
  if (unmet.length === 0) return test(name, body, timeoutMs);
  if (!(STRICT && unmet.some(({ installable }) => installable))) return test.skip(`${name} [${reasons}]`, body);
  test(name, () => {
    throw new Error(`Cannot run this test, and SHMLINK_TEST_STRICT=1 forbids to skip it: ${reasons}`);
  });
}

export const requires: {
  readonly program: typeof program;
  readonly file: typeof file;
  readonly feature: typeof feature;
  readonly root: typeof root;
  readonly ordinaryUser: typeof ordinaryUser;
  readonly test: typeof guarded;
} = { program, file, feature, root, ordinaryUser, test: guarded };
