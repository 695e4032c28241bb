"""Run as a script, in a process of its own: reads a pickled checkpoint and answers with its tensors.

Standard input is the file, standard output the answer: a first line, `ok confined`, `ok` or `no` and a
reason, and after the first two the tensors as safetensors. Only what torch calls weights is unpickled
(`weights_only`). That has had holes (CVE-2025-32434, CVE-2026-24747), so before the file is touched the
process gives up what it does not need: it may read, compute and answer. Limits of the system hold for memory,
time and the size of files (0); where Linux can filter system calls, there is also no network, no other
program, no process, and no file that could be written, made or removed.

Imports nothing of ours, so that it starts in isolated mode from its path.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from typing import Any

MIB = 2**20
SPARE_MEMORY, COPIES = 512 * MIB, 6  # besides what is imported: the file, tensors, and the answer in parts
CPU_SECONDS = 240
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
# Numbers of system calls on x86_64 and aarch64; None where there is none. What is not here fails with EPERM.
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65),
    "writev": (20, 66), "access": (21, None), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "dup": (32, 23), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93),
    "uname": (63, 160), "fcntl": (72, 25), "getcwd": (79, 17), "readlink": (89, None), "stat": (4, None),
    "lstat": (6, None), "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177),
    "sigaltstack": (131, 132), "gettid": (186, 178), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "getdents64": (217, 61), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "faccessat2": (439, 439),
}  # fmt: skip
OPENAT = (257, 56)  # allowed for reading
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, and AUDIT_ARCH


def limit() -> None:
    """Give up time and files, for good; what is imported is there, and nothing of the file is read yet."""
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, CPU_SECONDS),
    ):
        resource.setrlimit(what, (most, most))


def confine(file_size: int) -> bool:
    """Give up memory beyond what such a file needs, and all system calls but a few; whether that worked."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 (nothing more is imported)
            used = int(statm.read().split()[0]) * resource.getpagesize()
        most = used + SPARE_MEMORY + COPIES * file_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):  # a system that is not Linux
        return False
    return _filter_calls()


def _filter_calls() -> bool:
    """A seccomp filter: the calls of the table, `openat` for reading, EPERM for everything else."""
    if platform.machine() not in MACHINES or sys.byteorder != "little":
        return False
    column, architecture = MACHINES[platform.machine()]
    load, equal, has_bits, answer = 0x20, 0x15, 0x45, 0x06
    allow, refuse = (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050001)
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), refuse, (load, 0, 0, 0)]
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            program += [(equal, 0, 1, number), allow]
    flags = 16 + 8 * 2  # the third argument, its lower half
    program += [(equal, 1, 0, OPENAT[column]), refuse, (load, 0, 0, flags), (has_bits, 0, 1, WRITING), refuse]
    program.append(allow)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return int(prctl(SET_SECCOMP, FILTER, ctypes.addressof(head), 0, 0)) == 0


def main() -> None:
    """Answer; whatever goes wrong with the file is an answer too."""
    import torch  # before files are given up: packages that it finds may want a temporary one
    from safetensors.torch import save

    limit()
    size = os.fstat(0).st_size
    begin = b"ok confined\n" if confine(size) else b"ok\n"
    try:
        with open(0, "rb") as file:
            tensors, values = _parts(torch.load(file, map_location="cpu", weights_only=True), torch.Tensor)
        content = save(
            {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()},
            metadata={"values": json.dumps(values)},
        )
    except Exception as error:  # noqa: BLE001 (a foreign file may break a library in any way)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        sys.stdout.buffer.write(b"no " + reason.encode(errors="replace")[: 64 * 1024] + b"\n")
        return
    sys.stdout.buffer.write(begin)
    sys.stdout.buffer.write(content)


def _parts(loaded: Any, tensor: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors by name, those of `state_dict` where there is one, and of all else what JSON can say."""
    if not isinstance(loaded, dict):
        raise TypeError(f"it holds a {type(loaded).__name__}, not a dictionary of tensors")
    values = {str(name): value for name, value in loaded.items() if not isinstance(value, tensor)}
    nested = values.pop("state_dict", {})
    tensors = nested if isinstance(nested, dict) and nested else loaded
    return (
        {str(name): value for name, value in tensors.items() if isinstance(value, tensor)},
        json.loads(json.dumps(values, default=lambda value: f"a {type(value).__name__}")),
    )


if __name__ == "__main__":
    main()
