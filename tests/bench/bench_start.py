"""How long a container's start takes, beside runc and crun, in the same run.

    make bench

Whole commands, interleaved so that all meet the same machine, medians of 30 after 3 for warmth. The
bundle: busybox's /bin/true, six namespaces and a cgroup; then with a user namespace; then with the
default seccomp profile.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minicontainer.kernel.namespaces import IdMap
from minicontainer.runtime import defaults, seccomp_profile
from minicontainer.runtime.spec import Spec
from minicontainer.runtime.spec_linux import NamespaceSpec
from tests.conftest import CHECKOUT, command

RUNS, WARM_UP = 30, 3


def bundles() -> dict[str, Spec]:
    """Give the specifications that are measured."""
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


def once(arguments: list[str], directory: Path) -> tuple[float, int]:
    """Run a command; give its wall time in ms and its peak memory in KiB."""
    begun = time.perf_counter()
    # a small process between, so that the peak is not this interpreter's own
    pid = os.posix_spawn(arguments[0], arguments, os.environ)
    _, status, used = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(arguments)} failed in {directory}")
    return (time.perf_counter() - begun) * 1e3, used.ru_maxrss


def compare(directory: Path, title: str) -> None:
    """Measure every runtime on the bundle in *directory*, in turn."""
    os.chdir(directory)
    runtimes = {"minicontainer-oci": command("minicontainer-oci")}
    for peer in ("runc", "crun"):
        found = shutil.which(peer)
        if (
            found
            and subprocess.run([found, "run", "probe"], capture_output=True, check=False).returncode
            == 0
        ):
            runtimes[peer] = [found]
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for turn in range(WARM_UP + RUNS):
        for name, runtime in runtimes.items():
            elapsed, _ = once([*runtime, "run", f"bench-{os.getpid()}"], directory)
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


def peak_memory(directory: Path) -> int:
    """Give the peak memory of one `minicontainer-oci run`, in KiB, by a parent that is small."""
    script = (
        "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); "
        "print(os.wait4(pid, 0)[2].ru_maxrss)"
    )
    small = ["/usr/bin/env", "python3", "-ISc", script]
    done = subprocess.run(
        [*small, *command("minicontainer-oci"), "run", "bench-memory"],
        cwd=directory, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        subprocess.run(
            [CHECKOUT / "rootfs" / "busybox", directory / "rootfs"], check=True, capture_output=True
        )
        for title, spec in bundles().items():
            (directory / "config.json").write_text(json.dumps(spec.to_json()))
            compare(directory, title)
        print(f"\npeak memory of one run: {peak_memory(directory) / 1024:.1f} MiB")
        os.chdir("/")


if __name__ == "__main__":
    main()
