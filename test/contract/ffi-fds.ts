/** Contract: descriptors have one owner, are close-on-exec from birth, and travel between processes. */
import assert from "node:assert/strict";
import { lstatSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import {
  accept,
  bind,
  borrowFd,
  checkExecutable,
  connect,
  constants,
  epollCreate,
  fchmod,
  fcntl,
  flock,
  fstat,
  getFileLimit,
  getStatusFlags,
  listen,
  listFolder,
  lstat,
  memfdCreate,
  OwnedFd,
  open,
  peerCredentials,
  peerPidfd,
  pidfdOpen,
  pipe,
  read,
  readSmallFile,
  recvmsg,
  SCM_MAX_FD,
  sendmsg,
  setFileLimit,
  setNonBlocking,
  socket,
  socketpair,
  stat,
  unixAddress,
  write,
} from "../../ffi/mod.ts";
import { codeOf } from "./ffi-errors.ts";
import type { Case } from "./suite.ts";

const { AF_UNIX, F_GETFD, FD_CLOEXEC, LOCK_EX, LOCK_NB, O_CREAT, O_NONBLOCK, O_RDONLY, O_RDWR, SOCK_STREAM } =
  constants;

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function isCloseOnExec(fd: OwnedFd): boolean {
  return (fcntl(fd, F_GETFD) & FD_CLOEXEC) !== 0;
}

function isOpen(number: number): boolean {
  try {
    readlinkSync(`/proc/self/fd/${number}`); // listing the folder would open, and count, the lowest free number
    return true;
  } catch {
    return false;
  }
}

/** One of everything that hands out a descriptor. */
function makeAll(): OwnedFd[] {
  const path = `@shmlink-contract-${process.pid}`;
  const listener = socket(AF_UNIX, SOCK_STREAM);
  bind(listener, unixAddress(path));
  listen(listener, 1);
  const client = socket(AF_UNIX, SOCK_STREAM);
  connect(client, unixAddress(path));
  const { reader, writer } = pipe();
  const pair = socketpair(SOCK_STREAM);
  sendmsg(pair[0], text("x"), [reader]);
  const passed = recvmsg(pair[1])?.fds ?? [];
  const accepted = accept(listener)?.fd;
  assert.ok(accepted !== undefined && passed.length === 1);
  const others = [memfdCreate("all"), epollCreate(), open("/dev/null", O_RDONLY), pidfdOpen(process.pid), reader.dup()];
  return [listener, client, accepted, reader, writer, ...pair, ...passed, ...others];
}

const OWNERSHIP: readonly Case[] = [
  {
    name: "lstat() says what lstatSync() says, of a link itself too, and nothing of what is not there",
    run() {
      const link = `/tmp/shmlink-contract-link-${process.pid}`;
      symlinkSync("/nowhere", link);
      for (const path of ["/", "/tmp", "/dev/null", link]) {
        const { mode, uid, gid, ino } = lstatSync(path, { bigint: true });
        const { mode: ownMode, uid: ownUid, gid: ownGid, ino: ownIno } = lstat(path) ?? {};
        assert.deepEqual([ownMode, ownUid, ownGid, ownIno], [Number(mode), Number(uid), Number(gid), ino], path);
      }
      assert.equal(stat(link), undefined, "stat() asks for what the link stands for");
      assert.equal(stat("/proc/self/exe")?.mode, lstatSync(readlinkSync("/proc/self/exe")).mode);
      rmSync(link);
      assert.equal(lstat(link), undefined);
      assert.equal(
        codeOf(() => lstat("/dev/null/x")),
        "ENOTDIR",
      );
    },
  },
  {
    name: "listFolder() has the names that readdirSync() has, however many",
    run() {
      const folder = mkdtempSync("/tmp/shmlink-contract-");
      assert.deepEqual(listFolder(folder), []);
      for (let index = 0; index < 700; index++) writeFileSync(`${folder}/${"ü".repeat(20)}-${index}`, "");
      assert.deepEqual(listFolder(folder).sort(), readdirSync(folder).sort());
      rmSync(folder, { recursive: true });
      assert.equal(
        codeOf(() => listFolder("/dev/null")),
        "ENOTDIR",
      );
    },
  },
  {
    name: "readSmallFile() reads to the end, and checkExecutable() asks what execve() would",
    run() {
      assert.match(readSmallFile("/proc/self/status"), /^Name:[\s\S]*^Pid:\s+\d+$[\s\S]*\n$/m);
      checkExecutable("/bin/sh");
      assert.equal(
        codeOf(() => checkExecutable("/proc/self/status")),
        "EACCES",
      );
    },
  },
  {
    name: "every descriptor is close-on-exec from birth",
    run() {
      const all = makeAll();
      assert.deepEqual(
        all.map(isCloseOnExec),
        all.map(() => true),
      );
      for (const fd of all) fd.close();
    },
  },
  {
    name: "close() twice never closes a reused number",
    run() {
      const first = open("/dev/null", O_RDONLY);
      const number = first.number;
      first.close();
      using second = open("/dev/null", O_RDONLY);
      assert.equal(second.number, number, "the kernel hands out the lowest number");
      first.close();
      assert.equal(read(second, new Uint8Array(1)), 0);
      assert.ok(first.closed && !second.closed);
    },
  },
  {
    name: "take() gives ownership up",
    run() {
      const fd = open("/dev/null", O_RDONLY);
      const number = fd.take();
      fd.close();
      assert.ok(isOpen(number) && fd.closed);
      assert.equal(
        codeOf(() => fd.number),
        "EBADF",
      );
      assert.equal(
        codeOf(() => fd.take()),
        "EBADF",
      );
      new OwnedFd(number).close();
      assert.ok(!isOpen(number));
    },
  },
  {
    name: "using closes at the end of the scope, also when it is left by an error",
    run() {
      let number = -1;
      assert.throws(() => {
        using fd = open("/dev/null", O_RDONLY);
        number = fd.number;
        throw new Error("leave");
      }, /leave/);
      assert.ok(number > 2 && !isOpen(number));
    },
  },
  {
    name: "dup() shares the description and lives on its own",
    run() {
      const { reader, writer } = pipe();
      const second = reader.dup();
      reader.close();
      setNonBlocking(second, true);
      assert.equal(read(second, new Uint8Array(4)), null);
      write(writer, text("dup"));
      assert.equal(read(second, new Uint8Array(4)), 3);
      writer.close();
      second.close();
    },
  },
  {
    name: "a borrowed descriptor stays open",
    run() {
      using fd = open("/dev/null", O_RDONLY);
      assert.equal(fstat(borrowFd(fd.number)).ino, fstat(fd).ino);
      assert.ok(isOpen(fd.number));
    },
  },
];

const TRANSFER: readonly Case[] = [
  {
    name: "read and write move exactly the bytes of a subarray",
    run() {
      const { reader, writer } = pipe(O_NONBLOCK);
      assert.equal(write(writer, text("0123456789").subarray(3, 7)), 4);
      const room = new Uint8Array(10).fill(0x2e);
      assert.equal(read(reader, room.subarray(2, 8)), 4);
      assert.equal(new TextDecoder().decode(room), "..3456....");
      assert.equal(write(writer, new Uint8Array(0)), 0);
      assert.equal(read(reader, new Uint8Array(0)), 0);
      assert.equal(read(reader, room), null, "would block");
      writer.close();
      assert.equal(read(reader, room), 0, "end");
      reader.close();
    },
  },
  {
    name: "a full non-blocking pipe answers null, a broken one EPIPE",
    run() {
      const { reader, writer } = pipe(O_NONBLOCK);
      const megabyte = new Uint8Array(1 << 20);
      let total = 0;
      for (let part = write(writer, megabyte); part !== null; part = write(writer, megabyte)) total += part;
      assert.ok(total > 0 && total < megabyte.length);
      reader.close();
      assert.equal(
        codeOf(() => write(writer, megabyte)),
        "EPIPE",
      );
      writer.close();
    },
  },
  {
    name: "O_NONBLOCK is set, read and cleared",
    run() {
      const { reader, writer } = pipe();
      setNonBlocking(reader, true);
      assert.equal(getStatusFlags(reader) & O_NONBLOCK, O_NONBLOCK);
      setNonBlocking(reader, false);
      assert.equal(getStatusFlags(reader) & O_NONBLOCK, 0);
      reader.close();
      writer.close();
    },
  },
  {
    name: "flock, fchmod and fstat see one file",
    run() {
      const path = `/tmp/shm-contract-${process.pid}`;
      writeFileSync(path, "12345");
      try {
        using first = open(path, O_RDWR | O_CREAT, 0o600);
        using second = open(path, O_RDWR);
        assert.equal(flock(first, LOCK_EX), true);
        assert.equal(flock(second, LOCK_EX | LOCK_NB), false);
        fchmod(first, 0o640);
        const { mode, sizeBytes, uid, ino } = fstat(second);
        assert.deepEqual([mode & 0o777, sizeBytes, uid], [0o640, 5, process.getuid?.()]);
        assert.equal(ino, fstat(first).ino);
      } finally {
        rmSync(path);
      }
    },
  },
];

const PASSING: readonly Case[] = [
  {
    name: "descriptors arrive with their byte, in order, as the same files",
    run() {
      const [left, right] = socketpair(SOCK_STREAM);
      const files = Array.from({ length: 28 }, (_, index) => memfdCreate(`passed-${index}`));
      assert.equal(sendmsg(left, text("hello"), files), 5);
      const received = recvmsg(right);
      assert.equal(new TextDecoder().decode(received?.bytes), "hello");
      assert.deepEqual(
        received?.fds.map((fd) => fstat(fd).ino),
        files.map((fd) => fstat(fd).ino),
      );
      assert.equal(received?.truncated, false);
      for (const fd of [left, right, ...files, ...(received?.fds ?? [])]) fd.close();
    },
  },
  {
    name: `${SCM_MAX_FD} descriptors fit in a message, one more is EINVAL`,
    run() {
      const [left, right] = socketpair(SOCK_STREAM);
      using file = memfdCreate("many");
      const many = new Array<OwnedFd>(SCM_MAX_FD).fill(file);
      assert.equal(sendmsg(left, text("m"), many), 1);
      const received = recvmsg(right);
      assert.equal(received?.fds.length, SCM_MAX_FD);
      assert.equal(
        codeOf(() => sendmsg(left, text("m"), [...many, file])),
        "EINVAL",
      );
      for (const fd of [...(received?.fds ?? []), left, right]) fd.close();
    },
  },
  {
    name: "descriptors that the limit has no room for are reported, and the others owned",
    run() {
      const [left, right] = socketpair(SOCK_STREAM);
      using file = memfdCreate("limited");
      sendmsg(left, text("l"), new Array<OwnedFd>(8).fill(file));
      const limit = getFileLimit();
      using lowest = file.dup();
      // Numbers below `lowest` are taken; room for three more.
      setFileLimit({ soft: BigInt(lowest.number + 4), hard: limit.hard });
      const received = recvmsg(right);
      setFileLimit(limit);
      assert.equal(received?.truncated, true);
      assert.ok((received?.fds.length ?? 9) <= 3);
      for (const fd of [...(received?.fds ?? []), left, right]) fd.close();
    },
  },
  {
    name: "recvmsg tells nothing there, data and the end apart",
    run() {
      const [left, right] = socketpair(SOCK_STREAM);
      assert.equal(recvmsg(right), null);
      sendmsg(left, text("d"));
      assert.equal(recvmsg(right)?.bytes.length, 1);
      left.close();
      assert.equal(recvmsg(right)?.bytes.length, 0);
      assert.equal(
        codeOf(() => sendmsg(right, text("x"))),
        "EPIPE",
      );
      right.close();
    },
  },
  {
    name: "sendmsg to a peer that does not read ends in null, not in waiting",
    run() {
      const [left, right] = socketpair(SOCK_STREAM);
      const big = new Uint8Array(1 << 17);
      let sent = 0;
      for (let part = sendmsg(left, big); part !== null; part = sendmsg(left, big)) sent += part;
      let received = 0;
      for (let part = recvmsg(right); part !== null; part = recvmsg(right)) received += part.bytes.length;
      assert.equal(received, sent);
      left.close();
      right.close();
    },
  },
  {
    name: "the peer of a socketpair is this process",
    run() {
      const [left, right] = socketpair(SOCK_STREAM);
      const { pid, uid, gid } = peerCredentials(left);
      assert.deepEqual([pid, uid, gid], [process.pid, process.getuid?.(), process.getgid?.()]);
      peerPidfd(left)?.close();
      left.close();
      right.close();
    },
  },
];

export const FD_CASES: readonly Case[] = [...OWNERSHIP, ...TRANSFER, ...PASSING];
