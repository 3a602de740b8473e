"""Images as Docker's API shows them; what is done to them, and the events of it."""

from __future__ import annotations

import io
import os
import threading

import pytest

from minicontainer.engine.images import Images
from minicontainer.engine.progress import Left, streamed
from minicontainer.errors import Conflict, InvalidArgument, NotFound
from minicontainer.images.platforms import Platform
from tests.images.conftest import add_image, sha256, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

BASE, TOP = tar_of({"base": b"base"}), tar_of({"top": b"top"})
DIGEST = sha256(b"an index")
INTEL = Platform(os="linux", architecture="amd64")
CONFIG = {
    "Env": ["PATH=/bin"], "Cmd": ["redis-server"], "WorkingDir": "/data", "Labels": {"a": "b"},
    "ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
}  # fmt: skip


class Engine:
    """The images of an engine, its events, and the containers that it says to have."""

    def __init__(self, root: Path) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []
        self.containers: dict[str, tuple[tuple[str, bool], ...]] = {}
        self.images = Images(str(root), self._publish, lambda image: self.containers.get(image, ()))

    def _publish(self, kind: str, action: str, identifier: str, attributes: dict[str, str]) -> None:
        assert kind == "image"
        self.events.append((action, attributes))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Give the images of an engine."""
    made = Engine(tmp_path)
    yield made
    made.images.close()


def redis(engine: Engine) -> Any:
    """Put an image in that has everything."""
    return add_image(
        engine.images.store, "redis:7", "host:5000/redis", layers=(BASE, TOP), config=CONFIG,
        repo_digests=(f"redis@{DIGEST}",),
    )  # fmt: skip


def test_a_list_shows_what_docker_shows(engine: Engine) -> None:
    """With null where there are no labels, and empty lists where there are no names."""
    image = redis(engine)
    plain = add_image(engine.images.store, layers=(BASE,), created="2027-01-01T00:00:00Z")
    assert engine.images.list(False, {}) == [
        {
            "Containers": -1, "Created": 1798761600, "Id": plain.id, "Labels": None,
            "ParentId": "", "RepoDigests": [], "RepoTags": [], "SharedSize": -1,
            "Size": plain.size,
        },
        {
            "Containers": -1, "Created": 1767323045, "Id": image.id, "Labels": {"a": "b"},
            "ParentId": "", "RepoDigests": [f"redis@{DIGEST}"],
            "RepoTags": ["redis:7", "host:5000/redis:latest"], "SharedSize": -1,
            "Size": image.size,
        },
    ]  # fmt: skip


def test_a_list_shows_only_the_names_that_were_asked_for(engine: Engine) -> None:
    """An image with two names is shown with the one that fits."""
    redis(engine)
    (shown,) = engine.images.list(False, {"reference": ["host:5000/*"]})
    assert (shown["RepoTags"], shown["RepoDigests"]) == (["host:5000/redis:latest"], [])
    assert engine.images.list(False, {"reference": ["nosuch"]}) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'color'"):
        engine.images.list(False, {"color": ["red"]})


def test_steps_of_a_build_are_listed_only_with_all(engine: Engine) -> None:
    """They have no name, and another image was made from them."""
    step = add_image(engine.images.store, layers=(BASE,))
    made = add_image(engine.images.store, "made", layers=(BASE, TOP), parent=step.id)
    assert [x["Id"] for x in engine.images.list(False, {})] == [made.id]
    assert {x["Id"] for x in engine.images.list(True, {})} == {made.id, step.id}


def test_inspect_shows_the_whole_image(engine: Engine) -> None:
    """Its config as it came, with the keys that clients expect."""
    image = redis(engine)
    shown = engine.images.inspect("redis:7")
    assert shown["Id"] == image.id
    assert shown["RepoDigests"] == [f"redis@{DIGEST}"]
    assert shown["Created"] == "2026-01-02T03:04:05.000000006Z"
    assert (shown["Os"], shown["Architecture"]) == ("linux", "amd64")
    assert shown["RootFS"] == {"Type": "layers", "Layers": [sha256(BASE), sha256(TOP)]}
    assert shown["Config"] == {"User": "", "Entrypoint": None, "OnBuild": None, **CONFIG}
    assert shown["Metadata"]["LastTagTime"].endswith("Z")
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        engine.images.inspect("nosuch")


def test_history_tells_the_steps_from_the_last_on(engine: Engine) -> None:
    """A step that changed no file has the size 0; only the last has an ID."""
    image = add_image(
        engine.images.store, "x", layers=(BASE, TOP),
        history=[
            {"created": "2020-01-01T00:00:00Z", "created_by": "ADD base /"},
            {"created": "2020-01-01T00:00:01Z", "created_by": "CMD sh", "empty_layer": True},
            {"created_by": "COPY top /", "comment": "the top"},
        ],
    )  # fmt: skip
    steps = engine.images.history("x")
    assert [(x["Id"], x["CreatedBy"], x["Created"], x["Tags"]) for x in steps] == [
        (image.id, "COPY top /", 0, ["x:latest"]),
        ("<missing>", "CMD sh", 1577836801, None),
        ("<missing>", "ADD base /", 1577836800, None),
    ]
    assert steps[0]["Comment"] == "the top"


def test_a_platform_that_the_image_is_not_for(engine: Engine) -> None:
    """The image counts as missing, in Docker's words, for whatever it was named; else it does."""
    image = add_image(engine.images.store, "x", architecture="arm64")
    images, arm, intel = engine.images, Platform(os="linux", architecture="arm64"), INTEL
    for wanted in (arm, arm.replace(variant="v8")):
        assert images.inspect("x", wanted)["Id"] == image.id
        assert images.history("x", wanted)[0]["Id"] == image.id
        assert b"".join(images.save(["x"], wanted)) == b"".join(images.save(["x"]))
    words = (
        r"image with reference x(:latest)? was found but its platform \(linux/arm64\) does not "
        r"match the specified platform \(linux/amd64\)"
    )
    refused: list[Callable[[], object]] = [
        lambda: images.inspect("x", intel), lambda: images.history("x", intel),
        lambda: images.push("x", "latest", {}, intel),
        lambda: images.remove("x", wanted=(intel, intel.replace(architecture="386"))),
    ]  # fmt: skip
    for refuse in refused:
        with pytest.raises(NotFound, match=words):
            refuse()
    with pytest.raises(NotFound, match="no suitable export target found for platform linux/amd64"):
        images.save(["x"], intel)
    assert images.remove("x", wanted=(intel, arm))[-1]["Deleted"] == image.chain_ids[0]


