"""The interpreter that a container's first process runs in can't be overwritten: CVE-2019-5736.

Every attack here opens for appending and writes nothing: one that succeeds does no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, PATIENCE_S, Engine, Run
from tests.isolation.conftest import HOST_PYTHON, Bundles, Spec, finished, status_of

from .conftest import bind

_FOR_WRITING = os.O_WRONLY | os.O_APPEND


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _interpreter() -> str:
    """Name the file that runs the commands."""
    return os.path.realpath(sys.executable)


# Run by whatever /proc/self/exe is when a container starts a script: keeps its own file open,
# becomes another program, and opens the file again for writing, now that it is not running.
_OVERWRITE = """#!/proc/self/exe
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(fd, True)
print(os.readlink("/proc/self/exe"), flush=True)
os.execv("/bin/sh", ["sh", "-c", f": >> /proc/self/fd/{fd} && echo opened"])
"""


def test_a_script_run_by_proc_self_exe_can_not_write_it(run: Run, volume: Path) -> None:
    """The shebang that the kernel follows while the first process still is the interpreter."""
    script = volume / "script"
    script.write_text(_OVERWRITE)
    script.chmod(0o755)
    before = _digest(_interpreter())
    result = run(("/vol/script",), "-v", f"{volume}:/vol", *HOST_PYTHON)
    assert "opened" not in result.output
    if result.output:  # it ran, by the host's interpreter
        # busy, because the command that waits outside runs it too; read-only in any case, below
        assert "Read-only file system" in result.errors or "Text file busy" in result.errors
    else:
        assert result.status in (126, 127)
    assert _digest(_interpreter()) == before


def test_the_same_steps_write_a_file_of_its_own(run: Run) -> None:
    """The control: a descriptor opened for reading is opened again for writing."""
    steps = "cp /bin/busybox /tmp/own; exec 9</tmp/own; : >> /proc/self/fd/9 && echo opened"
    assert run(steps).output == "opened\n"


# A container that is `created`: its first process waits, still the interpreter.
_CREATED = """
import os, sys
sys.path.insert(0, {checkout!r})
from minicontainer.runtime.parent import interpreter, lifecycle
from minicontainer.runtime.config.spec import read_bundle
from minicontainer.runtime.container.state import Store
interpreter.protect(sys.orig_argv, os.environ)
container = lifecycle.create_container({name!r}, read_bundle({bundle!r}), Store({state!r}))
print(container.pid, flush=True)
sys.stdin.readline()
container.delete()
"""


def _create(bundles: Bundles) -> subprocess.Popen[str]:
    words = bundles.write("true", lambda _: None)
    code = _CREATED.format(
        checkout=str(CHECKOUT), name=words[-1], bundle=words[-2], state=words[-5]
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_starting_process_shows_a_read_only_file(bundles: Bundles) -> None:
    """Even to the host's root, its /proc/PID/exe is on a read-only mount: statvfs(3)."""
    creator = _create(bundles)
    try:
        assert creator.stdout is not None
        pid = int(creator.stdout.readline())
        assert status_of(pid)["Name"] == "minic:init"
        exe = f"/proc/{pid}/exe"
        assert os.statvfs(exe).f_flag & os.ST_RDONLY
        with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
            os.open(exe, _FOR_WRITING)
    finally:
        creator.communicate("\n", timeout=PATIENCE_S)


# Looks for the other container's first process while it still is the interpreter, and keeps its
# file open; tries to open it for writing when told to. An engine, and its monitors, still run it
# then: the kernel says so before it looks at the mount, so here the mount is asked.
_HUNT = """
import errno, os, sys
caught = []
print("ready", flush=True)
while not os.path.exists("/vol/stop"):
    for name in os.listdir("/proc") if len(caught) < 100 else ():
        try:
            if name.isdecimal() and os.stat(f"/proc/{name}/exe").st_ino == int(sys.argv[1]):
                caught.append(os.open(f"/proc/{name}/exe", os.O_RDONLY))
        except OSError:
            continue
for fd in caught:
    if os.fstat(fd).st_ino != int(sys.argv[1]):
        continue  # it had become its program in the meantime
    try:
        os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND)
        print("opened")
    except OSError as error:
        is_hidden = error.errno == errno.ETXTBSY and os.fstatvfs(fd).f_flag & os.ST_RDONLY
        print("Read-only file system" if is_hidden else error.strerror)
"""


def _command_of(copy: Path) -> tuple[str, ...]:
    """Give the command as run by another copy of the interpreter, which nobody else runs."""
    copy.write_bytes(Path(_interpreter()).read_bytes())
    copy.chmod(0o755)
    code = (
        f"import sys; sys.path[:] = {[str(CHECKOUT), *filter(None, sys.path)]!r};"
        "from minicontainer.cli.main import main; sys.exit(main())"
    )
    return ("env", f"PYTHONHOME={sys.base_prefix}", str(copy), "-c", code)


