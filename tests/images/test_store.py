"""The store: names, finding, holding, leases, garbage, and the layout that other programs read."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading

import pytest

from minicontainer.errors import InvalidArgument, KernelError, NotFound, Unsupported
from minicontainer.images.references import parse
from minicontainer.images.store import ImageStore
from tests.images.conftest import add_image, sha256, small_disk, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

BASE = tar_of({"base": b"base"})
TOP = tar_of({"top": b"top"})
UNKNOWN = sha256(b"a layer that no image has")


class Recorder:
    """Layers whose removal is written down.

    Args:
        removed: gets the chain IDs of those that are removed.
    """

    def __init__(self, removed: list[str]) -> None:
        self._removed = removed

    def chain_ids(self) -> tuple[str, ...]:
        """List those that nobody knows."""
        return (UNKNOWN,) if UNKNOWN not in self._removed else ()

    def size(self, chain_id: str) -> int:
        """Say that all are of one size."""
        return 100

    def age_s(self, chain_id: str, now: float) -> float:
        """Say that all are old."""
        return 1e6

    def detach(self, chain_id: str) -> str:
        """Take one away."""
        return chain_id

    def discard(self, directory: str) -> None:
        """Write it down."""
        self._removed.append(directory)


def names_of(store: ImageStore) -> list[str]:
    """Read the names from index.json."""
    with open(os.path.join(store.root, "index.json"), encoding="utf-8") as file:
        entries = json.load(file)["manifests"]
    key = "org.opencontainers.image.ref.name"
    return [entry.get("annotations", {}).get(key, "") for entry in entries]


def test_an_image_is_what_its_documents_say(store: ImageStore) -> None:
    """Its ID is the digest of its config; its layers have the names of what is below them."""
    config = {"Env": ["A=b"], "Cmd": ["sh"], "Labels": {"x": "y"}, "Volumes": None}
    image = add_image(store, "mongo:4", layers=(BASE, TOP), config=config)
    assert image.id == sha256(image.config_json.encode())
    assert [layer.diff_id for layer in image.layers] == [sha256(BASE), sha256(TOP)]
    assert image.chain_ids == (
        sha256(BASE),
        sha256(f"{sha256(BASE)} {sha256(TOP)}".encode()),
    )
    assert (image.config.env, image.config.cmd) == (("A=b",), ("sh",))
    assert (image.config.labels, image.config.volumes) == ({"x": "y"}, {})
    assert image.config.platform == "linux/amd64"
    assert image.created_ns == 1767323045_000000006
    assert image.names == ("docker.io/library/mongo:4",)


def test_an_image_is_found_as_docker_finds_it(store: ImageStore) -> None:
    """By name, full or short, by digest, by ID or its beginning."""
    digest = sha256(b"an index")
    image = add_image(store, "mongo", "host:5000/x:1", repo_digests=(f"mongo@{digest}",))
    for text in (
        "mongo", "mongo:latest", "docker.io/library/mongo", "host:5000/x:1", f"mongo@{digest}",
        f"mongo:other@{digest}", image.id, image.id[7:], image.id[7:19], image.id[:12],
    ):  # fmt: skip
        assert store.resolve(text) == image


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch", "No such image: nosuch:latest"),
        ("mongo:5", "No such image: mongo:5"),
        ("host:5000/x", "No such image: host:5000/x:latest"),
        (f"mongo@{sha256(b'x')}", f"No such image: mongo@{sha256(b'x')}"),
        (sha256(b"x"), f"No such image: {sha256(b'x')}"),
        (sha256(b"x")[7:], f"No such image: {sha256(b'x')[7:]}"),
    ],
)
def test_what_is_not_there_is_not_found(store: ImageStore, text: str, words: str) -> None:
    """In Docker's words, which clients look for."""
    add_image(store, "mongo", "host:5000/x:1")
    with pytest.raises(NotFound) as caught:
        store.resolve(text)
    assert str(caught.value) == words


