"""`--explain` tells a start as it happens: each step, why, its calls, and what they changed."""

from __future__ import annotations

import io
import os
import re
import shlex
from pathlib import Path

import pytest

from minicontainer import steps
from minicontainer.cli.client import send_request
from minicontainer.engine import bundles, creator, monitor, spawner, spawning
from minicontainer.engine.engine import Engine
from minicontainer.engine.networks import Networks
from minicontainer.engine.supervisor import Supervisor
from minicontainer.event import Event
from minicontainer.kernel import mounts
from minicontainer.learn import calls, explain, folding, narration
from minicontainer.runtime.child import init
from minicontainer.runtime.parent import lifecycle
from tests.conftest import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Around the runtime's own.
ENGINES_STEPS: tuple[Callable[..., object], ...] = (
    send_request,
    bundles.make_directory,
    bundles.write_bundle,
    Networks.connect_container,  # without a network; otherwise it waits for init
    Supervisor.hand_to_monitor,
    spawner.fork_child,
    creator.fork_creator,
    creator.become_creator,
    creator.make_streams,
    creator.give_streams,
    monitor.become_monitor,
    monitor.take_container,
    creator.watch_memory,
    Networks.disconnect_container,
    bundles.discard_directory,
)
ALL_STEPS = (*ENGINES_STEPS, *lifecycle.STEPS, *init.RECIPE)
HEADING = re.compile(
    r"^(\d+)\. ([a-z-]+)   \[(\w+), (\w+\.py:\d+), (?:at [\d.]+ ms|ahead, [\d.]+ s before)\]$", re.M
)


def names(recipe: Iterable[Callable[..., object]]) -> list[str]:
    """Name the steps of a recipe."""
    return [steps.step_name(step) for step in recipe]


def flowing(text: str) -> str:
    """Give a text without its line breaks, which depend on the width."""
    return " ".join(text.split())


def told(*events: Event) -> str:
    """Give the text for some events."""
    out = io.StringIO()
    explainer = explain.Explainer(out)
    for event in events:
        explainer(event)
    return out.getvalue()


def unfolded(text: str) -> str:
    """Join the lines of each call again; between two flags there is no blank."""
    return re.sub(r"\n {7}(?=\S)", " ", re.sub(r"(?<=\w\|)\n {7}(?=\S)", "", text))


# -- the steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ALL_STEPS, ids=names(ALL_STEPS))
def test_every_step_is_explained(step: Callable[..., object]) -> None:
    """Its docstring says what and why, and ends before the arguments."""
    reason = narration.reason_of(steps.step_name(step))
    assert len(reason[0]) > len("Do something.")
    assert reason[0][0].isupper()
    assert not any(line.startswith(("Args:", "Raises:", "Returns:")) for line in reason)


def test_no_two_steps_have_one_name() -> None:
    """A name leads to one explanation."""
    assert len(set(names(ALL_STEPS))) == len(ALL_STEPS)


def test_a_run_is_told_step_by_step(run: Run) -> None:
    """Every step once, numbered, in the order of the recipes, each with its reason."""
    result = run("echo out; echo err >&2", "--explain=full")
    assert (result.status, result.output) == (0, "out\n")
    headings = HEADING.findall(result.errors)
    assert [int(number) for number, *_ in headings] == list(range(1, len(headings) + 1))
    recipes: tuple[Iterable[Callable[..., object]], ...] = (
        ENGINES_STEPS,
        lifecycle.STEPS,
        init.RECIPE,
    )
    for recipe in recipes:
        order = names(recipe)
        # while the monitor takes its container, the creator goes on: which is told first is chance
        for monitors in (False, True):
            found = [
                order.index(name)
                for _, name, actor, *_ in headings
                if name in order and monitors == (actor == "monitor")
            ]
            assert found == sorted(set(found))
    seen = [name for _, name, *_ in headings]
    assert set(seen) <= set(names(ALL_STEPS))
    always = {steps.step_name(step) for step in init.RECIPE if not hasattr(step, "asked")}
    assert always <= set(seen)  # also those that make no call
    for name in seen:
        assert flowing("\n".join(narration.reason_of(name))) in flowing(result.errors)