def test_a_container_that_watches_another_start_can_not_write_it(run: Run, volume: Path) -> None:
    """From the PID namespace of the other, and with CAP_SYS_PTRACE, which may look at it."""
    copy = volume.parent / "interpreter"
    program = _command_of(copy)
    before = _digest(str(copy))
    (volume / "hunt.py").write_text(_HUNT)
    base = volume.parent / "engine"
    base.mkdir(mode=0o711)
    engine = Engine(base, f"{run.engine.cgroup}-hunted", program=program)
    with contextlib.closing(engine):
        hunted = Run(run.rootfs, engine)
        hunter = hunted.start(
            f"exec /usr/bin/python3 -I -S /vol/hunt.py {copy.stat().st_ino}",
            *HOST_PYTHON, "-v", f"{volume}:/vol", "--cap-add", "SYS_PTRACE",
        )  # fmt: skip
        for _ in range(10):
            done = hunted(("/bin/true",), "--pid", f"container:{hunter.state['id']}")
            assert done.status == 0, done.errors
        (volume / "stop").touch()
        output, errors = hunter.process.communicate(timeout=PATIENCE_S)
    assert set(output.split("\n")) == {"Read-only file system", ""}, errors
    assert _digest(str(copy)) == before


def test_without_its_mount_the_file_could_be_written(volume: Path) -> None:
    """The control: the same look at a plain program, kept open and opened again after its end."""
    copy = volume / "sleep"
    copy.write_bytes(Path("/bin/sleep").read_bytes())
    copy.chmod(0o755)
    plain = subprocess.Popen([copy, "600"])
    assert not os.statvfs(f"/proc/{plain.pid}/exe").f_flag & os.ST_RDONLY
    kept = os.open(f"/proc/{plain.pid}/exe", os.O_RDONLY)
    plain.kill()
    plain.wait()
    os.close(os.open(f"/proc/self/fd/{kept}", _FOR_WRITING))
    os.close(kept)


# ---- the same by exec


def _with_python(config: Spec) -> None:
    """Let the container have the host's Python, to attack with, and look at other processes."""
    config["mounts"] += [
        bind(directory, directory, "ro")
        for directory in ("/usr", "/lib", "/lib64")
        if os.path.isdir(directory)
    ]
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] += ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]


def test_a_script_that_exec_runs_can_not_write_it(bundles: Bundles, volume: Path) -> None:
    """#!/proc/self/exe is the interpreter of whoever executes it: of exec's own process."""
    script = volume / "script"
    script.write_text(_OVERWRITE)
    script.chmod(0o755)
    before = _digest(_interpreter())

    def change(config: Spec) -> None:
        _with_python(config)
        config["mounts"].append(bind(volume, "/vol"))

    container = bundles.start("echo ready; sleep 60", change)
    result = bundles.exec(container, "/vol/script")
    assert result.output.endswith("/python3\n")  # its own name: it ran, and nothing was opened
    # busy, because the command that waits outside runs it too; read-only in any case, above
    assert "Read-only file system" in result.errors or "Text file busy" in result.errors
    assert _digest(_interpreter()) == before


def test_a_container_that_watches_an_exec_can_not_write_it(bundles: Bundles, volume: Path) -> None:
    """The process that joins it is in its PID namespace before it becomes the program."""
    copy = volume.parent / "interpreter"
    starting = _runtime_of(copy)
    before = _digest(str(copy))
    (volume / "hunt.py").write_text(_HUNT)

    def change(config: Spec) -> None:
        _with_python(config)
        config["mounts"].append(bind(volume, "/vol"))

    inode = str(copy.stat().st_ino)
    hunter = bundles.start(("/usr/bin/python3", "-I", "-S", "/vol/hunt.py", inode), change)
    words = bundles.oci("exec", hunter.state["id"], "/bin/true")
    for _ in range(10):
        done = finished([*starting, *words[len(bundles.oci()) - 2 :]])
        assert done.status == 0, done.errors
    (volume / "stop").touch()
    output, errors = hunter.process.communicate(timeout=PATIENCE_S)
    assert set(output.split("\n")) == {"Read-only file system", ""}, (output, errors)
    assert _digest(str(copy)) == before


def _runtime_of(copy: Path) -> list[str]:
    """Give minicontainer-oci as run by another copy of the interpreter."""
    *before, code = _command_of(copy)
    return [*before, code.replace("cli.main", "runtime.cli.main")]
