"""The filter of system calls, as a program for the kernel (classic BPF, seccomp(2)).

Owns which calls a sandboxed program may not make. Promises the same filter for every backend,
and the end of a process that speaks another processor's language (32-bit calls on x86_64).
Never installs it: a backend does.
"""

import errno
import platform
import struct

from asyncsvc.sandbox.system_calls import AARCH64, LAST_KNOWN, X86_64, number

ARCHITECTURES = {X86_64: 0xC000003E, AARCH64: 0xC00000B7}
"""AUDIT_ARCH_* of linux/audit.h."""
KILL, ALLOW, REFUSE = 0x80000000, 0x7FFF0000, 0x00050000
"""SECCOMP_RET_KILL_PROCESS, _ALLOW and _ERRNO of linux/seccomp.h."""
NAMESPACES = 0x7E020000
"""CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET."""
SETUID = 0o6000
CREATES = 0o20000100
"""O_CREAT and O_TMPFILE: only with one of them has open a mode."""
AF_UNIX = 1
DATAGRAMS = 2
"""The bit of SOCK_DGRAM and SOCK_RAW: one of such a pair can still send to any address."""
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""They write into a terminal as if a person had typed."""
SET_LEASE = 1024
"""F_SETLEASE: who owns a file may make all others wait who open it, outside as well."""
PERSONALITY_ASKED = 0xFFFFFFFF

DENIED = (
    # Other processes and their memory.
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
    "move_pages", "migrate_pages", "perf_event_open",
    # Mounts, roots, namespaces.
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount",
    "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "unshare", "setns",
    # The machine.
    "reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "create_module", "swapon", "swapoff", "sethostname", "setdomainname", "settimeofday",
    "clock_settime", "adjtimex", "clock_adjtime", "acct", "quotactl", "quotactl_fd", "syslog",
    "iopl", "ioperm", "modify_ldt", "vhangup", "uselib", "_sysctl", "nfsservctl", "sync",
    # Keys of the kernel, which no namespace divides.
    "add_key", "request_key", "keyctl",
    # Large parts of the kernel that faults are found in, and that no tool needs.
    "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "vmsplice",
    "fanotify_init", "lookup_dcookie", "mbind", "set_mempolicy", "set_mempolicy_home_node",
    # Files by another name than their path.
    "name_to_handle_at", "open_by_handle_at",
    # Memory that RLIMIT_AS does not count.
    "memfd_create", "memfd_secret", "shmget", "msgget",
    "socket", "setxattrat", "file_setattr",
)  # fmt: skip
ABSENT = ("clone3", "openat2")
"""Their flags are in memory, where a filter cannot look. After ENOSYS the older call is used."""
MODES = {
    "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2,
}  # fmt: skip
"""Which argument holds the mode of a file."""
OPENS = {"open": (1, 2), "openat": (2, 3)}
"""Which arguments hold the flags and the mode."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP with BPF_JEQ, BPF_JGE and BPF_JSET, BPF_RET."""
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
"""Bytes into struct seccomp_data."""


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _argument(index: int) -> bytes:
    """Load the lower half of an argument: both processors are little-endian."""
    return _step(LOAD, ARGUMENTS_AT + 8 * index)


def _refused(error: int = errno.EPERM) -> bytes:
    return _step(RETURN, REFUSE | error)


def supported(machine: str) -> bool:
    return machine in ARCHITECTURES


def filter_program(machine: str | None = None) -> bytes:
    """The filter, 8 bytes a step. Raises KeyError for a processor without a table."""
    machine = machine or platform.machine()
    steps = [
        _step(LOAD, ARCHITECTURE_AT),
        _step(EQUAL, ARCHITECTURES[machine], yes=1),
        _step(RETURN, KILL),
        _step(LOAD, NUMBER_AT),
        _step(AT_LEAST, LAST_KNOWN + 1, no=1),
        _refused(errno.ENOSYS),
    ]
    for error, names in ((errno.EPERM, DENIED), (errno.ENOSYS, ABSENT)):
        for name in names:
            found = number(name, machine)
            if found is not None:
                steps += [_step(EQUAL, found, no=1), _refused(error)]
    for name, check in _checked().items():
        found = number(name, machine)
        if found is not None:
            steps += [_step(EQUAL, found, no=len(check)), *check]
    steps.append(_step(RETURN, ALLOW))
    return b"".join(steps)


def _checked() -> dict[str, list[bytes]]:
    """Calls that are allowed by their arguments; each ends with a verdict."""
    allowed = _step(RETURN, ALLOW)
    checks = {
        "clone": [_argument(0), _step(ANY_BIT, NAMESPACES, no=1), _refused(), allowed],
        "socketpair": [
            _argument(0),
            _step(EQUAL, AF_UNIX, no=2),
            _argument(1),
            _step(ANY_BIT, DATAGRAMS, no=1),
            _refused(),
            allowed,
        ],
        "personality": [
            _argument(0),
            _step(EQUAL, 0, yes=2),
            _step(EQUAL, PERSONALITY_ASKED, yes=1),
            _refused(),
            allowed,
        ],
        "fcntl": [_argument(1), _step(EQUAL, SET_LEASE, no=1), _refused(), allowed],
        "ioctl": [
            _argument(1),
            _step(EQUAL, TIOCSTI, yes=1),
            _step(EQUAL, TIOCLINUX, no=1),
            _refused(),
            allowed,
        ],
    }
    for name, mode in MODES.items():
        checks[name] = [_argument(mode), _step(ANY_BIT, SETUID, no=1), _refused(), allowed]
    for name, (flags, mode) in OPENS.items():
        checks[name] = [
            _argument(flags),
            _step(ANY_BIT, CREATES, no=3),
            _argument(mode),
            _step(ANY_BIT, SETUID, no=1),
            _refused(),
            allowed,
        ]
    return checks
