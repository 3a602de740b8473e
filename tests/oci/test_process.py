"""The process of a bundle: words, variables, directory, user, limits, as the kernel has them.

See: runtime-spec config.md "Process"; proc_pid_cmdline(5), proc_pid_environ(5), getrlimit(2).
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.isolation.conftest import status_of

from .runtime import Change, Runtime, Spec, unchanged

WAIT = "echo ready; sleep 600; :"  # by the shell itself: what it was started with can be read


def words_in(file: str, pid: int | str) -> list[str]:
    """Read a file of /proc/PID in which every word ends with NUL."""
    return Path(f"/proc/{pid}/{file}").read_text().split("\0")[:-1]


@pytest.mark.oci("process.args")
def test_its_arguments_are_those_given(runtime: Runtime) -> None:
    """Each as it stands: a blank, a newline, or nothing at all in one changes nothing."""
    words = ("/bin/sh", "-c", "sleep 600; :", "a b", "", "c\nd")
    assert words_in("cmdline", runtime.start(words).pid) == list(words)


@pytest.mark.oci("process.env")
def test_its_variables_are_those_given(runtime: Runtime) -> None:
    """In their order, and none of the caller's, which has some to be found: the control."""
    given = ["A=1", "B=", "C=x=y z"]
    container = runtime.start(WAIT, lambda spec: spec["process"].update(env=given))
    found = words_in("environ", container.pid)
    assert [word for word in found if not word.startswith("HOME=")] == given
    assert any(word.startswith("PATH=") for word in words_in("environ", "self"))


PASSWD = "root:x:0:0::/srv/root:/bin/sh\nweb:x:7:7::/srv/web:\nnobody:x:8:8:::\n"


@pytest.mark.parametrize(
    ("uid", "given", "home"),
    [
        (0, (), "/srv/root"),
        (7, (), "/srv/web"),
        pytest.param(8, (), "/", marks=pytest.mark.ours("runc leaves it empty")),
        (9, (), "/"),
        (7, ("HOME=",), "/srv/web"),
        (7, ("HOME=/tmp",), "/tmp"),
    ],
)
def test_its_home_is_that_of_its_user(
    runtime: Runtime, uid: int, given: tuple[str, ...], home: str
) -> None:
    """By the container's own /etc/passwd, where HOME is not given: engines leave it to the runtime.

    Also of what comes in by exec, which may have another user.
    """
    passwd = runtime.base / "passwd"
    passwd.write_text(PASSWD)

    def change(spec: Spec) -> None:
        spec["mounts"].append(
            {"destination": "/etc/passwd", "source": str(passwd), "options": ["bind"]}
        )
        spec["process"]["env"] = ["PATH=/bin", *given]
        spec["process"]["user"] = {"uid": uid, "gid": 0}

    container = runtime.start(WAIT, change)
    homes = [word for word in words_in("environ", container.pid) if word.startswith("HOME=")]
    assert homes == [f"HOME={home}"]
    other = home if "HOME=/tmp" in given else "/srv/root"
    assert container.sh("echo $HOME", "--user", "0") == f"{other}\n"


@pytest.mark.parametrize(
    "kind",
    [pytest.param("fifo", marks=pytest.mark.ours("runc waits for it")), "link out", "none"],
)
def test_an_image_can_not_hold_a_start_up_by_its_passwd(runtime: Runtime, kind: str) -> None:
    """A fifo is not waited for, and a link stays in the root: the host's own file names another."""
    etc = runtime.base / "etc"
    etc.mkdir()
    if kind == "fifo":
        os.mkfifo(etc / "passwd")
    elif kind == "link out":
        (etc / "passwd").symlink_to("/proc/1/root/etc/passwd")
    here = next(line.split(":") for line in Path("/etc/passwd").read_text().splitlines())
    assert here[5] != "/"  # so that it would be noticed

    def change(spec: Spec) -> None:
        spec["mounts"].append({"destination": "/etc", "source": str(etc), "options": ["bind"]})
        spec["process"]["env"] = ["PATH=/bin"]
        spec["process"]["user"] = {"uid": int(here[2]), "gid": 0}
        spec["linux"]["namespaces"].remove({"type": "pid"})

    container = runtime.start(WAIT, change)
    assert "HOME=/" in words_in("environ", container.pid)


@pytest.mark.oci("process.cwd")
def test_its_directory_is_made_and_entered(runtime: Runtime) -> None:
    """Where it is missing as well; / where nothing else is said: the control."""
    volume = runtime.base / "volume"
    volume.mkdir()

    def change(spec: Spec) -> None:
        spec["mounts"].append(
            {"destination": "/mnt", "type": "bind", "source": str(volume), "options": ["bind"]}
        )
        spec["process"]["cwd"] = "/mnt/made/deep"

    pid = runtime.start(WAIT, change).pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/mnt/made/deep"
    assert os.path.samefile(f"/proc/{pid}/cwd", volume / "made/deep")
    assert os.readlink(f"/proc/{runtime.start(WAIT).pid}/cwd") == "/"


