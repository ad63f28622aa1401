/* A method call that dbus-broker answers itself, org.freedesktop.DBus.GetId: dbus COUNT CPU_CLIENT CPU_BROKER [by-hand]
 * We are the broker's controller, which gives it a socket to listen on, and then a client: one of libsystemd, or one that
 * speaks the wire by hand, a send and a receive for each call, which is less than any client library does. */
#include "common.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>

#define BATCH "bta(btbs)a(btssssuutt)a(btssssuutt)"
#define POLICY "a(u(" BATCH "))a(buu(" BATCH "))a(ss)bs"

static void ok(int result, const char *what) {
  if (result >= 0) return;
  errno = -result;
  die(what);
}

static pid_t start_broker(int controller, int cpu) {
  pid_t child = fork();
  if (child != 0) return child;
  char number[16];
  snprintf(number, sizeof number, "%d", controller);
  fcntl(controller, F_SETFD, 0);
  pin(cpu);
  execlp("dbus-broker", "dbus-broker", "--controller", number, "--machine-id", "0123456789abcdef0123456789abcdef", NULL);
  die("dbus-broker");
  return -1;
}

/* Everybody may connect, own, send and receive everything. */
static void append_policy(sd_bus_message *m) {
  ok(sd_bus_message_open_container(m, 'v', "(" POLICY ")"), "policy");
  ok(sd_bus_message_open_container(m, 'r', POLICY), "policy");
  ok(sd_bus_message_append(m, "a(u(" BATCH "))", 1, (uint32_t)-1, 1, (uint64_t)1, 1, 1, (uint64_t)1, 1, "", 1, 1,
                           (uint64_t)1, "", "", "", "", 0, 0, (uint64_t)0, UINT64_MAX, 1, 1, (uint64_t)1, "", "", "",
                           "", 0, 0, (uint64_t)0, UINT64_MAX),
     "policy of users");
  ok(sd_bus_message_append(m, "a(buu(" BATCH "))", 0), "policy of groups");
  ok(sd_bus_message_append(m, "a(ss)bs", 0, 0, "session"), "policy of modules");
  ok(sd_bus_message_close_container(m), "policy");
  ok(sd_bus_message_close_container(m), "policy");
}

static sd_bus *add_listener(int controller, int listener) {
  sd_bus *bus = NULL;
  sd_bus_message *m = NULL;
  sd_bus_error error = SD_BUS_ERROR_NULL;
  ok(sd_bus_new(&bus), "sd_bus_new");
  ok(sd_bus_set_fd(bus, controller, controller), "sd_bus_set_fd");
  ok(sd_bus_start(bus), "sd_bus_start");
  ok(sd_bus_message_new_method_call(bus, &m, NULL, "/org/bus1/DBus/Broker", "org.bus1.DBus.Broker", "AddListener"), "call");
  ok(sd_bus_message_append(m, "oh", "/org/bus1/DBus/Listener/0", listener), "append");
  append_policy(m);
  int result = sd_bus_call(bus, m, 0, &error, NULL);
  if (result < 0) fprintf(stderr, "%s: %s\n", error.name, error.message);
  ok(result, "AddListener");
  sd_bus_message_unref(m);
  return bus;
}

/* A call without arguments of the bus itself: header fields path, destination, interface, member. */
static size_t make_call(unsigned char *out, const char *member) {
  static const struct { unsigned char code; char type; const char *value; } fixed[] = {
      {1, 'o', "/org/freedesktop/DBus"}, {6, 's', "org.freedesktop.DBus"}, {2, 's', "org.freedesktop.DBus"}};
  size_t at = 16;
  memset(out, 0, 512);
  for (int i = 0; i < 4; i++) {
    const char *value = i < 3 ? fixed[i].value : member;
    uint32_t length = strlen(value);
    at = (at + 7) & ~(size_t)7;
    out[at++] = i < 3 ? fixed[i].code : 3;
    out[at++] = 1; /* the signature, one character */
    out[at++] = i < 3 ? fixed[i].type : 's';
    at++;
    memcpy(out + at, &length, 4);
    memcpy(out + at + 4, value, length + 1);
    at += 4 + length + 1;
  }
  uint32_t fields = at - 16, serial = 1;
  memcpy(out, "l\1\0\1", 4); /* little-endian, method call, version 1 */
  memcpy(out + 8, &serial, 4);
  memcpy(out + 12, &fields, 4);
  return (at + 7) & ~(size_t)7;
}

