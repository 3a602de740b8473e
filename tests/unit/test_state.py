"""Containers on disk: names, states that are whole, and locks."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import Conflict, InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import pidfds
from minicontainer.runtime.container import operations
from minicontainer.runtime.container.state import State, Store, check_name

GOOD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose directory is not there yet."""
    return Store(str(tmp_path / "run" / "containers"))


@given(st.text(GOOD, min_size=1, max_size=255).filter(lambda name: not name.startswith(".")))
def test_good_names(name: str) -> None:
    """All that the OCI specification's users use."""
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "../a", "a b", "a\n", "a\0", "é", "a" * 256, "a:b", "~", "%"],
)
def test_bad_names(name: str, store: Store) -> None:
    """They would be another path, or none."""
    with pytest.raises(InvalidArgument, match="use letters, digits"):
        check_name(name)
    with pytest.raises(InvalidArgument):
        store.reserve(name)
    assert not os.path.exists(store.root)


@given(st.text())
def test_any_name_is_one_path_component_or_refused(name: str) -> None:
    """So `directory` never leaves the store."""
    try:
        check_name(name)
    except InvalidArgument:
        return
    assert Path("/store", name).parent == Path("/store")
    assert os.path.normpath(f"/store/{name}") == f"/store/{name}"


@contextlib.contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Let this process open only so many more files."""
    os.close(lowest := os.dup(0))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.close(now := os.dup(0))
    assert now == lowest  # nothing was left open


def test_a_state_that_cannot_be_opened_now_is_not_incomplete(store: Store) -> None:
    """`delete --force` would forget a container whose process runs."""
    os.close(store.reserve("web"))
    store.save(State(id="web", bundle="/b", cgroup="/c", pid=os.getpid()))
    with few_descriptors(0), pytest.raises(KernelError, match="Too many open files"):
        operations.load(store, "web")
    with few_descriptors(1):
        assert operations.load(store, "web").pid == os.getpid()


def test_a_process_that_cannot_be_looked_at_leaves_no_descriptor() -> None:
    """A pidfd is there, but none is free to see whose it is."""
    with few_descriptors(1), pytest.raises(OSError, match="Too many open files"):
        pidfds.open_same(os.getpid(), 0)


def test_a_name_is_taken_once(store: Store) -> None:
    """And is free again when the container is forgotten."""
    lock = store.reserve("web")
    with pytest.raises(Conflict, match="container web exists already: choose another name"):
        store.reserve("web")
    store.forget("web")
    os.close(lock)
    os.close(store.reserve("web"))


def test_a_name_may_be_as_long_as_a_file_s(store: Store) -> None:
    """255 characters, and not one less."""
    lock = store.reserve("a" * 255)
    store.save(state := State(id="a" * 255, bundle="/b", cgroup="/c"))
    assert store.load("a" * 255) == state
    os.close(lock)


def test_a_refused_name_leaves_no_descriptor(store: Store) -> None:
    """A daemon would run out of them."""
    os.close(store.reserve("web"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(Conflict):
            store.reserve("web")
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(store.root) == ["web"]


def test_a_state_is_read_as_it_was_written(store: Store) -> None:
    """With all its fields."""
    lock = store.reserve("web")
    state = State(id="web", pid=7, bundle="/b", cgroup="/c", annotations={"a": "b"})
    assert store.load("web") is None
    assert store.save(state) == state
    assert store.load("web") == state
    assert sorted(os.listdir(store.directory("web"))) == ["lock", "state.json"]
    os.close(lock)


@pytest.mark.parametrize("text", ["", "{", '{"id": 1}', "[]", "\xff", '{"id": "web"}'])
def test_a_state_that_is_not_whole_is_none(store: Store, text: str) -> None:
    """It may be of another version, or of a disk that was full."""
    lock = store.reserve("web")
    Path(store.directory("web"), "state.json").write_bytes(text.encode("latin-1"))
    assert store.load("web") is None
    assert store.load("nosuch") is None
    os.close(lock)


def forked(act: Callable[[], int]) -> int:
    """Run *act* in a child process, which ends with what it returns; give the child's pid."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = act()
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_reader_finds_the_old_state_or_the_new_one(store: Store) -> None:
    """While another process writes as fast as it can."""
    lock = store.reserve("web")
    long = {"filler": "x" * 20_000}
    old = State(id="web", pid=1, bundle="/b", cgroup="/c", annotations=long)
    store.save(old)

    def write() -> int:
        while True:
            store.save(old.replace(pid=2))
            store.save(old)

    child = forked(write)
    try:
        found = {state.pid if (state := store.load("web")) else None for _ in range(2000)}
    finally:
        os.kill(child, signal.SIGKILL)
        status_of(child)
    assert found <= {1, 2}
    os.close(lock)