def test_a_step_that_is_not_asked_for_is_not_told(run: Run) -> None:
    """With and without what asks for it."""
    for options, name in ((("--read-only",), "make-rootfs-readonly"), (("-t",), "open-terminal")):
        assert f". {name}   [" in run("true", "--explain=full", *options).errors
        assert f". {name}   [" not in run("true", "--explain=full").errors


def test_the_namespaces_are_the_containers(run: Run) -> None:
    """What is told of them, before and after, are the kernel's own numbers."""
    kinds = ("ipc", "uts", "net", "pid", "mnt", "cgroup")
    look = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    result = run(look, "--explain=full", without="")
    inside = dict(re.findall(r"(\w+):\[(\d+)\]", result.output))
    changed = re.findall(r"^     ns:(\w+): (\d+) → (\d+)$", result.errors, re.M)
    assert {kind: after for kind, _, after in changed} == inside
    outside = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
    assert {kind: f"{kind}:[{before}]" for kind, before, _ in changed} == outside


def test_calls_results_and_commands(run: Run) -> None:
    """Symbols instead of numbers, paths instead of descriptors, and what one could type."""
    errors = run("true", "--explain=full", "--hostname", "web", "--ulimit", "nofile=100:200").errors
    for line in (
        '   > mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL) = 0',
        "     $ mount --make-rprivate /",
        '   > sethostname("web", 3) = 0',
        "     $ hostname web",
        "     link:lo: down → up",
        "     $ ip link set lo up",
        "   > prlimit64(0, RLIMIT_NOFILE, 100, 200) = 0",
        '   > mknodat(DEV, "null", S_IFCHR|0666, makedev(1, 3)) = 0',
        "     $ mknod -m 666 /dev/null c 1 3",
        "     $ ln -s /proc/self/fd/0 /dev/stdin",
        "   > prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL) = 0",
        "     $ capsh --drop=cap_sys_admin",
    ):
        assert line in re.sub(r"mknodat\(\d+", "mknodat(DEV", errors).splitlines()
    whole = unfolded(errors)
    assert re.search(r'> move_mount\(\d+<new proc>, "", \d+</proc>, "", MOVE_MOUNT_F_', whole)
    (program,) = re.findall(r"> execve\(.*", whole)
    assert program.endswith(
        '["/bin/sh", "-c", "true"], 3 variables) = ? (it comes back only if it fails)'
    )
    assert not re.search(r"[0-9a-f]{64}", errors)


def test_a_start_that_fails(run: Run) -> None:
    """The call that failed with its error's name, then what is taken back, then the one line."""
    result = run("true", "--explain=full", "--sysctl", "net.ipv4.ip_forward=x")
    errors = unfolded(result.errors)
    failed = errors.index("= -1 EINVAL (Invalid argument)")
    taken_back = errors.index(". remove-cgroup   [")
    assert failed < taken_back < errors.rindex("\nminicontainer: ")
    assert "isolate-mounts" not in errors  # what would have come next


def test_the_program_under_a_reaper(run: Run) -> None:
    """Two processes tell at a time; a step that goes on is not headed again."""
    errors = run("true", "--explain=full", "--init").errors
    headings = [name for _, name, *_ in HEADING.findall(errors)]
    assert len(headings) == len(set(headings))
    assert headings.index("stay-as-reaper") < headings.index("run-program")
    assert re.search(r"   > fork\(\) = \d+", errors)


def test_without_it_nothing_is_told(run: Run) -> None:
    """Not a word."""
    assert run("true").errors == ""


