"""Push: to Debian's registry, read back by skopeo; and to the one that forgives nothing."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from minicontainer.errors import NotFound
from minicontainer.images import uploads
from minicontainer.images.references import parse
from minicontainer.images.registry import Registry
from minicontainer.images.registry_errors import Interrupted
from tests.images.conftest import add_image
from tests.images.registry.conftest import need_skopeo
from tests.images.registry.images import OCI, Made, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from minicontainer.images.image import Image
    from tests.images.registry.conftest import Host
    from tests.images.registry.debian_registry import DebianRegistry
    from tests.images.registry.strict_registry import StrictRegistry

LAYERS = (tar_of({"a": b"1" * 100}), tar_of({"b": os.urandom(70_000)}))


def skopeo(*arguments: str) -> Any:
    """Run skopeo on a registry without TLS; read what it prints as JSON."""
    done = subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout or "null")


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_skopeo_reads_what_is_pushed(docker: bool, real: DebianRegistry, host: Host) -> None:
    """Manifest, config and layers, byte for byte."""
    need_skopeo()
    name = f"{real.host}/team/x:1"
    image = add_image(host.store, name, layers=LAYERS, config={"Cmd": ["/a"]}, docker=docker)
    digest = host.push(name)
    inspected = skopeo("inspect", "--tls-verify=false", f"docker://{name}")
    assert (inspected["Digest"], digest) == (image.manifest, image.manifest)
    assert inspected["Layers"] == [layer.digest for layer in image.layers]
    config = skopeo("inspect", "--tls-verify=false", "--config", f"docker://{name}")
    assert config["config"]["Cmd"] == ["/a"]
    assert host.store.resolve(name).repo_digests == (f"{real.host}/team/x@{digest}",)


def test_skopeo_copies_what_is_pushed(real: DebianRegistry, host: Host, tmp_path: Path) -> None:
    """So every blob is there, and whole."""
    need_skopeo()
    name = f"{real.host}/x:1"
    image = add_image(host.store, name, layers=LAYERS)
    host.push(name)
    skopeo(
        "copy", "--quiet", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:1"
    )
    for layer in image.layers:
        copied = tmp_path / "copy/blobs/sha256" / layer.digest.partition(":")[2]
        assert copied.read_bytes() == host.store.blobs.open(layer.digest).read()


def test_the_messages_are_dockers(real: DebianRegistry, host: Host) -> None:
    """Of a first push, of a second one, and of one to another repository."""
    name = f"{real.host}/x:1"
    image = add_image(host.store, name, layers=LAYERS)
    digest = host.push(name)
    size = len(host.store.blobs.read(image.manifest))
    assert host.said[0] == {"status": f"The push refers to repository [{real.host}/x]"}
    ids = [layer.diff_id[7:19] for layer in image.layers]
    for identifier in ids:
        assert host.statuses(identifier) == ["Preparing", "Pushing", "Pushed"]
    assert host.said[-2:] == [
        {"status": f"1: digest: {digest} size: {size}"},
        {"progressDetail": {}, "aux": {"Tag": "1", "Digest": digest, "Size": size}},
    ]
    host.push(name)
    assert host.statuses(ids[0])[-1] == "Layer already exists"
    host.store.tag(image.id, parse(f"{real.host}/other/y:2"))
    host.push(f"{real.host}/other/y:2")
    assert host.statuses(ids[0])[-1] == "Mounted from x"


def test_a_name_that_is_not_here(host: Host) -> None:
    """In Docker's words."""
    with pytest.raises(NotFound) as error:
        host.push("127.0.0.1:5000/nosuch:1")
    words = "An image does not exist locally with the tag: 127.0.0.1:5000/nosuch"
    assert str(error.value) == words


@pytest.fixture
def pushed(strict: StrictRegistry, host: Host) -> tuple[Image, str]:
    """Give an image, to be pushed under the name with it."""
    name = f"{strict.host}/x:1"
    return add_image(host.store, name, layers=LAYERS), name


def check(strict: StrictRegistry, image: Image, host: Host) -> None:
    """Compare what the registry has with what is here."""
    content, media_type = strict.manifests["x", "1"]
    assert (content, media_type) == (host.store.blobs.read(image.manifest), image.media_type)
    for digest in (image.id, *(layer.digest for layer in image.layers)):
        assert strict.repositories["x"][digest] == host.store.blobs.open(digest).read()


def test_a_blob_is_sent_in_one_request(
    strict: StrictRegistry, host: Host, pushed: tuple[Image, str]
) -> None:
    """Where nothing goes wrong; the manifest is the last."""
    image, name = pushed
    host.push(name)
    check(strict, image, host)
    assert strict.seen("PATCH", "") == []
    assert [x[:2] for x in strict.requests][-1] == ("PUT", "/v2/x/manifests/1")


def test_a_broken_upload_goes_on_in_chunks(
    strict: StrictRegistry, host: Host, pushed: tuple[Image, str]
) -> None:
    """From the byte that the registry has."""
    image, name = pushed
    strict.faults.cut, strict.faults.cut_at = 2, 20_000
    host.push(name)
    check(strict, image, host)
    (first, *rest) = strict.seen("PATCH", "")
    assert first["Content-Range"].startswith("20000-")
    assert rest[0]["Content-Range"].startswith("40000-")


def test_a_blob_that_is_too_large_goes_in_chunks(
    strict: StrictRegistry, host: Host, pushed: tuple[Image, str]
) -> None:
    """As some proxies in front of registries want it; each in its order, at its own place."""
    image, name = pushed
    strict.faults.largest = 16_000
    with Registry(strict.host, None, host.settings) as registry:
        upload = uploads.Upload(
            registry, "x", host.store.blobs, image.layers[1].digest, chunk=16_000
        )
        assert not upload.is_there()
        upload.send()
    ranges = [headers["Content-Range"] for headers in strict.seen("PATCH", "")]
    assert ranges[:2] == ["0-15999", "16000-31999"]
    host.push(name)
    check(strict, image, host)


def test_an_upload_that_the_registry_forgot_begins_again(
    strict: StrictRegistry, host: Host, pushed: tuple[Image, str]
) -> None:
    """404 for its place."""
    image, name = pushed
    strict.faults.cut, strict.faults.cut_at, strict.faults.lost_uploads = 1, 20_000, 1
    host.push(name)
    check(strict, image, host)


def test_a_chunk_out_of_order_is_put_right(
    strict: StrictRegistry, host: Host, pushed: tuple[Image, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """416: the registry is asked for the place, and the upload goes on there."""
    image, name = pushed
    strict.faults.cut, strict.faults.cut_at = 1, 20_000
    resume = uploads.Upload._resume
    wrong = [123]

    def misled(self: uploads.Upload) -> int:
        return resume(self) + (wrong.pop() if wrong else 0)

    monkeypatch.setattr(uploads.Upload, "_resume", misled)
    host.push(name)
    check(strict, image, host)
    assert [x["Content-Range"].partition("-")[0] for x in strict.seen("PATCH", "")] == [
        "20123", "20000",
    ]  # fmt: skip


def test_a_registry_that_breaks_every_upload(
    strict: StrictRegistry, host: Host, pushed: tuple[Image, str]
) -> None:
    """The push ends with an error, and no manifest is there."""
    _, name = pushed
    strict.faults.cut, strict.faults.cut_at = 1000, 0
    with pytest.raises(Interrupted, match=f"registry {strict.host}"):
        host.push(name)
    assert strict.manifests == {}


def test_429_is_waited_for(strict: StrictRegistry, host: Host, pushed: tuple[Image, str]) -> None:
    """In a push too."""
    image, name = pushed
    strict.faults.busy = 3
    host.push(name)
    check(strict, image, host)


def test_plain_layers_are_compressed_first(
    real: DebianRegistry, host: Host, other_host: Host
) -> None:
    """As `load` brings them; the image keeps its ID, and the same tar gives the same blob."""
    need_skopeo()
    plain = Made(tar_of({"a": b"1" * 10_000}), tar_of({"b": b"2" * 10_000}), kind="oci-plain")
    for blob in (*plain.blobs.values(), plain.manifest):
        host.store.blobs.write(blob)
    name = f"{real.host}/x:1"
    host.store.add(plain.digest, names=[parse(name)])
    digest = host.push(name)
    inspected = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert {x["mediaType"] for x in inspected["layers"]} == {f"{OCI}.layer.v1.tar+gzip"}
    assert sum(x["size"] for x in inspected["layers"]) < 1000
    pulled = other_host.pull(name)
    assert pulled.id == plain.id == host.store.resolve(name).id
    assert other_host.file(pulled, "b") == b"2" * 10_000
    assert host.push(name) == digest
