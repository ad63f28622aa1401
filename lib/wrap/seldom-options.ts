/**
 * Options at SOL_SOCKET that few programs set on a socket that is to connect, and none while it is in use: setsockopt(2) of
 * them is trapped to be remembered, so that connect(2) need not look for each of them on each socket. Not among them are
 * those that programs set on many a connection (SO_KEEPALIVE) or again and again (the time limits, SO_RCVLOWAT,
 * SO_MAX_PACING_RATE). Pure.
 */
import { constants } from "../../ffi/mod.ts";

/** Those that even a connect() of which nothing is remembered looks for when it comes the long way. */
const SELDOM: readonly number[] = [
  constants.SO_REUSEADDR,
  constants.SO_RCVBUF,
  constants.SO_RCVBUFFORCE, // changes SO_RCVBUF
  constants.SO_OOBINLINE,
  constants.SO_PRIORITY,
  constants.SO_LINGER,
];

/** Those that it does not look for: hardly any program sets them. */
export const RARE_OPTIONS: readonly number[] = [
  constants.SO_DONTROUTE,
  constants.SO_BROADCAST,
  constants.SO_TIMESTAMP,
  constants.SO_TIMESTAMPNS,
  constants.SO_TIMESTAMPING,
  constants.SO_MARK,
  constants.SO_PEEK_OFF,
  constants.SO_BINDTOIFINDEX,
];

export const SELDOM_OPTIONS: readonly number[] = [
  ...SELDOM,
  ...RARE_OPTIONS,
  constants.SO_BINDTODEVICE, // changes SO_BINDTOIFINDEX
];
