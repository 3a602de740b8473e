"""The default profile: the system calls that a container may make.

It has the effect of Docker's, with one hole closed (see SOCKET_FAMILIES). It is an allow-list: a
call that is not in it fails. These calls are not in it, because they reach what namespaces do not
divide, or have been used to leave containers:

    keyctl add_key request_key      the kernel's keyrings have no namespaces
    io_uring_*                      makes calls that a filter never sees
    userfaultfd                     stops the kernel in the middle of a copy, to win races
    kexec_load kexec_file_load      load another kernel for the whole host
    swapon swapoff nfsservctl       the host's memory and its file server
    move_pages migrate_pages        where other processes' memory is placed
    vm86 vm86old                    interpreters in the kernel, long without users
    socket(AF_VSOCK)                reaches the hypervisor from any network namespace
    clone3                          its flags are behind a pointer, which a filter can't follow

A call that needs a capability is allowed in a container with that capability. The kernel refuses it
to a process without it anyway; the filter helps where the kernel has a fault.
"""

from __future__ import annotations

import os

from minicontainer.kernel.namespaces import NAMESPACES
from minicontainer.kernel.seccomp import ArgRule, Seccomp, SyscallRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
EPERM, ENOSYS = 1, 38

# Calls that every container may make, by purpose. Names that end in 32, 64 or time64 are the same
# call with other number widths, kept on 32-bit architectures.
ALWAYS = (
    (
        "files: opened, made, renamed, removed",
        """open openat openat2 creat close close_range name_to_handle_at
        mkdir mkdirat mknod mknodat link linkat symlink symlinkat readlink readlinkat
        rename renameat renameat2 unlink unlinkat rmdir truncate truncate64 ftruncate ftruncate64
        fallocate umask memfd_create""",
    ),
    (
        "files: read, written, copied, mapped to the disk",
        """read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2
        lseek _llseek sendfile sendfile64 splice tee vmsplice copy_file_range readahead
        fadvise64 fadvise64_64 sync syncfs fsync fdatasync sync_file_range cachestat
        io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64""",
    ),
    (
        "files: what is known about them, and changed",
        """stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx
        statfs statfs64 fstatfs fstatfs64 statmount listmount access faccessat faccessat2
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32
        utime utimes futimesat utimensat utimensat_time64
        getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
        listxattr llistxattr flistxattr listxattrat
        removexattr lremovexattr fremovexattr removexattrat""",
    ),
    (
        "directories, locks, and being told of changes",
        """chdir fchdir getcwd getdents getdents64 flock
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark""",
    ),
    (
        "descriptors: copied, controlled, waited for",
        """dup dup2 dup3 fcntl fcntl64 ioctl pipe pipe2 poll ppoll ppoll_time64
        select _newselect pselect6 pselect6_time64
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old
        epoll_pwait epoll_pwait2 eventfd eventfd2""",
    ),
    (
        "memory",
        """brk mmap mmap2 munmap mremap remap_file_pages mprotect msync madvise mincore mseal
        mlock mlock2 mlockall munlock munlockall memfd_secret
        pkey_alloc pkey_free pkey_mprotect map_shadow_stack""",
    ),
    (
        "processes: begun, ended, waited for; clone has conditions of its own, below",
        """fork vfork execve execveat exit exit_group wait4 waitid waitpid
        getpid getppid gettid getpgid getpgrp setpgid getsid setsid
        pidfd_open pidfd_send_signal process_mrelease prctl capget capset
        getrlimit ugetrlimit setrlimit prlimit64 getrusage times""",
    ),
    (
        "threads: locks, and a thread's own data",
        """futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
        get_robust_list set_robust_list set_tid_address get_thread_area set_thread_area
        rseq membarrier""",
    ),
    (
        "who a process is; the kernel decides who it may become",
        """getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32
        getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
        setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
        setgroups setgroups32""",
    ),
    (
        "signals",
        """kill tkill tgkill pause sigaltstack signalfd signalfd4 sigprocmask sigreturn
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo restart_syscall""",
    ),
    (
        "time: read, slept through; adjtimex and clock_adjtime only read without CAP_SYS_TIME",
        """time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64
        clock_nanosleep clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64
        alarm getitimer setitimer timer_create timer_delete timer_getoverrun
        timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
        timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64""",
    ),
    (
        "scheduling and priorities, within what the kernel grants",
        """sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr
        sched_getparam sched_setparam sched_getscheduler sched_setscheduler
        sched_get_priority_max sched_get_priority_min
        sched_rr_get_interval sched_rr_get_interval_time64
        getpriority setpriority ioprio_get ioprio_set getcpu""",
    ),
    (
        "sockets, once they exist; socket has conditions of its own, below",
        """socketpair socketcall bind connect listen accept accept4 shutdown
        getsockname getpeername getsockopt setsockopt send sendto sendmsg sendmmsg
        recv recvfrom recvmsg recvmmsg recvmmsg_time64""",
    ),
    (
        "System V and POSIX IPC, which the IPC namespace divides",
        """ipc shmget shmat shmdt shmctl semget semop semctl semtimedop semtimedop_time64
        msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_notify mq_getsetattr
        mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64""",
    ),
    (
        "filters and sandboxes that a process puts upon itself: they only take away",
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    (
        "the system, asked",
        "uname sysinfo getrandom riscv_hwprobe uretprobe",
    ),
)

# Calls that come with a capability. The kernel demands it too, for all but a few of them.
WITH_CAPABILITY = {
    # opens a file by number, whatever its directories forbid
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick
        lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr
        move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns
        syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": """ptrace process_vm_readv process_vm_writev process_madvise kcmp
        pidfd_getfd""",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# Before this version, a tracer could change a call after the filter had seen it.
TRACING_SINCE = (4, 8)
TRACING = "ptrace process_vm_readv process_vm_writev"

# Socket families: all but AF_ALG (38: the kernel's cryptography, with holes like CVE-2026-31431)
# and AF_VSOCK (40). The families above are listed, and not "greater than 40" as in Docker's table:
# a filter compares 64 bits and the kernel uses 32 of them, so 2**32 + 40 would pass and open
# AF_VSOCK. No filter can see socketcall(2) of 32-bit x86 programs: its arguments are behind a
# pointer.
HIGHER_SOCKET_FAMILIES = (39, 41, 42, 43, 44, 45)  # NFC, KCM, QIPCRTR, SMC, XDP, MCTP
SOCKET_FAMILIES = (
    ("SCMP_CMP_LT", 38),
    *(("SCMP_CMP_EQ", family) for family in HIGHER_SOCKET_FAMILIES),
)

# Personalities that personality(2) may set: others turn address randomization off, or map page 0.
PERSONALITIES = (
    0x0,  # PER_LINUX
    0x8,  # PER_LINUX32
    0x20000,  # UNAME26
    0x20008,  # UNAME26 | PER_LINUX32
    0xFFFFFFFF,  # only returns the present one
)

# clone(2) may make a thread or a process, but no namespace: above all no user namespace, in which
# a process has every capability. The lowest byte of its flags is the child's exit signal, so that
# CLONE_NEWTIME, a bit of that byte, is for clone3(2) alone.
_CSIGNAL = 0xFF
CLONE_NAMESPACES = sum(row.flag for row in NAMESPACES if not row.flag & _CSIGNAL)

_ARM = """arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"""
_S390 = "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"

# For each machine, as uname(2) names it: the architectures whose programs it runs (none listed: its
# own alone), and the calls that only it has.
MACHINES: dict[str, tuple[str, str]] = {
    "x86_64": ("SCMP_ARCH_X86_64 SCMP_ARCH_X86 SCMP_ARCH_X32", "arch_prctl modify_ldt"),
    "i686": ("", "modify_ldt"),
    "aarch64": ("SCMP_ARCH_AARCH64 SCMP_ARCH_ARM", _ARM),
    "armv7l": ("", _ARM),
    "ppc64le": ("", "sync_file_range2 swapcontext"),
    "s390x": ("SCMP_ARCH_S390X SCMP_ARCH_S390", _S390),
    "riscv64": ("SCMP_ARCH_RISCV64", "riscv_flush_icache"),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64", ""),
}

# Profiles that were made. A profile does not change, so containers can share one.
_MADE: dict[tuple[frozenset[str], str, tuple[int, int] | None], Seccomp] = {}
_MOST_MADE = 64


def default_profile(
    capabilities: Collection[str], machine: str = "", kernel: tuple[int, int] | None = None
) -> Seccomp:
    """Give the default profile for one container; made once for each set of capabilities.

    Args:
        capabilities: the container's bounding set: all that a program in it could ever have.
        machine: as uname(2) names it; "" for this one.
        kernel: major and minor version; None for the running one.
    """
    asked = frozenset(WITH_CAPABILITY).intersection(capabilities), machine, kernel
    profile = _MADE.get(asked)
    if profile is None:
        if len(_MADE) >= _MOST_MADE:
            _MADE.clear()
        profile = _MADE[asked] = _made(*asked)
    return profile


def _made(capabilities: Collection[str], machine: str, kernel: tuple[int, int] | None) -> Seccomp:
    machine = machine or os.uname().machine
    architectures, own_calls = MACHINES.get(machine, ("", ""))
    return Seccomp(
        default_action=ERRNO,
        default_errno_ret=EPERM,
        architectures=tuple(architectures.split()),
        syscalls=tuple(_rules(capabilities, machine, own_calls, kernel or _running_kernel())),
    )


def _rules(
    capabilities: Collection[str], machine: str, own_calls: str, kernel: tuple[int, int]
) -> Iterator[SyscallRule]:
    """Yield the rules; those for the most calls come first."""
    for _purpose, names in ALWAYS:
        yield _allow(names)
    if own_calls:
        yield _allow(own_calls)
    if kernel >= TRACING_SINCE:
        yield _allow(TRACING)
    for capability, names in WITH_CAPABILITY.items():
        if capability in capabilities:
            yield _allow(names)
    for op, family in SOCKET_FAMILIES:
        yield _allow("socket", ArgRule(index=0, value=family, op=op))
    for value in PERSONALITIES:
        yield _allow("personality", ArgRule(index=0, value=value, op="SCMP_CMP_EQ"))
    if "CAP_SYS_ADMIN" not in capabilities:
        flags_at = 1 if machine == "s390x" else 0  # there, the stack is the first argument
        no_namespace = ArgRule(index=flags_at, value=CLONE_NAMESPACES, op="SCMP_CMP_MASKED_EQ")
        yield _allow("clone", no_namespace)
        # so that C libraries fall back to clone, whose flags a filter can see
        yield SyscallRule(names=("clone3",), action=ERRNO, errno_ret=ENOSYS)


def _allow(names: str, *conditions: ArgRule) -> SyscallRule:
    return SyscallRule(names=tuple(names.split()), action=ALLOW, args=conditions)


def _running_kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]  # 6.18.44, 7.0-rc1
    return int(major), int(minor.partition("-")[0])
