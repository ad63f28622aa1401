/* Two C programs over a stream socket, one system call a message and side.
 * socket unix|tcp rtt|throughput SIZE COUNT CPU_A CPU_B */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>

static void tcp_pair(int fds[2]) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  fds[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (void *)&address, sizeof address) < 0 || listen(listener, 1) < 0) die("listen");
  if (getsockname(listener, (void *)&address, &length) < 0) die("getsockname");
  if (connect(fds[0], (void *)&address, sizeof address) < 0) die("connect");
  fds[1] = accept(listener, NULL, NULL);
  close(listener);
  for (int i = 0; i < 2; i++) setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void write_all(int fd, const char *data, size_t size) {
  while (size > 0) {
    ssize_t count = write(fd, data, size);
    if (count <= 0) die("write");
    data += count;
    size -= count;
  }
}

static void read_all(int fd, char *data, size_t size) {
  while (size > 0) {
    ssize_t count = read(fd, data, size);
    if (count <= 0) die("read");
    data += count;
    size -= count;
  }
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  int fds[2], rtt = strcmp(argv[2], "rtt") == 0;
  size_t size = atoi(argv[3]);
  long count = atol(argv[4]);
  char *buffer = calloc(1, size);
  if (strcmp(argv[1], "tcp") == 0) tcp_pair(fds);
  else if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) die("socketpair");
  pid_t child = fork();
  if (child < 0) die("fork");
  pin(atoi(argv[child == 0 ? 6 : 5]));
  int fd = fds[child == 0];
  if (child == 0) {
    for (long i = 0; i < count; i++) {
      read_all(fd, buffer, size);
      if (rtt) write_all(fd, buffer, size);
    }
    if (!rtt) write_all(fd, buffer, 1);
    return 0;
  }
  double start = now_ns();
  for (long i = 0; i < count; i++) {
    write_all(fd, buffer, size);
    if (rtt) read_all(fd, buffer, size);
  }
  if (!rtt) read_all(fd, buffer, 1);
  report(start, count);
  waitpid(child, NULL, 0);
  return 0;
}
