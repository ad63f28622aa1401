/* An accept() that finds such a connection, and the names of both ends. */
#pragma once
#include "trap-connect.h"

/* Reads the two ports off the name of a client's end between IPv4's loopback addresses. */
static int read_ports(struct trap_path *s, const char *name, uint32_t length, uint16_t *ports) {
  uint32_t at = 0;
  for (int end = 0; end < 2; end++) {
    uint32_t value = 0, start, head = end == 0 ? s->ends_length & 0xffff : s->ends_length >> 16;
    if (at + head >= length || !same(name + at, s->ends[end], head)) return 0;
    for (start = at += head; at < length && at < start + 5 && name[at] >= '0' && name[at] <= '9'; at++)
      value = value * 10 + name[at] - '0';
    if (at == start || value > 65535) return 0;
    ports[end] = value << 8 | value >> 8;
  }
  return at == length;
}

/* @returns the room that a caller's length says, -1 where it cannot be used */
static int32_t read_room(const struct notif *n, uint64_t where) {
  int32_t room;
  struct part here = {&room, sizeof room}, there = {(void *)where, sizeof room};
  long result = where == 0 ? 0 : call(PROCESS_VM_READV, n->pid, (long)&here, 1, (long)&there, 1, 0);
  return result == sizeof room ? room : -1;
}

/* Writes an address and its length into the program's memory, if the call waits still. */
static int write_address(struct trap_path *s, const struct notif *n, char *address, uint32_t length, uint32_t room) {
  struct part here[2] = {{address, length < room ? length : room}, {&length, sizeof length}};
  struct part there[2] = {{(void *)n->args[1], here[0].length}, {(void *)n->args[2], sizeof length}};
  if (ask(s, ID_VALID, (void *)&n->id) != 0) return 0;
  return call(PROCESS_VM_WRITEV, n->pid, (long)here, 2, (long)there, 2, 0) == (long)(here[0].length + sizeof length);
}

static void write_ipv4(char *address, uint16_t port) {
  uint32_t words[4] = {AF_INET | (uint32_t)port << 16, 0x0100007f, 0, 0};
  __builtin_memcpy(address, words, sizeof words);
}

