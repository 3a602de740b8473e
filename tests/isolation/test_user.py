"""User namespaces: user_namespaces(7), mount_setattr(2) "ID-mapped mounts"."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import Run

from .conftest import Bundles, Spec, is_ours, leaks, namespace_of, status_of

PRIVATE = ("--userns", "private")
FIRST, COUNT = 100_000, 65_536


def test_root_inside_is_nobody_outside(run: Run) -> None:
    """Uid and gid 0 inside, 100000 on the host."""
    container = run.start("id -u; id -g; sleep 60", *PRIVATE)
    status = status_of(container.pid)
    assert status["Uid"].split() == [str(FIRST)] * 4
    assert status["Gid"].split() == [str(FIRST)] * 4
    assert status["Groups"].split() == ["100000"]
    assert run("id -u; id -g", *PRIVATE).output == "0\n0\n"
    assert not is_ours(container.pid, "user")
    for name in ("uid_map", "gid_map"):
        written = Path(f"/proc/{container.pid}/{name}").read_text().split()
        assert written == ["0", str(FIRST), str(COUNT)]
    assert leaks(container.pid, "user") == {}


def test_without_a_user_namespace_it_is_root(run: Run) -> None:
    """The control."""
    container = run.start("echo ready; sleep 60", without="user")
    assert status_of(container.pid)["Uid"].split() == ["0"] * 4
    assert is_ours(container.pid, "user")
    assert leaks(container.pid, "user").keys() == {"ids"}


def test_a_file_written_inside_belongs_to_nobody(run: Run, volume: Path) -> None:
    """On a volume that everyone may write to, with the control."""
    volume.chmod(0o777)
    script = "touch /vol/{0} && chown 1000:33 /vol/{0}; touch /vol/{0}-root"
    run(script.format("mapped"), *PRIVATE, "-v", f"{volume}:/vol")
    run(script.format("plain"), "-v", f"{volume}:/vol")

    def owner(name: str) -> tuple[int, int]:
        found = (volume / name).stat()
        return found.st_uid, found.st_gid

    assert owner("mapped") == (FIRST + 1000, FIRST + 33)
    assert owner("mapped-root") == (FIRST, FIRST)
    assert owner("plain") == (1000, 33)
    assert owner("plain-root") == (0, 0)


def test_the_hosts_files_are_out_of_reach(run: Run, volume: Path) -> None:
    """What only the host's root may read, with the control."""
    (volume / "secret").write_text("secret\n")
    (volume / "secret").chmod(0o600)
    mapped = run("cat /vol/secret; stat -c %u /vol/secret", *PRIVATE, "-v", f"{volume}:/vol")
    assert mapped.output == "65534\n"
    assert "Permission denied" in mapped.errors
    assert run("cat /vol/secret", "-v", f"{volume}:/vol").output == "secret\n"


def test_a_volume_behind_a_closed_door(run: Run, volume: Path) -> None:
    """Whoever may name a volume reaches it; the container's root finds the door shut."""
    door = volume / "door"
    (door / "open").mkdir(parents=True)
    (door / "open" / "file").write_text("inside\n")
    door.chmod(0o700)
    os.chown(door, 1234, 1234)  # neither the caller's, who is root, nor the container's
    shown = run("cat /vol/file", *PRIVATE, "-v", f"{door}/open:/vol")
    assert shown.output == "inside\n", shown.errors
    assert "Permission denied" in run("ls /vol", *PRIVATE, "-v", f"{door}:/vol").errors


def test_the_image_keeps_its_owners(run: Run) -> None:
    """An id-mapped mount: on disk they are the host's 0 and 1000, inside they are the same."""
    look = "stat -c '%u:%g' /bin/busybox /home/user; cat /etc/shadow | head -c 4"
    assert run(look, *PRIVATE).output == "0:0\n1000:1000\nroot"
    assert run(look).output == "0:0\n1000:1000\nroot"


def test_the_image_can_be_changed_all_the_same(run: Run, busybox: Path) -> None:
    """In the container's own layer: copied up, with owners that mean the same inside."""
    script = (
        "echo x >> /etc/passwd && chown 1000 /bin/busybox && stat -c %u /bin/busybox /etc/passwd"
    )
    assert run(script, *PRIVATE).output == "1000\n0\n"
    assert (busybox / "bin" / "busybox").stat().st_uid == 0


def test_groups_can_be_set_inside(run: Run) -> None:
    """setgroups(2) is allowed, because who wrote the maps was privileged; users can be switched."""
    assert run("cat /proc/self/setgroups", *PRIVATE).output == "allow\n"
    assert run("id -u; id -G", *PRIVATE, "--user", "user").output == "1000\n1000 100\n"
    container = run.start("echo ready; sleep 60", *PRIVATE, "--user", "user")
    assert status_of(container.pid)["Uid"].split()[0] == str(FIRST + 1000)


def test_capabilities_count_inside_alone(run: Run) -> None:
    """Root inside may set its own host name if allowed, and not the clock, nor load a module."""
    allowed = run("hostname changed && hostname", *PRIVATE, "--cap-add", "SYS_ADMIN")
    assert allowed.output == "changed\n"
    refused = run("date -s @0", *PRIVATE, "--cap-add", "SYS_TIME")
    assert "Operation not permitted" in refused.errors


