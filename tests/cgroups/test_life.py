"""A group's life: made, joined, stopped, emptied, removed, whatever its processes do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicontainer import steps
from minicontainer.cgroups import hierarchies
from minicontainer.cgroups.cgroup import Cgroup, open_cgroup
from minicontainer.cgroups.hierarchies import Hierarchy
from minicontainer.cgroups.limits import HugepageLimit, Memory, Pids, Resources
from minicontainer.cgroups.v1 import V1Cgroup
from minicontainer.cgroups.v2 import V2Cgroup
from minicontainer.errors import Conflict, Error, InvalidArgument, NotFound, Unsupported
from minicontainer.event import Event
from minicontainer.kernel import libc

from .conftest import Start, leftovers, new_path, said, wait_until

SLEEP = "print('on', flush=True)\ntime.sleep(1000)"
STUBBORN_TREE = """
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    os.fork()
os.setsid() if os.getpid() != os.getsid(0) else None
if os.getppid() != 1:
    print(os.getpid(), flush=True)
time.sleep(1000)
"""
FORK_BOMB = """
print('on', flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_a_process_is_in_the_group_of_every_hierarchy(group: Cgroup, start: Start) -> None:
    """/proc/PID/cgroup shows the path and nothing else."""
    program = start(group, SLEEP)
    shown = Path(f"/proc/{program.pid}/cgroup").read_text().splitlines()
    mounted = hierarchies.mounted()
    for line in shown:
        _, controllers, path = line.split(":", 2)
        hierarchy = next(
            (h for h in mounted.v1 if ",".join(h.controllers) == controllers), mounted.unified
        )
        if hierarchy:  # otherwise the kernel has it, but it is not mounted
            assert path == hierarchy.root.rstrip("/") + group.path
    assert group.processes() == (program.pid,)


def test_without_being_added_it_is_elsewhere(group: Cgroup) -> None:
    """The control: this test is not in it."""
    assert os.getpid() not in group.processes()
    assert group.path not in Path("/proc/self/cgroup").read_text()


def test_a_frozen_group_stands_still(either: Cgroup, start: Start) -> None:
    """A busy loop gets no time while frozen, and goes on after."""
    program = start(either, "print('on', flush=True)\nwhile True: pass")
    said(program)

    def ticks() -> int:
        return int(Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[11])

    wait_until(lambda: ticks() > 1)
    either.freeze()
    assert either.frozen()
    stood = ticks()
    time.sleep(0.2)  # the measure: time in which it would run
    assert ticks() == stood
    either.thaw()
    assert not either.frozen()
    wait_until(lambda: ticks() > stood)


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_ends_everything(either: Cgroup, start: Start, frozen: bool) -> None:
    """Children that ignore signals, in sessions of their own, frozen: SIGKILL reaches all."""
    program = start(either, STUBBORN_TREE)
    wait_until(lambda: len(either.processes()) == 8)
    said(program)
    if frozen:
        either.freeze()
    either.kill()
    assert either.processes() == ()
    assert program.wait() == -9


def test_kill_where_no_freezer_is_mounted(group: Cgroup, start: Start) -> None:
    """It is an aid, so that no child is missed; pausing is what can't be done without."""
    mounted = hierarchies.mounted()
    others = tuple(h for h in mounted.v1 if "freezer" not in h.controllers)
    if not others:
        pytest.skip("needs cgroup v1")
    without = V1Cgroup(hierarchies.Hierarchies(v1=others), group.path)
    program = start(group, STUBBORN_TREE)
    wait_until(lambda: len(group.processes()) == 8)
    with pytest.raises(Unsupported, match="no freezer controller is mounted"):
        without.freeze()
    without.kill()
    assert group.processes() == ()
    assert program.wait() == -9


def test_kill_ends_a_fork_bomb(group: Cgroup, start: Start) -> None:
    """Those made while the others die are not missed."""
    group.limit(Resources(pids=Pids(limit=40)))
    program = start(group, FORK_BOMB)
    wait_until(lambda: len(group.processes()) > 30)
    group.kill()
    assert group.processes() == ()
    assert program.wait() == -9


def test_kill_reaches_groups_below(either: Cgroup, start: Start) -> None:
    """And removal takes them along: a container may make groups of its own."""
    below = open_cgroup(f"{either.path}/a/b")
    if type(below) is not type(either):
        assert isinstance(either, V2Cgroup)
        unified = hierarchies.mounted().unified
        assert unified is not None
        below = V2Cgroup(unified, f"{either.path}/a/b")
    below.create()
    program = start(below, SLEEP)
    said(program)
    assert either.processes() == (program.pid,)
    either.kill()
    assert program.wait() == -9
    either.remove()
    with pytest.raises(NotFound):
        below.stats()


def test_kill_and_remove_of_nothing_is_nothing() -> None:
    """Both may be called again."""
    gone = open_cgroup(new_path())
    gone.kill()
    gone.remove()
    assert gone.processes() == ()
    assert leftovers() == []


@pytest.mark.parametrize("act", ["stats", "freeze", "thaw"])
def test_what_is_gone_is_not_found(act: str) -> None:
    """By name, not by an errno."""
    with pytest.raises(NotFound, match=r"cgroup /minicontainer-test.* does not exist"):
        getattr(open_cgroup(new_path()), act)()


def test_limits_and_processes_need_the_group() -> None:
    """A group that was never made takes neither."""
    gone = open_cgroup(new_path())
    with pytest.raises(NotFound, match="does not exist"):
        gone.limit(Resources(memory=Memory(limit=1 << 26)))
    with pytest.raises(NotFound, match="does not exist"):
        gone.add(os.getpid())


def test_a_process_that_ended_can_not_be_added(group: Cgroup) -> None:
    """It is named."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(NotFound, match=f"process {ended.pid} has ended"):
        group.add(ended.pid)


def test_a_group_in_use_is_neither_made_again_nor_removed(group: Cgroup, start: Start) -> None:
    """Its processes are named."""
    program = start(group, SLEEP)
    said(program)
    with pytest.raises(Conflict, match="exists and has processes"):
        open_cgroup(group.path).create()
    with pytest.raises(Conflict, match=f"still has processes .{program.pid}."):
        group.remove(timeout_s=0.2)
    assert group.processes() == (program.pid,)


def test_a_frozen_group_is_not_taken(either: Cgroup, start: Start) -> None:
    """Whoever came in would stand, and the one who waits for it with it; thawed, it is usable."""
    either.freeze()
    with pytest.raises(Conflict, match=f"{either.path} is frozen, or one above it"):
        either.create()
    either.thaw()
    either.create()
    said(start(either, SLEEP))


def test_no_group_is_made_below_a_frozen_one(either: Cgroup, start: Start) -> None:
    """It would be as frozen; and nothing of it is left."""
    said(start(either, SLEEP))
    path = f"{either.path}/below"
    unified = hierarchies.mounted().unified
    below = V2Cgroup(unified, path) if unified and type(either) is V2Cgroup else open_cgroup(path)
    either.freeze()
    with pytest.raises(Conflict, match=f"{path} is frozen, or one above it"):
        below.create()
    tops = [h.mount_point for h in (*hierarchies.mounted().v1, unified) if h]
    assert not [top for top in tops if os.path.exists(top + path)]
    either.thaw()  # what ends now is to die now


def test_removal_waits_for_the_dying(group: Cgroup, start: Start) -> None:
    """A process leaves its group only when it is really over."""
    program = start(group, "kept = b'x' * (64 << 20)\n" + SLEEP)
    said(program)
    program.kill()
    group.remove()
    assert leftovers() == []


def test_an_empty_group_can_be_taken_over(group: Cgroup) -> None:
    """What a crash left behind."""
    open_cgroup(group.path).create()


def test_groups_above_stay_for_others(group: Cgroup) -> None:
    """The last one out takes them away, and those of other names stay."""
    other = open_cgroup(f"{group.path.rpartition('/')[0]}/other")
    other.create()
    other.remove()
    group.stats()


def test_groups_of_others_above_stay() -> None:
    """An administrator's own group keeps its limits when the last container in it has gone."""
    mounted = hierarchies.mounted()
    name = f"/not-ours-{os.getpid()}"
    tops = [h.mount_point + name for h in (*mounted.v1, mounted.unified) if h]
    for top in tops:
        os.mkdir(top)
    try:
        inner = open_cgroup(f"{name}/minicontainer/group")
        inner.create()
        inner.remove()
        assert [os.listdir(top) != [] for top in tops] == [True] * len(tops)
        assert not [top for top in tops if os.path.exists(f"{top}/minicontainer")]
    finally:
        for top in tops:
            os.rmdir(top)


CREATE_AND_REMOVE = """
from minicontainer.cgroups.cgroup import open_cgroup
for _ in range(40):
    group = open_cgroup(sys.argv[1])
    group.create()
    group.remove()
"""


def test_containers_come_and_go_at_once(start: Start) -> None:
    """Each removal may take away the group above that another creation has just found."""
    above = new_path().rpartition("/")[0]
    code = f"import sys\nsys.path[:0] = {sys.path!r}\n{CREATE_AND_REMOVE}"
    racers = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", code, f"{above}/{name}"])
        for name in "abc"
    ]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert leftovers() == []


