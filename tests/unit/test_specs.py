"""The specification that options turn into: what it says, and that the OCI's schema takes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from minicontainer import jsontext
from minicontainer.cli.create_body import body_of
from minicontainer.cli.create_options import RUN_FLAGS
from minicontainer.cli.flags import Asked, parse
from minicontainer.cli.session import Session
from minicontainer.engine import merging, specs
from minicontainer.engine.config import ContainerConfig
from minicontainer.engine.mounts import mount_of, plans_for
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.kernel import overlay
from minicontainer.runtime.config import defaults
from minicontainer.runtime.config.features import features
from minicontainer.runtime.config.spec import Spec
from minicontainer.runtime.config.spec_check import check

IDENTIFIER = "0123456789abcdef" * 4
IMAGE = "/proc/self/fdinfo"  # no users, no groups


def pid_of(name: str, _kind: str) -> int:
    """Know one other container."""
    if name != "other":
        raise NotFound(f"No such container: {name}")
    return 77


def config_of(*words: str) -> ContainerConfig:
    """Give what the engine reads in the request of `minicontainer run --rootfs`."""
    values, args, given = parse(RUN_FLAGS, ["--rootfs", IMAGE, *words], options_first=True)
    asked = Asked(values, args, given, Session({"HOME": "/nosuch"}, "", {}), list(words))
    body = merging.completed(body_of(asked), None)
    return ContainerConfig.from_json(body)


def spec_of(*options: str, command: tuple[str, ...] = ("true",), image: str = IMAGE) -> Spec:
    """Give what `minicontainer run --rootfs` would run."""
    config = config_of(*options, *command)
    mounts = tuple(mount_of(plan, plan.source) for plan in plans_for(config.host_config))
    return specs.make_spec(config, IDENTIFIER, "/nosuch/directory", pid_of, (image,), mounts)


# Sets of options that between them reach every part of a specification.
COMMAND_LINES = (
    (),
    ("-t", "-i", "--init", "--name", "x", "--hostname", "h", "-u", "5:6", "-w", "/w", "-e", "A=1"),
    ("--memory", "64m", "--memory-swap", "-1", "--cpus", "0.5", "-c", "512", "--pids-limit", "9"),
    ("--cpuset-cpus", "0", "--ulimit", "nofile=5:6", "--ulimit", "core=-1", "--read-only"),
    ("--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"),
    ("--net", "container:other", "--pid", "ns:/proc/1/ns/pid", "--userns", "private"),
    ("--privileged", "--security-opt", "no-new-privileges"),
    ("-v", "/:/host:ro,rslave", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m", "--tmpfs", "/u:ro"),
    ("--device", "/dev/null:/dev/x:rw", "--cap-add", "ALL", "--cap-drop", "net_raw"),
)


@pytest.mark.parametrize("options", COMMAND_LINES, ids=" ".join)
def test_a_specification_makes_sense_and_survives_its_file(options: tuple[str, ...]) -> None:
    """It is written to config.json, for everyone to read."""
    spec = spec_of(*options)
    check(spec)
    assert Spec.from_json(jsontext.parse(jsontext.dump(spec.to_json()))) == spec


def schema_errors(document: Any, name: str = "config-schema.json") -> list[str]:
    """Hold a document against one of the OCI's own schemas."""
    directory = Path(os.environ["MINICONTAINER_SPECS"], "runtime-spec")
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    registry: Any = Registry().with_resources(
        (file.name, Resource.from_contents(json.loads(file.read_text()), DRAFT4))
        for file in directory.glob("*.json")
    )
    schema = {"$ref": name}
    validator = jsonschema.Draft4Validator(schema, registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


needs_schema = pytest.mark.skipif(
    not os.environ.get("MINICONTAINER_SPECS"),
    reason="needs MINICONTAINER_SPECS: a directory with runtime-spec/, the OCI's JSON schemas",
)


@needs_schema
@pytest.mark.parametrize("options", COMMAND_LINES, ids=" ".join)
def test_a_specification_is_one_by_the_schema(options: tuple[str, ...]) -> None:
    """So any OCI runtime can read it."""
    assert schema_errors(spec_of(*options).to_json()) == []


@needs_schema
def test_the_default_specification_is_one_by_the_schema() -> None:
    """What `minicontainer-oci spec` writes; and the control, that a wrong one is found."""
    document = defaults.default_spec().to_json()
    assert schema_errors(document) == []
    assert schema_errors(defaults.rootless_spec(1000, 1000).to_json()) == []
    assert schema_errors({**document, "process": {"cwd": 1}}) != []


@needs_schema
def test_the_features_are_by_the_schema() -> None:
    """So an engine can read them; and the control."""
    assert schema_errors(features(), "features-schema.json") == []
    wrong = {**features(), "hooks": "all"}
    assert schema_errors(wrong, "features-schema.json") != []


def test_the_defaults_are_dockers() -> None:
    """Its 14 capabilities, six new namespaces, a writable layer over the image."""
    spec = spec_of()
    capabilities = spec.process.capabilities
    assert capabilities is not None
    assert len(capabilities.bounding) == 14
    assert capabilities.bounding == capabilities.effective == capabilities.permitted
    assert capabilities.inheritable == capabilities.ambient == ()
    assert {ns.type for ns in spec.linux.namespaces if not ns.path} == {
        "mount", "network", "pid", "ipc", "uts", "cgroup",
    }  # fmt: skip
    assert (spec.hostname, spec.process.cwd) == (IDENTIFIER[:12], "/")
    assert spec.mounts[0].type == "overlay"
    assert spec.linux.cgroups_path == f"/minicontainer/{IDENTIFIER}"
    assert spec.linux.seccomp is not None
    assert spec.linux.masked_paths == defaults.MASKED_PATHS
    assert spec.linux.resources.memory is None


def test_another_user_holds_no_capabilities() -> None:
    """Its programs' files may grant some, within the bounding set."""
    capabilities = spec_of("--user", "5").process.capabilities
    assert capabilities is not None
    assert len(capabilities.bounding) == 14
    assert capabilities.effective == capabilities.permitted == ()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--cap-drop", "all"), set()),
        (("--cap-drop", "ALL", "--cap-add", "chown"), {"CAP_CHOWN"}),
        (("--cap-add", "CAP_SYS_TIME"), {*defaults.CAPABILITIES, "CAP_SYS_TIME"}),
        (("--cap-drop", "CHOWN"), {*defaults.CAPABILITIES} - {"CAP_CHOWN"}),
    ],
)
def test_capabilities_are_added_and_dropped(options: tuple[str, ...], expected: set[str]) -> None:
    """By either spelling; ALL is all of them."""
    capabilities = spec_of(*options).process.capabilities
    assert capabilities is not None
    assert set(capabilities.bounding) == expected


