"""Archives of images: what is saved is loaded again, here and by other programs."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.errors import Error, InvalidArgument, KernelError, NotFound, Unsupported
from minicontainer.images import archives, loading, platforms
from tests.images.conftest import Place, add_image, sha256, small_disk, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Compress = Callable[[bytes], bytes]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")

BASE = tar_of({"base": b"base", "both": b"below"})
TOP = tar_of({"top": b"top", "both": b"above"})
PODMAN = ("podman", "--storage-driver", "vfs")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Place]:
    """Give a store with two images, which share a layer."""
    place = Place(tmp_path / "source")
    add_image(place.store, "one:1", layers=(BASE,), config={"Cmd": ["one"]})
    add_image(place.store, "one:2", "host:5000/team/two", layers=(BASE, TOP), docker=True)
    yield place
    place.store.close()


def members(content: bytes) -> dict[str, bytes]:
    """Read the files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive}
    return {name: file.read() for name, file in files.items() if file}


def test_what_was_saved_is_loaded(source: Place, target: Place) -> None:
    """Names, IDs and manifests are the same, and the layers are unpacked."""
    content = source.save("one:1", "host:5000/team/two")
    assert target.load(content) == ["one:1", "host:5000/team/two:latest"]
    for name in ("one:1", "host:5000/team/two"):
        before, after = source.store.resolve(name), target.store.resolve(name)
        assert after.id == before.id
        assert target.store.layout_manifest(after.id) == source.store.layout_manifest(before.id)
        lowest = target.layers.directory(after.chain_ids[0])
        with open(os.path.join(lowest, "base"), "rb") as file:
            assert file.read() == b"base"
    with pytest.raises(NotFound):
        target.store.resolve("one:2")
    assert target.save("one:1", "host:5000/team/two") == content


def test_a_name_without_a_tag_means_all_tags(source: Place, target: Place) -> None:
    """And an ID none of the names."""
    assert sorted(target.load(source.save("one"))) == ["one:1", "one:2"]
    image = source.store.resolve("one:1")
    assert target.load(source.save(image.id[7:19])) == [image.id]
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        source.save("one", "nosuch")


def test_the_same_images_give_the_same_archive(source: Place) -> None:
    """Nothing of the moment or the machine is in it."""
    assert source.save("one") == source.save("one")


def test_an_archive_says_when_an_image_was_made(source: Place) -> None:
    """Of its own layer, config and manifest; what is below is older, and lists have no time."""
    image = source.store.resolve("one:1")
    with tarfile.open(fileobj=io.BytesIO(source.save("one:1"))) as archive:
        times = {entry.name: entry.mtime for entry in archive}
    made_s = image.created_ns // 10**9
    own = (image.id, source.store.layout_manifest(image.id)[0], image.layers[-1].digest)
    assert made_s
    assert {times[archives.path_of(digest)] for digest in own} == {made_s}
    assert {times[archives.path_of(one.digest)] for one in image.layers[:-1]} <= {0}
    assert times["index.json"] == times["manifest.json"] == 0


def test_the_documents_are_dockers_and_ocis(source: Place) -> None:
    """As Docker has written them since version 25."""
    files = members(source.save("host:5000/team/two"))
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["host:5000/team/two:latest"]
    assert all(sha256(files[path]) == "sha256:" + path[13:] for path in entry["Layers"])
    assert sha256(files[entry["Config"]]) == source.store.resolve("one:2").id
    (described,) = json.loads(files["index.json"])["manifests"]
    assert described["annotations"] == {
        "io.containerd.image.name": "host:5000/team/two:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    assert json.loads(files["repositories"]) == {
        "host:5000/team/two": {"latest": entry["Layers"][-1][13:]}
    }
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lambda data: zstandard.ZstdCompressor().compress(data)],
    ids=["plain", "gzip", "bzip2", "zstd"],
)
def test_an_archive_may_be_compressed(source: Place, target: Place, compress: Compress) -> None:
    """Its first bytes tell how."""
    assert target.load(compress(source.save("one:1"))) == ["one:1"]


def test_the_order_of_the_files_does_not_matter(source: Place, target: Place) -> None:
    """Documents may come first: a stream is read once."""
    files = members(source.save("one"))
    backwards = dict(reversed(files.items()))
    assert sorted(target.load(tar_of(backwards))) == ["one:1", "one:2"]


