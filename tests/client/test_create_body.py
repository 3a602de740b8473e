"""The create request of our client is that of Docker's, for every option.

A small server stands in for the engine and keeps what it is sent; both clients create against it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minicontainer.cli import registry, run
from minicontainer.cli.exits import Exit
from tests.conftest import PATIENCE_S, command

from .recorder import Recorder, serving


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """The stand-in for an engine."""
    if not shutil.which("docker"):
        pytest.skip("docker, the client, is missing")
    directory = Path(tempfile.mkdtemp(prefix="minic-"))
    with serving(directory / "socket", {}) as server:
        yield server
    shutil.rmtree(directory)


def plain(value: Any) -> Any:
    """Leave out what says nothing: null, 0, false, empty."""
    if isinstance(value, dict):
        members = {key: plain(item) for key, item in value.items() if item != [0, 0]}
        return {key: item for key, item in members.items() if item not in (None, 0, "", [], {})}
    if isinstance(value, list):
        # Docker's client sends some lists in a random order.
        return sorted((plain(item) for item in value), key=lambda item: json.dumps(item))
    return value


def sent(recorder: Recorder, program: list[str], options: list[str]) -> tuple[Any, Any]:
    """Create a container with a client; give the query and the body that it sent."""
    recorder.kept.clear()
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "FROM_HERE": "yes",
               "DOCKER_HOST": f"unix://{recorder.server_address!s}"}  # fmt: skip
    done = subprocess.run(
        [*program, "create", *options, "busybox", "echo", "-n"],
        env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "abc\n"), done.stderr
    query, body = recorder.kept[-1]
    body.pop("MacAddress", None)  # where engines before API 1.44 look for it
    body["HostConfig"].pop("MemorySwappiness", None) if body["HostConfig"].get(
        "MemorySwappiness"
    ) == -1 else None
    body.get("NetworkingConfig", {}).get("EndpointsConfig", {}).pop("default", None) if not (
        plain(body.get("NetworkingConfig", {}).get("EndpointsConfig", {}).get("default"))
    ) else None
    policy = body["HostConfig"].get("RestartPolicy")
    if policy and policy["Name"] == "no":
        del body["HostConfig"]["RestartPolicy"]
    return query, plain(body)


OPTIONS = """\

