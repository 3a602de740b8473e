"""A process that comes in by `exec` can't be looked into while it still has the host's rights.

It is in the container's PID namespace from its first moment, and its user is root there: what
protects it is that it is not dumpable, and that its memory belongs to the host's user namespace.

See: ptrace(2) "Ptrace access mode checking"; PR_SET_DUMPABLE(2const); CVE-2016-9962.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.conftest import PATIENCE_S, Running, command
from tests.isolation.conftest import Bundles, Spec, python

MAPS = [{"containerID": 0, "hostID": 0, "size": 65_536}]  # root inside is root outside
EXECS = 40

# Looks at every process that comes, for as long as it is one of ours by its name; tells how many
# times it saw one, and what it found out about it. In the middle of execve(2) the program is the
# new one and the descriptors still the old ones: of those, pipes, the container's root and a null
# device that can't be changed are ours.
LOOK = """
import json, os
NULL = os.makedev(1, 3)
known, seen, found = set(os.listdir("/proc")), 0, []
print("ready", flush=True)
while not os.path.exists("/dev/shm/stop"):
    for pid in set(os.listdir("/proc")) - known:
        try:
            with open(f"/proc/{pid}/comm") as file:
                if not file.read().startswith("minic"):
                    continue
            seen += 1
            found.append(os.readlink(f"/proc/{pid}/exe"))
            for fd in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                status = os.stat(f"/proc/{pid}/fd/{fd}")
                if status.st_rdev != NULL and not os.path.samestat(status, os.stat("/")):
                    found.append(target)
        except OSError:
            continue
print(json.dumps([seen, found]))
"""


def with_all_capabilities(spec: Spec, *, user_namespace: bool) -> None:
    """Give root in the container all that root can have there, and the host's Python."""
    held = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"]
    for kind in ("bounding", "permitted", "effective"):
        spec["process"]["capabilities"][kind] = held
    spec["mounts"] += [
        {"destination": place, "source": place, "options": ["rbind", "ro"]}
        for place in ("/usr", "/lib", "/lib64")
        if os.path.isdir(place)
    ]
    spec["linux"].pop("seccomp", None)
    if user_namespace:
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"] |= {"uidMappings": MAPS, "gidMappings": MAPS}


def look_at_execs(bundles: Bundles, *, user_namespace: bool) -> tuple[int, list[str]]:
    """Start programs one after the other in a container that watches for them."""
    words = bundles.write(
        python(LOOK), lambda spec: with_all_capabilities(spec, user_namespace=user_namespace)
    )
    watcher = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "ready\n"
    state = json.loads((bundles.directory / "state" / words[-1] / "state.json").read_text())
    running = Running(watcher, state["pid"], state)
    bundles.background.append(running)
    run = [*command("minicontainer-oci"), "--root", str(bundles.directory / "state"), "exec"]
    for _ in range(EXECS):
        subprocess.run(
            [*run, words[-1], "/bin/true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
    Path(f"/proc/{running.pid}/root/dev/shm/stop").touch()
    seen, found = json.loads(watcher.communicate(timeout=PATIENCE_S)[0])
    return seen, [path for path in found if not path.startswith(("/bin/busybox", "/dev/", "pipe:"))]


def test_a_process_that_comes_in_shows_nothing(bundles: Bundles) -> None:
    """Neither its program, which is the host's Python, nor its descriptors."""
    seen, found = look_at_execs(bundles, user_namespace=True)
    assert seen > 0
    assert sorted(set(found)) == []


def test_a_tracer_with_the_hosts_rights_sees_it(bundles: Bundles) -> None:
    """The control: with CAP_SYS_PTRACE over the host's user namespace nothing can be hidden."""
    seen, found = look_at_execs(bundles, user_namespace=False)
    assert seen > 0
    assert any("python" in path for path in found)
