/* Two sleeping C programs that wake each other with a pair of eventfds: the limit for a doorbell.
 * wake COUNT CPU_A CPU_B */
#include "common.h"
#include <sys/eventfd.h>

static void ring(int fd) {
  uint64_t one = 1;
  if (write(fd, &one, 8) != 8) die("write");
}

static void wait_for(int fd) {
  uint64_t count;
  if (read(fd, &count, 8) != 8) die("read");
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  long count = atol(argv[1]);
  int there = eventfd(0, 0), back = eventfd(0, 0);
  pid_t child = fork();
  if (child < 0) die("fork");
  pin(atoi(argv[child == 0 ? 3 : 2]));
  if (child == 0) {
    for (long i = 0; i < count; i++) {
      wait_for(there);
      ring(back);
    }
    return 0;
  }
  double start = now_ns();
  for (long i = 0; i < count; i++) {
    ring(there);
    wait_for(back);
  }
  report(start, count);
  waitpid(child, NULL, 0);
  return 0;
}
