import { expect, test } from "bun:test";
import { registrationsIn } from "../../../lib/wrap/holdings.ts";

const INFO = `pos:	0
flags:	02
mnt_id:	16
ino:	2061
tfd:        7 events: 8000201d data:               4d  pos:0 ino:8f3a sdev:8
tfd:       12 events:       19 data: ffffffff00000001  pos:0 ino:8f3a sdev:8
tfd:        7 events:       19 data:                7  pos:0 ino:8f3b sdev:8
`;

test("registrationsIn() finds what an epoll set holds of one socket, by its inode", () => {
  expect(registrationsIn(INFO, 3, 0x8f3an)).toEqual([
    { epoll: 3, number: 7, events: 0x8000201d, data: 0x4dn },
    { epoll: 3, number: 12, events: 0x19, data: 0xffffffff00000001n },
  ]);
  expect(registrationsIn(INFO, 3, 1n)).toEqual([]);
  expect(registrationsIn("", 3, 0x8f3an)).toEqual([]);
});
