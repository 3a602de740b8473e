"""Pull from Debian's registry: what skopeo pushed is what is here."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from minicontainer.errors import InvalidArgument, NotFound
from tests.images.registry.conftest import need_skopeo
from tests.images.registry.images import Made, tar_of, write_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.images.registry.conftest import Host
    from tests.images.registry.debian_registry import DebianRegistry
    from tests.images.registry.strict_registry import StrictRegistry

    Serve = Callable[..., str]


@pytest.fixture
def serve(real: DebianRegistry, tmp_path: Path) -> Serve:
    """Give a function that has skopeo push an image; it gives the image's name there."""
    need_skopeo()

    def push(image: Made, path: str, *options: str) -> str:
        layout = tmp_path / "layouts" / path
        write_layout(image, layout, "1")
        name = f"{real.host}/{path}:1"
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options,
             f"oci:{layout}:1", f"docker://{name}"],
            check=True,
        )  # fmt: skip
        return name

    return push


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("oci", ()),
        ("oci-zstd", ()),
        ("oci-plain", ()),
        ("oci", ("--format", "v2s2")),
        ("oci", ("--dest-compress-format", "zstd", "--format", "oci")),
    ],
    ids=["gzip", "zstd", "plain", "v2s2", "skopeo's zstd"],
)
def test_what_skopeo_pushes_is_pulled(
    kind: str, options: tuple[str, ...], serve: Serve, host: Host
) -> None:
    """Layers, config and name, whatever the format."""
    content = os.urandom(300_000)
    image = Made(
        tar_of({"below": b"1", "both": b"1"}), tar_of({"both": content}), kind=kind, Cmd=["/below"]
    )
    name = serve(image, f"team/{kind}", *options)
    pulled = host.pull(name)
    assert (host.file(pulled, "below"), host.file(pulled, "both")) == (b"1", content)
    assert pulled.names == (name,)
    assert pulled.config.cmd == ("/below",)
    assert host.store.resolve(name) == pulled


def test_the_messages_are_dockers(serve: Serve, host: Host) -> None:
    """First pull and second pull, as `docker pull` prints them."""
    image = Made(tar_of({"a": b"1"}), tar_of({"b": b"2"}))
    name = serve(image, "library/x")
    host.pull(name)
    assert host.said[0] == {"status": "Pulling from library/x", "id": "1"}
    for layer in image.layers:
        assert host.statuses(layer["digest"][7:19]) == [
            "Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete",
            "Extracting", "Pull complete",
        ]  # fmt: skip
    downloading = [x for x in host.said if x["status"] == "Downloading"]
    assert downloading[-1]["progressDetail"]["current"] > 0
    assert host.statuses() == [
        f"Digest: {image.digest}", f"Status: Downloaded newer image for {name}",
    ]  # fmt: skip
    host.pull(name)
    assert host.statuses() == [
        f"Digest: {image.digest}", f"Status: Image is up to date for {name}",
    ]  # fmt: skip


def test_by_digest_an_image_has_no_tag(serve: Serve, host: Host) -> None:
    """And is found by that name."""
    image = Made(tar_of({"a": b"1"}))
    name = serve(image, "x").removesuffix(":1") + f"@{image.digest}"
    pulled = host.pull(name)
    assert (pulled.names, pulled.repo_digests) == ((), (name,))
    assert host.store.resolve(name).id == image.id


def test_a_layer_that_is_here_is_not_downloaded(serve: Serve, host: Host) -> None:
    """Two images with the same lowest layer."""
    shared = tar_of({"a": b"1"})
    host.pull(serve(Made(shared), "one"))
    second = Made(shared, tar_of({"b": b"2"}))
    host.pull(serve(second, "two"))
    assert host.statuses(second.layers[0]["digest"][7:19]) == ["Already exists"]
    assert "Pull complete" in host.statuses(second.layers[1]["digest"][7:19])


def test_what_is_not_there_is_said_in_dockers_words(serve: Serve, host: Host) -> None:
    """A tag, and a repository."""
    name = serve(Made(tar_of({"a": b"1"})), "x").removesuffix(":1")
    for missing in (f"{name}:2", f"{name}-other:latest"):
        with pytest.raises(NotFound) as error:
            host.pull(missing)
        words = f"manifest for {missing} not found: manifest unknown: manifest unknown"
        assert str(error.value) == words
    assert host.store.list() == []


def test_a_damaged_blob_is_refused_and_the_next_try_works(
    serve: Serve, real: DebianRegistry, host: Host
) -> None:
    """The registry's disk has lost a bit."""
    image = Made(tar_of({"a": b"1"}), tar_of({"b": b"2"}))
    name = serve(image, "x")
    path = real.blob_path(image.layers[1]["digest"])
    good = path.read_bytes()
    path.write_bytes(bytes([*good[:-1], good[-1] ^ 1]))
    with pytest.raises(InvalidArgument, match="digest mismatch"):
        host.pull(name)
    assert host.store.list() == []
    path.write_bytes(good)
    assert host.file(host.pull(name), "b") == b"2"


def test_an_image_of_another_platform_is_refused(serve: Serve, host: Host) -> None:
    """Where there is no index, the config tells."""
    name = serve(Made(tar_of({"a": b"1"}), architecture="s390x"), "x")
    with pytest.raises(NotFound, match=r"\(linux/s390x\) does not match the specified platform"):
        host.pull(name)
    assert host.pull(name, platform="linux/s390x").config.architecture == "s390x"


def test_an_image_without_layers_is_pulled(serve: Serve, host: Host) -> None:
    """As `FROM scratch` makes it."""
    assert host.pull(serve(Made(), "empty")).layers == ()


def test_two_pulls_at_once_share_the_downloads(strict: StrictRegistry, host: Host) -> None:
    """Each pull ends with the image; the blob came once."""
    image = Made(tar_of({"a": os.urandom(8 << 20)}))
    strict.put("x", "1", image)
    name = f"{strict.host}/x:1"
    said: list[list[str]] = [[], []]

    def one(index: int) -> None:
        host.pull(name, progress=lambda message: said[index].append(message.get("status", "")))

    threads = [threading.Thread(target=one, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lines in said:
        assert lines[-1].startswith("Status: ")
    assert len(strict.seen("GET", image.layers[0]["digest"])) == 1
    assert len(host.store.list()) == 1


def test_what_progress_raises_ends_the_pull(serve: Serve, host: Host) -> None:
    """So a client that hangs up ends it; what came is kept."""
    name = serve(Made(*(tar_of({f"f{i}": os.urandom(1 << 20)}) for i in range(6))), "x")

    class Gone(Exception):
        pass

    def progress(message: dict[str, object]) -> None:
        if message.get("status") == "Pull complete":
            raise Gone

    with pytest.raises(Gone):
        host.pull(name, progress=progress)
    assert host.store.list() == []
    assert len(list(host.store.blobs.digests())) >= 3  # config, manifest, a layer
    assert host.pull(name).names == (name,)