static size_t read_some(int fd, unsigned char *buffer, size_t room) {
  ssize_t n = recv(fd, buffer, room, 0);
  if (n <= 0) die("recv from dbus-broker");
  return n;
}

/* Whole messages only: lengths are in the fixed header. */
static void await_type(int fd, unsigned char type) {
  unsigned char buffer[4096];
  size_t have = 0;
  for (;;) {
    while (have < 16) have += read_some(fd, buffer + have, sizeof buffer - have);
    uint32_t body, fields;
    memcpy(&body, buffer + 4, 4);
    memcpy(&fields, buffer + 12, 4);
    size_t whole = 16 + ((fields + 7) & ~7u) + body;
    if (whole > sizeof buffer) die("a message of dbus-broker is too long");
    while (have < whole) have += read_some(fd, buffer + have, sizeof buffer - have);
    unsigned char got = buffer[1];
    have -= whole;
    memmove(buffer, buffer + whole, have);
    if (got == 3) { fprintf(stderr, "dbus-broker answers with an error\n"); exit(1); }
    if (got == type && have == 0) return;
  }
}

static void call(int fd, unsigned char *message, size_t length, uint32_t serial) {
  memcpy(message + 8, &serial, 4);
  if (send(fd, message, length, MSG_NOSIGNAL) != (ssize_t)length) die("send");
}

static void authenticate(int fd) {
  static const char words[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
  if (send(fd, words, sizeof words - 1, 0) < 0) die("send");
  char line[256];
  size_t have = 0;
  while (have < sizeof line - 1) {
    have += read_some(fd, (unsigned char *)line + have, 1);
    line[have] = 0;
    char *good = strstr(line, "OK ");
    if (good != NULL && strstr(good, "\r\n") != NULL) return;
  }
  die("authentication");
}

static sd_bus *connect_library(int fd) {
  sd_bus *bus = NULL;
  ok(sd_bus_new(&bus), "sd_bus_new");
  ok(sd_bus_set_fd(bus, fd, fd), "sd_bus_set_fd");
  ok(sd_bus_set_bus_client(bus, 1), "sd_bus_set_bus_client");
  ok(sd_bus_start(bus), "sd_bus_start");
  return bus;
}

/* Also makes the connection: it waits for the answer to Hello. */
static void call_by_library(sd_bus *bus, long count) {
  for (long i = 0; i < count; i++) {
    sd_bus_message *answer = NULL;
    const char *id;
    ok(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId", NULL, &answer, ""), "GetId");
    ok(sd_bus_message_read(answer, "s", &id), "id");
    sd_bus_message_unref(answer);
  }
}

static void call_by_hand(int fd, long count) {
  static uint32_t serial = 1;
  unsigned char get_id[512];
  size_t length = make_call(get_id, "GetId");
  for (long i = 0; i < count; i++) {
    call(fd, get_id, length, ++serial);
    await_type(fd, 2);
  }
}

static void greet_by_hand(int fd) {
  unsigned char hello[512];
  size_t length = make_call(hello, "Hello");
  authenticate(fd);
  call(fd, hello, length, 1);
  await_type(fd, 4); /* NameAcquired comes after the answer */
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  int is_by_hand = argc > 4 && strcmp(argv[4], "by-hand") == 0;
  signal(SIGCHLD, SIG_DFL);
  int pair[2], listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t length = sizeof address;
  if (listener < 0 || bind(listener, (void *)&address, sizeof(sa_family_t)) < 0 || listen(listener, 8) < 0) die("listen");
  if (getsockname(listener, (void *)&address, &length) < 0) die("getsockname");
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) die("socketpair");
  pid_t broker = start_broker(pair[1], atoi(argv[3]));
  close(pair[1]);
  sd_bus *controller = add_listener(pair[0], listener);
  pin(atoi(argv[2]));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (void *)&address, length) < 0) die("connect");
  long count = atol(argv[1]);
  sd_bus *bus = NULL;
  if (is_by_hand) greet_by_hand(fd);
  else call_by_library(bus = connect_library(fd), 1);
  double start = now_ns();
  if (is_by_hand) call_by_hand(fd, count);
  else call_by_library(bus, count);
  report(start, count);
  sd_bus_unref(bus);
  sd_bus_unref(controller);
  kill(broker, SIGTERM);
  waitpid(broker, NULL, 0);
  return 0;
}
