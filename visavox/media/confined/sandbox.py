"""What a process can give up for good on Linux: files, the network, other processes, memory. Used before it reads hostile bytes.

    sandbox.give_up(memory=2 << 30)      # -> ("no_new_privs", "rlimits", "landlock", "seccomp")

Nothing is needed for it, neither root nor a container. Landlock (kernel 5.13) takes away every right on files and, from 6.7 on,
TCP; the system-call filter (seccomp) takes away opening, running, forking and sockets as a whole, so that either holds without
the other. What stays is what is open already, memory, threads, clocks. `stat` of a path stays possible: glibc needs the call.
Numbers of calls: linux/arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h; structures:
include/uapi/linux/{landlock,seccomp,filter}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

LAYERS = ("no_new_privs", "rlimits", "landlock", "seccomp")
"""What `give_up` applies where the kernel has it."""

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every architecture
LANDLOCK_VERSION = 1  # flag of landlock_create_ruleset: return the version of the interface
SECCOMP_SET_MODE_FILTER, SECCOMP_ALL_THREADS = 1, 1
CLONE_THREAD, PROT_EXEC = 0x00010000, 4

ALLOW, DENY, ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of classic BPF
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


class Calls(NamedTuple):
    """System calls of one architecture."""

    arch: int
    """AUDIT_ARCH_*."""
    seccomp: int
    allowed: tuple[int, ...]
    clone: int
    clone3: int
    mmap: int
    mprotect: int


CALLS = {
    "x86_64": Calls(
        arch=0xC000003E,
        seccomp=317,
        # read write close fstat poll lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 readv writev
        # select sched_yield mremap madvise dup nanosleep getpid sendto recvfrom sendmsg recvmsg exit fcntl gettimeofday
        # getrusage times sigaltstack gettid futex sched_getaffinity clock_gettime clock_getres clock_nanosleep exit_group
        # tgkill newfstatat pselect6 ppoll set_robust_list getcpu getrandom membarrier rseq
        allowed=(
            *(0, 1, 3, 5, 7, 8, 11, 12, 13, 14, 15, 17, 19, 20, 23, 24, 25, 28, 32, 35, 39, 44, 45, 46, 47, 60, 72, 96),
            *(98, 100, 131, 186, 202, 204, 228, 229, 230, 231, 234, 262, 270, 271, 273, 309, 318, 324, 334),
        ),
        clone=56,
        clone3=435,
        mmap=9,
        mprotect=10,
    ),
    "aarch64": Calls(
        arch=0xC00000B7,
        seccomp=277,
        # dup fcntl close lseek read write readv writev pread64 pselect6 ppoll newfstatat fstat exit exit_group futex
        # set_robust_list nanosleep clock_gettime clock_getres clock_nanosleep sched_getaffinity sched_yield tgkill sigaltstack
        # rt_sigaction rt_sigprocmask rt_sigreturn times getrusage gettimeofday getcpu getpid gettid sendto recvfrom sendmsg
        # recvmsg brk munmap mremap madvise getrandom membarrier rseq
        allowed=(
            *(
                23,
                25,
                57,
                62,
                63,
                64,
                65,
                66,
                67,
                72,
                73,
                79,
                80,
                93,
                94,
                98,
                99,
                101,
                113,
                114,
                115,
                123,
                124,
                131,
                132,
            ),
            *(134, 135, 139, 153, 165, 168, 169, 172, 178, 206, 207, 211, 212, 214, 215, 216, 233, 278, 283, 293),
        ),
        clone=220,
        clone3=435,
        mmap=222,
        mprotect=226,
    ),
}


class SandboxError(RuntimeError):
    """The kernel offers a layer and yet it could not be applied."""


def offered() -> dict[str, str]:
    """Return what this kernel offers: LAYERS to how it has them, in words; a layer it lacks is absent."""
    if not sys.platform.startswith("linux"):
        return {}
    found = {"no_new_privs": "Linux 3.5", "rlimits": "setrlimit"}
    if version := _landlock_version():
        found["landlock"] = (
            f"version {version}: files{', TCP' if version >= 4 else ''}{', signals' if version >= 6 else ''}"
        )
    if _has_seccomp():
        found["seccomp"] = f"filter for {platform.machine()}"
    return found


def die_with_parent() -> None:
    """Have the kernel kill this process as soon as the thread that started it is gone."""
    _libc().prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)


def give_up(*, memory: int) -> tuple[str, ...]:
    """Give up what this process could still do, for good, and return the layers that were applied.

    To be called with one thread alone: Landlock holds for the thread that calls it and those it starts.

    Args:
        memory: bytes of address space.

    Raises:
        SandboxError: a layer that the kernel offers could not be applied, or more than one thread runs.
    """
    layers = offered()
    if not layers:
        return ()
    if len(os.listdir("/proc/self/task")) > 1:
        raise SandboxError("more than one thread runs already: what is given up would not hold for all")
    _limit(memory)
    _check("no_new_privs", _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if "landlock" in layers:
        _landlock()
    if "seccomp" in layers:
        _seccomp(CALLS[platform.machine()])
    return tuple(layer for layer in LAYERS if layer in layers)


def _limit(memory: int) -> None:
    import resource

    limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 32}
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def _landlock_version() -> int:
    return max(_libc().syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION), 0)


def _landlock() -> None:
    """Handle every right and grant none."""
    version = _landlock_version()
    rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)  # + refer, truncate, ioctl on devices
    tcp, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)  # bind, connect; abstract sockets, signals
    attributes = struct.pack("=QQQ", (1 << rights) - 1, tcp, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _libc().syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    _check("landlock", min(ruleset, 0))
    try:
        _check("landlock", _libc().syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _has_seccomp() -> bool:
    calls = CALLS.get(platform.machine())
    if calls is None or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    action = ctypes.c_uint32(ALLOW)
    get_action_avail = 2
    return _libc().syscall(calls.seccomp, get_action_avail, 0, ctypes.byref(action)) == 0


def program(calls: Calls) -> list[tuple[int, int, int, int]]:
    """Return the filter as classic BPF, (code, jump if true, jump if false, operand) an instruction. Calls it does not name get
    EPERM."""

    def unless(call: int, argument: int, bits: int, has: int, lacks: int) -> list[tuple[int, int, int, int]]:
        """Decide a call by whether an argument has any of these bits."""
        return [
            (EQUAL, 0, 4, call),
            (LOAD, 0, 0, ARGUMENTS + 8 * argument),
            (ANY_BIT, 0, 1, bits),
            (RETURN, 0, 0, has),
            (RETURN, 0, 0, lacks),
        ]

    x32 = 0x40000000  # the other table of numbers on x86_64
    steps = [(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, calls.arch), (RETURN, 0, 0, DENY), (LOAD, 0, 0, NUMBER)]
    steps += [(AT_LEAST, 0, 1, x32), (RETURN, 0, 0, DENY)]
    for call in calls.allowed:
        steps += [(EQUAL, 0, 1, call), (RETURN, 0, 0, ALLOW)]
    steps += [
        (EQUAL, 0, 1, calls.clone3),
        (RETURN, 0, 0, ABSENT),
    ]  # its flags are out of sight: glibc falls back to clone
    steps += unless(calls.clone, 0, CLONE_THREAD, has=ALLOW, lacks=DENY)
    steps += unless(calls.mmap, 2, PROT_EXEC, has=DENY, lacks=ALLOW)
    steps += unless(calls.mprotect, 2, PROT_EXEC, has=DENY, lacks=ALLOW)
    return [*steps, (RETURN, 0, 0, DENY)]


def _seccomp(calls: Calls) -> None:
    steps = program(calls)
    packed = b"".join(struct.pack("=HBBI", *step) for step in steps)
    code = ctypes.create_string_buffer(packed, len(packed))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    result = _libc().syscall(calls.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_ALL_THREADS, header)
    _check("seccomp", result)


def _check(layer: str, result: int) -> None:
    if result != 0:
        raise SandboxError(f"{layer} could not be applied: {os.strerror(ctypes.get_errno())}")


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
