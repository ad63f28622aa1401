/* Asks a server as fast as it answers, for as many milliseconds as each line of its input says, and prints the
 * nanoseconds of one request. In between it is quiet: several take turns, with their connections as they were.
 *   load ADDRESS http|redis keep|anew CONNECTIONS
 * ADDRESS is a TCP port on 127.0.0.1 or the path of a Unix socket. "anew" makes a connection for each request. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char *address, *request, *end;
static int is_anew;
static long done;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int dial(void) {
  int fd, one = 1;
  if (address[0] == '/') {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strncpy(a.sun_path, address, sizeof a.sun_path - 1);
    if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) < 0 || connect(fd, (void *)&a, sizeof a) < 0) fail("connect");
    return fd;
  }
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(address)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if ((fd = socket(AF_INET, SOCK_STREAM, 0)) < 0 || connect(fd, (void *)&a, sizeof a) < 0) fail("connect");
  if (!is_anew) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static void ask(int fd) {
  if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) fail("send");
}

static int begin(int epoll) {
  int fd = dial();
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  return fd;
}

/* An answer is short, comes in one piece and ends as it is known to. */
static void take(int fd) {
  char buffer[4096];
  ssize_t n = recv(fd, buffer, sizeof buffer - 1, 0);
  if (n <= 0) fail("recv");
  buffer[n] = 0;
  if (strstr(buffer, end) == NULL) {
    fprintf(stderr, "strange answer: %s\n", buffer);
    exit(1);
  }
  done++;
}

/* @returns the nanoseconds of one request */
static double run(int epoll, int *kept, int connections, double ms) {
  int waiting = connections;
  double first = now_ms(), until = first + ms;
  done = 0;
  for (int i = 0; i < connections; i++) ask(is_anew ? begin(epoll) : kept[i]);
  while (waiting > 0) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll, events, 64, 1000), is_over = now_ms() >= until;
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      take(fd);
      if (is_anew) close(fd);
      if (is_over) waiting--;
      else ask(is_anew ? begin(epoll) : fd);
    }
  }
  return (now_ms() - first) * 1e6 / done;
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  address = argv[1];
  is_anew = strcmp(argv[3], "anew") == 0;
  int is_http = strcmp(argv[2], "http") == 0;
  request = !is_http ? "PING\r\n" : is_anew ? "GET / HTTP/1.0\r\n\r\n" : "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  end = is_http ? "hello\n" : "+PONG\r\n";
  int epoll = epoll_create1(0), connections = atoi(argv[4]), kept[1024];
  for (int i = 0; i < connections && !is_anew; i++) kept[i] = begin(epoll);
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    printf("%f\n", run(epoll, kept, connections, atof(line)));
    fflush(stdout);
  }
  return 0;
}
