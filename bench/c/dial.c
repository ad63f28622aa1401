/* From connect(2) on a Unix socket to the first byte of who accepted it: dial COUNT CPU_A CPU_B; median in ns */
#include "common.h"
#include <signal.h>
#include <sys/un.h>

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t length = sizeof(sa_family_t); /* the kernel chooses an abstract name */
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (void *)&address, length) < 0 || listen(listener, 64) < 0) die("listen");
  length = sizeof address;
  if (getsockname(listener, (void *)&address, &length) < 0) die("getsockname");
  pid_t child = fork();
  if (child == 0) {
    pin(atoi(argv[3]));
    for (;;) {
      int fd = accept(listener, NULL, NULL);
      if (fd < 0 || write(fd, "x", 1) != 1) die("accept");
      close(fd);
    }
  }
  pin(atoi(argv[2]));
  long count = atol(argv[1]);
  double *times = calloc(count, sizeof *times);
  for (long i = 0; i < count; i++) {
    char byte;
    double start = now_ns();
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (void *)&address, length) < 0 || read(fd, &byte, 1) != 1) die("connect");
    times[i] = now_ns() - start;
    close(fd);
  }
  kill(child, SIGTERM);
  waitpid(child, NULL, 0);
  qsort(times, count, sizeof *times, compare);
  printf("%.3f\n", times[count / 2]);
  return 0;
}
