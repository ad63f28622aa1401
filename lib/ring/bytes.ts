/**
 * What a caller gives as bytes, looked at before anything is done with it. A runtime refuses some of what is none, and
 * takes the rest for something else: a string has a length too, set() rounds numbers down to bytes, and a `length` of the
 * caller's own would have machine code copy what lies beside the array.
 */

type Getter = (this: unknown) => unknown;

/** %TypedArray%.prototype */
const prototype: object = Object.getPrototypeOf(Uint8Array.prototype);
const byteLength = getter("byteLength");
const kind = getter(Symbol.toStringTag);
/** Of the last array that was no plain one: of a Buffer, mostly. */
let lastPrototype: object = Uint8Array.prototype;

function getter(name: string | symbol): Getter {
  return Object.getOwnPropertyDescriptor(prototype, name)?.get as Getter;
}

/** Not for every call with the same buffer: what is remembered of it says as much (LastBuffer).
 *  @returns how many there are, whatever its own properties say  @throws TypeError unless it is a Uint8Array that tells its length */
export function lengthOf(bytes: Uint8Array): number {
  // The kind takes longer to ask for; arrays of another realm are no instances of ours.
  if (!(bytes instanceof Uint8Array) && kind.call(bytes) !== "Uint8Array") refuseKind(bytes);
  const length = realLength(bytes);
  if ((bytes as Uint8Array).length !== length) refuseLength(bytes, length);
  return length;
}

function realLength(bytes: Uint8Array): number {
  try {
    return byteLength.call(bytes) as number;
  } catch {
    return refuseKind(bytes); // an instance that is no array
  }
}

/** Whether `length` is the runtime's own. Where it is not, nobody may rely on it once the array was looked at. */
export function hasPlainLength(bytes: Uint8Array): boolean {
  if (Object.hasOwn(bytes, "length")) return false;
  const nearest: object = Object.getPrototypeOf(bytes);
  if (nearest === Uint8Array.prototype || nearest === lastPrototype) return true;
  for (let each = nearest; each !== prototype; each = Object.getPrototypeOf(each)) {
    if (each === null || Object.hasOwn(each, "length")) return false;
  }
  lastPrototype = nearest;
  return true;
}

function refuseKind(value: unknown): never {
  const found = Object.prototype.toString.call(value).slice("[object ".length, -1);
  const ways = "TextEncoder makes one of a string, new Uint8Array(buffer, offset, length) of other memory";
  throw new TypeError(`Cannot use "${found}" as bytes: a Uint8Array is needed; ${ways}`);
}

function refuseLength(bytes: Uint8Array, length: number): never {
  throw new TypeError(`Cannot use bytes whose length is said to be "${bytes.length}": there are ${length}`);
}
