/** Structs of processes, signals and files. */
import { defineStruct, type Struct } from "../struct.ts";

// asm/signal.h: what rt_sigaction(2) takes, which is not the libc's struct sigaction
export const KERNEL_SIGACTION: Struct<{ handler: "size"; flags: "size"; restorer: "size"; mask: "u64" }> = defineStruct(
  "struct kernel_sigaction",
  { handler: "size", flags: "size", restorer: "size", mask: "u64" },
);

// sys/resource.h; RLIM_INFINITY is all ones
export const RLIMIT: Struct<{ rlim_cur: "u64"; rlim_max: "u64" }> = defineStruct("struct rlimit", {
  rlim_cur: "u64",
  rlim_max: "u64",
});

// asm-generic/siginfo.h, as waitid(2) fills it; 128 bytes in all
export const SIGINFO_CHLD: Struct<{
  si_signo: "i32";
  si_errno: "i32";
  si_code: "i32";
  pad: "i32";
  si_pid: "i32";
  si_uid: "u32";
  si_status: "i32";
}> = defineStruct("siginfo_t", {
  si_signo: "i32",
  si_errno: "i32",
  si_code: "i32",
  pad: "i32",
  si_pid: "i32",
  si_uid: "u32",
  si_status: "i32",
});

// linux/stat.h, the first part; the whole is 256 bytes
export const STATX: Struct<{
  stx_mask: "u32";
  stx_blksize: "u32";
  stx_attributes: "u64";
  stx_nlink: "u32";
  stx_uid: "u32";
  stx_gid: "u32";
  stx_mode: "u16";
  stx_ino: "u64";
  stx_size: "size";
  stx_blocks: "size";
}> = defineStruct("struct statx", {
  stx_mask: "u32",
  stx_blksize: "u32",
  stx_attributes: "u64",
  stx_nlink: "u32",
  stx_uid: "u32",
  stx_gid: "u32",
  stx_mode: "u16",
  stx_ino: "u64",
  stx_size: "size",
  stx_blocks: "size",
});