def test_a_process_may_start_inside(group: Cgroup) -> None:
    """A descriptor for clone3(2) where v2 is mounted; v1's tasks files for the child to write."""
    fd, tasks_files = group.fd(), group.tasks_files()
    assert (fd is None) == (group.version == "v1")
    assert (tasks_files == ()) == (group.version == "v2")
    if fd is not None:
        assert os.readlink(f"/proc/self/fd/{fd}").endswith(group.path)
        os.close(fd)
    child = os.fork()
    if child == 0:
        for _, tasks_fd in tasks_files:
            os.write(tasks_fd, b"0")
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        inside = [line.endswith(group.path) for line in lines if not line.startswith("0:")]
        os._exit(0 if all(inside) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for _, tasks_fd in tasks_files:
        os.close(tasks_fd)


def test_the_containers_view_has_every_hierarchy(group: Cgroup) -> None:
    """One directory on v2; one for each hierarchy, with links for the joined ones, on v1."""
    views = group.mounts()
    assert all(os.path.exists(f"{view.source}/cgroup.procs") for view in views)
    if group.version == "v2":
        assert [(view.name, view.filesystem) for view in views] == [("", "cgroup2")]
    else:
        names = {name for view in views for name in (view.name, *view.links)}
        assert {"memory", "cpu", "cpuacct", "pids"} <= names
        assert ("unified" in names) == (group.version == "hybrid")


def test_stats_follow_the_load(group: Cgroup, start: Start) -> None:
    """Every counter that has something to count."""
    before = group.stats()
    assert before.pids.current == 0
    program = start(group, "kept = b'x' * (16 << 20)\nfor _ in range(10**6): pass\n" + SLEEP)
    said(program)
    after = group.stats()
    assert after.pids.current == 1
    assert after.memory.usage > before.memory.usage + (14 << 20)
    assert after.memory.detail["active_anon"] + after.memory.detail["inactive_anon"] > 14 << 20
    assert after.cpu.usage_ns > before.cpu.usage_ns
    assert after.cpu.user_ns > 0
    if group.version != "v1":
        assert set(after.pressure) >= {"cpu", "memory", "io"}


def test_every_change_is_an_event() -> None:
    """What the kernel's state owes to a group's life, in order; reading is none."""
    events: list[Event] = []
    steps.listen(events.append, "client")
    try:
        path = new_path()
        watched = open_cgroup(path)
        watched.create()
        watched.limit(Resources(pids=Pids(limit=7)))
        watched.remove()
    finally:
        steps.listen(None, "")
    assert all(event.object and event.object.startswith("cgroup:") for event in events)
    calls = [event.call for event in events if event.errno == 0]
    assert calls.count("mkdir") == calls.count("rmdir")
    limit = next(event for event in events if event.object == f"cgroup:{path}/pids.max")
    assert limit.args[1:] == ("7",)
    assert limit.shell == f"echo '7' > {limit.args[0]}"


def test_a_user_is_told_what_it_takes() -> None:
    """Not root: one line that says so."""
    group = open_cgroup("/minicontainer-test-user")
    child = os.fork()
    if child == 0:
        told = ""
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            group.create()
        except Error as error:
            told = str(error)
        finally:
            os._exit(0 if "needs root, or a cgroup that was delegated to you" in told else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("path", ["/minicontainer/../x", "..", ""])
@pytest.mark.oci("linux.cgroupsPath")
def test_a_path_can_not_climb(path: str) -> None:
    """cgroupsPath comes from outside."""
    with pytest.raises(InvalidArgument, match="cgroup path"):
        open_cgroup(path)


# ---- v2: which group passes controllers on


def _controller(unified: Hierarchy) -> tuple[Resources, str]:
    """Find a controller that the v2 hierarchy has here, and a limit of it."""
    if open_cgroup("/x").version == "v2":
        return Resources(pids=Pids(limit=9)), "pids"
    if "hugetlb" in Path(unified.mount_point, "cgroup.controllers").read_text():
        return Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=0),)), "hugetlb"
    pytest.skip("needs a controller in the v2 hierarchy")


