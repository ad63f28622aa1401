/** Structs of socket(7): addresses, messages, credentials. */
import { defineStruct, type Struct } from "../struct.ts";

// linux/un.h
export const SOCKADDR_UN: Struct<{ sun_family: "u16"; sun_path: { bytes: 108 } }> = defineStruct("struct sockaddr_un", {
  sun_family: "u16",
  sun_path: { bytes: 108 },
});

// linux/in.h; port in network byte order, kept as two bytes
export const SOCKADDR_IN: Struct<{
  sin_family: "u16";
  sin_port: { bytes: 2 };
  sin_addr: { bytes: 4 };
  sin_zero: { bytes: 8 };
}> = defineStruct("struct sockaddr_in", {
  sin_family: "u16",
  sin_port: { bytes: 2 },
  sin_addr: { bytes: 4 },
  sin_zero: { bytes: 8 },
});

// linux/in6.h
export const SOCKADDR_IN6: Struct<{
  sin6_family: "u16";
  sin6_port: { bytes: 2 };
  sin6_flowinfo: "u32";
  sin6_addr: { bytes: 16 };
  sin6_scope_id: "u32";
}> = defineStruct("struct sockaddr_in6", {
  sin6_family: "u16",
  sin6_port: { bytes: 2 },
  sin6_flowinfo: "u32",
  sin6_addr: { bytes: 16 },
  sin6_scope_id: "u32",
});

// bits/types/struct_iovec.h
export const IOVEC: Struct<{ iov_base: "size"; iov_len: "size" }> = defineStruct("struct iovec", {
  iov_base: "size",
  iov_len: "size",
});

// bits/socket.h
export const MSGHDR: Struct<{
  msg_name: "size";
  msg_namelen: "u32";
  msg_iov: "size";
  msg_iovlen: "size";
  msg_control: "size";
  msg_controllen: "size";
  msg_flags: "i32";
}> = defineStruct("struct msghdr", {
  msg_name: "size",
  msg_namelen: "u32",
  msg_iov: "size",
  msg_iovlen: "size",
  msg_control: "size",
  msg_controllen: "size",
  msg_flags: "i32",
});

// bits/socket.h; the data follows at CMSG_LEN(0) = 16
export const CMSGHDR: Struct<{ cmsg_len: "size"; cmsg_level: "i32"; cmsg_type: "i32" }> = defineStruct(
  "struct cmsghdr",
  { cmsg_len: "size", cmsg_level: "i32", cmsg_type: "i32" },
);

// unix(7)
export const UCRED: Struct<{ pid: "i32"; uid: "u32"; gid: "u32" }> = defineStruct("struct ucred", {
  pid: "i32",
  uid: "u32",
  gid: "u32",
});
