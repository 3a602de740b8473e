"""How long minicontainer-oci's commands take, and what memory they need, beside runc and crun.

    make bench
    sudo .venv/bin/python tests/bench/bench_start.py --beside OTHER-CHECKOUT

Whole commands, of busybox's /bin/true, interleaved so that all runtimes meet the same machine.
Medians of 60 after 3 for warmth:

- `run` with six namespaces and a cgroup; with a user namespace; with the default seccomp profile;
- `create`, `start` and `delete`, one after the other: of a container that runs until it is deleted
  by force, and of one whose program has ended by then;
- the peak memory of each command;
- `exec` in such a container.

With `--beside`, the `minicontainer-oci` of another checkout (where `scripts/setup` has run) is one
more runtime: one run shows what a change costs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minicontainer.kernel import mounts, namespaces
from minicontainer.kernel.namespaces import IdMap
from minicontainer.runtime.config import defaults, seccomp_profile
from minicontainer.runtime.config.spec import Spec
from minicontainer.runtime.config.spec_linux import NamespaceSpec
from tests.conftest import CHECKOUT, command

RUNS, WARM_UP = 60, 3
ID = f"bench-{os.getpid()}"
UNIFIED_CONTROLLERS = "/sys/fs/cgroup/unified/cgroup.controllers"

Runtimes = dict[str, list[str]]  # by name: how each is called


def specs() -> dict[str, Spec]:
    """Give the specifications that are measured, all of /bin/true."""
    spec = defaults.default_spec()
    plain = spec.replace(process=spec.process.replace(terminal=False, args=("/bin/true",)))
    ids = (IdMap(container_id=0, host_id=100_000, size=65_536),)
    linux = plain.linux
    with_user = linux.replace(
        namespaces=(*linux.namespaces, NamespaceSpec(type="user")),
        uid_mappings=ids,
        gid_mappings=ids,
    )
    filtered = linux.replace(seccomp=seccomp_profile.default_profile(defaults.CAPABILITIES))
    return {
        "6 namespaces, cgroup": plain,
        "7 namespaces (user too), cgroup": plain.replace(linux=with_user),
        "6 namespaces, cgroup, seccomp": plain.replace(linux=filtered),
    }


def runtimes(beside: Path | None) -> Runtimes:
    """Find the runtimes that can run the bundle in the working directory.

    Args:
        beside: another checkout, whose runtime is measured too.
    """
    found = {"minicontainer-oci": command("minicontainer-oci")}
    if beside:
        found["the other checkout"] = [str(beside / ".venv" / "bin" / "minicontainer-oci")]
    for peer in ("runc", "crun"):
        path = shutil.which(peer)
        if path and subprocess.run([path, "run", ID], capture_output=True).returncode == 0:
            found[peer] = [path]
    return found


def help_crun() -> None:
    """Let crun work where v1 is mounted beside v2, and v2 has a controller that crun can't use.

    It does not know of such hosts. In a mount namespace that ends with this process, v2 shows none.
    """
    if os.path.exists(UNIFIED_CONTROLLERS) and Path(UNIFIED_CONTROLLERS).read_text().strip():
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        mounts.mount("/dev/null", UNIFIED_CONTROLLERS, None, mounts.MS_BIND)


def once(arguments: list[str]) -> float:
    """Run a command; give its wall time in ms."""
    begun = time.perf_counter()
    pid = os.posix_spawn(arguments[0], arguments, os.environ)
    _, status = os.waitpid(pid, 0)
    elapsed = (time.perf_counter() - begun) * 1e3
    if status != 0:
        raise SystemExit(f"{' '.join(arguments)} failed in {os.getcwd()}")
    return elapsed


def until_ended(state: list[str]) -> None:
    """Wait until a container's program has ended, whatever runtime tells of it."""
    while json.loads(subprocess.check_output(state))["status"] != "stopped":
        time.sleep(0.001)


def compare(title: str, measures: dict[str, Callable[[], float]]) -> None:
    """Measure every runtime in turn; print the medians.

    Args:
        measures: by runtime: does something, and gives how long it took in ms.
    """
    times: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(WARM_UP + RUNS):
        # in another order each turn: who comes after whom makes some percent
        for name in random.sample(sorted(measures), len(measures)):
            elapsed = measures[name]()
            if turn >= WARM_UP:
                times[name].append(elapsed)
    print(f"\n{title}")
    ours = statistics.median(times["minicontainer-oci"])
    for name, measured in times.items():
        middle = statistics.median(measured)
        print(
            f"  {name:<18} median {middle:6.1f} ms   min {min(measured):6.1f} ms   "
            f"ours/its {ours / middle:.2f}"
        )