def test_devices_are_there(run: Run) -> None:
    """Bound from the host, because mknod(2) is forbidden."""
    assert run("echo x > /dev/null && head -c 2 /dev/zero | wc -c", *PRIVATE).output == "2\n"
    assert "not permitted" in run("mknod /tmp/null c 1 3", *PRIVATE).errors
    assert run("mknod /tmp/null c 1 3").status == 0  # the control


def test_it_works_with_each_other_namespace_shared(run: Run) -> None:
    """What a namespace's owner may do, its members may not: those mounts are made otherwise."""
    for kind in ("network", "ipc", "uts", "pid", "cgroup"):
        result = run("id -u; ls /sys/class > /dev/null && echo sys", *PRIVATE, without=kind)
        assert (result.output, result.errors) == ("0\nsys\n", ""), kind


def test_another_containers_users_are_refused(run: Run) -> None:
    """Its layer belongs to others; as Docker, which has no such option."""
    other = run.start("echo ready; sleep 60", *PRIVATE)
    for mode in (f"ns:/proc/{other.pid}/ns/user", f"container:{other.state['id']}", "other"):
        result = run("true", "--userns", mode)
        assert result.status == 125
        assert "for --userns: use private or host" in result.errors


# ---- other maps, by a bundle


def _maps(*runs: tuple[int, int, int]) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": host, "size": size} for inside, host, size in runs]


@pytest.mark.parametrize(
    "runs",
    [((0, 123_456, 1),), ((0, FIRST, 1000), (1000, 300_000, 10), (2000, 400_000, 1))],
    ids=["a single id", "ranges"],
)
@pytest.mark.oci("linux.uidMappings", "linux.gidMappings")
def test_the_maps_are_those_of_the_bundle(
    bundles: Bundles, runs: tuple[tuple[int, int, int], ...]
) -> None:
    """As the kernel shows them, for users and groups."""

    def mapped(config: Spec) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"] |= {"uidMappings": _maps(*runs), "gidMappings": _maps(*runs)}
        # without gid=5, which no single id can have
        config["mounts"] = [row for row in config["mounts"] if row["type"] != "devpts"]

    container = bundles.start("echo ready; sleep 60", mapped)
    assert status_of(container.pid)["Uid"].split()[0] == str(runs[0][1])
    expected = [str(number) for run in runs for number in run]
    for name in ("uid_map", "gid_map"):
        assert Path(f"/proc/{container.pid}/{name}").read_text().split() == expected


@pytest.mark.oci("linux.uidMappings", "process.user.uid")
def test_an_id_that_is_not_mapped_can_not_be_used(bundles: Bundles) -> None:
    """The program's user must be one of the namespace's."""

    def mapped(config: Spec) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"] |= {
            "uidMappings": _maps((0, FIRST, 1)),
            "gidMappings": _maps((0, FIRST, 1)),
        }
        config["mounts"] = [row for row in config["mounts"] if row["type"] != "devpts"]
        config["process"]["user"] = {"uid": 1, "gid": 0}

    result = bundles("true", mapped)
    assert result.status == 1
    assert "process.user.uid: 1 is not in linux.uidMappings" in result.errors


@pytest.mark.oci("linux.namespaces[].path")
def test_a_bundle_can_join_one(bundles: Bundles, run: Run) -> None:
    """By its path: root of that namespace, which may not make mounts of other ones' namespaces."""
    other = run.start("echo ready; sleep 60", *PRIVATE)

    def joined(config: Spec) -> None:
        path = f"/proc/{other.pid}/ns/user"
        config["linux"]["namespaces"].append({"type": "user", "path": path})

    container = bundles.start("echo ready; sleep 60", joined)
    assert status_of(container.pid)["Uid"].split()[0] == str(FIRST)
    assert namespace_of(container.pid, "user") == namespace_of(other.pid, "user")


def test_a_bundle_without_one_runs_as_root(bundles: Bundles) -> None:
    """The control."""
    container = bundles.start("echo ready; sleep 60")
    assert status_of(container.pid)["Uid"].split()[0] == "0"
    assert is_ours(container.pid, "user")
    assert os.getuid() == 0


@pytest.mark.parametrize(
    ("user", "options", "home"),
    [
        ("root", (), "/srv/root"),
        ("7", (), "/srv/web"),
        ("8", (), "/"),  # its line names none
        ("9", (), "/"),  # it has no line
        ("7", ("--env", "HOME="), "/srv/web"),
        ("7", ("--env", "HOME=/tmp"), "/tmp"),
    ],
)
def test_a_user_is_at_home_where_passwd_says(
    run: Run, volume: Path, user: str, options: tuple[str, ...], home: str
) -> None:
    """As with `docker run`: by the number, and the file that the container sees."""
    passwd = volume / "passwd"
    passwd.write_text(
        "root:x:0:0::/srv/root:\nalso:x:0:0::/no:\nweb:x:7:7::/srv/web:\nno:x:8:8:::\n"
    )
    options += ("--user", user, "-v", f"{passwd}:/etc/passwd")
    assert run("echo $HOME", *options).output == f"{home}\n"


def test_a_users_name_never_stands_for_a_number(run: Run, busybox: Path, tmp_path: Path) -> None:
    """An image with a user *called* 1000, of uid 0, can't make root of `-u 1000`."""
    root = tmp_path / "root"
    shutil.copytree(busybox, root, symlinks=True)
    (root / "etc/passwd").write_text("1000:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("1000:x:0:\nroot:x:0:\n")
    shown = run("id -u; id -g", "--rootfs", str(root), "-u", "1000:1000")
    assert shown.output == "1000\n1000\n", shown.errors
