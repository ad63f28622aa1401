/* Runs a program under the least of seccomp filters, which lets every call through, and nothing else: what the kernel takes
 * for entering a filter, whatever is in it.
 *   filtered PROGRAM ARGUMENT... */
#include "seccomp.h"

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {.len = 1, .filter = code};
  unsigned flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0) die("seccomp");
  }
  execvp(argv[1], argv + 1);
  die(argv[1]);
}
