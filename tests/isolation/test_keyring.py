"""The session keyring: the container's own, so that it finds no secret of the caller's.

See: keyrings(7), session-keyring(7).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import PATIENCE_S, Result
from tests.isolation.conftest import Bundles, Spec, python

KEYCTL, ADD_KEY = (250, 248) if os.uname().machine == "x86_64" else (219, 217)
JOIN_SESSION, DESCRIBE, SEARCH = 1, 6, 10
SESSION = -3

# The session keyring's description, and whether a key `secret` is found in it.
LOOK = f"""
import ctypes
libc = ctypes.CDLL(None)
session = ctypes.c_long({SESSION})
text = ctypes.create_string_buffer(200)
libc.syscall({KEYCTL}, {DESCRIBE}, session, text, 200)
print(text.value.decode())
print(libc.syscall({KEYCTL}, {SEARCH}, session, b"user", b"minicontainer-secret", 0) > 0)
"""


def with_python(spec: Spec) -> None:
    """Give the container the host's Python."""
    spec["mounts"] += [
        {"destination": place, "source": place, "options": ["rbind", "ro"]}
        for place in ("/usr", "/lib", "/lib64")
        if os.path.isdir(place)
    ]
    spec["linux"].pop("seccomp", None)  # Docker's list has no keyctl(2)


def keep_a_secret() -> None:
    """Put a key into a session keyring of this process's own."""
    libc = ctypes.CDLL(None)
    assert libc.syscall(KEYCTL, JOIN_SESSION, b"minicontainer-test") > 0
    assert libc.syscall(
        ADD_KEY, b"user", b"minicontainer-secret", b"x", 1, ctypes.c_long(SESSION)
    ) > 0  # fmt: skip


@pytest.fixture
def look(bundles: Bundles) -> Callable[..., Result]:
    """Look at the session keyring in a container whose caller has a secret in its own."""

    def run(*options: str, change: Callable[[Spec], object] = with_python) -> Result:
        words = bundles.write(python(LOOK), change)
        done = subprocess.run(
            [*words[:-1], *options, words[-1]], preexec_fn=keep_a_secret,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def test_the_session_keyring_is_the_containers(look: Callable[..., Result]) -> None:
    """It has its name, is searched by its owner, and has no secret of the caller's."""
    described, found = look().output.split()
    kind, uid, _, permissions, name = described.split(";")
    assert (kind, uid, permissions) == ("keyring", "0", "3f1b0000")
    assert name.startswith("_ses.test-")
    assert found == "False"


def test_in_a_user_namespace(look: Callable[..., Result]) -> None:
    """Root of the container owns it; others of the namespace may search it."""

    def change(spec: Spec) -> None:
        with_python(spec)
        spec["linux"]["namespaces"].append({"type": "user"})
        maps = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
        spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}

    described, found = look(change=change).output.split()
    assert described.split(";")[1:4] == ["0", "0", "3f130008"]
    assert found == "False"


def test_with_the_callers_keyring_its_secret_is_found(look: Callable[..., Result]) -> None:
    """The control: --no-new-keyring."""
    described, found = look("--no-new-keyring").output.split()
    assert described.endswith(";minicontainer-test")
    assert found == "True"


@pytest.mark.parametrize("options", [(), ("--no-new-keyring",)], ids=["its own", "the caller's"])
def test_exec_does_as_the_containers_first_program(
    bundles: Bundles, options: tuple[str, ...]
) -> None:
    """Into the container's keyring, which the first program has; or it keeps its own caller's."""
    running = bundles.start("echo ready; sleep 60", with_python, *options)
    done = bundles.exec(running, *python(LOOK), preexec_fn=keep_a_secret)
    assert done.errors == ""
    described, found = done.output.split()
    own = "minicontainer-test" if options else f"_ses.{running.state['id']}"
    assert (described.rpartition(";")[2], found) == (own, str(bool(options)))
