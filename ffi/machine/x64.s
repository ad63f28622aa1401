# What no system call thunk can express, in x86-64 machine code (System V ABI).
# Assembled by machine/assemble.ts into machine-code.gen.ts; position independent, no relocations.

    .intel_syntax noprefix
    .text

# void on_signal(int signo, siginfo_t *info): writes the signal number as one byte to the descriptor stored at
# `signal_fd`, with bit 7 set when a process sent it (si_code <= 0) and not the kernel (a terminal, a child's end).
# Runs as a signal handler on whichever thread the kernel picked: async-signal-safe, no errno, no TLS.
    .globl on_signal
on_signal:
    cmp dword ptr [rsi + 8], 0      # si_code
    jg 2f
    or edi, 0x80
2:  push rdi
    mov edi, dword ptr [rip + 1f]
    mov rsi, rsp
    mov edx, 1
    mov eax, 1                      # write
    syscall
    pop rdi
    ret
    .globl signal_fd
signal_fd:
1:  .long -1
    .balign 16

# sa_restorer: x86-64 has no vdso trampoline, the handler returns into this.
    .globl restore
restore:
    mov eax, 15                     # rt_sigreturn
    syscall
    .balign 16

# int spawn_table(struct record *table, long n, long clone_flags)
# Clones (CLONE_VM|CLONE_VFORK|…) and lets the child work through a table of system calls:
#   struct record { long nr, a0, a1, a2, a3, a4, a5, result; }
# The child stops at the first negative result and exits 127; the last record is meant to be execve.
# The child borrows the parent's stack and never returns or pushes, so the parent finds it as it was.
    .globl spawn_table
spawn_table:
    push rbx
    push r12
    mov rbx, rdi
    mov r12, rsi
    mov rdi, rdx
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 56                     # clone
    syscall
    test rax, rax
    jnz 3f
1:  mov rax, [rbx]
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8,  [rbx + 40]
    mov r9,  [rbx + 48]
    syscall
    mov [rbx + 56], rax
    test rax, rax
    js 2f
    add rbx, 64
    dec r12
    jnz 1b
2:  mov edi, 127
    mov eax, 231                    # exit_group
    syscall
    ud2
3:  pop r12
    pop rbx
    ret
    .balign 16
    .globl end
end:
