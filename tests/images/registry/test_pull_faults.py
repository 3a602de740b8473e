"""Pull from a registry that fails as registries do: one line says what, and the next try works."""

from __future__ import annotations

import json
import os

import pytest

from minicontainer.errors import Error, InvalidArgument, NotFound, Unsupported
from minicontainer.images.registry import Patience
from minicontainer.images.registry_errors import Interrupted, Refused, Stalled, Unreachable
from tests.images.registry.debian_registry import free_port
from tests.images.registry.images import (
    DOCKER_INDEX,
    OCI_INDEX,
    Made,
    index_of,
    tar_of,
)
from tests.images.registry.strict_registry import TokenServer, serving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.images.registry.conftest import Host
    from tests.images.registry.strict_registry import StrictRegistry

BIG = tar_of({"big": os.urandom(50_000)})
SMALL = tar_of({"small": b"1"})


@pytest.fixture
def image(strict: StrictRegistry) -> Made:
    """Give an image that the registry has as x:1."""
    made = Made(SMALL, BIG)
    strict.put("x", "1", made)
    return made


def test_a_pull_goes_on_where_the_connection_broke(
    strict: StrictRegistry, image: Made, host: Host
) -> None:
    """Three times; each request asks for what is missing."""
    strict.faults.cut = 3
    pulled = host.pull(f"{strict.host}/x:1")
    assert len(host.file(pulled, "big")) == 50_000
    ranges = [x.get("Range") for x in strict.seen("GET", image.layers[1]["digest"])]
    assert ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_a_later_pull_goes_on_too(strict: StrictRegistry, image: Made, host: Host) -> None:
    """What came is kept when a pull fails for good; so are whole layers."""
    strict.faults.cut, strict.faults.cut_at = 100, 0
    with pytest.raises(Interrupted, match=r"cut off|broke"):
        host.pull(f"{strict.host}/x:1")
    assert host.store.list() == []
    strict.faults.cut, strict.faults.cut_at, strict.faults.stall = 0, 20_000, 2
    settings = host.settings.replace(patience=Patience(stall_s=0.3, backoff_s=0.01))
    with pytest.raises(Stalled):
        host.pull(f"{strict.host}/x:1", settings=settings)
    strict.faults.cut_at = 1000
    strict.requests.clear()
    host.pull(f"{strict.host}/x:1")
    (headers,) = strict.seen("GET", image.layers[1]["digest"])
    assert headers["Range"] == "bytes=40000-"
    assert strict.seen("GET", image.layers[0]["digest"]) == []


@pytest.mark.parametrize("fault", ["ranges", "range_refused"])
def test_without_range_a_blob_is_begun_again(
    fault: str, strict: StrictRegistry, image: Made, host: Host
) -> None:
    """The registry sends the whole blob with 200, or answers 416."""
    strict.faults.cut = 1
    setattr(strict.faults, fault, {"ranges": False, "range_refused": 1}[fault])
    assert len(host.file(host.pull(f"{strict.host}/x:1"), "big")) == 50_000


def test_a_blob_with_another_digest_is_not_kept(
    strict: StrictRegistry, image: Made, host: Host
) -> None:
    """The error names both digests; the next try works."""
    strict.faults.wrong = 3
    with pytest.raises(InvalidArgument, match=r"digest mismatch: blob should be sha256:\w{64}"):
        host.pull(f"{strict.host}/x:1")
    strict.faults.wrong = 0
    assert host.pull(f"{strict.host}/x:1").id == image.id


def test_a_part_of_another_blob_is_thrown_away(
    strict: StrictRegistry, image: Made, host: Host
) -> None:
    """What an earlier pull left turns out to be wrong: the same pull begins again."""
    strict.faults.wrong, strict.faults.cut = 100, 1
    with host.store.blobs.partial(image.layers[1]["digest"]) as part:
        assert part is not None
        part.write(b"x" * 1000)
    strict.faults.wrong = strict.faults.cut = 0
    assert host.pull(f"{strict.host}/x:1").id == image.id


def test_a_manifest_with_another_digest_is_refused(
    strict: StrictRegistry, image: Made, host: Host
) -> None:
    """By the digest that was asked for, and by the one that the registry says."""
    other = Made(BIG)
    strict.manifests["x", other.digest] = (image.manifest, image.media_type)
    strict.faults.digest_header = other.digest
    for name in (f"x@{other.digest}", "x:1"):
        with pytest.raises(InvalidArgument, match="digest mismatch: manifest"):
            host.pull(f"{strict.host}/{name}")


def test_too_many_requests_are_waited_for(strict: StrictRegistry, image: Made, host: Host) -> None:
    """429 and 503 pass; Retry-After is honoured."""
    strict.faults.busy, strict.faults.retry_after = 2, "0"
    assert host.pull(f"{strict.host}/x:1").id == image.id
    strict.faults.busy, strict.faults.busy_status = 2, 503
    assert host.pull(f"{strict.host}/x:1").id == image.id


def test_too_long_a_wait_is_refused(strict: StrictRegistry, image: Made, host: Host) -> None:
    """The registry's own words are shown; so they are when it stays busy."""
    strict.faults.busy, strict.faults.retry_after = 100, "3600"
    with pytest.raises(Refused, match="toomanyrequests: slow down"):
        host.pull(f"{strict.host}/x:1")
    assert len(strict.requests) <= 3  # one question after TLS, one for the manifest
    strict.faults.retry_after = ""
    with pytest.raises(Refused, match="toomanyrequests: slow down"):
        host.pull(f"{strict.host}/x:1")


def test_a_stall_is_told_in_seconds(strict: StrictRegistry, image: Made, host: Host) -> None:
    """And does not last for ever."""
    strict.faults.stall = 100
    patient = host.settings.patience.replace(stall_s=0.5)
    with pytest.raises(Stalled, match=r"stalls: nothing came for 0\.5 s"):
        host.pull(f"{strict.host}/x:1", settings=host.settings.replace(patience=patient))


def test_a_redirect_takes_no_password_along(strict: StrictRegistry, host: Host) -> None:
    """Blobs lie on another host, which refuses an Authorization that it did not ask for."""
    image = Made(SMALL)
    strict.put("x", "1", image)
    with serving() as cdn, TokenServer(strict):
        cdn.put("x", "1", image)
        strict.faults.redirect = f"http://{cdn.host}"
        assert host.pull(f"{strict.host}/x:1").id == image.id
        assert cdn.requests
        assert not any("Authorization" in headers for _, _, headers in cdn.requests)
        assert all("Authorization" in x for x in strict.seen("GET", "/blobs/"))


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_an_index_has_an_image_for_each_platform(
    media_type: str, strict: StrictRegistry, host: Host
) -> None:
    """This machine's without a word, another's by name; the index names the image."""
    images = {
        architecture: Made(tar_of({"machine": architecture.encode()}), architecture=architecture)
        for architecture in ("s390x", "amd64", "arm64")
    }
    for image in images.values():
        strict.put("x", image.digest, image)
    index = index_of(
        *(({"os": "linux", "architecture": name}, image) for name, image in images.items()),
        media_type=media_type,
    )
    strict.put_document("x", "1", index, media_type)
    pulled = host.pull(f"{strict.host}/x:1", platform="linux/arm64")
    assert host.file(pulled, "machine") == b"arm64"
    mine = host.pull(f"{strict.host}/x:1", platform="linux/amd64")
    assert host.file(mine, "machine") == b"amd64"
    assert mine.repo_digests == (f"{strict.host}/x@{Made.digest_of(index)}",)
    host.pull(f"{strict.host}/x:1", platform="linux/amd64")
    assert host.statuses()[-1] == f"Status: Image is up to date for {strict.host}/x:1"
    with pytest.raises(NotFound) as error:
        host.pull(f"{strict.host}/x:1", platform="linux/riscv64")
    words = "no matching manifest for linux/riscv64 in the manifest list entries"
    assert str(error.value) == words


