/** What shmlink itself says no with. The system's refusals are ffi's SyscallError; anything else thrown is a bug. */

/** Why a request was refused; the names of `failure` in the protocol, and what only a client can meet. */
export type FailureCode =
  | "unknown-name"
  | "name-in-use"
  | "denied"
  | "quota"
  | "exhausted"
  | "gone"
  | "refused"
  | "no-broker"
  | "timeout"
  | "unsupported"
  | "one-way"
  | "invalid";

/** Base of all: a message for people (what failed, the value, what to do) and a code for programs. */
export class ShmlinkError extends Error {
  override readonly name: string = "ShmlinkError";
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The other end broke the protocol: its session, or the channel, ends. `objectId` and `wireCode` go into wl_display.error. */
export class ProtocolError extends ShmlinkError {
  override readonly name = "ProtocolError";
  readonly objectId: number;
  readonly wireCode: number;

  constructor(message: string, where: { readonly objectId?: number; readonly wireCode?: number } = {}) {
    super("protocol", message);
    this.objectId = where.objectId ?? 1;
    this.wireCode = where.wireCode ?? 1;
  }
}

/** A request that was understood and turned down. */
export class FailureError extends ShmlinkError {
  override readonly name = "FailureError";
  declare readonly code: FailureCode;

  constructor(code: FailureCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** A value in a configuration file; `where` is "file:line" when it is known. */
export class ConfigError extends ShmlinkError {
  override readonly name = "ConfigError";

  constructor(message: string, where?: string) {
    super("config", where === undefined ? message : `${where}: ${message}`);
  }
}

/** Used after close(), or the peer has gone and everything it sent was received. */
export class ClosedError extends ShmlinkError {
  override readonly name = "ClosedError";

  constructor(message: string) {
    super("closed", message);
  }
}
