/** What a healthy TCP connection over the loopback interface says of itself (linux/tcp.h struct tcp_info). Pure. */

export const TCP_INFO = 11;

/** Of the loopback interface, whose MTU is 65536: less 40 bytes of headers, 12 of options, and rounding. */
export const LOOPBACK_MSS = 65483;

const TCP_ESTABLISHED = 1;
const STATE = 0;

/** Offsets of 32-bit fields, and plausible values: times in microseconds, sizes in bytes. */
const FIELDS: readonly (readonly [offset: number, value: number])[] = [
  [8, 200_000], // tcpi_rto
  [12, 40_000], // tcpi_ato
  [16, LOOPBACK_MSS], // tcpi_snd_mss
  [20, LOOPBACK_MSS], // tcpi_rcv_mss
  [60, 65_535], // tcpi_pmtu
  [64, LOOPBACK_MSS], // tcpi_rcv_ssthresh
  [68, 20], // tcpi_rtt
  [72, 10], // tcpi_rttvar
  [80, 10], // tcpi_snd_cwnd
  [84, LOOPBACK_MSS], // tcpi_advmss
];

/** @param unconnected  what a fresh socket answers, cut to what the caller has room for */
export function connectedTcpInfo(unconnected: Uint8Array): Uint8Array {
  const bytes = unconnected.slice();
  const data = new DataView(bytes.buffer);
  if (bytes.length > STATE) bytes[STATE] = TCP_ESTABLISHED;
  for (const [offset, value] of FIELDS) if (offset + 4 <= bytes.length) data.setUint32(offset, value, true);
  return bytes;
}
