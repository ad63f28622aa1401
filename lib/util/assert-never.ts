/** Closes a switch over a union: reaching it is a bug, and the compiler says so first. */
export function assertNever(value: never): never {
  throw new TypeError(`Unexpected value ${JSON.stringify(value)}`);
}