def test_without_it_no_event_is_made(
    busybox: Path, roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> None:
    """In no process of the start: whoever makes one, fails. Only what is done ahead is kept."""
    for maker in ("Event", "where_written"):  # of the value, and of the line
        monkeypatch.setattr(steps, maker, None)
    monkeypatch.setattr(spawning, "_MODULE", "tests.learn.quiet_spawner")
    engine = Engine(str(roots[0]), str(roots[1]))
    try:
        host = {"NetworkMode": "none"}
        body = {"Rootfs": str(busybox), "Cmd": ["/bin/true"], "HostConfig": host}
        name = engine.containers.create(body, "")["Id"]
        waiting = engine.containers.wait(name, "next-exit")
        engine.containers.start(name)
        assert waiting.result() == {"StatusCode": 0}
        engine.containers.remove(name)
    finally:
        engine.close()


# -- the words -----------------------------------------------------------------------------------


def test_flags() -> None:
    """Names of several bits go first; what has no name is a number; nothing is 0."""
    names = {"A": 1, "B": 2, "BOTH_OF_C": 12, "C1": 4}
    assert calls.flag_names(3, names) == "A|B"
    assert calls.flag_names(13, names) == "BOTH_OF_C|A"
    assert calls.flag_names(0x14, names) == "C1|0x10"
    assert calls.flag_names(0, names) == "0"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Event(
                call="mount_setattr",
                args=(5, "", 0x9000, "{attr_set=3, attr_clr=112}", 32),
                result=0,
            ),
            '> mount_setattr(5, "", AT_EMPTY_PATH|AT_RECURSIVE, '
            "{attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID, attr_clr=MOUNT_ATTR__ATIME}, 32) = 0",
        ),
        (
            Event(call="open_tree", args=(mounts.AT_FDCWD, "/x", 0x88001), result=7),
            '> open_tree(AT_FDCWD, "/x", AT_RECURSIVE|OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC) = 7',
        ),
        (
            Event(call="capset", args=("{version=1}", "{effective0=1, effective1=1}"), result=0),
            "> capset(version 3, {effective=2 capabilities, permitted=0 capabilities, "
            "inheritable=0 capabilities}) = 0",
        ),
        (
            Event(call="seccomp", args=(1, 6, "{len=12, filter=99}"), result=0),
            "> seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG|"
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW, {12 instructions}) = 0",
        ),
        (
            Event(call="bpf", args=(8, "{target_fd=3}", 16), result=0),
            "> bpf(BPF_PROG_ATTACH, {target_fd=3}, 16) = 0",
        ),
        (
            Event(call="pidfd_send_signal", args=(5, 9, None, 0), result=-1, errno=3),
            "> pidfd_send_signal(5, SIGKILL, NULL, 0) = -1 ESRCH (No such process)",
        ),
        (
            Event(call="setgroups", args=((1, 2),), result=0),
            "> setgroups([1, 2]) = 0",
        ),
        (
            Event(call="write", args=("/proc/7/uid_map", "0 1 2\n"), result=6),
            '> write("/proc/7/uid_map", "0 1 2\\n") = 6',
        ),
    ],
    ids=lambda value: value.call if isinstance(value, Event) else "",
)  # fmt: skip
def test_a_call_reads_as_the_manual_writes_it(event: Event, line: str) -> None:
    """Constants, structures, signals, errors."""
    assert unfolded(told(event)).splitlines()[-1] == f"   {line}"


def test_a_long_argument_keeps_its_ends() -> None:
    """And the id in it is shortened as Docker does."""
    path = f"/sys/fs/cgroup/{'a1' * 32}/{'x' * 100}/memory.max"
    line = unfolded(told(Event(call="write", args=(path, "1"), result=1))).splitlines()[-1]
    assert "/sys/fs/cgroup/a1a1a1a1a1a1…/" in line
    assert '/memory.max", "1") = 1' in line
    assert len(line) < len(path)


def test_a_long_call_and_a_long_command_go_on_in_the_next_line() -> None:
    """They fit 80 columns, nothing is cut, and the command can still be typed."""
    source, shell = "/srv/" + "s" * 40, f"mount -o bind,ro '/srv/{'s' * 40}' '/a place' --verbose"
    event = Event(call="mount", args=(source, "/a place", None, 0x1001, None), result=0,
                  shell=shell)  # fmt: skip
    *_, head, more, command, rest = text = told(event).splitlines()
    assert all(len(line) <= 80 for line in text)
    assert (head[:5], more[:7], command[:7], rest[:9]) == ("   > ", " " * 7, "     $ ", " " * 9)
    typed = f"{command}\n{rest}".partition("$ ")[2]
    assert shlex.split(typed.replace("\\\n", "")) == shlex.split(shell)
    assert f'"{source}", "/a place", NULL, MS_RDONLY|MS_BIND, NULL) = 0' in unfolded(
        "\n".join(text)
    )


