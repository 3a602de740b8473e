"""The system calls of a program and of its children, by strace, counted.

Only calls that make or change something of the kernel's are counted, and those that failed are not:
how a runtime reads its files, or manages its memory, is no part of what it makes.

See: strace(1).
"""

from __future__ import annotations

import re
import shutil
import time

from minicontainer.errors import Error, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PATIENCE_S = 30
_OFTEN_S = 0.01
_CALLS = (
    "clone3", "unshare", "setns",
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "mount_setattr",
    "fsopen", "fsconfig", "fsmount", "fspick",
    "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat", "rmdir", "unlink", "unlinkat",
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "lchown",
    "sethostname", "setdomainname", "setsid", "setpgid", "umask", "chdir", "fchdir",
    "setuid", "setgid", "setresuid", "setresgid", "setgroups", "capset", "prctl", "seccomp",
    "setrlimit", "prlimit64", "keyctl", "add_key", "bpf", "sched_setaffinity", "execve", "execveat",
)  # fmt: skip
# "1234  mount("proc", …) = 0", and the call that another process interrupted and that goes on
_LINE = re.compile(r"^\d+ +(?:<\.\.\. (\w+) resumed>|(\w+)\().*= (?:0x)?([0-9a-f]+)", re.DOTALL)


def traced_by(file: str) -> tuple[str, ...]:
    """Give the command under which a program's calls are written to a file.

    Raises:
        NotFound: strace is not installed.
    """
    if shutil.which("strace") is None:
        raise NotFound("--calls needs strace: install it (apt-get install strace)")
    # -D: strace works in the background, and the program ends for its parent when it ends
    calls = f"trace=?{',?'.join(_CALLS)}"
    return ("strace", "-D", "-f", "-q", "-o", file, "-s", "64", "-e", calls)


def count(files: Iterable[str]) -> dict[str, int]:
    """Count the calls in files that strace has written, by name; those that failed are left out."""
    found = dict.fromkeys(_CALLS, 0)
    for path in files:
        for line in _whole(path):
            if seen := _LINE.match(line):
                found[seen[1] or seen[2]] += 1
    return {name: number for name, number in found.items() if number}


def _whole(path: str) -> list[str]:
    """Read a file when strace has finished it: every process that it names has ended.

    Raises:
        Error: that does not happen.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        processes = {line.split(" ", 1)[0] for line in lines}
        ended = {line.split(" ", 1)[0] for line in lines if "+++" in line}
        if processes and processes == ended:
            return lines
        time.sleep(_OFTEN_S)
    raise Error(f"strace has not finished {path}: a process that it follows has not ended")
