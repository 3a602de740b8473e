"""What can't be done is refused: one line that says why, Docker's exit status, nothing left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Run, command

from .conftest import AS_NOBODY, DAEMON, Refused, assert_one_line, containers_in, plain

CPUS = os.cpu_count() or 1

# option, value, what the line says
REFUSED = (
    ("--memory", "12x", "invalid size: '12x': use a number with b, k, m, g or t: 64m"),
    ("--memory", "-1", "invalid size: '-1'"),
    ("--memory", "", "invalid size: ''"),
    ("--memory", "1k", "Minimum memory limit allowed is 6MB"),
    ("--memory", "99999999t", "more than the kernel can count"),
    ("--memory-swap", "1g", "You should always set the Memory limit"),
    ("--memory-swap", "-2", "invalid size: '-2'"),
    ("--cpus", "-1", "failed to parse -1 as a rational number"),
    ("--cpus", "99999", f"range of CPUs is from 0.01 to {CPUS}.00"),
    ("--cpus", "abc", "failed to parse abc as a rational number"),
    ("--cpuset-cpus", "9999", "Requested CPUs are not available - requested 9999"),
    ("--cpuset-cpus", "abc", "Invalid value abc for cpuset cpus"),
    ("--pids-limit", "x", "invalid number: 'x'"),
    ("--cpu-shares", "1", "invalid CPU shares 1: use 2 to 262144"),
    ("--cpu-shares", "-5", "invalid CPU shares (-5): value must be a positive integer"),
    ("--ulimit", "nofile", "use TYPE=SOFT[:HARD]"),
    ("--ulimit", "nofile=x", "use TYPE=SOFT[:HARD]"),
    ("--ulimit", "nofile=1:2:3", "use TYPE=SOFT[:HARD]"),
    ("--ulimit", "what=1", "invalid ulimit type: what: use one of"),
    ("--ulimit", "nofile=10:5", "soft limit must be less than or equal to hard limit: 10 > 5"),
    ("--ulimit", "nofile=-7", "use 0 to 9223372036854775807, or -1"),
    ("--ulimit", f"nofile={10**30}", "use 0 to 9223372036854775807, or -1"),
    ("--user", "nosuch", "unable to find user nosuch: no matching entries in passwd file"),
    ("--user", "root:nosuch", "unable to find group nosuch: no matching entries in group file"),
    ("--user", "-1", "unable to find user -1"),
    ("--user", "1x", "unable to find user 1x"),
    ("--user", ":1", "invalid user ':1': use USER, UID, USER:GROUP or UID:GID"),
    ("--user", "4294967296", "invalid user id '4294967296': use 0 to 4294967294"),
    ("--user", "1:4294967295", "invalid group id '4294967295'"),
    ("-v", "re/l:/x", '"re/l" includes invalid characters for a local volume name'),
    ("-v", "/etc:", "use HOST-PATH:CONTAINER-PATH[:ro]"),
    ("-v", "/etc:/", "invalid specification: destination can't be '/'"),
    ("-v", "/etc:rel", "invalid mount path: 'rel' mount path must"),
    ("-v", "/etc:/x:what", "invalid mode: what"),
    ("-v", "/etc:/etc/passwd", "on /etc/passwd: a directory does not go on a file of"),
    ("-v", "/etc/passwd:/etc", "on /etc: a file does not go on a directory of the container"),
    ("-v", "/etc/passwd:/etc/passwd/x", "/etc/passwd/x: "),
    ("-v", "/etc:/proc", "on /proc: what is in /proc must be the kernel's"),
    ("-v", "/etc:/proc/sys", "on /proc/sys: what is in /proc must be the kernel's"),
    ("--tmpfs", "/proc/sys", "on /proc/sys: what is in /proc must be the kernel's"),
    ("--mount", "", "invalid field '' must be a key=value pair"),
    ("--mount", "type=what,src=/a,dst=/b", 'for type "what": mount type unknown'),
    ("--mount", "type=bind,src=/etc", "target is required"),
    ("--mount", "type=bind,src=/nosuch,dst=/x", "bind source path does not exist: /nosuch"),
    ("--mount", "type=bind,src=rel,dst=/x", "invalid mount path: 'rel' mount path must"),
    ("--mount", "type=bind,src=/etc,dst=/x,ro=maybe", "invalid value for ro: maybe"),
    ("--mount", "type=bind,src=/etc,dst=/x,bind-propagation=what", "use private, rprivate"),
    ("--mount", "type=tmpfs,dst=/x,src=/etc", "field Source must not be specified"),
    ("--mount", "type=tmpfs,dst=/x,tmpfs-mode=z", "invalid value for tmpfs-mode: z"),
    ("--tmpfs", "/x:what", 'invalid tmpfs option "what"'),
    ("--tmpfs", "/x:size=abc", 'invalid tmpfs option "size"'),
    ("--tmpfs", "rel", "invalid mount path: 'rel'"),
    ("--device", "/etc/passwd", '"/etc/passwd": not a device node'),
    ("--device", "/dev/null:/dev/x:q", "/dev/null:/dev/x:q: bad permissions"),
    ("--device", "null", "invalid path 'null' for device null: must be absolute"),
    ("--device", "/dev/null:/dev/zero/x", "make device /dev/zero/x: "),
    ("--device", "/dev/null:/proc/x", "make device /proc/x: "),
    ("--cap-add", "what", 'invalid CapAdd: unknown capability: "CAP_WHAT"'),
    ("--cap-drop", "", 'invalid CapDrop: unknown capability: "CAP_"'),
    ("--hostname", "a b", "invalid hostname 'a b'"),
    ("--hostname", "a\nb", r"invalid hostname 'a\nb'"),
    ("--hostname", "h" * 65, "at most 64"),
    ("--name", "a/b", "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are"),
    ("--name", "..", "Invalid container name (..), only"),
    ("--workdir", "rel", "the working directory 'rel' is invalid"),
    ("--workdir", "/etc/passwd", "working directory /etc/passwd: not a directory"),
    ("--env", "=x", "invalid environment variable: it has no name"),
    ("--env", "=\n", "invalid environment variable: it has no name"),
    ("--env-file", "/nosuch", "open /nosuch: no such file or directory"),
    ("--env-file", "/etc", "open /etc: is a directory"),
    ("--what", "", "unknown flag: --what: see 'minicontainer run --help'"),
    ("--nam", "x", "unknown flag: --nam"),
    ("--rm", "x", "expected true or false, got 'x'"),
    ("--net", "what", "failed to set up container networking: network what not found"),
)  # fmt: skip


@pytest.mark.parametrize(("option", "value", "says"), REFUSED)
def test_a_bad_value_is_refused(refused: Refused, option: str, value: str, says: str) -> None:
    """With the option or its value in the line, and what would be right."""
    # in one word: a value may begin with a dash
    words = (f"{option}={value}",) if option.startswith("--") else (option, value)
    refused(says, *words)


# What is said of a word that is none: some options the client reads, others the engine.
NO_MODE = {
    "--net": "network what not found",
    "--pid": "--pid: invalid PID mode",
    "--ipc": "invalid IPC mode: what",
    "--uts": "--uts: invalid UTS mode",
    "--cgroupns": "--cgroupns: invalid mode 'what': use host or private",
}


@pytest.mark.parametrize("option", NO_MODE)
@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("what", ""),
        ("container:nosuch", "No such container: nosuch"),
        ("ns:rel", "ns:rel"),
        ("ns:/nosuch", "namespace /nosuch: No such file or directory"),
        ("ns:/etc/passwd", "/etc/passwd can't be joined: it is not a "),
    ],
)
def test_a_namespace_that_is_none(refused: Refused, option: str, word: str, says: str) -> None:
    """Not a word that is known, not a container, not a path, or one that leads elsewhere."""
    refused(says.replace("OPTION", option) or NO_MODE[option], option, word)


@pytest.mark.parametrize("word", ["what", "keep-id", "container:nosuch", "ns:/proc/1/ns/user"])
def test_a_user_namespace_that_is_none(refused: Refused, word: str) -> None:
    """It is new, or the host's."""
    refused(f"invalid value '{word}' for --userns: use ", "--userns", word)