def test_a_descriptor_is_named_only_as_long_as_it_is_known() -> None:
    """Numbers are used again, by calls that are no events."""
    made = Event(call="fsopen", args=("proc", 1), result=5)
    used = Event(call="fsconfig", args=(5, 6, None, None, 0), result=0)
    assert "fsconfig(5<new proc>, FSCONFIG_CMD_CREATE" in told(made, used)
    mounted = Event(call="fsmount", args=(5, 1, 0), result=6)
    assert "fsconfig(5, FSCONFIG" in told(made, mounted, used)
    assert "fsconfig(5, FSCONFIG" in told(made, used.replace(step="next"))
    assert "fsconfig(5, FSCONFIG" in told(made, used.replace(pid=7))


# -- the levels ----------------------------------------------------------------------------------


CUT = {
    "Make the container's directory, with an empty layer.": "Make the container's directory",
    "Ask the kernel to say when the container has used.": "Ask the kernel to say when the …",
    "Попросить ядро сообщить, когда лимит исчерпан.": "Попросить ядро сообщить, когда …",
    "Поднять интерфейс `lo`: он есть, но выключен.": "Поднять интерфейс `lo`",
    "Велеть процессу init дождаться, пока он есть.": "Велеть процессу init дождаться …",
}


@pytest.mark.parametrize(("text", "line"), CUT.items())
def test_a_reason_that_is_cut_makes_sense(text: str, line: str) -> None:
    """At the end of a clause; in Russian a comma is no such end."""
    assert explain._cut(text, 34, "en" if text.isascii() else "ru") == line


