/** What machine code has to know once and for all. */
import { type BorrowedFd, constants, TrapPath } from "../../../ffi/mod.ts";
import { type Endpoint, LOOPBACK_V4 } from "../host.ts";
import { connectionNameParts } from "../names.ts";
import { sendBufferOption, type Template } from "../options.ts";
import { everySecondPort, sharePortCursor } from "../route.ts";
import { SELDOM_OPTIONS } from "../seldom-options.ts";

const PROTOCOL = { level: constants.SOL_SOCKET, name: constants.SO_PROTOCOL, value: int(constants.IPPROTO_TCP) };
const NETWORK = { level: constants.SOL_SOCKET, name: constants.SO_NETNS_COOKIE };
const NO_PORT: Endpoint = { host: LOOPBACK_V4, port: 0 };

export type OpenOptions = {
  readonly notify: BorrowedFd;
  readonly others: BorrowedFd;
  readonly mostFiles: number;
  /** Of a TCP socket of IPv4. */
  readonly template: Template;
  /** Whether programs may have io_uring, which sets options unseen. */
  readonly hasRings: boolean;
};

/** To be called when a socket has been made ready: how it gets its room for sending is known only then. */
export function openTrapPath({ notify, others, mostFiles, template, hasRings }: OpenOptions): TrapPath {
  const { commonDefaults, network } = template;
  const noted = hasRings ? [] : SELDOM_OPTIONS;
  const checks = commonDefaults
    .map(({ option: [level, name], value }) => ({ level, name, value }))
    .filter(({ name }) => !noted.includes(name));
  if (network !== undefined) checks.push({ ...NETWORK, value: network });
  const { head, tail } = connectionNameParts({ domain: 4, client: LOOPBACK_V4, server: NO_PORT });
  const path = new TrapPath({
    notify,
    mostFiles,
    others,
    checks: [PROTOCOL, ...checks],
    noted,
    sendBuffer: sendBufferOption(),
    ports: everySecondPort(false),
    ends: [head, tail.slice(0, tail.lastIndexOf("-") + 1)],
  });
  sharePortCursor(path);
  return path;
}

function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}
