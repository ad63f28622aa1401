/* The fewest steps with which a supervisor in another process can hand TCP connections off to a Unix socket.
 *   handoff PROGRAM ARGUMENT...    runs it; its TCP listeners become Unix ones, its connections to such listeners too
 * A bound and no tool: nothing is looked at that an ordinary connection over 127.0.0.1 does not need. No option, flag or
 * epoll set of a socket is kept, no refusal is told as TCP would, and descriptors are trusted to be what they were. */
#include "seccomp.h"
#include <fcntl.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

enum { ROOM = 4 << 20, LISTENERS = 8, THREADS = 16 };

static int notify;
static pid_t child;

static void pass_on(int number) { kill(child, number); }

static void answer(const struct seccomp_notif *n, int error, unsigned flags) {
  struct seccomp_notif_resp r = {.id = n->id, .error = error, .flags = flags};
  ioctl(notify, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static void leave(const struct seccomp_notif *n) { answer(n, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE); }

static int thread_of(const struct seccomp_notif *n) {
  static struct { int tid, fd; } known[THREADS];
  static int next;
  for (int i = 0; i < THREADS; i++)
    if (known[i].tid == (int)n->pid) return known[i].fd;
  int at = next++ % THREADS;
  if (known[at].tid != 0) close(known[at].fd);
  known[at].fd = syscall(SYS_pidfd_open, n->pid, PIDFD_THREAD);
  if (known[at].fd < 0) die("pidfd_open");
  return known[at].tid = n->pid, known[at].fd;
}

static int take(const struct seccomp_notif *n) { return syscall(SYS_pidfd_getfd, thread_of(n), (int)n->data.args[0], 0); }

/* "@bench/PORT" of a listener, "@bench/PORT/CLIENT" of a client. */
static socklen_t name(struct sockaddr_un *a, int server, int client) {
  char *text = a->sun_path + 1;
  a->sun_family = AF_UNIX;
  a->sun_path[0] = 0;
  int length = client < 0 ? sprintf(text, "bench/%d", server) : sprintf(text, "bench/%d/%d", server, client);
  return offsetof(struct sockaddr_un, sun_path) + 1 + length;
}

static int put(const struct seccomp_notif *n, int fd, unsigned flags) {
  struct seccomp_notif_addfd add = {.id = n->id, .flags = flags, .srcfd = fd, .newfd = flags == SECCOMP_ADDFD_FLAG_SETFD ? n->data.args[0] : 0};
  return ioctl(notify, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
}

static void serve_connect(const struct seccomp_notif *n) {
  static int client;
  struct sockaddr_in in;
  struct sockaddr_un own, peer;
  struct iovec local = {&in, sizeof in}, remote = {(void *)n->data.args[1], sizeof in};
  if (process_vm_readv(n->pid, &local, 1, &remote, 1, 0) != sizeof in || in.sin_family != AF_INET) return leave(n);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0), room = ROOM / 2, port = ntohs(in.sin_port);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  client = (client + 1) % 28000;
  int ok = bind(fd, (void *)&own, name(&own, port, 32768 + client)) == 0 &&
           connect(fd, (void *)&peer, name(&peer, port, -1)) == 0 && put(n, fd, SECCOMP_ADDFD_FLAG_SETFD) >= 0;
  close(fd);
  if (ok) answer(n, 0, 0);
  else leave(n);
}

static void serve_listen(const struct seccomp_notif *n) {
  struct sockaddr_in in;
  struct sockaddr_un un;
  socklen_t length = sizeof in;
  int tcp = take(n), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (getsockname(tcp, (void *)&in, &length) < 0 || in.sin_family != AF_INET) {
    leave(n); /* a Unix listener, or one that is in place already */
  } else {
    if (bind(fd, (void *)&un, name(&un, ntohs(in.sin_port), -1)) < 0 || listen(fd, 4096) < 0) die("listen");
    if (put(n, fd, SECCOMP_ADDFD_FLAG_SETFD) < 0) die("ADDFD");
    answer(n, 0, 0);
  }
  close(tcp);
  close(fd);
}

static int read_port(const struct sockaddr_un *a, socklen_t length) {
  int server, client;
  char text[128];
  int n = length - offsetof(struct sockaddr_un, sun_path) - 1;
  if (n <= 0) return -1;
  memcpy(text, a->sun_path + 1, n);
  text[n] = 0;
  return sscanf(text, "bench/%d/%d", &server, &client) == 2 ? client : -1;
}

static void serve_accept(const struct seccomp_notif *n, int flags) {
  struct sockaddr_un un;
  socklen_t length = sizeof un;
  int listener = take(n), fd = accept4(listener, (void *)&un, &length, flags | SOCK_CLOEXEC), room = ROOM / 2;
  if (fd < 0) answer(n, -errno, 0);
  else {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(read_port(&un, length)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t whole = sizeof in;
    struct iovec local[2] = {{&in, sizeof in}, {&whole, sizeof whole}};
    struct iovec remote[2] = {{(void *)n->data.args[1], sizeof in}, {(void *)n->data.args[2], sizeof whole}};
    if (n->data.args[1] != 0) process_vm_writev(n->pid, local, 2, remote, 2, 0);
    put(n, fd, SECCOMP_ADDFD_FLAG_SEND);
    close(fd);
  }
  close(listener);
}

static void serve(const struct seccomp_notif *n) {
  switch (n->data.nr) {
    case SYS_connect: return serve_connect(n);
    case SYS_listen: return serve_listen(n);
    case SYS_accept4: return serve_accept(n, n->data.args[3]);
    default: leave(n);
  }
}

static int install(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_accept4, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_listen, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

int main(int argc, char **argv) {
  int pair[2], number;
  if (argc < 2) return 2;
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
  child = fork();
  if (child == 0) {
    char c;
    if ((number = install()) < 0 || write(pair[1], &number, sizeof number) != sizeof number) die("seccomp");
    if (read(pair[1], &c, 1) != 1) die("read");
    execvp(argv[1], argv + 1);
    die(argv[1]);
  }
  signal(SIGTERM, pass_on);
  int pidfd = syscall(SYS_pidfd_open, child, 0);
  if (read(pair[0], &number, sizeof number) != sizeof number) die("read");
  if ((notify = syscall(SYS_pidfd_getfd, pidfd, number, 0)) < 0) die("pidfd_getfd");
  ioctl(notify, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  if (write(pair[0], "", 1) != 1) die("write");
  /* Blocks in the kernel, which says ENOENT when nobody is left (Linux 6.11). */
  for (struct seccomp_notif n; memset(&n, 0, sizeof n), ioctl(notify, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0 || errno == EINTR;)
    serve(&n);
  waitpid(child, NULL, 0);
  return 0;
}