def old_archive(source: Place, layer_kind: str = "") -> dict[str, bytes]:
    """Give the files of an archive as Docker wrote it before version 25."""
    image = source.store.resolve("one:2")
    packers: dict[str, Compress] = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}
    pack = packers[layer_kind]
    return {
        "aa/VERSION": b"1.0",
        "aa/json": b"{}",
        "aa/layer.tar": pack(BASE),
        "bb/layer.tar": pack(TOP),
        f"{image.id[7:]}.json": image.config_json.encode(),
        "manifest.json": json.dumps(
            [{
                "Config": f"{image.id[7:]}.json",
                "RepoTags": ["old:1", "old:2"],
                "Layers": ["aa/layer.tar", "bb/layer.tar"],
            }]
        ).encode(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["", "gzip", "bzip2"])
def test_an_old_archive_of_dockers_is_loaded(source: Place, target: Place, kind: str) -> None:
    """Its layers are plain tars, or compressed in ways that no media type tells."""
    assert target.load(tar_of(old_archive(source, kind))) == ["old:1", "old:2"]
    image = target.store.resolve("old:1")
    assert image.id == source.store.resolve("one:2").id
    assert image.layers[0].media_type.endswith("tar+gzip" if kind else ".tar")
    subprocess.run(
        ["skopeo", "inspect", f"oci:{target.store.root}:old:1"], check=True, capture_output=True
    )


def test_a_layer_may_be_a_link_to_another(source: Place, target: Place) -> None:
    """Docker's archives had each layer once; a link out of the archive leads nowhere."""
    files = old_archive(source)
    for linked, works in (("../real.tar", True), ("../../../../etc/passwd", False)):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for name, content in {**files, "real.tar": BASE}.items():
                entry = tarfile.TarInfo(name)
                if name == "aa/layer.tar":
                    entry.type, entry.linkname = tarfile.SYMTYPE, linked
                entry.size = 0 if entry.issym() else len(content)
                archive.addfile(entry, io.BytesIO(content))
        if works:
            assert target.load(made.getvalue()) == ["old:1", "old:2"]
            target.store.remove(target.store.resolve("old:1").id, force=True)
        else:
            with pytest.raises(InvalidArgument, match=r"no file aa/layer\.tar"):
                target.load(made.getvalue())
        assert target.is_empty()


def index_of(source: Place, *names: str) -> bytes:
    """Make an archive with an index of images for several platforms, called `many:1`."""
    files = members(source.save(*names))
    entries = []
    for name in names:
        image = source.store.resolve(name)
        digest, size = source.store.layout_manifest(image.id)
        own = {"os": "linux", "architecture": image.config.architecture}
        kind = "application/vnd.oci.image.manifest.v1+json"
        entries.append({"mediaType": kind, "digest": digest, "size": size, "platform": own})
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    named = {"io.containerd.image.name": "docker.io/library/many:1"}
    top = {"mediaType": kind, "digest": sha256(index), "size": len(index), "annotations": named}
    del files["manifest.json"]
    files["blobs/sha256/" + sha256(index)[7:]] = index
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    return tar_of(files)


@pytest.mark.parametrize(
    ("wanted", "chosen"), [("", "amd64"), ("linux/arm64", "arm64"), ("linux/amd64", "amd64")]
)
def test_a_platform_is_chosen_from_an_index(
    source: Place, target: Place, wanted: str, chosen: str
) -> None:
    """This machine's, where none is named; that the index says it is not enough."""
    for architecture in ("arm64", "amd64"):
        add_image(source.store, f"for:{architecture}", layers=(BASE,), architecture=architecture)
    content = index_of(source, "for:arm64", "for:amd64")
    assert target.load(content, platforms.parse(wanted) if wanted else None) == ["many:1"]
    image = target.store.resolve("many:1")
    assert image.config.architecture == chosen
    assert image.id == source.store.resolve(f"for:{chosen}").id


def test_an_archive_without_the_platform_loads_nothing(source: Place, target: Place) -> None:
    """Neither one with an index, nor Docker's old one."""
    riscv = platforms.parse("linux/riscv64")
    for content in (index_of(source, "one:1"), source.save("one"), tar_of(old_archive(source))):
        with pytest.raises(InvalidArgument, match="no image for the platform linux/riscv64"):
            target.load(content, riscv)
        assert target.is_empty()
    assert target.load(source.save("one:1"), platforms.parse("linux/amd64")) == ["one:1"]


def changed(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    """Change fields of the only image in manifest.json."""
    (entry,) = json.loads(files["manifest.json"])
    return {**files, "manifest.json": json.dumps([{**entry, **changes}]).encode()}


def test_a_broken_archive_changes_nothing(source: Place, target: Place) -> None:
    """It is refused in one line, and nothing of it stays."""
    files = old_archive(source)
    saved = source.save("one:1")
    layer = next(name for name in members(saved) if name.startswith("blobs/"))
    wrong = {
        "neither manifest.json nor index.json": tar_of({"etc/passwd": b"root"}),
        "can't be read": b"this is no tar at all" * 100,
        "manifest.json: is not JSON": tar_of({**files, "manifest.json": b"[{"}),
        "expected an object": tar_of({**files, "manifest.json": b"[1]"}),
        "no file x.json": tar_of(changed(files, Config="x.json")),
        "length mismatch: expected 2, got 1": tar_of(changed(files, Layers=["aa/layer.tar"])),
        "layer's content is sha256:": tar_of({**files, "bb/layer.tar": BASE}),
        'invalid tag "old"': tar_of(changed(files, RepoTags=["old"])),
        "must be lowercase": tar_of(changed(files, RepoTags=["Old:1"])),
        "digest mismatch": tar_of({**members(saved), layer: b"other"}),
        "(?i)unexpected end": saved[: len(saved) // 2],
        "gzip: the stream is cut off": gzip.compress(saved)[:-20],
    }
    for words, content in wrong.items():
        with pytest.raises(InvalidArgument, match=words):
            target.load(content)
        assert target.is_empty(), words
    with pytest.raises(Unsupported, match=r"older than Docker 1\.10"):
        target.load(tar_of({"repositories": b"{}"}))
    assert target.load(saved) == ["one:1"]


def test_an_archive_with_one_bad_image_loads_none(source: Place, target: Place) -> None:
    """Though the good one comes first."""
    files = old_archive(source)
    (good,) = json.loads(files["manifest.json"])
    bad = {**good, "RepoTags": ["bad:1"], "Layers": ["bb/layer.tar", "aa/layer.tar"]}
    files["manifest.json"] = json.dumps([good, bad]).encode()
    with pytest.raises(InvalidArgument, match="layer's content is sha256:"):
        target.load(tar_of(files))
    assert target.is_empty()


def test_a_layer_that_is_here_lends_its_name_to_no_other(source: Place) -> None:
    """A blob with other files than the config says is refused, though nothing is to unpack."""
    source.load(source.save("one:2"))  # its layers are unpacked now
    image = source.store.resolve("one:2")
    files = {**old_archive(source), "aa/layer.tar": TOP}
    with pytest.raises(InvalidArgument, match="layer's content is sha256:"):
        source.load(tar_of(files))
    assert source.store.resolve("one:2") == image


@given(st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
def test_a_damaged_archive_raises_nothing_else(
    source: Place, target: Place, data: st.DataObject
) -> None:
    """Whatever bytes of it are changed; what is loaded nevertheless is whole."""
    content = bytearray(source.save("one"))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Error):
        target.load(bytes(content))
    for image in target.store.list():
        for layer in image.layers:
            assert sha256(target.store.blobs.read(layer.digest)) == layer.digest
        target.store.remove(image.id, force=True)
    assert target.is_empty()


def test_a_name_that_an_archive_takes_is_told(source: Place, target: Place) -> None:
    """The image that had it stays without one."""
    old = add_image(target.store, "one:1", layers=(TOP,))
    told: list[str] = []
    content = io.BytesIO(source.save("one:1"))
    loading.load(
        target.store, target.layers, content, lambda message: told.append(message.get("stream", ""))
    )
    words = f"The image one:1 already exists, renaming the old one with ID {old.id} to empty string"
    assert words in "".join(told)
    assert target.store.resolve(old.id).names == ()


def test_loading_what_is_here_keeps_its_manifest(source: Place) -> None:
    """An image from a registry stays the one that its digest names."""
    before = source.store.resolve("one:2")
    assert source.load(tar_of(old_archive(source))) == ["old:1", "old:2"]
    after = source.store.resolve("one:2")
    assert after.manifest == before.manifest
    assert "docker.io/library/old:1" in after.names


def test_one_archive_is_loaded_by_many_at_once(source: Place, target: Place) -> None:
    """They share the blobs and the layers, and all say that it is loaded."""
    content = source.save("one")
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(sorted(target.load(content))))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [["one:1", "one:2"]] * 5
    target.store.remove("one:1")
    target.store.remove("one:2")
    assert target.is_empty()


def test_a_full_disk_leaves_the_store_as_it_was(source: Place, tmp_path: Path) -> None:
    """Nothing of the archive stays, and the next try works."""
    big = tar_of({"big": os.urandom(3_000_000)})
    add_image(source.store, "big", layers=(big,))
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        place = Place(disk)
        place.load(source.save("one:1"))
        before = sorted(place.store.blobs.digests()), place.layers.chain_ids()
        with pytest.raises(KernelError, match="No space left"):
            place.load(source.save("big"))
        assert (sorted(place.store.blobs.digests()), place.layers.chain_ids()) == before
        assert place.load(source.save("one:2")) == ["one:2"]
        place.store.close()


def test_a_reader_who_leaves_keeps_nothing(source: Place) -> None:
    """An archive that is not read to its end lets go of what it held."""
    chunks = archives.saved(source.store, ["one:1"])
    next(chunks)
    image = source.store.resolve("one:1")
    source.store.remove("one:1")
    assert source.store.blobs.has(image.id)  # it is still being read
    chunks.close()  # type: ignore[attr-defined]  # a generator
    assert not source.store.blobs.has(image.id)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_is_saved(source: Place, tmp_path: Path, kind: str) -> None:
    """In both of its formats."""
    saved = tmp_path / "saved.tar"
    saved.write_bytes(source.save("one:1"))
    copied = tmp_path / "copied"
    subprocess.run(
        ["skopeo", "copy", f"{kind}:{saved}", f"oci:{copied}:x"], check=True, capture_output=True
    )
    subprocess.run(
        ["umoci", "unpack", "--image", f"{copied}:x", str(tmp_path / "bundle")], check=True
    )
    assert (tmp_path / "bundle/rootfs/base").read_bytes() == b"base"
    told = subprocess.run(
        ["skopeo", "inspect", "--config", f"{kind}:{saved}"], check=True, capture_output=True
    )
    assert json.loads(told.stdout)["config"]["Cmd"] == ["one"]


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_loaded(
    source: Place, target: Place, tmp_path: Path, kind: str
) -> None:
    """In both formats, with the name that it was given."""
    archive = tmp_path / "skopeo.tar"
    subprocess.run(
        ["skopeo", "copy", f"oci:{source.store.root}:one:2", f"{kind}:{archive}:team/app:7"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert target.load(archive.read_bytes()) == ["team/app:7"]
    image = target.store.resolve("team/app:7")
    assert image.config.diff_ids == (sha256(BASE), sha256(TOP))


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Give the words that call podman, with a store of its own."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    with tempfile.TemporaryDirectory(prefix="podman-") as run:  # it wants a short name
        yield (*PODMAN, "--root", str(tmp_path / "podman"), "--runroot", run)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_podman_and_we_exchange_archives(
    source: Place, target: Place, tmp_path: Path, podman: tuple[str, ...], kind: str
) -> None:
    """There and back again the image has the same ID and files."""
    saved, back = tmp_path / "saved.tar", tmp_path / "back.tar"
    saved.write_bytes(source.save("one:2"))
    subprocess.run([*podman, "load", "--input", saved], check=True, capture_output=True)
    subprocess.run(
        [*podman, "save", "--format", kind, "--output", back, "docker.io/library/one:2"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert target.load(back.read_bytes()) == ["one:2"]
    image = target.store.resolve("one:2")
    assert image.config.diff_ids == (sha256(BASE), sha256(TOP))
