// The arm64 twin of x64.s; same labels, same contracts (AAPCS64).

    .text

// void on_signal(int signo, siginfo_t *info): see x64.s
    .globl on_signal
on_signal:
    ldr w2, [x1, #8]                // si_code
    cmp w2, #0
    b.gt 2f
    orr w0, w0, #0x80
2:
    sub sp, sp, #16
    strb w0, [sp]
    adr x1, signal_fd
    ldr w0, [x1]
    mov x1, sp
    mov x2, #1
    mov x8, #64                     // write
    svc #0
    add sp, sp, #16
    ret
    .globl signal_fd
signal_fd:
    .word -1
    .balign 16

// sa_restorer: the kernel's vdso trampoline would do; kept so that both tables have the same labels.
    .globl restore
restore:
    mov x8, #139                    // rt_sigreturn
    svc #0
    .balign 16

// int spawn_table(struct record *table, long n, long clone_flags): see x64.s
    .globl spawn_table
spawn_table:
    mov x9, x0
    mov x10, x1
    mov x0, x2
    mov x1, xzr
    mov x2, xzr
    mov x3, xzr
    mov x4, xzr
    mov x8, #220                    // clone
    svc #0
    cbnz x0, 3f
1:  ldp x8, x0, [x9]
    ldp x1, x2, [x9, #16]
    ldp x3, x4, [x9, #32]
    ldr x5, [x9, #48]
    svc #0
    str x0, [x9, #56]
    tbnz x0, #63, 2f
    add x9, x9, #64
    subs x10, x10, #1
    b.ne 1b
2:  mov x0, #127
    mov x8, #94                     // exit_group
    svc #0
    brk #0
3:  ret
    .balign 16
    .globl end
end:
