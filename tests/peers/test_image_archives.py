"""Images go from our store to Docker's and back, as archives."""

from __future__ import annotations

import pytest

from minicontainer.errors import Error
from minicontainer.images.builtin import Builtin
from tests.images.conftest import Place, add_image, sha256, tar_of

from .dockerd import Docker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEEDS = ("dockerd", "containerd", "docker", "iptables")
BASE, TOP = tar_of({"base": b"base", "both": b"below"}), tar_of({"both": b"above"})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a store of ours."""
    made = Place(tmp_path / "data")
    yield made
    made.store.close()


def test_docker_loads_what_we_save(docker: Docker, place: Place, tmp_path: Path) -> None:
    """With its names, its config and its ID; its files are ours."""
    config = {"Cmd": ["/x"], "Env": ["A=b"]}
    image = add_image(place.store, "one:1", "team/two:2", layers=(BASE, TOP), config=config)
    saved = tmp_path / "saved.tar"
    saved.write_bytes(place.save("one:1", "team/two:2"))
    said = docker.must("load", "--input", str(saved))
    assert said.splitlines() == ["Loaded image: one:1", "Loaded image: team/two:2"]
    shown = docker.must("inspect", "--format", "{{.Id}} {{.Config.Cmd}} {{.Config.Env}}", "one:1")
    assert shown == f"{image.id} [/x] [A=b]"
    container = docker.must("create", "one:1")
    copied = docker.must("cp", f"{container}:/both", "-")
    assert "above" in copied
    docker.must("rm", container)


def test_we_load_what_docker_saves(docker: Docker, place: Place, tmp_path: Path) -> None:
    """Of this version and, as it loads that, what it saves again."""
    tree = "/var/lib/minicontainer/rootfs/busybox"
    made = docker.machine(
        "sh", "-ec",
        f"tar -C {tree} -c . | docker import --change 'CMD [\"sh\"]' - mine:1\n"
        "docker run --network none --name changed mine:1 sh -c 'echo new >/new'\n"
        "docker commit changed mine:2\n",
    )  # fmt: skip
    assert made.status == 0, made.errors
    saved = tmp_path / "docker.tar"
    docker.must("save", "--output", str(saved), "mine:1", "mine:2")
    assert sorted(place.load(saved.read_bytes())) == ["mine:1", "mine:2"]
    image = place.store.resolve("mine:1")
    assert image.id == docker.must("inspect", "--format", "{{.Id}}", "mine:1")
    assert image.config.cmd == ("sh",)
    assert len(place.store.resolve("mine:2").layers) == 2
    assert place.store.resolve("mine:2").config.diff_ids[0] == image.config.diff_ids[0]
    again = tmp_path / "again.tar"
    again.write_bytes(place.save("mine"))
    docker.must("rm", "changed")
    docker.must("rmi", "--force", "mine:1", "mine:2")
    docker.must("load", "--input", str(again))
    assert docker.must("inspect", "--format", "{{.Id}}", "mine:1") == image.id
    ran = docker.run("mine:1", "sh", "-c", "echo hello")
    assert (ran.status, ran.output) == (0, "hello\n"), ran.errors


def test_the_words_of_a_conflict_are_dockers(docker: Docker, place: Place, tmp_path: Path) -> None:
    """The same images, the same calls: both refuse in the same words."""
    image = add_image(place.store, "one", "two", layers=(BASE,), config={"Cmd": ["/x"]})
    saved = tmp_path / "saved.tar"
    saved.write_bytes(place.save("one", "two"))
    docker.must("load", "--input", str(saved))
    container = docker.must("create", "one")

    def in_use(image_id: str) -> tuple[tuple[str, bool], ...]:
        return ((container, False),)

    for words in ((image.short_id,), ("two",), ("one",), (image.short_id,), ("nosuch",)):
        theirs = docker("rmi", *words)
        try:
            place.store.remove(*words, in_use=in_use)
            ours = ""
        except Error as error:
            ours = str(error)
        assert theirs.errors.removeprefix("Error response from daemon: ").strip() == ours
    docker.must("rm", container)


def test_the_embedded_image_is_one_for_docker(docker: Docker, place: Place, tmp_path: Path) -> None:
    """It is loaded and run."""
    image = Builtin(place.store, place.layers, str(tmp_path / "data")).make()
    (tmp_path / "busybox.tar").write_bytes(place.save("busybox"))
    docker.must("load", "--input", str(tmp_path / "busybox.tar"))
    ran = docker.run(image.id, "sh", "-c", "id -u; cat /etc/os-release")
    assert ran.status == 0, ran.errors
    assert ran.output.startswith("0\nID=busybox")
    assert sha256(image.config_json.encode()) == image.id
