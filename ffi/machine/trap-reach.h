/* A Unix socket that is connected to where a connect() leads. */
#pragma once
#include "trap-look.h"

/* So many who connect elsewhere, one after the other, have the next sockets made for them. */
enum { MOST_MISSES = 64 };

static uint32_t next_of_all(struct trap_path *s) {
  s->next_port = (s->next_port + 1) % s->port_count;
  return s->first_port + 2 * s->next_port;
}

/* None that is the server's own: programs would take that for a socket which is connected to itself. */
static uint32_t next_port(struct trap_path *s, const struct target *to) {
  uint32_t port = next_of_all(s), server = (uint8_t)to->key[2] << 8 | (uint8_t)to->key[3];
  return port == server ? next_of_all(s) : port;
}

/* Binds it to the name of a 4-tuple that nobody has. */
static long bind_name(struct trap_path *s, struct target *to, int fd) {
  char address[NAME_ROOM];
  long result = -EADDRINUSE;
  for (int try = 0; try < TRIES && result == -EADDRINUSE; try++)
    result = CALL3(BIND, fd, address, put_name(address, &to->parts, next_port(s, to)));
  return result;
}

static long make_socket(struct trap_path *s, struct target *to) {
  long fd = CALL3(SOCKET, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), result;
  if (fd < 0) return fd;
  CALL5(SETSOCKOPT, fd, SOL_SOCKET, s->buffer_name, &s->buffer_bytes, 4);
  result = bind_name(s, to, fd);
  if (result == 0) return fd;
  CALL3(CLOSE, fd, 0, 0);
  return result;
}

/* Has the next ones made, which takes the maker less time than it takes us to use those that are there. */
static void order(struct trap_path *s, struct maker *m, struct target *to) {
  for (int i = 0; i < EACH_TIME; i++) m->ports[i] = next_port(s, to);
  for (uint32_t at = 0; at < sizeof m->parts; at++) ((char *)&m->parts)[at] = ((char *)&to->parts)[at];
  for (int at = 0; at < 8; at++) m->key[at] = to->key[at];
  CALL3(GETCPU, &m->processor, 0, 0);
  m->buffer_name = s->buffer_name;
  m->buffer_bytes = s->buffer_bytes;
  __atomic_store_n(&m->state, WORKING, __ATOMIC_SEQ_CST);
  CALL3(FUTEX, &m->state, FUTEX_WAKE_PRIVATE, 1);
}

/* Takes what was made. @param is_ours  0: to close it */
static void take_made(struct maker *m, int is_ours) {
  while (!is_ours && m->ready_count > 0) CALL3(CLOSE, m->ready[--m->ready_count], 0, 0);
  while (m->made_count > 0) {
    int32_t fd = m->made[--m->made_count];
    if (fd >= 0 && is_ours) m->ready[m->ready_count++] = fd;
    else if (fd >= 0) CALL3(CLOSE, fd, 0, 0);
  }
}

/* @returns a socket that leads there but for connect(2), below 0 for an error */
static long take_socket(struct trap_path *s, struct target *to) {
  struct maker *m = s->maker;
  if (m == NULL) return make_socket(s, to);
  int is_ours = same(m->key, to->key, 8), is_at_rest = __atomic_load_n(&m->state, __ATOMIC_SEQ_CST) == AT_REST;
  if (is_ours) m->misses = 0;
  if (is_at_rest && (is_ours ? m->ready_count == 0 : m->key[0] == 0 || ++m->misses >= MOST_MISSES)) {
    take_made(m, is_ours);
    order(s, m, to);
  }
  return is_ours && m->ready_count > 0 ? m->ready[--m->ready_count] : make_socket(s, to);
}

/* @returns a socket that is connected to the target, below 0 for an error */
static long reach(struct trap_path *s, struct target *to) {
  long fd = take_socket(s, to), result;
  if (fd < 0) return fd;
  do result = CALL3(CONNECT, fd, to->path, to->path_length);
  while (result == -EINTR);
  if (result == 0) return fd;
  CALL3(CLOSE, fd, 0, 0);
  return result;
}