def test_limits_become_resources() -> None:
    """In the units of the specification."""
    resources = spec_of(
        "--memory", "64m", "--memory-swap", "96m", "--cpus", "0.5", "-c", "512",
        "--pids-limit", "9", "--cpuset-cpus", "0",
    ).linux.resources  # fmt: skip
    assert resources.memory is not None
    assert (resources.memory.limit, resources.memory.swap) == (64 << 20, 96 << 20)
    assert resources.cpu is not None
    assert (resources.cpu.quota, resources.cpu.period) == (50_000, 100_000)
    assert (resources.cpu.shares, resources.cpu.cpus) == (512, "0")
    assert resources.pids is not None
    assert resources.pids.limit == 9


def test_a_namespace_is_new_the_hosts_anothers_or_at_a_path() -> None:
    """By the same words for every kind."""
    spec = spec_of("--pid", "container:other", "--ipc", "ns:/x/ipc", "--uts", "host")
    paths = {namespace.type: namespace.path for namespace in spec.linux.namespaces}
    assert paths["pid"] == "/proc/77/ns/pid"
    assert paths["ipc"] == "/x/ipc"
    assert paths["network"] is None
    assert "uts" not in paths


def test_a_later_variable_wins() -> None:
    """Over Docker's own too."""
    env = spec_of("-e", "PATH=/x", "-e", "A=1", "-e", "A=2", "-t").process.env
    assert "PATH=/x" in env
    assert "A=2" in env
    assert "A=1" not in env
    assert "TERM=xterm" in env
    assert f"HOSTNAME={IDENTIFIER[:12]}" in env


