/* wl_display.sync on libwayland at both ends: sync COUNT CPU_CLIENT CPU_SERVER */
#include "common.h"
#include <signal.h>
#include <wayland-client-core.h>
#include <wayland-server-core.h>

static void serve(int fd, int cpu) {
  struct wl_display *display = wl_display_create();
  pin(cpu);
  if (display == NULL || wl_client_create(display, fd) == NULL) die("wl_client_create");
  wl_display_run(display);
}

int main(int argc, char **argv) {
  int fds[2];
  if (argc != 4) return 2;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) die("socketpair");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    close(fds[0]);
    serve(fds[1], atoi(argv[3]));
    return 0;
  }
  close(fds[1]);
  pin(atoi(argv[2]));
  struct wl_display *display = wl_display_connect_to_fd(fds[0]);
  long count = atol(argv[1]);
  if (display == NULL || wl_display_roundtrip(display) < 0) die("wl_display_roundtrip");
  double start = now_ns();
  for (long i = 0; i < count; i++)
    if (wl_display_roundtrip(display) < 0) die("wl_display_roundtrip");
  report(start, count);
  wl_display_disconnect(display);
  kill(child, SIGTERM);
  waitpid(child, NULL, 0);
  return 0;
}