def test_of_many_that_want_a_name_one_gets_it(store: Store) -> None:
    """Processes that begin at the same moment, many times."""
    go, ready = os.pipe()

    def want() -> int:
        os.close(ready)
        os.read(go, 1)
        try:
            store.reserve("web")
        except Conflict:
            return 1
        time.sleep(0.05)  # holds it
        return 0

    for _ in range(10):
        children = [forked(want) for _ in range(8)]
        os.close(ready)
        os.close(go)
        assert sorted(map(status_of, children)) == [0] + [1] * 7
        store.forget("web")
        assert os.listdir(store.root) == []
        go, ready = os.pipe()


def test_what_a_killed_process_held_is_free(store: Store) -> None:
    """The kernel frees its lock; what a living one holds stays held."""
    mine = store.reserve("mine")
    told, tell = os.pipe()

    def hold() -> int:
        store.reserve("theirs")
        os.write(tell, b".")
        signal.pause()
        return 0

    child = forked(hold)
    os.read(told, 1)
    assert store.is_being_created("theirs")
    os.kill(child, signal.SIGKILL)
    status_of(child)
    assert not store.is_being_created("theirs")
    with pytest.raises(Conflict):  # until somebody removes it
        store.reserve("theirs")
    store.forget("theirs")
    assert store.is_being_created("mine")
    os.close(mine)


def test_who_looks_is_nobody_s_creator(store: Store) -> None:
    """Others look at every moment: a container that is made stays so, and names can be claimed."""
    os.close(store.reserve("made"))

    def look() -> int:
        while True:
            store.is_being_created("made")
            store.is_being_created("web")

    children = [forked(look) for _ in range(4)]
    try:
        for _ in range(500):
            assert not store.is_being_created("made")
            claim = store.reserve("web")
            assert store.is_being_created("web")
            store.forget("web")
            os.close(claim)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            status_of(child)


def test_a_container_that_is_made_is_no_longer_being_created(store: Store) -> None:
    """Who created it stays with it, and holds the lock in another way."""
    claim = store.reserve("web")
    assert store.is_being_created("web")
    store.settle(claim)
    assert not store.is_being_created("web")
    os.close(claim)


@pytest.mark.parametrize("force", [False, True])
def test_what_has_no_state_yet_is_not_deleted(store: Store, force: bool) -> None:
    """Its creator has just claimed the name; once that one is gone, force is enough."""
    claim = store.reserve("web")
    with pytest.raises(Conflict, match="container web is being created"):
        operations.delete("web", store, force=force)
    os.close(claim)
    assert os.listdir(store.root) == ["web"]


def test_files_are_their_owner_s_alone(store: Store, tmp_path: Path) -> None:
    """A specification's variables may be secrets; and what a hook of it says, root runs."""
    mask = os.umask(0)
    try:
        os.close(store.reserve("web"))
        store.save(State(id="web", bundle="/b", cgroup="/c"))
        (tmp_path / "plain").touch()
    finally:
        os.umask(mask)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o666  # what it would be otherwise
    files = list(Path(store.directory("web")).iterdir())
    assert {file.name: file.stat().st_mode & 0o777 for file in files} == {
        "lock": 0o600, "state.json": 0o600,
    }  # fmt: skip
    for directory in (files[0].parent, *files[0].parents[1:3]):
        assert directory.stat().st_mode & 0o022 == 0, directory


def test_what_is_hidden_is_nobody_s_container(store: Store) -> None:
    """The filters are kept beside the containers."""
    os.makedirs(os.path.join(store.root, ".filters"))
    assert store.names() == []


def test_nobody_is_listed_where_nothing_was(store: Store) -> None:
    """The directory is made when the first container is."""
    assert store.names() == []
    assert not os.path.exists(store.root)
    store.forget("nosuch")


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    """A file where the directory should be, or the state's directory gone."""
    (tmp_path / "file").touch()
    with pytest.raises(Unsupported, match=f"can't keep state in {tmp_path}/file"):
        Store(str(tmp_path / "file")).reserve("web")
    with pytest.raises(Unsupported, match="file/x: Not a directory"):
        Store(str(tmp_path / "file" / "x")).reserve("web")
    with pytest.raises(KernelError, match=r"write .*/nosuch/state\.json"):
        Store(str(tmp_path)).save(State(id="nosuch", bundle="/b", cgroup="/c"))
