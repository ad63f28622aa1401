/** Structs of linux/seccomp.h and linux/filter.h. */
import { defineStruct, type Struct } from "../struct.ts";

export const SOCK_FILTER: Struct<{ code: "u16"; jt: "u8"; jf: "u8"; k: "u32" }> = defineStruct("struct sock_filter", {
  code: "u16",
  jt: "u8",
  jf: "u8",
  k: "u32",
});

export const SOCK_FPROG: Struct<{ len: "u16"; filter: "size" }> = defineStruct("struct sock_fprog", {
  len: "u16",
  filter: "size",
});

type SeccompData = { nr: "i32"; arch: "u32"; instruction_pointer: "u64"; args: { bytes: 48 } };
export const SECCOMP_DATA: Struct<SeccompData> = defineStruct("struct seccomp_data", {
  nr: "i32",
  arch: "u32",
  instruction_pointer: "u64",
  args: { bytes: 48 },
});

/** With struct seccomp_data unfolded: its fields start at offset 16. */
type SeccompNotif = { id: "u64"; pid: "u32"; flags: "u32" } & SeccompData;
export const SECCOMP_NOTIF: Struct<SeccompNotif> = defineStruct("struct seccomp_notif", {
  id: "u64",
  pid: "u32",
  flags: "u32",
  nr: "i32",
  arch: "u32",
  instruction_pointer: "u64",
  args: { bytes: 48 },
});

export const SECCOMP_NOTIF_RESP: Struct<{ id: "u64"; val: "i64"; error: "i32"; flags: "u32" }> = defineStruct(
  "struct seccomp_notif_resp",
  { id: "u64", val: "i64", error: "i32", flags: "u32" },
);

export const SECCOMP_NOTIF_ADDFD: Struct<{ id: "u64"; flags: "u32"; srcfd: "u32"; newfd: "u32"; newfd_flags: "u32" }> =
  defineStruct("struct seccomp_notif_addfd", {
    id: "u64",
    flags: "u32",
    srcfd: "u32",
    newfd: "u32",
    newfd_flags: "u32",
  });