def test_a_beginning_that_two_ids_have_is_no_image(store: ImageStore) -> None:
    """Docker then says that there is none."""
    images = [add_image(store, f"x:{n}") for n in range(17)]
    digits = [image.id[7] for image in images]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(NotFound):
        store.resolve(twice)


def test_a_name_is_more_than_an_id(store: ImageStore) -> None:
    """An image may be called like the beginning of another one's ID."""
    image = add_image(store, "x")
    other = add_image(store, f"{image.id[7:15]}")
    assert store.resolve(image.id[7:15]) == other


def test_a_name_moves_to_another_image(store: ImageStore) -> None:
    """The one that had it stays, without a name."""
    old, new = add_image(store, "x", layers=(BASE,)), add_image(store, layers=(TOP,))
    store.tag(new.id, parse("x"))
    assert store.resolve("x").id == new.id
    assert store.resolve(old.id).names == ()
    with pytest.raises(InvalidArgument, match="digest reference"):
        store.tag(new.id, parse(f"x@{old.manifest}"))
    with pytest.raises(InvalidArgument, match="ambiguous tag using digest algorithm as name"):
        store.tag(new.id, parse("sha256:tag"))
    since_ns = store.resolve("x").tagged_ns
    store.tag(new.id, parse("x"))
    assert store.resolve("x").tagged_ns == since_ns  # the name is no newer
    with pytest.raises(NotFound):
        store.tag(sha256(b"none"), parse("y"))
    store.untag(parse("x"))
    with pytest.raises(NotFound, match="No such image: x:latest"):
        store.untag(parse("x"))


def test_index_json_follows_every_change(store: ImageStore) -> None:
    """An image without a name has an entry, too: its blobs are no garbage."""
    image = add_image(store, "mongo:4")
    assert names_of(store) == ["mongo:4"]
    store.tag(image.id, parse("host:5000/team/mongo"))
    assert names_of(store) == ["mongo:4", "host:5000/team/mongo:latest"]
    for name in ("mongo:4", "host:5000/team/mongo"):
        store.untag(parse(name))
    assert names_of(store) == [""]
    store.remove(image.id)
    assert names_of(store) == []


@pytest.mark.parametrize("docker", [False, True])
def test_other_programs_read_the_layout(store: ImageStore, tmp_path: Path, docker: bool) -> None:
    """Also of an image in Docker's format, which umoci does not know."""
    add_image(store, "mongo:4", "host:5000/team/mongo:v1", layers=(BASE, TOP), docker=docker)
    for name in ("mongo:4", "host:5000/team/mongo:v1"):
        told = subprocess.run(
            ["skopeo", "inspect", f"oci:{store.root}:{name}"], capture_output=True, check=True
        )
        assert len(json.loads(told.stdout)["Layers"]) == 2
    bundle = tmp_path / "bundle"
    unpack = ["umoci", "unpack", "--image", f"{store.root}:mongo:4", str(bundle)]
    if os.geteuid():
        unpack.append("--rootless")
    subprocess.run(unpack, check=True, capture_output=True)
    assert (bundle / "rootfs/base").read_bytes() == b"base"
    assert (bundle / "rootfs/top").read_bytes() == b"top"


def test_a_manifest_that_does_not_fit_is_refused(store: ImageStore) -> None:
    """And the store is as it was."""
    image = add_image(store, "x", layers=(BASE,))
    manifest = json.loads(store.blobs.read(image.manifest))
    manifest["layers"] *= 2
    digest = store.blobs.write(json.dumps(manifest).encode())
    with pytest.raises(InvalidArgument, match="2 layers, and the image config 1"):
        store.add(digest, names=[parse("y")])
    manifest["layers"] = [{**manifest["layers"][0], "digest": sha256(b"missing")}]
    with pytest.raises(NotFound, match="is not in the store"):
        store.add(store.blobs.write(json.dumps(manifest).encode()), names=[parse("y")])
    assert [one.names for one in store.list()] == [("docker.io/library/x:latest",)]


