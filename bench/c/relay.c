/* Descriptors passed on through a third process, one in each message: relay COUNT BUNDLE CPU_ENDS CPU_RELAY
 * The sender waits after each bundle for the relay's word that it has it, and the receiver asks the relay for each. */
#include "common.h"

static void put(int fd, int passed) {
  char byte = 1, control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
  memcpy(CMSG_DATA(c), &passed, sizeof passed);
  if (sendmsg(fd, &message, MSG_NOSIGNAL) != 1) die("sendmsg");
}

static int get(int fd) {
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  int passed;
  if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == NULL) die("recvmsg");
  memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
  return passed;
}

static void word(int fd) {
  if (write(fd, "w", 1) != 1) die("write");
}

static void await(int fd) {
  char byte;
  if (read(fd, &byte, 1) != 1) die("read");
}

static void relay(int from, int to, long count, int bundle) {
  for (long i = 0; i < count; i += bundle) {
    int held[64];
    for (int j = 0; j < bundle; j++) held[j] = get(from);
    word(from);
    await(to);
    for (int j = 0; j < bundle; j++) {
      put(to, held[j]);
      close(held[j]);
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  long count = atol(argv[1]);
  int bundle = atoi(argv[2]), a[2], b[2], ends[2];
  if (pipe(ends) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, a) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, b) < 0) die("socketpair");
  pid_t third = fork();
  if (third == 0) {
    pin(atoi(argv[4]));
    relay(a[1], b[0], count, bundle);
    return 0;
  }
  pin(atoi(argv[3]));
  double start = now_ns();
  for (long i = 0; i < count; i += bundle) {
    for (int j = 0; j < bundle; j++) put(a[0], ends[0]);
    await(a[0]);
    word(b[1]);
    for (int j = 0; j < bundle; j++) close(get(b[1]));
  }
  report(start, count);
  waitpid(third, NULL, 0);
  return 0;
}