@pytest.mark.oci("process.user.uid", "process.user.gid")
def test_its_user_is_the_one_given(runtime: Runtime) -> None:
    """Real, effective, saved and of the file system, all four; root otherwise: the control."""
    user = {"uid": 1234, "gid": 2345}
    status = status_of(runtime.start(WAIT, lambda spec: spec["process"].update(user=user)).pid)
    assert (status["Uid"].split(), status["Gid"].split()) == (["1234"] * 4, ["2345"] * 4)
    status = status_of(runtime.start(WAIT).pid)
    assert (status["Uid"].split(), status["Gid"].split()) == (["0"] * 4, ["0"] * 4)


def with_own_users(spec: Spec) -> None:
    """Give it a user namespace, whose root is somebody else."""
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    spec["linux"]["namespaces"].append({"type": "user"})


@pytest.mark.oci("process.oomScoreAdj")
@pytest.mark.parametrize("users", [unchanged, with_own_users])
@pytest.mark.parametrize("score", [0, 300])
def test_its_oom_score_is_the_one_given(runtime: Runtime, users: Change, score: int) -> None:
    """In a user namespace too: Docker always asks for one. Programs of exec get it as well."""

    def change(spec: Spec) -> None:
        users(spec)
        spec["process"]["oomScoreAdj"] = score

    container = runtime.start(WAIT, change)
    assert Path(f"/proc/{container.pid}/oom_score_adj").read_text() == f"{score}\n"
    assert container.sh("cat /proc/self/oom_score_adj") == f"{score}\n"


@pytest.mark.oci("process.oomScoreAdj")
def test_without_one_it_is_the_callers(runtime: Runtime) -> None:
    """The control."""
    own = Path("/proc/self/oom_score_adj").read_text()
    assert Path(f"/proc/{runtime.start(WAIT).pid}/oom_score_adj").read_text() == own


@pytest.mark.oci("process.rlimits")
def test_its_resource_limits_are_those_given(runtime: Runtime) -> None:
    """Soft and hard, in the kernel's units; one that is not named is the caller's: the control."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, core = resource.getrlimit(resource.RLIMIT_CORE)  # not all may raise it
    asked = {
        "RLIMIT_NOFILE": (100, most - 1),
        "RLIMIT_CORE": (0, 4096 if core == resource.RLIM_INFINITY else min(core, 4096)),
        "RLIMIT_CPU": (1000, 2000),
    }
    rows = [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in asked.items()]
    limited = runtime.start(WAIT, lambda spec: spec["process"].update(rlimits=rows)).pid
    plain = runtime.start(WAIT, lambda spec: spec["process"].pop("rlimits", None)).pid
    for name, limits in asked.items():
        number = getattr(resource, name)
        assert resource.prlimit(limited, number) == limits
        assert resource.prlimit(plain, number) == resource.getrlimit(number)


SETS = {
    "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID", "CAP_SETGID"],
    "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
    "effective": ["CAP_CHOWN"],
    "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
    "ambient": ["CAP_KILL"],
}
BITS = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_RAW": 13}
IN_STATUS = {
    "bounding": "CapBnd",
    "permitted": "CapPrm",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "ambient": "CapAmb",
}


@pytest.mark.oci("process.capabilities")
def test_each_set_of_capabilities_is_the_one_given(runtime: Runtime) -> None:
    """Before execve(2) computes new ones: the process that waits for `start` has exactly those."""
    container = runtime.create(
        WAIT, lambda spec: spec["process"].update(capabilities=SETS, user={"uid": 7, "gid": 7})
    )
    status = status_of(container.pid)
    for name, capabilities in SETS.items():
        wanted = sum(1 << BITS[capability] for capability in capabilities)
        assert int(status[IN_STATUS[name]], 16) == wanted, name
    container.start()
    container.wait_for("ready")
    status = status_of(container.pid)
    kill = 1 << BITS["CAP_KILL"]  # of a user who is not root, the ambient ones are what is left
    assert (int(status["CapPrm"], 16), int(status["CapEff"], 16)) == (kill, kill)


@pytest.mark.oci("process.capabilities")
def test_without_capabilities_there_are_none(runtime: Runtime) -> None:
    """The control: not those of the caller, who is root and has nearly all."""
    status = status_of(runtime.start(WAIT, lambda spec: spec["process"].pop("capabilities")).pid)
    assert {name: int(status[name], 16) for name in IN_STATUS.values()} == dict.fromkeys(
        IN_STATUS.values(), 0
    )
    assert int(status_of("self")["CapPrm"], 16) != 0