def test_a_name_is_not_broken_at_its_hyphens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of a reason ends with one."""
    reason = f"{'x' * 70} set-user-ID"
    monkeypatch.setattr(explain, "summary_of", lambda step, lang: reason)
    out = io.StringIO()
    explain.Explainer(out, "calls")(Event(step="kill", actor="engine"))
    assert "\n   set-user-ID\n" in out.getvalue()


def test_a_line_a_step(run: Run) -> None:
    """`--explain=steps`: the same steps as in full, each on one line that fits the screen."""
    brief = run("true", "--explain=steps", "--net", "none").errors.splitlines()
    full = HEADING.findall(run("true", "--explain=full", "--net", "none").errors)
    found = [
        re.fullmatch(r" *(\d+)\. ([a-z-]+) +(\S.*\S) +(\d+\.\d ms|ahead)", line) for line in brief
    ]
    assert all(found), brief
    # sorted: whether monitor or creator is the first to speak, the scheduler decides
    assert sorted(match[2] for match in found if match) == sorted(name for _, name, *_ in full)
    assert max(map(len, brief)) <= 80


def test_calls_are_the_default_and_fit_the_screen(run: Run) -> None:
    """Every step with its reason; what was done in nine hierarchies is told once."""
    told = run("true", "--explain", "--net", "none", "--memory", "64m").errors
    headings = [name for _, name, *_ in HEADING.findall(told)]
    assert {"create-cgroup", "mount-filesystems", "run-program"} <= set(headings)
    assert max(map(len, told.splitlines())) <= 80
    full = run("true", "--explain=full", "--net", "none", "--memory", "64m").errors
    assert len(told.splitlines()) < 0.6 * len(full.splitlines())
    assert "= -1 ENOENT" not in told  # the directory was made, after its parent
    assert "   $ mount -t proc proc /proc -o " in told
    assert "   $ sethostname" not in told
    assert re.search(r"ns:pid: \d+ → \d+", told)


def test_an_unknown_level_is_refused(run: Run) -> None:
    """In one line, with nothing started."""
    result = run("true", "--explain=everything")
    assert result.status == 125
    assert len(result.errors.splitlines()) == 1


def _mkdir(path: str, errno: int = 0) -> Event:
    result = -1 if errno else 0
    return Event(
        call="mkdir", args=(path, 0o755), result=result, errno=errno, shell=f"mkdir {path}"
    )


def test_a_refused_attempt_and_its_answer_are_one_act() -> None:
    """ENOENT, then the parent, then the same again: `mkdir -p`."""
    (act,) = folding.fold([_mkdir("/a/b", 2), _mkdir("/a"), _mkdir("/a/b")])
    assert act.shell == "mkdir -p /a/b"
    assert act.parents == ["/a"]


def test_an_attempt_that_stays_refused_is_told() -> None:
    """What failed for good is what the reader looks for."""
    acts = folding.fold([_mkdir("/a"), _mkdir("/b", 13)])
    assert [act.event.errno for act in acts] == [0, 13]


def test_what_prepares_a_mount_is_not_of_the_file_made_for_it() -> None:
    """`open_tree`, then `touch` of the mount point: the bind mount is made by open_tree."""
    touch = Event(call="mknodat", args=(3, "f"), result=0, shell="touch /f")
    moved = Event(call="move_mount", args=(4, "", 3, ""), result=0, shell="mount --bind /g /f")
    made, mounted = folding.fold([Event(call="open_tree", args=("/g",), result=4), touch, moved])
    assert (made.shell, made.prepared) == ("touch /f", [])
    assert [event.call for event in mounted.prepared] == ["open_tree"]
    opened = Event(call="openat", args=("/",), result=3)
    made, _ = folding.fold([opened, touch, moved])
    assert [event.call for event in made.prepared] == ["openat"]  # the control


def test_a_long_word_breaks_after_its_commas() -> None:
    """The three directories of an overlay are all told, though they are one word."""
    places = [f"{name}dir=/var/lib/minicontainer/{name}/{'x' * 30}" for name in ("lower", "work")]
    shell = f"mount -t overlay overlay -o {','.join(places)} /rootfs"
    out = io.StringIO()
    explainer = explain.Explainer(out, "calls")
    explainer(Event(call="mount", step="mount-rootfs", result=0, shell=shell))
    explainer.finish()
    assert "".join(out.getvalue().split()).count("".join(shell.split())) == 1
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_the_same_in_other_hierarchies_is_one_act() -> None:
    """Told once, with the names of the others; another directory is another act."""
    places = ("cpu", "memory", "pids")
    acts = folding.fold([_mkdir(f"/sys/fs/cgroup/{place}/web") for place in places])
    assert [act.hierarchies for act in acts] == [["memory", "pids"]]
    acts = folding.fold([_mkdir("/sys/fs/cgroup/cpu/a"), _mkdir("/sys/fs/cgroup/memory/b")])
    assert len(acts) == 2


def test_more_of_the_same_is_one_act() -> None:
    """Rules into one file, capabilities dropped one by one: told once, each one named."""
    rules = [
        Event(call="write", args=("/d/devices.allow", rule), result=9, object="cgroup:/d")
        for rule in ("c 1:3 rwm", "c 1:5 rwm", "c 1:8 rwm")
    ]
    drops = [
        Event(call="prctl", args=("PR_CAPBSET_DROP", bit), result=0, shell=f"capsh --drop={name}")
        for bit, name in enumerate(("cap_bpf", "cap_lease"))
    ]
    acts = folding.fold([*rules, *drops])
    assert [act.more for act in acts] == [["c 1:5 rwm", "c 1:8 rwm"], ["cap_lease"]]


def test_every_call_is_counted() -> None:
    """Calls that prepare another belong to it; none is lost."""
    prepare = [Event(call=name, args=(3,), result=0) for name in ("fsopen", "fsconfig", "fsmount")]
    change = Event(call="move_mount", args=(4,), result=0, object="mount:/x", shell="mount /x")
    (act,) = folding.fold([*prepare, change])
    assert [event.call for event in act.prepared] == ["fsopen", "fsconfig", "fsmount"]
    alone = folding.fold(prepare)
    assert [act.event.call for act in alone] == ["fsopen", "fsconfig", "fsmount"]
