/* Asks a server as fast as it answers and prints the nanoseconds of one request.
 *   load ADDRESS http|redis keep|anew CONNECTIONS MILLISECONDS
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

static void start(int epoll) {
  int fd = dial();
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  ask(fd);
}

/* An answer is short, comes in one piece and ends as it is known to. */
static void take(int epoll, int fd) {
  char buffer[4096];
  ssize_t n = recv(fd, buffer, sizeof buffer - 1, 0);
  if (n <= 0) fail("recv");
  buffer[n] = 0;
  if (strstr(buffer, end) == NULL) {
    fprintf(stderr, "strange answer: %s\n", buffer);
    exit(1);
  }
  done++;
  if (!is_anew) return ask(fd);
  close(fd);
  start(epoll);
}

int main(int argc, char **argv) {
  if (argc < 6) return 2;
  address = argv[1];
  is_anew = strcmp(argv[3], "anew") == 0;
  int is_http = strcmp(argv[2], "http") == 0;
  request = !is_http ? "PING\r\n" : is_anew ? "GET / HTTP/1.0\r\n\r\n" : "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  end = is_http ? "hello\n" : "+PONG\r\n";
  int epoll = epoll_create1(0), connections = atoi(argv[4]);
  for (int i = 0; i < connections; i++) start(epoll);
  double begin = now_ms(), until = begin + atof(argv[5]);
  while (now_ms() < until) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll, events, 64, 1000);
    for (int i = 0; i < n; i++) take(epoll, events[i].data.fd);
  }
  printf("%f\n", (now_ms() - begin) * 1e6 / done);
  return 0;
}
