/** C structs as data: fields in order, offsets by the C rules, read and written through a DataView. */

const SIZES = { u8: 1, u16: 2, i32: 4, u32: 4, i64: 8, u64: 8 } as const;

type Scalar = keyof typeof SIZES;
/** A scalar, or `count` bytes at an alignment of 1. 64-bit fields are read as numbers where they are addresses,
 *  sizes or offsets (`size`), and as BigInt where all 64 bits count (`u64`, `i64`). */
export type FieldType = Scalar | "size" | { readonly bytes: number };

export type Fields = Readonly<Record<string, FieldType>>;
type FieldValue<T extends FieldType> = T extends "u64" | "i64"
  ? bigint
  : T extends { bytes: number }
    ? Uint8Array
    : number;

export type Struct<F extends Fields> = {
  /** The C name, for the test that compares with the compiler. */
  readonly name: string;
  readonly size: number;
  readonly offsets: { readonly [K in keyof F]: number };
  read(data: DataView, at?: number): { [K in keyof F]: FieldValue<F[K]> };
  write(data: DataView, values: Partial<{ [K in keyof F]: FieldValue<F[K]> }>, at?: number): void;
};

function getField(data: DataView, at: number, type: FieldType): number | bigint | Uint8Array {
  if (typeof type === "object") return new Uint8Array(data.buffer, data.byteOffset + at, type.bytes);
  switch (type) {
    case "u8":
      return data.getUint8(at);
    case "u16":
      return data.getUint16(at, true);
    case "i32":
      return data.getInt32(at, true);
    case "u32":
      return data.getUint32(at, true);
    case "i64":
      return data.getBigInt64(at, true);
    case "u64":
      return data.getBigUint64(at, true);
    case "size":
      return data.getUint32(at, true) + data.getUint32(at + 4, true) * 2 ** 32;
  }
}

function setField(data: DataView, at: number, type: FieldType, value: unknown): void {
  if (typeof type === "object") {
    new Uint8Array(data.buffer, data.byteOffset + at, type.bytes).set(value as Uint8Array);
  } else if (type === "i64") data.setBigInt64(at, value as bigint, true);
  else if (type === "u64") data.setBigUint64(at, value as bigint, true);
  else setNumber(data, at, type, value as number);
}

function setNumber(data: DataView, at: number, type: Exclude<FieldType, object | "i64" | "u64">, value: number): void {
  switch (type) {
    case "u8":
      return data.setUint8(at, value);
    case "u16":
      return data.setUint16(at, value, true);
    case "i32":
      return data.setInt32(at, value, true);
    case "u32":
      return data.setUint32(at, value, true);
    case "size":
      data.setUint32(at, value % 2 ** 32, true);
      data.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  }
}

/** Only names and numbers until it is used: a dozen of these are made at every start. */
class Layout<F extends Fields> implements Struct<F> {
  readonly name: string;
  readonly size: number;
  readonly offsets: { readonly [K in keyof F]: number };
  readonly #fields: F;

  constructor(name: string, fields: F, packed: boolean) {
    const offsets: Record<string, number> = {};
    let end = 0;
    let widest = 1;
    for (const field in fields) {
      const type = fields[field] as FieldType;
      const isBytes = typeof type === "object";
      const align = isBytes ? 1 : type === "size" ? 8 : SIZES[type];
      if (!packed) end = Math.ceil(end / align) * align;
      offsets[field] = end;
      end += isBytes ? type.bytes : align;
      if (align > widest) widest = align;
    }
    this.name = name;
    this.size = packed ? end : Math.ceil(end / widest) * widest;
    this.offsets = offsets as { [K in keyof F]: number };
    this.#fields = fields;
  }

  read(data: DataView, at = 0): { [K in keyof F]: FieldValue<F[K]> } {
    const values: Record<string, unknown> = {};
    const fields: Fields = this.#fields;
    for (const field in fields) values[field] = getField(data, at + (this.offsets[field] ?? 0), fields[field] ?? "u8");
    return values as { [K in keyof F]: FieldValue<F[K]> };
  }

  write(data: DataView, values: Partial<{ [K in keyof F]: FieldValue<F[K]> }>, at = 0): void {
    const fields: Fields = this.#fields;
    for (const field in values) {
      const [type, value] = [fields[field], values[field]];
      if (type !== undefined && value !== undefined) setField(data, at + (this.offsets[field] ?? 0), type, value);
    }
  }
}

/**
 * Lays out `fields` as the C compiler does on a 64-bit little-endian Linux.
 * @param options.packed  no padding between fields and none at the end (struct epoll_event on x86-64)
 */
export function defineStruct<const F extends Fields>(
  name: string,
  fields: F,
  options: { readonly packed?: boolean } = {},
): Struct<F> {
  return new Layout(name, fields, options.packed === true);
}