def peak_memory(arguments: list[str]) -> float:
    """Run a command; give its peak memory in MiB, by a parent that is small.

    The kernel counts in what the parent had when it forked: 9 MiB here, and no less can be seen.
    """
    script = (
        "import os, sys; pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ); "
        "told = os.wait4(pid, 0); open(sys.argv[1], 'w').write(str(told[2].ru_maxrss)); "
        "sys.exit(told[1] != 0)"
    )
    # The figure comes in a file: what `create` makes keeps its output, and a pipe would not end.
    subprocess.run([sys.executable, "-ISc", script, "peak", *arguments], check=True)
    return int(Path("peak").read_text()) / 1024


def compare_memory(calls: dict[str, dict[str, list[str]]]) -> None:
    """Print the peak memory of each command.

    Args:
        calls: by runtime, then by what they are called in the table.
    """
    print("\npeak memory, in MiB")
    for name, commands in calls.items():
        told = (f"{label} {peak_memory(arguments):4.1f}" for label, arguments in commands.items())
        print(f"  {name:<18} {'   '.join(told)}")


def write_bundle(directory: Path, spec: Spec) -> None:
    """Write the specification of a bundle.

    Its version is an old one, as crun 1.8 takes none that is newer than itself.
    """
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(spec.to_json() | {"ociVersion": "1.0.2"}))


def container_of(runtime: str) -> str:
    """Name a runtime's container: one name each, as two share a directory of containers."""
    return f"{ID}-{runtime.replace(' ', '-')}"


def commands_of(runtime: str, call: list[str]) -> dict[str, list[str]]:
    """Give the commands of a container's life, as one runtime takes them."""
    name = container_of(runtime)
    return {
        "run": [*call, "run", name],
        "create": [*call, "create", name],
        "create sleeping": [*call, "create", "--bundle", "sleeping", name],
        "start": [*call, "start", name],
        "state": [*call, "state", name],
        "exec": [*call, "exec", name, "/bin/true"],
        "delete": [*call, "delete", "--force", name],
    }


def life_by_force(commands: dict[str, list[str]]) -> float:
    """Create, start and delete a container that runs until then; give the ms."""
    return sum(once(commands[name]) for name in ("create sleeping", "start", "delete"))


def life_until_end(commands: dict[str, list[str]]) -> float:
    """Create and start a container, let it end, and delete it; give the ms without the waiting."""
    elapsed = once(commands["create"]) + once(commands["start"])
    until_ended(commands["state"])
    return elapsed + once(commands["delete"])


def measure_runs(directory: Path, found: Runtimes) -> None:
    """Measure `run` of every specification."""
    root = str(directory / "rootfs")
    for title, spec in specs().items():
        write_bundle(directory, spec.replace(root=spec.root.replace(path=root)))
        compare(
            f"run: {title}",
            {name: partial(once, commands_of(name, call)["run"]) for name, call in found.items()},
        )


def measure_lives(directory: Path, found: Runtimes) -> None:
    """Measure what a container's life takes when each step is a command, and what they need."""
    plain = next(iter(specs().values()))
    plain = plain.replace(root=plain.root.replace(path=str(directory / "rootfs")))
    sleep = plain.process.replace(args=("/bin/sleep", "1000"))
    write_bundle(directory, plain)
    write_bundle(directory / "sleeping", plain.replace(process=sleep))
    commands = {name: commands_of(name, call) for name, call in found.items()}
    for life, title in (
        (life_by_force, "create, start, delete --force of what runs"),
        (life_until_end, "create, start, delete of what has ended"),
    ):
        compare(title, {name: partial(life, row) for name, row in commands.items()})
    in_order = ("run", "create sleeping", "start", "exec", "delete")
    compare_memory({name: {key: row[key] for key in in_order} for name, row in commands.items()})
    for row in commands.values():
        once(row["create sleeping"])
        once(row["start"])
    compare("exec", {name: partial(once, row["exec"]) for name, row in commands.items()})


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Measure minicontainer-oci beside its peers.")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="measure this one too")
    beside = parser.parse_args().beside
    help_crun()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        subprocess.run(
            [CHECKOUT / "rootfs" / "busybox", directory / "rootfs"], check=True, capture_output=True
        )
        os.chdir(directory)
        write_bundle(directory, next(iter(specs().values())))
        found = runtimes(beside and beside.resolve())
        try:
            measure_runs(directory, found)
            measure_lives(directory, found)
        finally:
            for name, call in found.items():
                subprocess.run(commands_of(name, call)["delete"], capture_output=True)
            os.chdir("/")


if __name__ == "__main__":
    main()