def test_manifests_are_shown_on_request(engine: Engine) -> None:
    """Each image has one, its own, with what it takes and the containers that use it."""
    image = redis(engine)
    engine.containers[image.id] = (("f" * 64, True),)
    assert "Manifests" not in engine.images.list(False, {})[0]
    (listed,) = engine.images.list(False, {}, manifests=True)
    inspected = engine.images.inspect("redis:7", manifests=True)
    for shown in (listed, inspected):
        (manifest,) = shown["Manifests"]
        assert (manifest["ID"], manifest["Kind"]) == (image.manifest, "image")
        assert manifest["Descriptor"] == shown["Descriptor"]
        raw = engine.images.store.blobs.read(shown["Descriptor"]["digest"])
        assert shown["Descriptor"]["size"] == len(raw)
        blobs = len(raw) + len(image.config_json) + sum(layer.size for layer in image.layers)
        assert manifest["Size"]["Content"] == blobs
        data = manifest["ImageData"]
        assert data["Platform"] == {"os": "linux", "architecture": "amd64"}
        assert data["Containers"] == ["f" * 64]
        assert manifest["Size"]["Total"] == blobs + data["Size"]["Unpacked"]


def test_names_come_and_go_with_events(engine: Engine) -> None:
    """Docker's clients send the repository in full."""
    image = redis(engine)
    engine.images.tag("redis:7", "docker.io/library/mine", "1")
    engine.images.tag(image.id[7:15], "host:5000/mine", "")
    with pytest.raises(InvalidArgument, match="invalid tag format"):
        engine.images.tag("redis:7", "mine", "-x")
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        engine.images.tag("redis:7", "", "")
    assert engine.images.remove("mine:1") == [{"Untagged": "mine:1"}]
    engine.images.remove(image.id, force=True)
    assert engine.events[:3] == [
        ("tag", {"a": "b", "name": "mine:1"}),
        ("tag", {"a": "b", "name": "host:5000/mine:latest"}),
        ("untag", {"name": image.id}),
    ]  # fmt: skip
    assert ("delete", {"name": image.id}) in engine.events
    assert [action for action, _ in engine.events].count("delete") == 1


def test_an_image_in_use_stays(engine: Engine) -> None:
    """Removal and pruning ask for the containers."""
    image = redis(engine)
    engine.containers[image.id] = (("0123456789ab", True),)
    with pytest.raises(Conflict, match="is being used by running container 0123456789ab"):
        engine.images.remove(image.id, force=True)
    assert engine.images.prune({"dangling": ["false"]})["ImagesDeleted"] is None
    del engine.containers[image.id]
    pruned = engine.images.prune({"dangling": ["0"], "label": ["a=b"]})
    assert {"Deleted": image.id} in pruned["ImagesDeleted"]
    assert pruned["SpaceReclaimed"] > 0
    with pytest.raises(InvalidArgument, match="invalid filter 'reference'"):
        engine.images.prune({"reference": ["x"]})


def test_usage_counts_shared_layers_once(engine: Engine) -> None:
    """What two images have is counted once in the whole, and as shared in each."""
    one = add_image(engine.images.store, "one", layers=(BASE,), unpacked_size=100)
    add_image(engine.images.store, "two", layers=(BASE, TOP), unpacked_size=100)
    engine.containers[one.id] = (("0123456789ab", False),)
    usage = engine.images.usage()
    assert usage["LayersSize"] == 200
    by_name = {image["RepoTags"][0]: image for image in usage["Images"]}
    assert by_name["one:latest"]["SharedSize"] == 100
    assert by_name["two:latest"]["SharedSize"] == 100
    assert (by_name["one:latest"]["Containers"], by_name["two:latest"]["Containers"]) == (1, 0)
    shown = engine.images.list(False, {}, shared_size=True)
    assert [image["SharedSize"] for image in shown] == [100, 100]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")
def test_save_load_and_import_are_streams(engine: Engine) -> None:
    """With Docker's messages at their end."""
    image = redis(engine)
    engine.images.tag(image.id, "repository", "of-another-tag")
    content = b"".join(engine.images.save(["redis:7"]))
    assert b"".join(engine.images.save(["repository"])) != content
    engine.images.remove(image.id, force=True)
    messages = list(engine.images.load(io.BytesIO(content)))
    assert messages[0]["status"] == "Loading layer"
    assert messages[-1] == {"stream": "Loaded image: redis:7\n"}
    assert list(engine.images.load(io.BytesIO(content), quiet=True)) == messages[-1:]
    (message,) = engine.images.import_(io.BytesIO(BASE), "mine", "1", "", ["CMD sh"], "linux/arm64")
    shown = engine.images.inspect("mine:1")
    assert message == {"status": shown["Id"]}
    assert (shown["Architecture"], shown["Comment"]) == ("arm64", "Imported from -")
    assert [action for action, _ in engine.events if action in ("save", "load", "import")] == [
        "save", "save", "load", "load", "import",
    ]  # fmt: skip
    with pytest.raises(InvalidArgument, match="neither manifest"):
        list(engine.images.load(io.BytesIO(BASE)))
    with pytest.raises(NotFound):
        engine.images.save(["nosuch"])  # before anything is sent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")
def test_busybox_is_always_there(engine: Engine) -> None:
    """To start a container from; it is in no list before that."""
    assert engine.images.list(False, {}) == []
    with pytest.raises(NotFound, match=r"No such image: busybox:1\.36"):
        engine.images.resolve("busybox:1.36")
    image = engine.images.resolve("busybox")
    assert engine.images.resolve("docker.io/library/busybox:latest") == image
    assert engine.images.list(False, {})[0]["RepoTags"] == ["busybox:latest"]


def test_an_image_for_another_platform_is_not_taken(engine: Engine) -> None:
    """Where a platform was asked for."""
    image = add_image(engine.images.store, "x")
    for platform in ("", "linux/amd64", "amd64"):
        assert engine.images.resolve("x", platform).id == image.id
    words = (
        r"image with reference x was found but its platform \(linux/amd64\) does not match the "
        r"specified platform \(linux/arm64\)"
    )
    with pytest.raises(NotFound, match=words):
        engine.images.resolve("x", "linux/arm64")


def test_an_error_comes_out_of_the_stream() -> None:
    """After the messages before it."""

    def work(tell: Callable[[dict[str, Any]], None]) -> None:
        tell({"status": "begun"})
        raise NotFound("gone")

    messages = streamed(work)
    assert next(messages) == {"status": "begun"}
    with pytest.raises(NotFound, match="gone"):
        next(messages)


def test_a_reader_who_leaves_ends_the_work() -> None:
    """With the next message that it has for him."""
    ended = threading.Event()

    def work(tell: Callable[[dict[str, Any]], None]) -> None:
        try:
            while True:
                tell({"status": "working"})
        except Left:
            ended.set()
            raise

    messages = streamed(work)
    assert next(messages) == {"status": "working"}
    messages.close()  # type: ignore[attr-defined]  # a generator
    assert ended.wait(10)


def test_work_that_says_nothing_shows_that_it_lives() -> None:
    """So whoever passes the messages on can look whether anybody reads them."""
    go_on = threading.Event()
    messages = streamed(lambda tell: go_on.wait(10))
    assert next(messages) == {}
    go_on.set()
    assert all(message == {} for message in messages)
