"""Write minicontainer/learn/constants.py: the names of the kernel's constants.

They come from `kernel`; signals and errors from Python, which asks the C library of this Linux.

.venv/bin/python -m scripts.constants           write it
.venv/bin/python -m scripts.constants --check   fail if it is not what would be written
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from minicontainer.kernel import bpf, keyring, mounts, namespaces, overlay, seccomp, signals

COPY = Path(__file__).resolve().parents[1] / "minicontainer" / "learn" / "constants.py"
_HEAD = '''"""The kernel's constants by their names; most are copies of those in `kernel`.

`scripts/constants.py` makes them, so that a client that reads a story does without the modules of
`kernel`, and without ctypes, which these need: 8 ms of a command. Where a recording is replayed
there may be no Linux: other systems number signals and errors in their own way.
"""

from __future__ import annotations
'''


def text() -> str:
    """Write the module: a table for each module of `kernel`, and some for other names."""
    tables: dict[str, dict[str, int]] = {
        module.__name__.rpartition(".")[2].upper(): {
            name: value
            for name, value in vars(module).items()
            if name.isupper() and name[0] != "_" and type(value) is int  # not TYPE_CHECKING
        }
        for module in (bpf, keyring, mounts, namespaces, overlay, seccomp)
    }
    tables["SECCOMP_FLAGS"] = seccomp.FLAGS
    tables["SIGNALS"] = dict(sorted(signals.NUMBERS.items(), key=lambda one: (one[1], one[0])))
    parts = [_HEAD]
    for table, values in tables.items():
        rows = "".join(f'    "{name}": {value},\n' for name, value in values.items())
        parts.append(f"\n{table} = {{\n{rows}}}\n")
    rows = "".join(
        f'    {number}: ("{name}", "{os.strerror(number)}"),\n'
        for number, name in sorted(errno.errorcode.items())
    )
    return "".join([*parts, f"\nERRORS = {{\n{rows}}}\n"])


def main() -> int:
    """Write the copy, or compare it."""
    if "--check" not in sys.argv:
        COPY.write_text(text(), encoding="utf-8")
    elif COPY.read_text(encoding="utf-8") != text():
        sys.stderr.write(f"{COPY.name}: a constant has changed: python -m scripts.constants\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