def test_variants_of_arm_are_chosen_by_what_runs(strict: StrictRegistry, host: Host) -> None:
    """V7 runs v6's programs, and not the other way round."""
    image = Made(SMALL, architecture="arm", kind="docker")
    strict.put("x", image.digest, image)
    index = index_of(({"os": "linux", "architecture": "arm", "variant": "v6"}, image))
    strict.put_document("x", "1", index, OCI_INDEX)
    assert host.pull(f"{strict.host}/x:1", platform="linux/arm/v7").id == image.id
    with pytest.raises(NotFound, match="linux/arm/v5"):
        host.pull(f"{strict.host}/x:1", platform="linux/arm/v5")


@pytest.mark.parametrize(
    ("content", "media_type", "words"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}',
         "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (b"<html>", "text/html", "not JSON"),
        (b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.empty.v1+json"}', "",
         "is no image"),
        (b'{"schemaVersion": 2, "manifests": [], "layers": []}', OCI_INDEX,
         "manifest and index at once"),
        (b'{"schemaVersion": 2, "layers": []}', "", "config: is required"),
        (b"[" * 100_000, OCI_INDEX, "JSON"),
        (b" " * (5 << 20), OCI_INDEX, "larger than 4 MiB"),
    ],
    ids=["schema 1", "html", "other", "both", "no config", "deep", "large"],
)  # fmt: skip
def test_what_is_no_image_is_refused(
    content: bytes, media_type: str, words: str, strict: StrictRegistry, host: Host
) -> None:
    """With what it is instead."""
    strict.put_document("x", "1", content, media_type)
    with pytest.raises(Error, match=words):
        host.pull(f"{strict.host}/x:1")
    assert host.store.list() == []


@pytest.mark.parametrize(
    ("media_type", "words"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign layer"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign layer"),
        ("application/vnd.oci.image.layer.v1.tar+lz4", "not supported"),
    ],
)
def test_layers_of_other_kinds_are_refused(
    media_type: str, words: str, strict: StrictRegistry, host: Host
) -> None:
    """Before anything is downloaded."""
    strict.put("x", "1", Made(SMALL, layer_type=media_type))
    with pytest.raises(Unsupported, match=words):
        host.pull(f"{strict.host}/x:1")
    assert strict.seen("GET", "/blobs/") == []


def test_what_is_no_container_image_is_refused(strict: StrictRegistry, host: Host) -> None:
    """A chart of Helm, say, which lies in registries too."""
    chart = Made(SMALL)
    chart.document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    strict.put_document("x", "1", json.dumps(chart.document).encode(), chart.media_type)
    with pytest.raises(Unsupported, match="no container image: its config is of type"):
        host.pull(f"{strict.host}/x:1")


def test_nobody_listens(host: Host) -> None:
    """One line, at once."""
    with pytest.raises(Unreachable, match=r"can't be reached: .*refused"):
        host.pull(f"127.0.0.1:{free_port()}/x:1")


def test_no_such_host(host: Host) -> None:
    """Likewise."""
    for domain in ("nowhere.invalid", f"{'a' * 64}.invalid"):
        with pytest.raises(Error, match=rf"registry {domain} can't be reached: "):
            host.pull(f"{domain}/x:1")


def test_a_mirror_is_asked_first(strict: StrictRegistry, image: Made, host: Host) -> None:
    """For docker.io alone; the image has docker.io's name."""
    strict.put("library/x", "1", image)
    dead = f"http://127.0.0.1:{free_port()}"
    mirrored = host.settings.replace(mirrors=(dead, f"http://{strict.host}"))
    assert host.pull("x:1", settings=mirrored).names == ("docker.io/library/x:1",)