--name web --platform linux/amd64
-i
-t
-it
-a stdout
-a stdin -a stderr -i
-e A=1 -e B= -e FROM_HERE -e NOT_HERE
-l a=b -l c --label d=e=f
-u 1000:1000 -w /tmp
-h box --domainname example.org
--entrypoint sh
--entrypoint=
--rm
--init
--read-only --privileged
-m 64m --memory-swap 128m --memory-reservation 32m
--memory-swap=-1 -m 1g
--memory-swappiness 10
--cpus 1.5 -c 512 --cpuset-cpus 0-1
--cpu-period 100000 --cpu-quota 50000 --cpuset-mems 0
--cpu-rt-period 1000 --cpu-rt-runtime 90
--pids-limit 100 --oom-kill-disable --oom-score-adj 500
--blkio-weight 300 --blkio-weight-device /dev/sda:200
--device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2m
--device-read-iops /dev/sda:100 --device-write-iops /dev/sda:200
--cap-add NET_ADMIN --cap-drop ALL --cap-add=SYS_TIME
--group-add 10 --group-add audio
--device /dev/null --device /dev/zero:/dev/z --device /dev/full:/dev/f:r --device /dev/tty:rw
--device vendor.com/class=one
--device-cgroup-rule=c_1:3_mr
--ulimit nofile=10:20 --ulimit nproc=5
--ulimit core=-1
--sysctl net.ipv4.ip_forward=1
--shm-size 128m --ipc shareable --pid host --uts host --userns host --cgroupns private
--cgroup-parent /x --runtime crun --isolation default
--restart on-failure:3
--restart always
--restart no
--stop-signal INT --stop-timeout 3
--storage-opt size=1G
--log-driver json-file --log-opt max-size=10m --log-opt max-file=3
--log-driver none
--health-cmd true --health-interval 30s --health-timeout 1m30s --health-retries 3
--health-cmd true --health-start-period 1h --health-start-interval 500ms
--no-healthcheck
--no-healthcheck --health-interval 0s --health-retries 0
--network-alias a --network own
-p 80 -p 8080:81 -p 127.0.0.1:8082:82/udp -p 127.0.0.1::83
-p 90-92:190-192 -p 8000-8010:84
-p [::1]:85:85 -p 85:85
-p published=86,target=87,protocol=udp
-P --expose 80 --expose 90-92/udp
-v /a:/b:ro -v named:/c -v /anonymous
-v .:/here
--volumes-from web:ro --volume-driver local
--tmpfs /t --tmpfs /u:size=1m,mode=700
--mount type=bind,src=/a,dst=/b,readonly
--mount type=bind,source=/a,target=/b,bind-propagation=rslave,bind-recursive=disabled
--mount type=volume,source=v,target=/b,volume-nocopy,volume-label=a=b,volume-subpath=x
--mount src=v,dst=/v,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs
--mount dst=/w --mount type=tmpfs,dst=/t,tmpfs-size=10m,tmpfs-mode=1770
--mount type=image,source=busybox,target=/i,image-subpath=bin
--mount type=bind,"src=/a,b",dst=/c
--network none
--network host
--network container:web
--network mine --ip 10.1.0.5
--network mine --network-alias one --net-alias two --ip6 fd00::5 --link-local-ip 169.254.1.2
--net mine --link web:db --link other
--network name=mine,alias=a,ip=10.1.0.6,mac-address=02:42:ac:11:00:02
--network one --network two
--network name=one,driver-opt=a=b --network name=two,gw-priority=3
--mac-address 02:42:ac:11:00:09
--add-host db:10.0.0.1 --add-host six=::1 --add-host h:host-gateway
--dns 1.1.1.1 --dns-search example.org --dns-option ndots:2 --dns-opt timeout:1
--security-opt no-new-privileges --security-opt apparmor=unconfined --security-opt label=disable
--security-opt seccomp=unconfined
--security-opt systempaths=unconfined
--annotation a=b --annotation c=d
--gpus all
--gpus 2
--link web
""".splitlines()


@pytest.mark.parametrize("options", OPTIONS)
def test_the_body_is_dockers(recorder: Recorder, options: str) -> None:
    """Query and body, apart from what says nothing."""
    words = [word.replace("_1:3_", " 1:3 ") for word in options.split()]
    ours = sent(recorder, command("minicontainer"), words)
    assert ours == sent(recorder, ["docker"], words)


def test_files_are_read(recorder: Recorder, tmp_path: Path) -> None:
    """Variables, labels and a seccomp profile, each from its file."""
    env, labels, profile = tmp_path / "env", tmp_path / "labels", tmp_path / "profile"
    env.write_text("# comment\nA=1\n\nFROM_HERE\nNOT_HERE\nB=x y\n")
    labels.write_text("a=b\nc\n")
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW",\n "syscalls": []}')
    words = ["--env-file", str(env), "-e", "A=2", "--label-file", str(labels), "-l", "a=z",
             "--security-opt", f"seccomp={profile}"]  # fmt: skip
    assert sent(recorder, command("minicontainer"), words) == sent(recorder, ["docker"], words)


BAD = """\
-m x
--cpus x
-p 99999999
-p 80:x
-p 1.2.3.4.5:80:80
--restart :3
--restart a:b
--ulimit nofile
--ulimit nofile=20:10
--device-cgroup-rule x
--add-host x
--pid x
--uts x
--mount type=bind
--mount type=tmpfs,bind-propagation=x,dst=/a
--env-file /nonexistent
--label-file /nonexistent
--label =x
--health-cmd x --no-healthcheck
--network-alias a
--network name=host,alias=a
--network bridge --network own
--rm --restart always
--log-driver none --log-opt a=b
--security-opt x
-a x
--nosuch
--pull sometimes
--blkio-weight-device /x
--device-read-bps /dev/sda:x
--expose x
--expose 80:80
--network name=,alias=x
--network one --network one
--name
--gpus x
--dns x
--health-interval x
--security-opt seccomp=/nonexistent
--stop-timeout x
""".splitlines()


@pytest.mark.parametrize("options", BAD)
def test_what_docker_refuses_is_refused(recorder: Recorder, options: str) -> None:
    """With the same status, in one line, and without a word to the engine."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent",
               "DOCKER_HOST": f"unix://{recorder.server_address!s}"}  # fmt: skip
    statuses = []
    recorder.kept.clear()
    for program in (command("minicontainer"), ["docker"]):
        done = subprocess.run(
            [*program, "create", *options.split(), "busybox"],
            env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        statuses.append((done.returncode, done.stdout))
        if program != ["docker"]:
            assert done.stderr.startswith("minicontainer: ")
            assert done.stderr.count("\n") == 1
    assert statuses[0] == statuses[1]
    assert recorder.kept == []


@pytest.mark.parametrize(("pull", "hints"), [("missing", True), ("always", False)])
def test_a_program_in_the_images_place(
    monkeypatch: pytest.MonkeyPatch, pull: str, hints: bool
) -> None:
    """A hint says how to run it, unless --pull shows that an image is meant."""

    def fetch(*_: object) -> None:
        raise Exit("no registry answers", 125)

    monkeypatch.setattr(registry, "fetch", fetch)
    asked: Any = SimpleNamespace(session=None, platform="", quiet=False, pull=pull)
    with pytest.raises(Exit) as told:
        run._pull(asked, "sh")
    assert ("type: minicontainer run busybox sh" in str(told.value)) == hints