def test_a_device_that_is_not_there(refused: Refused) -> None:
    """Docker's words, and the status that its client gives for them."""
    refused('custom device "/dev/nosuch": no such file', "--device", "/dev/nosuch", status=127)


def test_one_place_mounted_on_twice(refused: Refused) -> None:
    """By two options, in two spellings."""
    refused("Duplicate mount point: /x", "-v", "/etc:/x", "--tmpfs", "/x/")


def test_a_limit_above_the_hosts(refused: Refused) -> None:
    """The kernel has an upper bound for all: fs.nr_open."""
    refused("RLIMIT_NOFILE 9999999999:9999999999: above", "--ulimit", "nofile=9999999999")


def test_an_option_without_its_value(run: Run) -> None:
    """The last word of the line."""
    done = plain(*command("minicontainer"), "run", "--name")
    assert_one_line(done.errors, "flag needs an argument: --name")
    assert done.status == 125


def test_an_unknown_command() -> None:
    """Which may be a slip."""
    done = plain(*command("minicontainer"), "ruin")
    assert_one_line(done.errors, "unknown command: minicontainer ruin: see")
    assert done.status == 1


# --- the program -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [(), ("--init",)], ids=["", "init"])
@pytest.mark.parametrize(
    ("program", "status", "says"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 127, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        ("/etc/passwd/x", 127, 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": is a directory'),
        ("/lost-interpreter", 127, "exec /lost-interpreter: its interpreter is missing"),
        ("/garbage", 126, "Exec format error"),
        ("/broken-elf", 126, "Exec format error"),
        ("/directory-interpreter", 126, "permission denied"),
    ],
)
def test_a_program_that_can_not_be_run(
    refused: Refused, rootfs: Path, program: str, status: int, says: str, option: tuple[str, ...]
) -> None:
    """126 where it is there, 127 where it is not; the same below an init of ours."""
    for name, content in (
        ("lost-interpreter", b"#!/nosuch\n"),
        ("garbage", b"garbage\n"),
        ("broken-elf", b"\x7fELF and no more"),
        ("directory-interpreter", b"#!/etc\n"),
    ):
        (rootfs / name).write_bytes(content)
        (rootfs / name).chmod(0o755)
    refused(says, "--rootfs", str(rootfs), *option, program=(program,), status=status)


def test_a_program_that_the_user_may_not_run(refused: Refused, rootfs: Path) -> None:
    """Root inside could."""
    (rootfs / "private").write_text("#!/bin/sh\n")
    (rootfs / "private").chmod(0o700)
    refused(
        "permission denied", "--rootfs", str(rootfs), "--user", "1000", program=("/private",),
        status=126,
    )  # fmt: skip


# --- the root file system ----------------------------------------------------------------------


def test_a_root_file_system_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    """By a path, or by the name of one that could be built."""
    refused(f"no root file system at {tmp_path}/nosuch: name", "--rootfs", f"{tmp_path}/nosuch")
    refused("/rootfs/nosuch: build it with rootfs/nosuch", "--rootfs", "nosuch")
    refused("--rootfs: name a directory", "--rootfs", "")


def test_a_root_file_system_that_is_a_file(refused: Refused, tmp_path: Path) -> None:
    """An archive, perhaps."""
    (tmp_path / "image.tar").touch()
    refused("image.tar is not a directory: unpack it", "--rootfs", str(tmp_path / "image.tar"))


def test_a_root_file_system_that_can_not_be_read(rootfs: Path) -> None:
    """Root may read everything, unless somebody took that from it."""
    rootfs.chmod(0)
    os.chown(rootfs, 1000, 1000)
    code = (
        f"import sys; sys.path[:0] = [{str(CHECKOUT)!r}]\n"
        f"from minicontainer.engine import bundles\nbundles.find_rootfs({str(rootfs)!r}, '/')"
    )
    lacking = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    done = plain(*lacking, sys.executable, "-c", code)
    says = f"InvalidArgument: root file system {rootfs} can't be read: Permission denied\n"
    assert done.errors.endswith(says)
    assert plain(sys.executable, "-c", code).errors == ""  # the control


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_kernel_file_system_is_not_mounted_through_a_link(
    refused: Refused, rootfs: Path, tmp_path: Path, name: str
) -> None:
    """What is trusted as /proc must be there: CVE-2019-19921."""
    (tmp_path / "canary").mkdir()
    (rootfs / name).rmdir()
    (rootfs / name).symlink_to(tmp_path / "canary")
    refused(f"/{name} is a symbolic link in the root file system", "--rootfs", str(rootfs))
    assert os.listdir(tmp_path / "canary") == []


@pytest.mark.parametrize("prefix", ["", "../../../../../../../../.."])
def test_a_mount_point_behind_a_link_stays_inside(
    run: Run, rootfs: Path, tmp_path: Path, prefix: str
) -> None:
    """The container's own directory of that path is made and mounted on, not the host's."""
    canary, volume = tmp_path / "canary", tmp_path / "volume"
    for directory in (canary, volume):
        directory.mkdir()
        (directory / directory.name).touch()
    (rootfs / "link").symlink_to(f"{prefix}{canary}")
    done = run(
        f"ls {canary} && ls /link/x && grep -c canary /proc/self/mounts",
        "--rootfs", str(rootfs), "-v", f"{volume}:/link/x", "--tmpfs", "/link/new/deep",
        "--device", "/dev/null:/link/null",
    )  # fmt: skip
    assert done.status == 0, done.errors
    assert done.output.split() == ["new", "null", "x", "volume", "2"]
    assert os.listdir(canary) == ["canary"]
    assert not (rootfs / "link").parent.joinpath(*canary.parts[1:]).exists()


@pytest.mark.parametrize("name", ["etc", "dev"])
def test_our_own_files_behind_a_link_stay_inside(
    run: Run, rootfs: Path, tmp_path: Path, name: str
) -> None:
    """The devices and /etc/hosts are put where the link leads in the container."""
    canary = tmp_path / "canary"
    canary.mkdir()
    subprocess.run(["rm", "-r", str(rootfs / name)], check=True)
    (rootfs / name).symlink_to(canary)
    done = run(f"ls {canary}", "--rootfs", str(rootfs))
    assert ("hosts" if name == "etc" else "null") in done.output.split()
    assert os.listdir(canary) == []


# --- the host ----------------------------------------------------------------------------------


def test_a_name_that_is_in_use(run: Run) -> None:
    """The running container is not touched; when it has ended its name is free."""
    container = run.start("echo ready; sleep 60", "--name", "taken")
    done = run("true", "--name", "taken")
    assert done.errors == (
        f'minicontainer: {DAEMON}Conflict. The container name "/taken" is already in use by '
        f'container "{container.state["id"]}". You have to remove (or rename) that container to be '
        "able to reuse that name.\n"
    )
    assert done.status == 125
    os.kill(container.pid, 0)
    container.stop()
    assert run("true", "--name", "taken").status == 0


def test_a_terminal_is_asked_for_where_there_is_none(run: Run) -> None:
    """In Docker's words, and with its client's status."""
    done = run("true", "-it")
    assert (done.status, done.errors) == (1, "the input device is not a TTY\n")
    assert containers_in(run.data_root, run.exec_root) == []


def test_an_ordinary_user_is_told_what_to_do(refused: Refused) -> None:
    """The socket is root's, and its group's."""
    refused("engine.sock: use sudo", before=AS_NOBODY)


def test_no_more_namespaces(refused: Refused) -> None:
    """A limit that the host's administrator has set."""
    limit = Path("/proc/sys/user/max_uts_namespaces")
    before = limit.read_text()
    try:
        limit.write_text("0")
    except PermissionError:
        pytest.skip("needs CAP_SYS_RESOURCE")
    try:
        refused("a limit of /proc/sys/user/max_*_namespaces is reached")
    finally:
        limit.write_text(before)


def test_text_from_outside_moves_no_cursor(refused: Refused) -> None:
    """A file name may hold the codes for that; they are shown."""
    mount = "type=bind,source=/no\x1b[2Jsuch,target=/x"
    refused(r"does not exist: /no\x1b[2Jsuch", "--mount", mount)


def test_a_volume_may_be_a_socket(run: Run, tmp_path: Path) -> None:
    """The control for file and directory: everything that is no directory is mounted on a file."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert run("test -S /run.sock", "-v", f"{tmp_path}/s:/run.sock").status == 0
