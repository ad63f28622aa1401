/* Two C programs over a stream socket or two pipes, one system call a message and side.
 * socket unix|tcp|pipe rtt|throughput|each SIZE COUNT CPU_A CPU_B      each: three percentiles of a round trip */
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

/* Descriptors to read and to write for both sides. */
static void open_ends(const char *family, int in[2], int out[2]) {
  int fds[2], back[2];
  if (strcmp(family, "pipe") == 0) {
    if (pipe(fds) < 0 || pipe(back) < 0) die("pipe");
    in[0] = back[0], out[0] = fds[1], in[1] = fds[0], out[1] = back[1];
    return;
  }
  if (strcmp(family, "tcp") == 0) tcp_pair(fds);
  else if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) die("socketpair");
  for (int side = 0; side < 2; side++) in[side] = out[side] = fds[side];
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  int ins[2], outs[2], each = strcmp(argv[2], "each") == 0, rtt = each || strcmp(argv[2], "rtt") == 0;
  size_t size = atoi(argv[3]);
  long count = atol(argv[4]);
  char *buffer = calloc(1, size);
  open_ends(argv[1], ins, outs);
  pid_t child = fork();
  if (child < 0) die("fork");
  pin(atoi(argv[child == 0 ? 6 : 5]));
  int in = ins[child == 0], out = outs[child == 0];
  if (child == 0) {
    for (long i = 0; i < count; i++) {
      read_all(in, buffer, size);
      if (rtt) write_all(out, buffer, size);
    }
    if (!rtt) write_all(out, buffer, 1);
    return 0;
  }
  struct samples samples = samples_for(each ? count : 0);
  double start = now_ns();
  for (long i = 0; i < count; i++) {
    double began = each ? now_ns() : 0;
    write_all(out, buffer, size);
    if (rtt) read_all(in, buffer, size);
    if (each) samples.ns[samples.count++] = now_ns() - began;
  }
  if (!rtt) read_all(in, buffer, 1);
  if (each) report_each(samples);
  else report(start, count);
  waitpid(child, NULL, 0);
  return 0;
}
