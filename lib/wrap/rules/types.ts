/** What a rule of `wrap` says: which sockets it is about, and what becomes of them. Values; parse.ts makes them. */
import type { Endpoint, Host } from "../host.ts";

/** "in": the program listens; "out": it connects. */
export type Direction = "in" | "out";

/** Strings may hold %p (port), %a (address), %t (tcp) and %%. */
export type Action =
  /** As without a rule: a socket in our own folder, known to the broker. */
  | { readonly kind: "hand-off" }
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "abstract"; readonly name: string }
  /** A listening Unix socket that came by LISTEN_FDS; without a name, the next that is left. */
  | { readonly kind: "systemd"; readonly name: string | undefined }
  | { readonly kind: "reject"; readonly errno: number }
  /** Listens where nobody can come; connecting is refused. */
  | { readonly kind: "blackhole" }
  /** Stays plain TCP. */
  | { readonly kind: "ignore" };

export type Rule = {
  /** As it was written. */
  readonly text: string;
  /** undefined: both. */
  readonly direction: Direction | undefined;
  /** IPv4 or IPv6, and how many leading bits count. */
  readonly network: { readonly host: Host; readonly bits: number } | undefined;
  readonly ports: { readonly low: number; readonly high: number } | undefined;
  /** UDP is left alone: a rule about it is right, and never applies. */
  readonly isUdp: boolean;
  readonly action: Action;
  /** Of the socket file. */
  readonly mode: number | undefined;
  readonly owner: string | undefined;
  readonly group: string | undefined;
  /** Leaves the socket file in place at the end. */
  readonly keepsFile: boolean;
  /** What listings call the program. */
  readonly name: string | undefined;
  /** An error in place of plain TCP. */
  readonly require: boolean;
  readonly noTcp: boolean;
};

export type Question = { readonly direction: Direction; readonly endpoint: Endpoint };
