"""A filter of system calls for boxes: what no server needs and what reaches parts of the kernel that no namespace
divides. It is a small BPF program by hand, for the machines whose call numbers are known here.
"""

from __future__ import annotations

import errno
import platform
import struct

# Refused on every machine; numbers for (x86_64, aarch64).
_REFUSED = {
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "fanotify_init": (300, 262),
}
# Said not to exist, so that libraries take the older way, whose arguments can be looked at (or that is no risk).
_UNKNOWN = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_CLONE, _UNSHARE, _IOCTL, _SOCKET = (56, 220), (272, 97), (16, 29), (41, 198)
_AUDIT_ARCH = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020080
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FAMILIES = (1, 2, 10, 16)  # unix, IPv4, IPv6, netlink; not vsock, which leads out of every network namespace

_LOAD, _EQUAL, _ABOVE, _ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000


def program() -> bytes | None:
    """The filter as bubblewrap reads it; None on a machine whose call numbers are not known here."""
    known = _AUDIT_ARCH.get(platform.machine())
    if known is None:
        return None
    arch, column = known
    code = _Code()
    code.add(_LOAD, _ARCH_AT)
    code.unless(_EQUAL, arch, errno.ENOSYS)
    code.add(_LOAD, _NUMBER_AT)
    if column == 0:
        code.when(_ABOVE, _X32, errno.ENOSYS)
    for numbers in _REFUSED.values():
        code.when(_EQUAL, numbers[column], errno.EPERM)
    for numbers in _UNKNOWN.values():
        code.when(_EQUAL, numbers[column], errno.ENOSYS)
    for numbers in (_CLONE, _UNSHARE):
        code.argument(numbers[column], _FIRST_AT, [(_ANY, _NEW_NAMESPACES)], errno.EPERM)
    code.argument(_IOCTL[column], _SECOND_AT, [(_EQUAL, value) for value in _TERMINAL_INPUT], errno.EPERM)
    code.argument(_SOCKET[column], _FIRST_AT, [(_EQUAL, value) for value in _FAMILIES], errno.EAFNOSUPPORT, others=True)
    code.add(_RETURN, _ALLOW)
    return code.packed()


class _Code:
    """Instructions in their order; jumps are over what follows at once."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int]] = []

    def add(self, code: int, value: int, yes: int = 0, no: int = 0) -> None:
        self._lines.append((code, yes, no, value))

    def when(self, test: int, value: int, error: int) -> None:
        """Refuse where the test holds for what is loaded."""
        self.add(test, value, 0, 1)
        self.add(_RETURN, _ERRNO | error)

    def unless(self, test: int, value: int, error: int) -> None:
        """Refuse where it does not hold."""
        self.add(test, value, 1, 0)
        self.add(_RETURN, _ERRNO | error)

    def argument(self, number: int, at: int, tests: list[tuple[int, int]], error: int, *, others: bool = False) -> None:
        """For one call, refuse by (the lower half of) an argument: where a test holds, or with `others` where none
        does. The number is loaded again afterwards.
        """
        count = len(tests)
        # load, the tests, a way past the refusal, the refusal, load the number.
        self.add(_EQUAL, number, 0, count + 4)
        self.add(_LOAD, at)
        for left, (test, value) in zip(range(count, 0, -1), tests, strict=True):
            # From a test that holds: over the tests that are left, to the refusal or past it.
            self.add(test, value, left + 1 if others else left, 0)
        # None holds.
        self.add(0x05, 0 if others else 1)
        self.add(_RETURN, _ERRNO | error)
        self.add(_LOAD, _NUMBER_AT)

    def packed(self) -> bytes:
        return b"".join(struct.pack("HBBI", *line) for line in self._lines)
