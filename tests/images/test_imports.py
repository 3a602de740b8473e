"""Imports: a root file system becomes an image of one layer."""

from __future__ import annotations

import bz2
import gzip
import io
import os

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.images import imports
from minicontainer.images.references import parse
from tests.images.conftest import Place, sha256, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.images.image import Image

    Compress = Callable[[bytes], bytes]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")

BASE = tar_of({"base": b"base"})


def test_an_import_is_an_image_of_one_layer(target: Place) -> None:
    """With what the instructions say of its containers."""
    changes = ['CMD ["redis-server"]', "ENV A=b", "EXPOSE 6379"]
    image = imports.import_image(
        target.store, target.layers, io.BytesIO(BASE), parse("redis"), changes, "from a test"
    )
    assert target.store.resolve("redis").id == image.id
    assert image.config.cmd == ("redis-server",)
    assert image.config.env == ("A=b",)
    assert image.config.exposed_ports == {"6379/tcp": {}}
    assert image.config.history[0].comment == "from a test"
    assert image.config.diff_ids == (sha256(BASE),)
    with open(os.path.join(target.layers.directory(image.chain_ids[0]), "base"), "rb") as file:
        assert file.read() == b"base"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_compressed_root_file_system_is_imported(target: Place, compress: Compress) -> None:
    """A gzip stream is kept as it is, another kind is changed: media types know but two."""
    packed = compress(BASE)
    image = imports.import_image(target.store, target.layers, io.BytesIO(packed), None)
    assert image.config.diff_ids == (sha256(BASE),)
    assert (image.layers[0].digest == sha256(packed)) == (compress is gzip.compress)
    assert image.layers[0].media_type.endswith("+gzip")


def test_an_import_is_for_any_processor_with_linux(target: Place) -> None:
    """One that nobody has heard of may run it one day; another system's files are no container."""

    def imported(platform: str) -> Image:
        return imports.import_image(
            target.store, target.layers, io.BytesIO(BASE), None, platform=platform
        )

    made = imported("linux/sparc64")
    assert (made.config.os, made.config.architecture) == ("linux", "sparc64")
    for platform, words in (
        ("/", '"" is an invalid OS component of "/"'),
        ("   ", "is an invalid OS component"),
        ("linux/ ", "is an invalid component"),
        ("nintendo64", "unknown operating system or architecture"),
        ("macos", "operating system is not supported"),
        ("macos/arm64", "operating system is not supported"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            imported(platform)


def test_a_failed_import_changes_nothing(target: Place) -> None:
    """A wrong instruction is found before the archive is read."""
    unread = io.BytesIO(BASE)
    with pytest.raises(InvalidArgument, match="RUN is not a valid change command"):
        imports.import_image(target.store, target.layers, unread, None, ["RUN make"])
    assert unread.tell() == 0
    for content in (BASE[:700], b"no tar" * 200, gzip.compress(BASE)[:-9]):
        with pytest.raises(InvalidArgument):
            imports.import_image(target.store, target.layers, io.BytesIO(content), None)
        assert target.is_empty()
