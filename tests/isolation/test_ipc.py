"""IPC namespaces: System V shared memory and semaphores, POSIX queues. ipc_namespaces(7)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Run

from .conftest import HOST_PYTHON, is_ours, leaks, python

# Names a POSIX queue and says whether it was there: mq_open(3), without O_CREAT.
_OPEN_QUEUE = (
    "import ctypes; library = ctypes.CDLL('librt.so.1', use_errno=True);"
    "print('there' if library.mq_open(b'/{name}', 0) >= 0 else ctypes.get_errno())"
)
_ENOENT = "2"


@pytest.fixture
def segment() -> Iterator[str]:
    """A shared memory segment of the host; its id."""
    made = subprocess.run(["ipcmk", "-M", "4096"], capture_output=True, text=True, check=True)
    identifier = made.stdout.split()[-1]
    yield identifier
    subprocess.run(["ipcrm", "-m", identifier], check=True)


@pytest.fixture
def semaphore() -> Iterator[str]:
    """A set of semaphores of the host; its id."""
    made = subprocess.run(["ipcmk", "-S", "1"], capture_output=True, text=True, check=True)
    identifier = made.stdout.split()[-1]
    yield identifier
    subprocess.run(["ipcrm", "-s", identifier], check=True)


@pytest.fixture
def queue() -> Iterator[str]:
    """A POSIX message queue of the host; its name."""
    name = f"minicontainer-test-{os.getpid()}"
    library = "import ctypes; library = ctypes.CDLL('librt.so.1');"
    make = f"assert library.mq_open(b'/{name}', {os.O_CREAT}, 0o600, None) >= 0"
    subprocess.run(python(library + make), check=True)
    yield name
    subprocess.run(python(library + f"library.mq_unlink(b'/{name}')"), check=True)


def _ids(listing: str) -> list[str]:
    """Give the ids in a file of /proc/sysvipc."""
    return [line.split()[1] for line in listing.splitlines()[1:]]


def test_shared_memory_of_the_host_is_not_there(run: Run, segment: str) -> None:
    """The list of segments inside is empty."""
    assert _ids(run("cat /proc/sysvipc/shm").output) == []


def test_without_an_ipc_namespace_it_is(run: Run, segment: str) -> None:
    """The control."""
    assert segment in _ids(run("cat /proc/sysvipc/shm", without="ipc").output)


def test_semaphores_of_the_host_are_not_there(run: Run, semaphore: str) -> None:
    """Nor any set of semaphores."""
    assert _ids(run("cat /proc/sysvipc/sem").output) == []


def test_without_an_ipc_namespace_they_are(run: Run, semaphore: str) -> None:
    """The control."""
    assert semaphore in _ids(run("cat /proc/sysvipc/sem", without="ipc").output)


def test_a_queue_of_the_host_is_not_there(run: Run, queue: str) -> None:
    """Not in /dev/mqueue, and not for who knows its name."""
    assert queue not in run("ls /dev/mqueue").output
    look = python(_OPEN_QUEUE.format(name=queue))
    assert run(look, *HOST_PYTHON).output.strip() == _ENOENT


def test_without_an_ipc_namespace_the_queue_is(run: Run, queue: str) -> None:
    """The control, both looks."""
    assert queue in run("ls /dev/mqueue", without="ipc").output
    look = python(_OPEN_QUEUE.format(name=queue))
    assert run(look, *HOST_PYTHON, without="ipc").output.strip() == "there"


def test_shared_files_are_its_own(run: Run) -> None:
    """/dev/shm, where shm_open(3) makes its files, is another file system."""
    file = Path(f"/dev/shm/isolation-test-{os.getpid()}")
    file.touch()
    try:
        assert file.name not in run("ls /dev/shm").output
        assert file.name in run("ls /dev/shm", without="ipc").output  # the control
    finally:
        file.unlink()


def test_the_kernel_gives_it_another_namespace(run: Run, segment: str) -> None:
    """With the control."""
    own = run.start("echo ready; sleep 60").pid
    assert not is_ours(own, "ipc")
    assert leaks(own, "ipc") == {}
    shared = run.start("echo ready; sleep 60", without="ipc").pid
    assert is_ours(shared, "ipc")
    assert leaks(shared, "ipc").keys() == {"shared memory", "System V"}


def test_a_namespace_can_be_another_containers(run: Run) -> None:
    """`container:NAME`: a queue made in one is there in the other, and not on the host."""
    other = run.start("touch /dev/mqueue/shared && echo ready; sleep 60", "--ipc", "shareable")
    name = str(other.state["id"])
    assert run("ls /dev/mqueue", "--ipc", f"container:{name}").output == "shared\n"
    assert run("ls /dev/mqueue").output == ""
