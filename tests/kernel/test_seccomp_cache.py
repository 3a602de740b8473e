"""Programs that are kept: compiled once, and never taken from what could have been changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyseccomp
import pytest

from minicontainer.kernel import seccomp_compiler
from minicontainer.kernel.seccomp import ArgRule, Seccomp, SyscallRule, cached_program
from minicontainer.kernel.seccomp_compiler import compile_apart, compile_profile
from tests.kernel.seccomp_child import MACHINES

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="CAP_SYS_ADMIN: run as root")

if TYPE_CHECKING:
    from collections.abc import Callable


PROFILE = Seccomp(
    default_action="SCMP_ACT_ERRNO",
    syscalls=(SyscallRule(names=("read", "write"), action="SCMP_ACT_ALLOW"),),
)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Seccomp]:
    """Count what is compiled."""
    calls: list[Seccomp] = []

    def counted(profile: Seccomp) -> tuple[bytes, tuple[str, ...]]:
        calls.append(profile)
        return compile_apart(profile)

    monkeypatch.setattr(seccomp_compiler, "compile_apart", counted)
    return calls


def _kept_in(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_a_program_is_compiled_once(tmp_path: Path, compiled: list[Seccomp]) -> None:
    """The second start reads what the first one kept, and gets the same."""
    directory = tmp_path / "seccomp"
    first = cached_program(PROFILE, str(directory))
    assert cached_program(PROFILE.replace(), str(directory)) == first == compile_profile(PROFILE)
    assert compiled == [PROFILE]
    assert _kept_in(directory).stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "change",
    [
        {"default_action": "SCMP_ACT_KILL"},
        {"default_errno_ret": 5},
        {"architectures": (MACHINES[os.uname().machine],)},
        {"syscalls": ()},
        {"syscalls": (SyscallRule(names=("read", "writev"), action="SCMP_ACT_ALLOW"),)},
        {"syscalls": (SyscallRule(names=("read", "write"), action="SCMP_ACT_LOG"),)},
        {"syscalls": (SyscallRule(names=("read",), action="SCMP_ACT_ERRNO", errno_ret=3),)},
        *(
            {"syscalls": (SyscallRule(names=("read", "write"), action="SCMP_ACT_ALLOW", args=a),)}
            for a in (
                (ArgRule(index=0, value=1, op="SCMP_CMP_EQ"),),
                (ArgRule(index=1, value=1, op="SCMP_CMP_EQ"),),
                (ArgRule(index=0, value=2, op="SCMP_CMP_EQ"),),
                (ArgRule(index=0, value=1, op="SCMP_CMP_NE"),),
                (ArgRule(index=0, value=1, value_two=1, op="SCMP_CMP_MASKED_EQ"),),
                (ArgRule(index=0, value=1, value_two=0, op="SCMP_CMP_MASKED_EQ"),),
            )
        ),
    ],
    ids=str,
)
def test_another_profile_is_another_program(
    tmp_path: Path, compiled: list[Seccomp], change: dict[str, Any]
) -> None:
    """Whatever decides the program is in its name."""
    cached_program(PROFILE, str(tmp_path))
    other = PROFILE.replace(**change)
    assert cached_program(other, str(tmp_path)) == compile_profile(other)
    assert compiled == [PROFILE, other]


def _flip(at: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return flip


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _give_away(path: Path) -> None:
    os.chown(path, 65534, 65534)


def _make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HARM: dict[str, Callable[[Path], object]] = {
    "digest": _flip(0),
    "origins": _flip(40),
    "program": _flip(-1),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\6\0\0\0\0\0\xff\x7f"),
    "empty": lambda path: path.write_bytes(b""),
    "all zero": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "writable by others": lambda path: path.chmod(0o602),
    "writable by the group": lambda path: path.chmod(0o620),
    "directory writable by others": lambda path: path.parent.chmod(0o777),
    "another's": _give_away,
    "a symbolic link": _link,
    "a named pipe": _make_a_pipe,
}


@needs_root
@pytest.mark.parametrize("harm", HARM)
def test_what_can_not_be_trusted_is_made_anew(
    tmp_path: Path, compiled: list[Seccomp], harm: str
) -> None:
    """Never a weaker filter, never a failed start; and what can be mended is."""
    directory = tmp_path / "seccomp"
    program = cached_program(PROFILE, str(directory))
    HARM[harm](_kept_in(directory))
    assert cached_program(PROFILE, str(directory)) == program
    assert len(compiled) == 2
    cached_program(PROFILE, str(directory))
    assert len(compiled) == (3 if "directory" in harm else 2)


def test_a_program_under_anothers_name_is_not_taken(
    tmp_path: Path, compiled: list[Seccomp]
) -> None:
    """The digest covers the name: a weaker program of ours can't be slipped in by renaming."""
    weaker = PROFILE.replace(default_action="SCMP_ACT_ALLOW", syscalls=())
    cached_program(weaker, str(tmp_path))
    kept = _kept_in(tmp_path)
    shutil.move(kept, tmp_path / "aside")
    cached_program(PROFILE, str(tmp_path))
    (other,) = (path for path in tmp_path.iterdir() if path.name != "aside")
    shutil.copy(tmp_path / "aside", other)
    assert cached_program(PROFILE, str(tmp_path)) == compile_profile(PROFILE)
    assert len(compiled) == 3


def test_a_changed_library_compiles_anew(
    tmp_path: Path, compiled: list[Seccomp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mended libseccomp makes other programs, though its version may read the same."""
    library = tmp_path / "libseccomp.so.2"
    library.write_bytes(b"one")
    monkeypatch.setattr(seccomp_compiler, "made_from", lambda: (str(library),))
    directory = str(tmp_path / "seccomp")
    cached_program(PROFILE, directory)
    cached_program(PROFILE, directory)
    assert len(compiled) == 1
    library.write_bytes(b"two")
    cached_program(PROFILE, directory)
    assert len(compiled) == 2
    library.unlink()
    cached_program(PROFILE, directory)
    assert len(compiled) == 3


def test_the_library_is_one_of_the_origins() -> None:
    """The file itself, not a link to it."""
    library, binding, compiler = seccomp_compiler.made_from()
    assert "libseccomp.so" in library
    assert not os.path.islink(library)
    assert binding == pyseccomp.__file__
    assert compiler == seccomp_compiler.__file__


def test_a_directory_that_can_not_be_made_costs_only_time(tmp_path: Path) -> None:
    """Here a file stands in its way; a full disk ends in the same place."""
    (tmp_path / "file").touch()
    assert cached_program(PROFILE, str(tmp_path / "file" / "seccomp")) == compile_profile(PROFILE)
