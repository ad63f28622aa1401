/**
 * The one table of native entry points. A row is the C prototype, the argument and result types, the kernel's number
 * on each architecture and the man page; backends read the row and nothing else.
 *
 * Every entry is the *raw* system call and returns `-errno` in its own result, because a global errno read afterwards
 * may belong to what the runtime did in between. `code-page.ts` turns a row into a function pointer.
 */

/** `view`: a typed array or null, lent for the call. `address`: a number, memory that shmlink itself mapped. */
export type ArgKind = "i32" | "u32" | "i64" | "address" | "view";
export type ResultKind = "i32" | "i64";

export type SymbolRow = {
  readonly c: string;
  readonly args: readonly ArgKind[];
  readonly result: ResultKind;
  readonly nr: { readonly x64: number; readonly arm64: number };
  readonly man: string;
};

// biome-ignore format: a table reads best one row a line
export const SYMBOLS = {
  read:              { c: "ssize_t read(int fd, void *buf, size_t n)", args: ["i32", "view", "i64"], result: "i32", nr: { x64: 0, arm64: 63 }, man: "read(2)" },
  write:             { c: "ssize_t write(int fd, const void *buf, size_t n)", args: ["i32", "view", "i64"], result: "i32", nr: { x64: 1, arm64: 64 }, man: "write(2)" },
  pread64:           { c: "ssize_t pread64(int fd, void *buf, size_t n, off_t offset)", args: ["i32", "view", "i64", "i64"], result: "i32", nr: { x64: 17, arm64: 67 }, man: "pread(2)" },
  pwrite64:          { c: "ssize_t pwrite64(int fd, const void *buf, size_t n, off_t offset)", args: ["i32", "view", "i64", "i64"], result: "i32", nr: { x64: 18, arm64: 68 }, man: "pwrite(2)" },
  close:             { c: "int close(int fd)", args: ["i32"], result: "i32", nr: { x64: 3, arm64: 57 }, man: "close(2)" },
  openat:            { c: "int openat(int dirfd, const char *path, int flags, mode_t mode)", args: ["i32", "view", "i32", "u32"], result: "i32", nr: { x64: 257, arm64: 56 }, man: "openat(2)" },
  fcntl:             { c: "int fcntl(int fd, int cmd, long arg)", args: ["i32", "i32", "i64"], result: "i32", nr: { x64: 72, arm64: 25 }, man: "fcntl(2)" },
  dup3:              { c: "int dup3(int old, int new, int flags)", args: ["i32", "i32", "i32"], result: "i32", nr: { x64: 292, arm64: 24 }, man: "dup(2)" },
  ftruncate:         { c: "int ftruncate(int fd, off_t length)", args: ["i32", "i64"], result: "i32", nr: { x64: 77, arm64: 46 }, man: "ftruncate(2)" },
  fchmod:            { c: "int fchmod(int fd, mode_t mode)", args: ["i32", "u32"], result: "i32", nr: { x64: 91, arm64: 52 }, man: "fchmod(2)" },
  flock:             { c: "int flock(int fd, int operation)", args: ["i32", "i32"], result: "i32", nr: { x64: 73, arm64: 32 }, man: "flock(2)" },
  faccessat:         { c: "int faccessat(int dirfd, const char *path, int mode)", args: ["i32", "view", "i32"], result: "i32", nr: { x64: 269, arm64: 48 }, man: "access(2)" },
  getdents64:        { c: "ssize_t getdents64(int fd, void *buf, size_t n)", args: ["i32", "view", "i64"], result: "i32", nr: { x64: 217, arm64: 61 }, man: "getdents(2)" },
  statx:             { c: "int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *buf)", args: ["i32", "view", "i32", "u32", "view"], result: "i32", nr: { x64: 332, arm64: 291 }, man: "statx(2)" },
  pipe2:             { c: "int pipe2(int fds[2], int flags)", args: ["address", "i32"], result: "i32", nr: { x64: 293, arm64: 59 }, man: "pipe(2)" },
  ioctl:             { c: "int ioctl(int fd, unsigned long request, void *arg)", args: ["i32", "i64", "address"], result: "i32", nr: { x64: 16, arm64: 29 }, man: "ioctl(2)" },
  memfdCreate:       { c: "int memfd_create(const char *name, unsigned flags)", args: ["view", "u32"], result: "i32", nr: { x64: 319, arm64: 279 }, man: "memfd_create(2)" },
  mmap:              { c: "void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)", args: ["address", "i64", "i32", "i32", "i32", "i64"], result: "i64", nr: { x64: 9, arm64: 222 }, man: "mmap(2)" },
  mprotect:          { c: "int mprotect(void *addr, size_t length, int prot)", args: ["address", "i64", "i32"], result: "i32", nr: { x64: 10, arm64: 226 }, man: "mprotect(2)" },
  madvise:           { c: "int madvise(void *addr, size_t length, int advice)", args: ["address", "i64", "i32"], result: "i32", nr: { x64: 28, arm64: 233 }, man: "madvise(2)" },
  munmap:            { c: "int munmap(void *addr, size_t length)", args: ["address", "i64"], result: "i32", nr: { x64: 11, arm64: 215 }, man: "munmap(2)" },
  socket:            { c: "int socket(int domain, int type, int protocol)", args: ["i32", "i32", "i32"], result: "i32", nr: { x64: 41, arm64: 198 }, man: "socket(2)" },
  socketpair:        { c: "int socketpair(int domain, int type, int protocol, int fds[2])", args: ["i32", "i32", "i32", "address"], result: "i32", nr: { x64: 53, arm64: 199 }, man: "socketpair(2)" },
  bind:              { c: "int bind(int fd, const struct sockaddr *addr, socklen_t len)", args: ["i32", "view", "u32"], result: "i32", nr: { x64: 49, arm64: 200 }, man: "bind(2)" },
  listen:            { c: "int listen(int fd, int backlog)", args: ["i32", "i32"], result: "i32", nr: { x64: 50, arm64: 201 }, man: "listen(2)" },
  accept4:           { c: "int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)", args: ["i32", "address", "address", "i32"], result: "i32", nr: { x64: 288, arm64: 242 }, man: "accept(2)" },
  connect:           { c: "int connect(int fd, const struct sockaddr *addr, socklen_t len)", args: ["i32", "view", "u32"], result: "i32", nr: { x64: 42, arm64: 203 }, man: "connect(2)" },
  getsockname:       { c: "int getsockname(int fd, struct sockaddr *addr, socklen_t *len)", args: ["i32", "address", "address"], result: "i32", nr: { x64: 51, arm64: 204 }, man: "getsockname(2)" },
  getpeername:       { c: "int getpeername(int fd, struct sockaddr *addr, socklen_t *len)", args: ["i32", "address", "address"], result: "i32", nr: { x64: 52, arm64: 205 }, man: "getpeername(2)" },
  setsockopt:        { c: "int setsockopt(int fd, int level, int name, const void *value, socklen_t len)", args: ["i32", "i32", "i32", "view", "u32"], result: "i32", nr: { x64: 54, arm64: 208 }, man: "setsockopt(2)" },
  getsockopt:        { c: "int getsockopt(int fd, int level, int name, void *value, socklen_t *len)", args: ["i32", "i32", "i32", "address", "address"], result: "i32", nr: { x64: 55, arm64: 209 }, man: "getsockopt(2)" },
  shutdown:          { c: "int shutdown(int fd, int how)", args: ["i32", "i32"], result: "i32", nr: { x64: 48, arm64: 210 }, man: "shutdown(2)" },
  sendto:            { c: "ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len)", args: ["i32", "view", "i64", "i32", "view", "u32"], result: "i32", nr: { x64: 44, arm64: 206 }, man: "sendto(2)" },
  recvfrom:          { c: "ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len)", args: ["i32", "view", "i64", "i32", "address", "address"], result: "i32", nr: { x64: 45, arm64: 207 }, man: "recvfrom(2)" },
  sendmsg:           { c: "ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)", args: ["i32", "address", "i32"], result: "i32", nr: { x64: 46, arm64: 211 }, man: "sendmsg(2)" },
  recvmsg:           { c: "ssize_t recvmsg(int fd, struct msghdr *msg, int flags)", args: ["i32", "address", "i32"], result: "i32", nr: { x64: 47, arm64: 212 }, man: "recvmsg(2)" },
  epollCreate1:      { c: "int epoll_create1(int flags)", args: ["i32"], result: "i32", nr: { x64: 291, arm64: 20 }, man: "epoll_create(2)" },
  epollCtl:          { c: "int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)", args: ["i32", "i32", "i32", "address"], result: "i32", nr: { x64: 233, arm64: 21 }, man: "epoll_ctl(2)" },
  epollPwait:        { c: "int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask, size_t size)", args: ["i32", "address", "i32", "i32", "address", "i64"], result: "i32", nr: { x64: 281, arm64: 22 }, man: "epoll_wait(2)" },
  timerfdCreate:     { c: "int timerfd_create(int clockid, int flags)", args: ["i32", "i32"], result: "i32", nr: { x64: 283, arm64: 85 }, man: "timerfd_create(2)" },
  timerfdSettime:    { c: "int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value)", args: ["i32", "i32", "address", "address"], result: "i32", nr: { x64: 286, arm64: 86 }, man: "timerfd_create(2)" },
  ppoll:             { c: "int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size)", args: ["address", "i64", "address", "address", "i64"], result: "i32", nr: { x64: 271, arm64: 73 }, man: "poll(2)" },
  inotifyInit1:      { c: "int inotify_init1(int flags)", args: ["i32"], result: "i32", nr: { x64: 294, arm64: 26 }, man: "inotify_init(2)" },
  inotifyAddWatch:   { c: "int inotify_add_watch(int fd, const char *path, uint32_t mask)", args: ["i32", "view", "u32"], result: "i32", nr: { x64: 254, arm64: 27 }, man: "inotify_add_watch(2)" },
  inotifyRmWatch:    { c: "int inotify_rm_watch(int fd, int wd)", args: ["i32", "i32"], result: "i32", nr: { x64: 255, arm64: 28 }, man: "inotify_rm_watch(2)" },
  pidfdOpen:         { c: "int pidfd_open(pid_t pid, unsigned flags)", args: ["i32", "u32"], result: "i32", nr: { x64: 434, arm64: 434 }, man: "pidfd_open(2)" },
  pidfdGetfd:        { c: "int pidfd_getfd(int pidfd, int target, unsigned flags)", args: ["i32", "i32", "u32"], result: "i32", nr: { x64: 438, arm64: 438 }, man: "pidfd_getfd(2)" },
  pidfdSendSignal:   { c: "int pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned flags)", args: ["i32", "i32", "address", "u32"], result: "i32", nr: { x64: 424, arm64: 424 }, man: "pidfd_send_signal(2)" },
  waitid:            { c: "int waitid(int type, id_t id, siginfo_t *info, int options, struct rusage *usage)", args: ["i32", "i32", "address", "i32", "address"], result: "i32", nr: { x64: 247, arm64: 95 }, man: "waitid(2)" },
  kill:              { c: "int kill(pid_t pid, int sig)", args: ["i32", "i32"], result: "i32", nr: { x64: 62, arm64: 129 }, man: "kill(2)" },
  prctl:             { c: "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)", args: ["i32", "i64", "i64", "i64", "i64"], result: "i32", nr: { x64: 157, arm64: 167 }, man: "prctl(2)" },
  prlimit64:         { c: "int prlimit64(pid_t pid, int resource, const struct rlimit *new, struct rlimit *old)", args: ["i32", "i32", "address", "address"], result: "i32", nr: { x64: 302, arm64: 261 }, man: "prlimit(2)" },
  rtSigaction:       { c: "int rt_sigaction(int sig, const struct sigaction *new, struct sigaction *old, size_t size)", args: ["i32", "address", "address", "i64"], result: "i32", nr: { x64: 13, arm64: 134 }, man: "sigaction(2)" },
  rtSigprocmask:     { c: "int rt_sigprocmask(int how, const sigset_t *new, sigset_t *old, size_t size)", args: ["i32", "address", "address", "i64"], result: "i32", nr: { x64: 14, arm64: 135 }, man: "sigprocmask(2)" },
  execve:            { c: "int execve(const char *path, char *const argv[], char *const envp[])", args: ["address", "address", "address"], result: "i32", nr: { x64: 59, arm64: 221 }, man: "execve(2)" },
  exitGroup:         { c: "void exit_group(int status)", args: ["i32"], result: "i32", nr: { x64: 231, arm64: 94 }, man: "exit_group(2)" },
  seccomp:           { c: "int seccomp(unsigned op, unsigned flags, void *args)", args: ["u32", "u32", "address"], result: "i32", nr: { x64: 317, arm64: 277 }, man: "seccomp(2)" },
  processVmReadv:    { c: "ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n, const struct iovec *remote, unsigned long m, unsigned long flags)", args: ["i32", "address", "i64", "address", "i64", "i64"], result: "i32", nr: { x64: 310, arm64: 270 }, man: "process_vm_readv(2)" },
  processVmWritev:   { c: "ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long n, const struct iovec *remote, unsigned long m, unsigned long flags)", args: ["i32", "address", "i64", "address", "i64", "i64"], result: "i32", nr: { x64: 311, arm64: 271 }, man: "process_vm_readv(2)" },
  kcmp:              { c: "int kcmp(pid_t pid1, pid_t pid2, int type, unsigned long idx1, unsigned long idx2)", args: ["i32", "i32", "i32", "i64", "address"], result: "i32", nr: { x64: 312, arm64: 272 }, man: "kcmp(2)" },
  schedSetaffinity:  { c: "int sched_setaffinity(pid_t pid, size_t size, const unsigned long *mask)", args: ["i32", "i64", "view"], result: "i32", nr: { x64: 203, arm64: 122 }, man: "sched_setaffinity(2)" },
  futex:             { c: "long futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout, uint32_t *word2, uint32_t value3)", args: ["address", "i32", "u32", "address", "address", "u32"], result: "i32", nr: { x64: 202, arm64: 98 }, man: "futex(2)" },
  setsid:            { c: "pid_t setsid(void)", args: [], result: "i32", nr: { x64: 112, arm64: 157 }, man: "setsid(2)" },
  umask:             { c: "mode_t umask(mode_t mask)", args: ["u32"], result: "i32", nr: { x64: 95, arm64: 166 }, man: "umask(2)" },
} as const;

export type SymbolName = keyof typeof SYMBOLS;

// The table's rows keep their literal types, from which BoundSymbol is made; this checks their shape.
SYMBOLS satisfies Record<string, SymbolRow>;

type ArgType<K extends ArgKind> = K extends "view" ? ArrayBufferView | null : number;
type ArgTypes<A extends readonly ArgKind[]> = { -readonly [I in keyof A]: ArgType<A[I]> };

/** What a row becomes when bound: addresses and integers are numbers, the result is a value >= 0 or -errno. */
export type BoundSymbol<N extends SymbolName> = (...args: ArgTypes<(typeof SYMBOLS)[N]["args"]>) => number;
