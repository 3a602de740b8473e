"""create: isolated, set up, and waiting."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.isolation.conftest import namespace_of, status_of

from .kernel import cgroups_of, is_alive, parent_of
from .runtime import WAITS, Runtime, Spec

NEW = ("ipc", "mnt", "net", "pid", "uts")


@pytest.mark.oci("linux.namespaces[].type")
def test_it_waits_before_the_program(runtime: Runtime) -> None:
    """The process is there, in namespaces of its own; the program has not begun."""
    container = runtime.create("echo begun; exec sleep 600")
    pid = container.pid
    assert container.status == "created"
    assert is_alive(pid)
    for kind in NEW:
        assert namespace_of(pid, kind) != namespace_of("self", kind)
    assert status_of(pid)["NSpid"].split()[-1] == "1"
    # it has nothing of the program yet, though there was time enough
    assert b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert container.output() == ""
    container.start()
    container.wait_for("begun")
    assert container.pid == pid


def test_it_stands_in_its_cgroup(runtime: Runtime) -> None:
    """Limits hold from the first step on."""
    container = runtime.create()
    ours = [path for path in cgroups_of(container.pid).values() if container.id in path]
    assert ours
    assert all(Path(path).is_dir() for path in ours)


def test_the_root_is_the_bundles(runtime: Runtime) -> None:
    """The file system has changed already."""
    container = runtime.create()
    root = os.stat(f"/proc/{container.pid}/root")
    wanted = os.stat(str(runtime.config["root"]["path"]))
    assert root.st_ino == wanted.st_ino


def test_the_process_is_the_callers(runtime: Runtime) -> None:
    """No process of the runtime stays: the caller, a subreaper, adopts the container."""
    container = runtime.create()
    assert parent_of(container.pid) == os.getpid()


def test_the_pid_file_is_whole(runtime: Runtime) -> None:
    """When create returns the number is there, and nothing but digits."""
    file = runtime.base / "pid"
    container = runtime.create(WAITS, lambda _: None, "--pid-file", str(file))
    assert file.read_text() == str(container.pid)


def test_a_pid_file_that_cannot_be_written(runtime: Runtime) -> None:
    """The container is taken back."""
    file = str(runtime.base / "no" / "pid")
    words = ("create", "-b", str(runtime.bundle()), "--pid-file", file, runtime.name())
    runtime.refused(*words, says="no such file")


def test_the_bundle_is_the_callers_directory(runtime: Runtime) -> None:
    """Without --bundle."""
    name, bundle = runtime.name(), runtime.bundle()
    runtime.ok("create", name, cwd=bundle)
    assert json.loads(runtime.ok("state", name))["bundle"] == str(bundle)


def test_a_relative_bundle(runtime: Runtime) -> None:
    """The state has the absolute path."""
    name, bundle = runtime.name(), runtime.bundle()
    runtime.ok("create", "--bundle", bundle.name, name, cwd=bundle.parent)
    assert json.loads(runtime.ok("state", name))["bundle"] == str(bundle)


def test_a_root_relative_to_the_bundle(runtime: Runtime) -> None:
    """As `spec` writes it."""

    def relative(config: Spec) -> None:
        config["root"]["path"] = "rootfs"

    bundle = runtime.bundle("echo there", relative)
    (bundle / "rootfs").mkdir()
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (bundle / "rootfs" / name).mkdir()
    for program in ("busybox", "sh"):
        source = Path(str(runtime.config["root"]["path"])) / "bin" / program
        (bundle / "rootfs" / "bin" / program).write_bytes(source.read_bytes())
        (bundle / "rootfs" / "bin" / program).chmod(0o755)
    name = runtime.name()
    assert runtime.ok("run", "-b", str(bundle), name) == "there\n"


@pytest.mark.parametrize("spelling", ["-b", "--bundle", "--bundle="])
def test_options_in_all_spellings(runtime: Runtime, spelling: str) -> None:
    """With a blank or an equals sign."""
    bundle = str(runtime.bundle())
    option = (f"{spelling}{bundle}",) if spelling.endswith("=") else (spelling, bundle)
    runtime.ok("create", *option, runtime.name())


def test_a_name_that_is_taken(runtime: Runtime) -> None:
    """The first container is not touched."""
    container = runtime.create()
    bundle = str(runtime.bundle())
    runtime.refused("create", "-b", bundle, container.id, says="exist")
    assert container.status == "created"


def test_a_name_is_free_again_after_delete(runtime: Runtime) -> None:
    """And the second container is another one."""
    container = runtime.create()
    first = container.pid
    runtime.ok("delete", "--force", container.id)
    runtime.ok("create", "-b", str(container.bundle), container.id)
    assert container.pid != first


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../x", "/x", "a b", "a\nb", "a:b", "é", "a" * 1025, "%n"],
    ids=repr,
)
def test_a_name_that_is_no_name(runtime: Runtime, name: str) -> None:
    """It would be a path elsewhere, or nothing."""
    done = runtime("create", "-b", str(runtime.bundle()), name)
    assert done.status >= 1
    assert runtime.containers() == []


@pytest.mark.parametrize("name", ["a", "A-b_c+d.e", "0" * 64])
def test_names_that_are_good(runtime: Runtime, name: str) -> None:
    """Engines use 64 hexadecimal digits."""
    name = f"{runtime.prefix}{name}"
    runtime.ok("create", "-b", str(runtime.bundle()), name)
    runtime.ok("delete", "--force", name)


def test_no_name(runtime: Runtime) -> None:
    """One line, or the help."""
    done = runtime("create", "-b", str(runtime.bundle()))
    assert done.status >= 1


def test_two_names(runtime: Runtime) -> None:
    """Only one is expected."""
    done = runtime("create", "-b", str(runtime.bundle()), runtime.name(), runtime.name())
    assert done.status >= 1
    assert runtime.containers() == []


def test_no_pivot(runtime: Runtime) -> None:
    """The container still sees its own root and not the host's."""
    marker = runtime.base / "marker"
    marker.touch()
    container = runtime.start(f"ls {runtime.base}; echo done; sleep 600", lambda _: 0, "--no-pivot")
    container.wait_for("done")
    assert "marker" not in container.output()


def keyrings(name: str) -> list[str]:
    """Look for a container's session keyring among the keys that exist: proc_keys(5)."""
    return [line for line in Path("/proc/keys").read_text().splitlines() if name in line]


def test_a_session_keyring_of_its_own(runtime: Runtime) -> None:
    """Keys of the caller's session are nothing to the container: keyrings(7)."""
    container = runtime.create()
    assert len(keyrings(f"_ses.{container.id}")) == 1


def test_no_new_keyring(runtime: Runtime) -> None:
    """The control, for hosts that count keys."""
    container = runtime.create(WAITS, lambda _: None, "--no-new-keyring")
    assert keyrings(f"_ses.{container.id}") == []


def test_created_containers_survive_a_signal_to_the_group(runtime: Runtime) -> None:
    """Ctrl-C at the caller's terminal is not the container's concern: a session of its own."""
    container = runtime.create()
    assert os.getsid(container.pid) != os.getsid(0)
    assert os.getpgid(container.pid) != os.getpgid(0)


def test_a_created_container_that_dies_is_stopped(runtime: Runtime) -> None:
    """It never began its program."""
    container = runtime.create("echo begun")
    os.kill(container.pid, signal.SIGKILL)
    container.wait_stopped()
    assert container.output() == ""
    runtime.refused("start", container.id, says=("stopped", "not running"))
