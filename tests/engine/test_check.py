"""`minicontainer check`: what it finds against what the kernel says, and what it says of a lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.cgroups.hierarchies import Hierarchies, Hierarchy
from minicontainer.engine import host, host_rootless, programs
from minicontainer.kernel.namespaces import NAMESPACES
from tests.conftest import CHECKOUT, PATIENCE_S, command

pytestmark = pytest.mark.usefixtures("nothing_left")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="looks at what root may do")

# Loads a filter that answers some system calls with an error, then is the command itself: so would
# an outer container have it.
UNDER_A_FILTER = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from minicontainer.cli.main import main
from minicontainer.kernel import seccomp, seccomp_compiler
calls, errno, *sys.argv[1:] = sys.argv[1:]
rule = seccomp.SyscallRule(
    names=tuple(calls.split(",")), action="SCMP_ACT_ERRNO", errno_ret=int(errno)
)
profile = seccomp.Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule,))
seccomp.load(seccomp_compiler.compile_profile(profile), 0)
sys.exit(main())
"""

Findings = dict[str, dict[str, object]]


def checked(
    *prefix: str, program: list[str] | None = None, options: tuple[str, ...] = ()
) -> Findings:
    """Run `check --json`, by the command *prefix* if one is given; give the findings by name."""
    done = subprocess.run(
        [*prefix, *(program or command("minicontainer")), "check", "--json", *options],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    lacking = [name for name, each in findings.items() if each["needed"] and not each["ok"]]
    assert done.returncode == (1 if lacking else 0)
    return findings


@pytest.fixture(scope="module")
def findings() -> Findings:
    """What is found here, as the user who runs the tests."""
    return checked()


@needs_root
def test_each_kind_of_namespace_is_made(findings: Findings) -> None:
    """As many kinds as the kernel has links; and each new one is another than this process's."""
    links = {name for name in os.listdir("/proc/self/ns") if not name.endswith("_for_children")}
    for kind in NAMESPACES:
        finding = findings[f"{kind.type} namespace"]
        assert finding["ok"] == (kind.link in links)
        if finding["ok"]:
            own = os.readlink(f"/proc/self/ns/{kind.link}")
            made = str(finding["found"]).rpartition(": ")[2]
            assert made != own
            assert made.startswith(f"{kind.link}:[")
    assert links <= {kind.link for kind in NAMESPACES}


def test_a_controller_is_where_it_is_said_to_be(findings: Findings) -> None:
    """The kernel lists it there; and no hierarchy that is mounted is overlooked."""
    mounted = {}  # hierarchies of version 1: the place to the options, controllers among them
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - cgroup ")
        if after:
            mounted[before.split()[4]] = after.split()[1].split(",")
    for row in host.CONTROLLERS:
        (finding,) = (
            each for name, each in findings.items() if name.split("/")[0] == f"cgroup {row.name}"
        )
        version, _, where = str(finding["found"]).partition(", ")
        in_v1 = any(row.name in options for options in mounted.values())
        assert in_v1 == (version == "version 1")
        if in_v1:
            assert row.name in mounted[where]
        elif where.startswith("/"):
            assert row.v2 in (Path(where) / "cgroup.controllers").read_text().split()


def test_the_kernels_filesystems_tell_the_same_of_overlay(findings: Findings) -> None:
    """What was mounted is among them: proc_filesystems(5)."""
    assert findings["overlay"]["ok"] == (
        "nodev\toverlay\n" in Path("/proc/filesystems").read_text()
    )


def test_text_has_a_line_for_each_finding(findings: Findings) -> None:
    """Aligned: the mark, the name, what was found, and the way out where there is one."""
    done = subprocess.run(
        [*command("minicontainer"), "check"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == len(findings)
    width = max(map(len, findings))
    for line, finding in zip(lines, findings.values(), strict=True):
        assert line[5 : 5 + width].strip() == finding["name"]
        assert line[:4].strip() in (("ok",) if finding["ok"] else ("no", "FAIL"))
        assert line.endswith(f"; to fix it: {finding['fix']}" if finding["fix"] else "")


def test_a_limit_on_namespaces_is_named() -> None:
    """In a user namespace of its own, a limit that is set there: the control of the namespaces."""
    script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    found = checked("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    for name in ("network namespace", "bridge and veth", "nftables"):
        assert not found[name]["ok"]
        assert "user.max_net_namespaces is 0" in str(found[name]["found"])
        assert found[name]["fix"] == "sysctl -w user.max_net_namespaces=10000"
    assert found["ipc namespace"]["ok"]


@needs_root
def test_a_missing_capability_is_named() -> None:
    """Root as in an outer container: what it can't do is said, and what ordinary users can."""
    found = checked("setpriv", "--bounding-set", "-sys_admin")
    assert "CAP_SYS_ADMIN" in str(found["privileges"]["found"])
    for name in ("mount namespace", "overlay", "bridge and veth"):
        assert not found[name]["ok"]
        assert "CAP_SYS_ADMIN is missing" in str(found[name]["found"])
        assert "--privileged" in str(found[name]["fix"])
    assert found["user namespace"]["ok"]


@needs_root
@pytest.mark.parametrize(
    ("calls", "errno", "name", "told"),
    [
        ("clone3", "38", "pid namespace", "seccomp=unconfined"),  # as Docker's profile answers it
        ("clone3", "22", "time namespace", "CONFIG_TIME_NS"),
        ("unshare", "1", "user namespaces for ordinary users", "seccomp=unconfined"),
        ("mount", "19", "overlay", "modprobe overlay"),
        ("mount_setattr", "22", "id-mapped mounts", "ext4"),
        ("seccomp", "1", "seccomp", "seccomp=unconfined"),
    ],
)
def test_what_is_refused_is_explained(calls: str, errno: str, name: str, told: str) -> None:
    """The control of each attempt: the system call that it stands on fails."""
    found = checked(program=[sys.executable, "-c", UNDER_A_FILTER, calls, errno])
    assert not found[name]["ok"]
    assert told in str(found[name]["fix"])


@needs_root
def test_an_ordinary_user_is_told_as_much() -> None:
    """The same list; what can be tried is tried in a user namespace, and root alone is missing."""
    as_nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    probe = [*as_nobody, *command("minicontainer"), "version"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("the checkout, or its interpreter, is closed to the user nobody")
    found, as_root = checked(*as_nobody), checked()
    assert found.keys() == as_root.keys()
    assert not found["privileges"]["ok"]
    assert "sudo" in str(found["privileges"]["fix"])
    if found["user namespaces for ordinary users"]["ok"]:
        for name in ("network namespace", "overlay", "bridge and veth", "nftables"):
            assert found[name]["ok"] == as_root[name]["ok"], found[name]
    assert not found["id-mapped mounts"]["ok"]


def test_the_default_rootfs_is_looked_for(tmp_path: Path) -> None:
    """Where it is not built, the builder is named; where it is, the directory."""
    options = ("--data-root", str(tmp_path))
    missing = checked(options=options)["default rootfs"]
    assert (missing["ok"], missing["fix"]) == (False, "build it with rootfs/busybox")
    (tmp_path / "rootfs" / "busybox").mkdir(parents=True)
    built = checked(options=options)["default rootfs"]
    assert (built["ok"], built["found"]) == (True, str(tmp_path / "rootfs" / "busybox"))


@needs_root
def test_the_hosts_rules_and_links_stay_as_they_are() -> None:
    """What is tried of the network is tried in another network namespace."""
    show = [["nft", "list", "ruleset"], ["ip", "-oneline", "link"]]
    before = [subprocess.run(one, capture_output=True, check=True).stdout for one in show]
    checked()
    assert [subprocess.run(one, capture_output=True, check=True).stdout for one in show] == before


@pytest.fixture
def unified(tmp_path: Path) -> Hierarchies:
    """A place of version 2, to which memory and nothing else is passed on."""
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    return Hierarchies(unified=Hierarchy(mount_point=str(tmp_path)))


@pytest.mark.parametrize("row", host.CONTROLLERS, ids=lambda row: str(row.name))
def test_controllers_of_version_2(row: host.Controller, unified: Hierarchies) -> None:
    """Those that are listed, and those that are no controllers there, but part of it."""
    finding = host.find_controller(row, unified)
    assert finding.ok == (row.name in ("memory", "devices", "freezer"))
    assert finding.ok or row.serves in finding.found


def test_a_controller_of_version_1_that_is_not_mounted() -> None:
    """The command that mounts it, if the kernel has it."""
    (row,) = (row for row in host.CONTROLLERS if row.name == "hugetlb")
    elsewhere = Hierarchies(v1=(Hierarchy(controllers=("memory",), mount_point="/nowhere"),))
    finding = host.find_controller(row, elsewhere)
    assert not finding.ok
    known = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    if ["hugetlb", "0", "1"] in [[name, hierarchy, on] for name, hierarchy, _, on in known]:
        assert "mount -t cgroup -o hugetlb" in finding.fix


def test_a_map_helper_without_its_privilege(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and useless: as after a copy, or in an image that dropped the bit."""
    helper = tmp_path / "newuidmap"
    helper.touch(0o755)
    monkeypatch.setattr(programs, "find", lambda _: str(helper))
    first = next(host_rootless.examine(os.getuid()))
    assert (first.ok, first.fix) == (False, f"chmod u+s {helper}")
    helper.chmod(0o4755)
    assert next(host_rootless.examine(os.getuid())).ok


def test_a_user_without_subordinate_ids_is_told_how_to_get_some() -> None:
    """No system gives ids to a user that it does not have."""
    by_name = {finding.name: finding for finding in host_rootless.examine(4_000_000_000)}
    assert not by_name["rootless: /etc/subuid"].ok
    assert "usermod --add-subuids" in by_name["rootless: /etc/subuid"].fix
