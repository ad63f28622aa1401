/**
 * Options at SOL_SOCKET that few programs set on a socket that is to connect, and none while it is in use: setsockopt(2) of
 * them is trapped to be remembered, so that connect(2) need not look for each of them on each socket. Not among them are
 * those that programs set on many a connection (SO_KEEPALIVE) or again and again (the time limits, SO_RCVLOWAT). Pure.
 */
import { constants } from "../../ffi/mod.ts";

export const SELDOM_OPTIONS: readonly number[] = [
  constants.SO_REUSEADDR,
  constants.SO_RCVBUF,
  constants.SO_RCVBUFFORCE, // changes SO_RCVBUF
  constants.SO_OOBINLINE,
  constants.SO_PRIORITY,
  constants.SO_LINGER,
];