CPUS = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--memory", "6291455"), "Minimum memory limit allowed is 6MB"),
        (("--memory-swap", "1g"), "You should always set the Memory limit"),
        (("--memory", "64m", "--memory-swap", "32m"), "Minimum memoryswap limit should be larger"),
        (("--cpus", f"{CPUS + 1}"), f"range of CPUs is from 0.01 to {CPUS}.00"),
        (("--cpus", "0.001"), "range of CPUs is from 0.01"),
        (("--cpu-shares", "1"), "invalid CPU shares 1: use 2 to 262144"),
        (("--cpu-shares", "-5"), "invalid CPU shares (-5): value must be a positive integer"),
        (("--cpu-shares", "262145"), "use 2 to 262144"),
        (("--ulimit", "what=1"), "invalid ulimit type: what: use one of as, "),
        (("--ulimit", "=1"), "invalid ulimit type"),
        (
            ("--ulimit", "nofile=10:5"),
            "soft limit must be less than or equal to hard limit: 10 > 5",
        ),
        (("--ulimit", "nofile=-1:5"), "soft limit must be less than or equal to hard limit"),
        (("--cap-add", "what"), 'invalid CapAdd: unknown capability: "CAP_WHAT"'),
        (("--cap-drop", ""), 'invalid CapDrop: unknown capability: "CAP_"'),
        (("--hostname", "a b"), "invalid hostname 'a b'"),
        (("--hostname", "a" * 65), "at most 64"),
        (("--hostname", "é"), "invalid hostname"),
        (("--hostname", "h", "--uts", "host"), "conflicting options: hostname and the UTS mode"),
        (("--workdir", "rel"), "the working directory 'rel' is invalid"),
        (("--user", "nosuch"), "unable to find user nosuch"),
        (("--net", "what"), "invalid value 'what' for --net: use none, bridge"),
        (("--pid", "container:"), "--pid: invalid PID mode"),
        (("--ipc", "ns:rel"), "invalid IPC mode: ns:rel"),
        (("--uts", "ns:"), "--uts: invalid UTS mode"),
        (("--userns", "keep-id"), "invalid value 'keep-id' for --userns"),
        (("--cgroupns", "x"), "--cgroupns: invalid mode 'x': use host or private"),
    ],
)
def test_options_that_make_no_sense(options: tuple[str, ...], says: str) -> None:
    """Each is named, with what it may be."""
    with pytest.raises(InvalidArgument) as caught:
        spec_of(*options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_container_that_is_not_there() -> None:
    """In Docker's own words."""
    with pytest.raises(NotFound, match=r"^No such container: nosuch$"):
        spec_of("--net", "container:nosuch")


@pytest.mark.parametrize("name", ["a,b", "a:b", "a\\b"])
def test_an_overlay_names_any_path(tmp_path: Path, name: str) -> None:
    """Its options are one text, with these between them: they are escaped."""
    image = tmp_path / name
    image.mkdir()
    spec = spec_of(image=str(image))
    found = overlay.parse(spec.mounts[0].options)
    assert found is not None
    assert found.lowers == (str(image),)


@pytest.mark.parametrize("words", [("--", "true", "-x"), ("true", "-x")])
def test_two_dashes_end_the_options(words: tuple[str, ...]) -> None:
    """They are not the program, as with Docker."""
    assert config_of(*words).cmd == ("true", "-x")


def test_a_shell_is_run_where_nothing_is_said() -> None:
    """An image would name its program; a directory can't."""
    assert config_of().cmd == ("/bin/sh",)
    assert config_of("--entrypoint", "/bin/true").cmd == ()


def test_the_view_of_cgroups_is_private() -> None:
    """Also where Docker's default for an image is the host's."""
    assert config_of("true").host_config.cgroupns_mode == "private"
    assert config_of("--cgroupns", "host", "true").host_config.cgroupns_mode == "host"