def test_what_a_removed_image_shared_stays(tmp_path: Path) -> None:
    """Its own blobs and layers go, those of both go with the second."""
    removed: list[str] = []
    store = ImageStore(str(tmp_path), Recorder(removed))
    one = add_image(store, "one", layers=(BASE,))
    two = add_image(store, "two", layers=(BASE, TOP))
    records = store.remove("two")
    assert records == [
        {"Untagged": "two:latest"}, {"Deleted": two.id}, {"Deleted": two.chain_ids[1]},
    ]  # fmt: skip
    assert removed == [two.chain_ids[1]]
    assert set(store.blobs.digests()) == {one.id, one.manifest, one.layers[0].digest}
    store.remove(one.id[7:15])
    assert removed == [two.chain_ids[1], one.chain_ids[0]]
    assert not list(store.blobs.digests())
    store.close()


def test_a_container_keeps_the_layers_of_an_image_that_is_gone(tmp_path: Path) -> None:
    """Until it lets go of them; two containers count as two."""
    removed: list[str] = []
    store = ImageStore(str(tmp_path), Recorder(removed))
    image = add_image(store, "x", layers=(BASE,))
    store.hold(image.id, "container 1")
    store.hold(image.id, "container 1")
    store.hold(image.id, "container 2")
    assert store.use_counts() == {image.id: 2}
    records = store.remove("x", force=True)
    assert records == [{"Untagged": "x:latest"}, {"Deleted": image.id}]
    store.release("container 1")
    assert removed == []
    store.release_others({"container 2"})
    assert removed == []
    store.release_others({"container 3"})
    assert removed == [image.chain_ids[0]]
    store.release("container 2")
    with pytest.raises(NotFound):
        store.hold(image.id, "container 3")
    store.close()


def test_a_hold_that_a_power_cut_let_go_is_there_again(store: ImageStore) -> None:
    """For containers of images that are here; what others hold stays as it is."""
    image = add_image(store, "x", layers=(BASE,))
    store.hold(image.id, "container 1")
    gone = "sha256:" + "0" * 64
    store.hold_again({"container 1": gone, "container 2": image.id, "container 3": gone})
    assert store.use_counts() == {image.id: 2}
    store.release("container 1")
    store.release("container 2")
    assert store.use_counts() == {}


def test_what_is_gathered_is_no_garbage(store: ImageStore) -> None:
    """A blob stays though the image that had it is removed while another one is pulled."""
    image = add_image(store, "x", layers=(BASE,))
    layer = image.layers[0].digest
    with store.lease("pull y") as lease:
        assert lease.keep(layer)
        assert not lease.keep(sha256(b"still to come"))
        store.remove("x")
        store.collect_garbage()
        assert list(store.blobs.digests()) == [layer]
    assert not list(store.blobs.digests())  # nothing came of it


def test_a_pull_that_failed_is_gone_on_with(store: ImageStore) -> None:
    """What it gathered stays for a day; pruning takes it away."""
    with pytest.raises(ConnectionError), store.lease("pull") as lease:  # noqa: PT012
        lease.keep(store.blobs.write(BASE))
        raise ConnectionError
    store.collect_garbage()
    assert store.blobs.has(sha256(BASE))
    assert store.prune(lambda image: True) == ([], len(BASE))
    assert not store.blobs.has(sha256(BASE))


@pytest.mark.parametrize("is_resumable", [True, False])
def test_a_full_disk_keeps_nothing_of_a_pull(tmp_path: Path, is_resumable: bool) -> None:
    """Or it would stay full; images that are there stay, and the next try works."""
    with small_disk(tmp_path / "disk", 3 << 20) as disk:
        store = ImageStore(str(disk))
        image = add_image(store, "x", layers=(BASE,))
        before = set(store.blobs.digests())

        def fill() -> None:
            with store.lease("pull y", is_resumable) as lease:
                for _ in range(9):
                    content = os.urandom(500_000)
                    lease.keep(sha256(content))
                    store.blobs.write(content)

        with pytest.raises(KernelError, match="No space left"):
            fill()
        assert set(store.blobs.digests()) == before
        assert store.list() == [image]
        add_image(store, "y", layers=(TOP,))
        store.close()