def test_a_group_with_processes_passes_nothing_on(start: Start) -> None:
    """The rule of no internal processes, explained: cgroups(7)."""
    unified = hierarchies.mounted().unified
    if unified is None:
        pytest.skip("needs the v2 hierarchy")
    resources, controller = _controller(unified)
    above = V2Cgroup(unified, new_path())
    above.make_directory()
    program = start(above, SLEEP)
    said(program)
    below = V2Cgroup(unified, f"{above.path}/below")
    try:
        below.create()
        with pytest.raises(
            Conflict, match=rf"cgroup {above.path} holds .* {controller} controller"
        ):
            below.limit(resources)
        above.kill()
        below.limit(resources)
    finally:
        above.kill()
        above.remove()


def test_inside_a_container_its_processes_make_way(tmp_path: Path) -> None:
    """Nested: the container's top has processes, ours to move into a leaf."""
    unified = hierarchies.mounted().unified
    if unified is None:
        pytest.skip("needs the v2 hierarchy")
    resources, controller = _controller(unified)
    outer = V2Cgroup(unified, new_path())
    outer.make_directory()
    outer._require(controller, "test")  # as a container gets it
    nested = Hierarchy(mount_point=str(tmp_path))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            outer.add(os.getpid())
            libc.call("unshare", 0x02000000 | 0x00020000)  # CLONE_NEWCGROUP, CLONE_NEWNS
            libc.call("mount", None, "/", None, 1 << 18 | 1 << 14, None)  # MS_PRIVATE, MS_REC
            libc.call("mount", "none", str(tmp_path), "cgroup2", 0, None)
            inner = V2Cgroup(nested, "/minicontainer/inner")
            inner.create()
            inner.limit(resources)
            inner.add(os.getpid())
            status = 0 if (tmp_path / "init/cgroup.procs").read_text() == "" else 2
        except Error as error:
            sys.stderr.write(f"{error}\n")
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outer.remove()
    assert status == 0