static struct listener *find_listener(struct trap_path *s, int fd) {
  uint64_t cookie;
  uint32_t length = sizeof cookie;
  if (CALL5(GETSOCKOPT, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return NULL;
  for (int i = 0; i < MAX_LISTENERS; i++)
    if (s->listeners[i].used && s->listeners[i].cookie == cookie) return s->target = i, &s->listeners[i];
  return NULL;
}

/* Installs a descriptor and answers with its number. A signal in between would take the descriptor back and not the
 * answer, which is 0 then: none comes meanwhile. */
static long answer_with(struct trap_path *s, struct addfd *add) {
  uint64_t all = ~0ul, before;
  CALL5(RT_SIGPROCMASK, SIG_BLOCK, &all, &before, sizeof all, 0);
  long result = ask(s, ADDFD, add);
  CALL5(RT_SIGPROCMASK, SIG_SETMASK, &before, 0, sizeof before, 0);
  return result;
}

/* Gives a connection that was accepted to the call. @returns TAKEN where TypeScript has to look */
static int32_t give(struct trap_path *s, const struct notif *n, struct listener *l, int fd, uint32_t flags, int32_t room) {
  uint16_t ports[2];
  char address[32];
  if (!read_ports(s, s->name, s->name_length, ports)) return TAKEN; /* a marker, a probe, a stranger */
  CALL5(SETSOCKOPT, fd, SOL_SOCKET, s->buffer_name, &s->buffer_bytes, 4);
  for (uint32_t i = 0; i < l->option_count; i++)
    CALL5(SETSOCKOPT, fd, l->options[i].level, l->options[i].name, l->options[i].value, l->options[i].length);
  for (uint32_t at = 0; at < sizeof address; at++) address[at] = l->address[at];
  __builtin_memcpy(address + 2, ports, 2);
  if (n->args[1] != 0 && !write_address(s, n, address, l->address_length, room)) return TAKEN;
  struct addfd add = {n->id, ADDFD_SEND, fd, 0, flags & SOCK_CLOEXEC};
  if (answer_with(s, &add) < 0) return TAKEN;
  CALL3(CLOSE, fd, 0, 0);
  return SERVED;
}

static int32_t take(struct trap_path *s, const struct notif *n, int listener, uint32_t flags, int32_t room) {
  struct listener *l = find_listener(s, listener);
  struct { int32_t fd; int16_t events, revents; } ready = {listener, POLLIN | POLLRDHUP, 0};
  uint64_t at_once[2] = {0, 0};
  /* All accept() calls come to us: what poll(2) sees is there still, and accept(2) cannot block, whatever O_NONBLOCK says. */
  if (l == NULL || CALL5(PPOLL, &ready, 1, at_once, 0, 8) != 1 || ready.revents != POLLIN) return LEFT_TO_YOU;
  s->name_length = sizeof s->name;
  uint32_t how = (flags & SOCK_NONBLOCK) | SOCK_CLOEXEC;
  long fd = call(ACCEPT4, listener, (long)s->name, (long)&s->name_length, how, 0, 0);
  if (fd < 0) return LEFT_TO_YOU;
  s->fd = fd;
  return give(s, n, l, fd, flags, room);
}

static int32_t serve_accept(struct trap_path *s, const struct notif *n, uint32_t flags) {
  struct thread *t = find_thread(s, n->pid);
  if (t == NULL || (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))) return LEFT_TO_YOU;
  int32_t room = n->args[1] == 0 ? 0 : read_room(n, n->args[2]);
  long fd = room < 0 ? -1 : CALL3(PIDFD_GETFD, t->pidfd, (int32_t)n->args[0], 0);
  if (fd < 0) return LEFT_TO_YOU;
  int32_t result = take(s, n, fd, flags, room);
  CALL3(CLOSE, fd, 0, 0);
  return result;
}

/* Makes the address that an end of a connection is to show. @returns its length; 0 where TypeScript has to look */
static uint32_t name_end(struct trap_path *s, int fd, int is_peer, char *address) {
  char own[128], peer[128];
  uint32_t own_length = sizeof own, peer_length = sizeof peer;
  uint16_t ports[2];
  if (CALL3(GETSOCKNAME, fd, own, &own_length) != 0 || own[0] != AF_UNIX) return 0;
  if (read_ports(s, own, own_length, ports)) return write_ipv4(address, ports[is_peer]), 16;
  for (int i = 0; i < MAX_LISTENERS; i++) {
    struct listener *l = &s->listeners[i];
    if (!l->used || l->path_length != own_length || !same(l->path, own, own_length)) continue;
    if (CALL3(GETPEERNAME, fd, peer, &peer_length) != 0 || !read_ports(s, peer, peer_length, ports)) return 0;
    for (int at = 0; at < 32; at++) address[at] = l->address[at];
    __builtin_memcpy(address + 2, &ports[!is_peer], 2);
    return l->address_length;
  }
  return 0;
}

static int32_t serve_name(struct trap_path *s, const struct notif *n, int is_peer) {
  struct thread *t = find_thread(s, n->pid);
  char address[32];
  long fd = t == NULL || n->args[1] == 0 ? -1 : CALL3(PIDFD_GETFD, t->pidfd, (int32_t)n->args[0], 0);
  if (fd < 0) return LEFT_TO_YOU;
  uint32_t length = name_end(s, fd, is_peer, address);
  CALL3(CLOSE, fd, 0, 0);
  int32_t room = length == 0 ? -1 : read_room(n, n->args[2]);
  if (room < 0 || !write_address(s, n, address, length, room) || !answer(s, n, 0)) return LEFT_TO_YOU;
  s->target = -1;
  return SERVED;
}