def test_files_that_nobody_knows_go_after_an_hour(store: ImageStore) -> None:
    """Before that, they may be of a program that is about to name them."""
    image = add_image(store, "x")
    digest = store.blobs.write(b"of nobody")
    store.collect_garbage()
    assert store.blobs.has(digest)
    os.utime(store.blobs.path(digest), (0, 0))
    os.utime(store.blobs.path(image.id), (0, 0))
    assert store.collect_garbage() == len(b"of nobody")
    assert not store.blobs.has(digest)
    assert store.blobs.has(image.id)


def test_layers_that_nobody_knows_go_too(tmp_path: Path) -> None:
    """Those of images and containers stay."""
    removed: list[str] = []
    store = ImageStore(str(tmp_path), Recorder(removed))
    add_image(store, "x")
    store.collect_garbage()
    assert removed == [UNKNOWN]
    store.close()


def test_two_processes_use_one_store(store: ImageStore, tmp_path: Path) -> None:
    """Each sees what the other one did."""
    other = ImageStore(str(tmp_path / "data"))
    image = add_image(store, "x")
    assert other.list() == [image]
    other.tag(image.id, parse("y"))
    assert store.resolve("y").id == image.id
    with store.lease("pull") as lease:
        lease.keep(store.blobs.write(BASE))
        other.prune(lambda image: False)
        assert other.blobs.has(sha256(BASE))
    other.close()


def test_many_threads_use_one_store(store: ImageStore) -> None:
    """They add, list, tag and remove at once; in the end all is as after one by one."""
    errors: list[BaseException] = []
    shared = add_image(store, "shared", layers=(BASE,))

    def work(number: int) -> None:
        try:
            for step in range(5):
                name = f"image{number}:{step}"
                image = add_image(store, name, layers=(BASE, tar_of({name: b"x"})))
                assert store.resolve(name).id == image.id
                store.tag(image.id, parse(f"also/{name}"))
                store.hold(image.id, name)
                assert len(store.list()) >= 2
                store.remove(f"also/{name}")
                store.release(name)
                store.remove(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert store.list() == [shared]
    assert names_of(store) == ["shared:latest"]
    assert set(store.blobs.digests()) == {shared.id, shared.manifest, shared.layers[0].digest}


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """It is not changed: a newer program can still read it."""
    ImageStore(str(tmp_path)).close()
    path = tmp_path / "images/images.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(Unsupported, match=r"version 99.*use a newer minicontainer"):
        ImageStore(str(tmp_path))


def test_a_lost_database_is_made_again(tmp_path: Path) -> None:
    """Of the layout: images and names are there; whose blobs are missing is not."""
    store = ImageStore(str(tmp_path))
    image = add_image(store, "x", "host:5000/y:1", layers=(BASE,), docker=True)
    without_name = add_image(store, layers=(TOP,))
    broken = add_image(store, "broken", layers=(tar_of({"z": b"z"}),))
    store.close()
    for name in os.listdir(store.root):
        if name.startswith("images.db"):
            os.unlink(os.path.join(store.root, name))
    store.blobs.remove(broken.layers[0].digest)
    store = ImageStore(str(tmp_path), Recorder([]))
    found = {one.id: one.names for one in store.list()}
    assert found == {image.id: image.names, without_name.id: ()}
    assert store.resolve("x").size == 100
    assert names_of(store) == ["", "x:latest", "host:5000/y:1"]
    store.close()


def test_the_store_is_for_its_owner_alone(store: ImageStore) -> None:
    """Layers may have secrets, and set-id programs that nobody has mended."""
    assert os.stat(store.root).st_mode & 0o777 == 0o700


def test_a_store_is_there_after_it_was_closed(tmp_path: Path) -> None:
    """All of it is on the disk."""
    store = ImageStore(str(tmp_path))
    digest = f"x@{sha256(b'index')}"
    image = add_image(store, "x", config={"Env": ["A=ä"]}, repo_digests=(digest,))
    store.hold(image.id, "container")
    store.close()
    store = ImageStore(str(tmp_path))
    assert store.list() == [image]
    assert store.use_counts() == {image.id: 1}
    store.close()
