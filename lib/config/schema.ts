/** What can be configured: types with the unit in each name, ranges, and the built-in values. */

import { BUILT_IN } from "../policy/decide.ts";
import { OPERATIONS, type Rule } from "../policy/types.ts";
import { MAX_CAPACITY, MIN_CAPACITY } from "../ring/layout.ts";

export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type BrokerConfig = {
  /** The broker ends when nobody was connected for so long; 0 for never. */
  readonly idleMs: number;
  readonly logLevel: LogLevel;
  /** How long hello, half a message, a channel that is not whole or a bundle that is not published is waited for; 0 for ever. */
  readonly setUpMs: number;
};

export type LimitsConfig = {
  readonly maxSessionsPerUser: number;
  /** Offers and takes that wait, too. */
  readonly maxServicesPerUser: number;
  /** Each side of a channel counts as one of its user's. */
  readonly maxChannelsPerUser: number;
  readonly maxListenersPerUser: number;
  /** Rings of channels that the user is a side of. */
  readonly maxSharedBytesPerUser: number;
  /** Descriptors that are offered and not yet taken. */
  readonly maxFdsPerUser: number;
  /** Protocol objects of all the user's sessions. */
  readonly maxObjectsPerUser: number;
  readonly maxContextsPerUser: number;
  /** Requests above this are read later: one user's flood does not slow the others down. */
  readonly maxMessagesPerSecond: number;
  /** Output that waits for all the sessions of a user. */
  readonly maxQueuedBytesPerUser: number;
  /** Largest ring that can be asked for; a power of two. */
  readonly maxCapacityBytes: number;
  /** Ring of who asks for none in particular; a power of two. */
  readonly defaultCapacityBytes: number;
  /** Output that may wait for a peer that does not read, before its session ends. */
  readonly maxQueuedBytes: number;
};

export type WrapConfig = {
  /** Whether the TCP port of a wrapped listener stays reachable (--no-tcp: false). */
  readonly exposeTcp: boolean;
  /** Rules of wrap by program name, "*" for every program; asked after those of the command line. */
  readonly rules: Readonly<Record<string, readonly string[]>>;
};

export type ShmlinkConfig = {
  readonly broker: BrokerConfig;
  readonly limits: LimitsConfig;
  readonly wrap: WrapConfig;
  /** Those of the files, then the built-in ones that none of them replaces. */
  readonly rules: readonly Rule[];
};

/** One key: its built-in value, and what else it may be. */
export type Field<T> = { readonly standard: T } & (
  | { readonly kind: "integer"; readonly min: number; readonly max: number }
  | { readonly kind: "power-of-two"; readonly min: number; readonly max: number }
  | { readonly kind: "boolean" }
  /** A table of lists of strings. */
  | { readonly kind: "lists" }
  | { readonly kind: "choice"; readonly choices: readonly string[] }
);

type Section<T> = { readonly [K in keyof T]: Field<T[K]> };
export type SectionName = "broker" | "limits" | "wrap";
type Schema = { readonly [S in SectionName]: Section<ShmlinkConfig[S]> };

const DAY_MS = 86_400_000;
const MIB = 2 ** 20;
const TIB = 2 ** 40;

function count(standard: number): Field<number> {
  return { kind: "integer", standard, min: 0, max: 2 ** 24 };
}

export const SCHEMA: Schema = {
  broker: {
    idleMs: { kind: "integer", standard: 60_000, min: 0, max: 7 * DAY_MS },
    logLevel: { kind: "choice", standard: "info", choices: LOG_LEVELS },
    setUpMs: { kind: "integer", standard: 30_000, min: 0, max: DAY_MS },
  },
  limits: {
    maxSessionsPerUser: count(1024),
    maxServicesPerUser: count(4096),
    maxChannelsPerUser: count(32_768),
    maxListenersPerUser: count(4096),
    maxSharedBytesPerUser: { kind: "integer", standard: 8 * 1024 * MIB, min: 0, max: TIB },
    maxFdsPerUser: count(1024),
    maxObjectsPerUser: count(262_144),
    maxContextsPerUser: count(256),
    maxMessagesPerSecond: { kind: "integer", standard: 50_000, min: 100, max: 2 ** 24 },
    maxQueuedBytesPerUser: { kind: "integer", standard: 16 * MIB, min: 65_536, max: TIB },
    maxCapacityBytes: { kind: "power-of-two", standard: 256 * MIB, min: MIN_CAPACITY, max: MAX_CAPACITY },
    defaultCapacityBytes: { kind: "power-of-two", standard: MIB, min: MIN_CAPACITY, max: MAX_CAPACITY },
    maxQueuedBytes: { kind: "integer", standard: MIB, min: 65_536, max: 1024 * MIB },
  },
  wrap: {
    exposeTcp: { kind: "boolean", standard: true },
    rules: { kind: "lists", standard: {} },
  },
};

/** What is relayed without a rule of its own. Directories, devices, namespaces, epoll and the like are not: they are more
 *  than data. */
const RELAYED_FDS = ["unix-*", "tcp", "tcp-listener", "udp", "pipe", "memfd", "file", "eventfd", "pidfd", "dma-buf"];

/** In force unless a rule of the files has the same name. */
export const BUILT_IN_RULES: readonly Rule[] = [
  {
    name: "owner",
    effect: "allow",
    where: BUILT_IN,
    criteria: {
      uid: ["owner"],
      action: OPERATIONS.filter((operation) => operation !== "offer" && operation !== "take"),
    },
  },
  {
    name: "owner-fds",
    effect: "allow",
    where: BUILT_IN,
    criteria: { uid: ["owner"], action: ["offer", "take"], fd: RELAYED_FDS },
  },
];

function standards<S extends SectionName>(section: S): ShmlinkConfig[S] {
  const entries = Object.entries<Field<unknown>>(SCHEMA[section]).map(([key, field]) => [key, field.standard]);
  return Object.fromEntries(entries); // as Section<> says, each key has a value of its type
}

export const builtInConfig: ShmlinkConfig = {
  broker: standards("broker"),
  limits: standards("limits"),
  wrap: standards("wrap"),
  rules: BUILT_IN_RULES,
};
