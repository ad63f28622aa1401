/* What a broker of this design can reach: a dial through a third process, by hand. Rings are made, mapped and sealed ahead and
 * lie at the broker; it checks none, keeps none, and speaks no protocol: broker-dial COUNT CPU_DIALLER CPU_OTHERS [PAUSE_US];
 * median in ns from the request to the first byte in the ring, with a pause before each if one is given. */
#include "common.h"
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>

#define FILE_BYTES 12288
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
#define HEADER_BYTES 64
#define DATA_AT 8192

/* What a side has of its next channel. */
struct ring {
  char *memory;
  int fd;
};

/* Of the other side's ring, and of the doorbell. */
struct end {
  char *peer;
  int bell;
};

static struct ring make_ring(void) {
  struct ring r;
  char header[32] = "SHLK";
  r.fd = memfd_create("spare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (r.fd < 0 || write(r.fd, header, sizeof header) != sizeof header || ftruncate(r.fd, FILE_BYTES) < 0) die("ring");
  r.memory = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
  if (r.memory == MAP_FAILED || fcntl(r.fd, F_ADD_SEALS, SEALS) < 0) die("seal");
  return r;
}

static void send_fds(int socket, const int *fds, int count) {
  char control[CMSG_SPACE(2 * sizeof(int))] = {0};
  char byte = 0;
  struct iovec part = {&byte, 1};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
  }
  if (sendmsg(socket, &m, MSG_NOSIGNAL) != 1) die("sendmsg");
}

/* One byte and at most two descriptors; -1 for those that did not come. @returns whether the peer is still there */
static int receive_fds(int socket, int *fds) {
  char control[CMSG_SPACE(2 * sizeof(int))];
  char byte;
  struct iovec part = {&byte, 1};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &m, MSG_CMSG_CLOEXEC) != 1) return 0;
  fds[0] = fds[1] = -1;
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  if (c != NULL) memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
  return 1;
}

/* Hands the next ring to the broker; the mapping stays. */
static char *provide(int broker) {
  struct ring r = make_ring();
  send_fds(broker, &r.fd, 1);
  close(r.fd);
  return r.memory;
}

/* The peer's ring and the doorbell: seals and size are looked at before it is mapped. @returns 0 at the end */
static int open_end(int broker, struct end *end) {
  int fds[2];
  char header[HEADER_BYTES];
  if (!receive_fds(broker, fds)) return 0;
  if ((fcntl(fds[0], F_GET_SEALS) & SEALS) != SEALS || lseek(fds[0], 0, SEEK_END) != FILE_BYTES) die("seals");
  end->peer = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fds[0], 0);
  if (end->peer == MAP_FAILED) die("mmap");
  memcpy(header, end->peer, sizeof header);
  if (memcmp(header, "SHLK", 4) != 0) die("header");
  close(fds[0]);
  end->bell = fds[1];
  return 1;
}

static void close_end(struct end end, char *own) {
  munmap(end.peer, FILE_BYTES);
  munmap(own, FILE_BYTES);
  shutdown(end.bell, SHUT_RDWR);
  close(end.bell);
}

/* A spare ring of either side, and then a request: both get the other's ring and an end of a doorbell, the dialler first. */
static void broker(int dialler, int service) {
  for (;;) {
    int near[2], far[2], request[2], bells[2];
    if (!receive_fds(service, far) || !receive_fds(dialler, near) || !receive_fds(dialler, request)) return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bells) < 0) die("socketpair");
    send_fds(dialler, (int[]){far[0], bells[0]}, 2);
    send_fds(service, (int[]){near[0], bells[1]}, 2);
    close(near[0]), close(far[0]), close(bells[0]), close(bells[1]);
  }
}

static void serve(int broker) {
  for (;;) {
    char *own = provide(broker);
    struct end end;
    char byte;
    if (!open_end(broker, &end)) return;
    own[DATA_AT] = 'x';
    atomic_store((_Atomic int *)(own + 4096), 1);
    if (send(end.bell, "", 1, MSG_NOSIGNAL) != 1) die("ring the bell");
    if (recv(end.bell, &byte, 1, 0) < 0) die("wait for the end");
    close_end(end, own);
  }
}

static double dial(int broker, useconds_t pause_us) {
  struct end end;
  char *own = provide(broker);
  char bell;
  if (pause_us > 0) usleep(pause_us);
  double start = now_ns();
  send_fds(broker, NULL, 0);
  if (!open_end(broker, &end)) die("dial");
  if (recv(end.bell, &bell, 1, 0) != 1) die("wait for the bell");
  if (atomic_load((_Atomic int *)(end.peer + 4096)) != 1 || end.peer[DATA_AT] != 'x') die("first byte");
  double taken = now_ns() - start;
  close_end(end, own);
  return taken;
}

static pid_t fork_on(int cpu) {
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) pin(cpu);
  return child;
}

int main(int argc, char **argv) {
  int near[2], far[2];
  if (argc != 4 && argc != 5) return 2;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near) < 0) die("socketpair");
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far) < 0) die("socketpair");
  pid_t middle = fork_on(atoi(argv[3]));
  if (middle == 0) {
    close(near[0]), close(far[0]);
    broker(near[1], far[1]);
    return 0;
  }
  pid_t service = fork_on(atoi(argv[3]));
  if (service == 0) {
    close(near[0]), close(near[1]), close(far[1]);
    serve(far[0]);
    return 0;
  }
  close(near[1]), close(far[0]), close(far[1]);
  pin(atoi(argv[2]));
  struct samples s = samples_for(atol(argv[1]));
  for (long i = 0; i < atol(argv[1]); i++) s.ns[s.count++] = dial(near[0], argc == 5 ? atoi(argv[4]) : 0);
  qsort(s.ns, s.count, sizeof *s.ns, by_value);
  printf("%.3f\n", s.ns[s.count / 2]);
  kill(middle, SIGTERM), kill(service, SIGTERM);
  while (wait(NULL) > 0);
  return 0;
}
