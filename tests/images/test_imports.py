"""Imports: a root file system becomes an image of one layer."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from minicontainer.errors import Error, InvalidArgument, NotFound
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


class Web:
    """A web server on this machine, which counts what it is asked for."""

    def __init__(self, files: dict[str, bytes], moved: dict[str, str]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = files.get(self.path, b"nothing here\n")
                self.send_response(
                    200 if self.path in files else 302 if self.path in moved else 404
                )
                if self.path in moved:
                    self.send_header("Location", moved[self.path])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web() -> Iterator[Web]:
    """A server with an archive, and a way to it."""
    made = Web({"/base.tar.gz": gzip.compress(BASE)}, {"/moved": "/base.tar.gz"})
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("path", ["/base.tar.gz", "/moved"])
@pytest.mark.parametrize("start", ["http://", "", "http://me:secret@"])
def test_an_archive_is_imported_from_the_web(
    target: Place, web: Web, start: str, path: str
) -> None:
    """Its URL is told, and stays in the history, but for a password."""
    told: list[dict[str, Any]] = []
    url, shown = f"{start}{web.address}{path}", f"http://{web.address}{path}"
    with imports.opened(url, told.append) as stream:
        image = imports.import_image(
            target.store, target.layers, stream, None, (), imports.message_for(url)
        )
    assert image.config.diff_ids == (sha256(BASE),)
    assert image.config.history[0].comment == f"Imported from {shown}"
    assert told[0]["status"] == f"Downloading from {shown}"
    size = len(gzip.compress(BASE))
    assert told[-1] == {"status": "Importing", "progressDetail": {"current": size, "total": size}}


def test_what_the_web_does_not_have_is_not_imported(web: Web) -> None:
    """It is said who has not got it; a URL of the engine's own machine is none of the web."""
    for url, kind, words in (
        (f"http://{web.address}/no", NotFound, "/no with status 404 Not Found: nothing here"),
        ("http://127.0.0.1:1/x", Error, "cannot download http://127.0.0.1:1/x: .*refused"),
        ("file:///etc/passwd", InvalidArgument, "use http:// or https://"),
        ("http://", InvalidArgument, "invalid URL"),
        (f"http://{'x' * 64}.lan/", Error, "cannot download http://xxx"),
    ):
        with (
            pytest.raises(kind, match=words),
            imports.opened(url, lambda message: None) as stream,
        ):
            stream.read(1)
