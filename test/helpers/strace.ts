/** Something that comes to a program in the middle of its work, put there by strace(1): no test has to hit the moment. */

/** The words before a command whose calls (not those of its children) get `effect`, as strace's --inject names it. */
export function injecting(calls: string, effect: string): string[] {
  return ["strace", "-o", "/dev/null", "-e", `trace=${calls}`, "-e", `inject=${calls}:${effect}`];
}
