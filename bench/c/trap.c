/* What one trapped getpeername(2) costs, in nanoseconds.
 *   trap call PORT COUNT    connects to 127.0.0.1:PORT and asks; to be run under a supervisor
 *   trap supervise COUNT    the same under a supervisor in C, which does for each call what wrap does: takes the
 *                           descriptor, reads both names, makes the address of them, writes it and its length */
#include "seccomp.h"
#include <poll.h>

static void measure(int fd, int count) {
  struct sockaddr_in a;
  socklen_t length;
  double start = 0;
  for (int i = -count / 10; i < count; i++) {
    if (i == 0) start = now_ns();
    length = sizeof a;
    if (getpeername(fd, (void *)&a, &length) < 0 || a.sin_family != AF_INET) die("getpeername");
  }
  printf("%f\n", (now_ns() - start) / count);
  fflush(stdout);
}

static int call(int port, int count) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (void *)&a, sizeof a) < 0) die("connect");
  measure(fd, count);
  return 0;
}

static socklen_t name_of(struct sockaddr_un *a, const char *text) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  memcpy(a->sun_path + 1, text, strlen(text));
  return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(text);
}

static int install(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpeername, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void answer(int notify, struct seccomp_notif *n, int pidfd) {
  struct sockaddr_un own, peer;
  socklen_t own_length = sizeof own, peer_length = sizeof peer;
  int fd = syscall(SYS_pidfd_getfd, pidfd, (int)n->data.args[0], 0);
  if (ioctl(notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->id) < 0) die("valid");
  if (getsockname(fd, (void *)&own, &own_length) < 0 || getpeername(fd, (void *)&peer, &peer_length) < 0) die("names");
  close(fd);
  unsigned client, server;
  if (sscanf(own.sun_path + 1, "bench/4/127.0.0.1-%u/127.0.0.1-%u", &client, &server) != 2) die("name");
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(server), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int32_t room, whole = sizeof a;
  struct iovec local = {&room, 4}, remote = {(void *)n->data.args[2], 4};
  if (process_vm_readv(n->pid, &local, 1, &remote, 1, 0) != 4) die("read");
  if (ioctl(notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->id) < 0) die("valid");
  local = (struct iovec){&a, room < whole ? room : whole};
  remote = (struct iovec){(void *)n->data.args[1], local.iov_len};
  if (process_vm_writev(n->pid, &local, 1, &remote, 1, 0) < 0) die("write");
  local = (struct iovec){&whole, 4};
  remote = (struct iovec){(void *)n->data.args[2], 4};
  if (process_vm_writev(n->pid, &local, 1, &remote, 1, 0) < 0) die("write");
  struct seccomp_notif_resp response = {.id = n->id};
  if (ioctl(notify, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0) die("send");
}

static int supervise(int count) {
  struct sockaddr_un a, b;
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
  char text[64];
  snprintf(text, sizeof text, "bench/listener/%d", getpid());
  socklen_t length = name_of(&a, text);
  if (bind(listener, (void *)&a, length) < 0 || listen(listener, 1) < 0) die("listen");
  snprintf(text, sizeof text, "bench/4/127.0.0.1-%d/127.0.0.1-80", getpid() % 60000);
  socklen_t own = name_of(&b, text);
  if (bind(fd, (void *)&b, own) < 0 || connect(fd, (void *)&a, length) < 0) die("connect");
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  pid_t child = fork();
  if (child == 0) {
    int notify = install();
    if (notify < 0 || write(pair[1], &notify, sizeof notify) != sizeof notify) die("seccomp");
    char c;
    if (read(pair[1], &c, 1) != 1) die("read");
    measure(fd, count);
    _exit(0);
  }
  int number, pidfd = syscall(SYS_pidfd_open, child, 0);
  if (read(pair[0], &number, sizeof number) != sizeof number) die("read");
  int notify = syscall(SYS_pidfd_getfd, pidfd, number, 0);
  ioctl(notify, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  if (write(pair[0], "", 1) != 1) die("write");
  for (;;) {
    struct pollfd p = {.fd = notify, .events = POLLIN};
    poll(&p, 1, -1);
    if (!(p.revents & POLLIN)) break;
    struct seccomp_notif n;
    memset(&n, 0, sizeof n);
    if (ioctl(notify, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0) answer(notify, &n, pidfd);
  }
  waitpid(child, NULL, 0);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 3 && strcmp(argv[1], "call") == 0) return call(atoi(argv[2]), atoi(argv[3]));
  if (argc > 2 && strcmp(argv[1], "supervise") == 0) return supervise(atoi(argv[2]));
  return 2;
}
