"""A container's files from outside: `cp`, `diff`, `export`, `commit`, running and stopped."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from minicontainer.engine.engine import Engine
from minicontainer.errors import Forbidden, InvalidArgument, NotFound, NotModified
from minicontainer.images import copies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers")

_GO_DIRECTORY, _GO_LINK = 1 << 31, 1 << 27


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give an engine of its own, with nothing but the embedded image.

    Where root of a user namespace can get to its container's directory: pytest's are for root only.
    """
    with tempfile.TemporaryDirectory(prefix="minic-test-") as base:
        os.chmod(base, 0o711)
        opened = Engine(f"{base}/data", f"{base}/run")
        yield opened
        for container in opened.containers.all():
            opened.containers.remove(container.id, force=True, volumes=True)
        opened.close()


class Box:
    """A container of the embedded image, that sleeps when it runs.

    Args:
        body: of the create request, beside its image and program.
    """

    def __init__(self, engine: Engine, **body: Any) -> None:
        host = {"NetworkMode": "none", **body.pop("HostConfig", {})}
        asked = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host, **body}
        self.engine, self.all = engine, engine.containers
        self.id = self.all.create(asked)["Id"]

    @property
    def upper(self) -> Path:
        """The directory that takes its writes."""
        return Path(self.all.find(self.id).directory, "upper")

    def start(self) -> Box:
        """Start it."""
        self.all.start(self.id)
        return self

    def put(self, path: str, *entries: tarfile.TarInfo | tuple[str, bytes], **how: bool) -> None:
        """Unpack an archive in it."""
        options = {"no_overwrite_dir_non_dir": False, "copy_uid_gid": False, **how}
        self.all.archive_put(self.id, path, io.BytesIO(archive(*entries)), **options)

    def get(self, path: str) -> dict[str, bytes | None]:
        """Read an archive of it: contents by name, None for what has none."""
        with tarfile.open(fileobj=io.BytesIO(self.raw(path))) as found:
            return {
                entry.name: found.extractfile(entry).read()  # type: ignore[union-attr]  # a file
                if entry.isreg() or entry.islnk()
                else None
                for entry in found
            }

    def raw(self, path: str) -> bytes:
        """Give an archive of it, as it comes."""
        _, parts = self.all.archive_get(self.id, path)
        return b"".join(parts)

    def stat(self, path: str) -> dict[str, Any]:
        """Look at a path in it."""
        return self.all.archive_stat(self.id, path)

    def changes(self) -> set[str]:
        """List the changes as `docker diff` prints them."""
        found = self.all.changes(self.id) or []
        return {f"{'CAD'[change['Kind']]} {change['Path']}" for change in found}


def archive(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """Write an archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for each in entries:
            if isinstance(each, tuple):
                entry = tarfile.TarInfo(each[0])
                entry.size = len(each[1])
                out.addfile(entry, io.BytesIO(each[1]))
            else:
                out.addfile(each)
    return made.getvalue()


def entry(name: str, kind: bytes = tarfile.DIRTYPE, **fields: Any) -> tarfile.TarInfo:
    """Make an entry without content."""
    made = tarfile.TarInfo(name)
    made.type, made.mode = kind, 0o755
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.fixture(params=["created", "running"])
def box(engine: Engine, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    """Give a container with a volume and a read-only one; running or not."""
    for name in ("volume", "readonly"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "here").write_text(name)
    binds = [f"{tmp_path}/volume:/volume", f"{tmp_path}/readonly:/readonly:ro"]
    made = Box(engine, HostConfig={"Binds": binds})
    if request.param == "running":
        made.start()
    yield made
    engine.containers.remove(made.id, force=True)


def test_what_was_put_can_be_got(box: Box) -> None:
    """With owner, mode and links; and it is a change."""
    box.put(
        "/",
        entry("new", uid=5, gid=6, mode=0o2750),
        ("new/file", b"content"),
        entry("new/link", tarfile.SYMTYPE, linkname="file"),
        entry("new/hard", tarfile.LNKTYPE, linkname="new/file"),
    )
    found = box.get("/new")
    assert found == {
        "new": None, "new/file": b"content", "new/hard": b"content", "new/link": None,
    }  # fmt: skip
    shown = box.stat("/new")
    assert shown["mode"] & ~0o7777 & _GO_DIRECTORY
    assert shown["mode"] & 0o777 == 0o750
    assert shown["mode"] & 1 << 22  # set-group-ID, as Go has it
    assert {"A /new", "A /new/file", "A /new/link", "A /new/hard"} <= box.changes()
    with tarfile.open(fileobj=io.BytesIO(box.raw("/new"))) as got:
        directory = got.getmember("new")
        assert (directory.uid, directory.gid, directory.mode) == (5, 6, 0o2750)
        assert got.getmember("new/link").issym()
        assert got.getmember("new/hard").islnk()


def _names(box: Box, path: str) -> set[str]:
    return {name.strip("/").split("/")[0] for name in box.get(path)}


def test_a_path_is_shown_as_docker_does(box: Box) -> None:
    """A link at its end is followed only with a slash or a dot behind it."""
    box.put("/", entry("d"), ("d/f", b"12345"), entry("l", tarfile.SYMTYPE, linkname="d"))
    assert box.stat("/d/f")["name"] == "f"
    assert box.stat("/d/f")["size"] == 5
    assert box.stat("/d/f")["mtime"].startswith("1970-01-01T00:00:00")
    link = box.stat("/l")
    assert (link["name"], link["linkTarget"]) == ("l", "/d")
    assert link["mode"] & _GO_LINK
    assert box.stat("/l/")["mode"] & _GO_DIRECTORY
    assert box.stat("/l/")["name"] == "l"
    assert set(box.get("/l/")) == {"l", "l/f"}
    assert set(box.get("/l/.")) == {".", "./f"}
    assert list(box.get("/l")) == ["l"]
    assert box.stat("/")["name"] == "/"
    assert box.stat("d/../d/f")["name"] == "f"


def test_what_is_missing_is_named(box: Box) -> None:
    """In Docker's words: its client looks for them."""
    told = f"Could not find the file /no/such in container {box.id}"
    with pytest.raises(NotFound, match=told):
        box.stat("/no/such")
    with pytest.raises(NotFound, match=told):
        box.all.archive_get(box.id, "/no/such")
    with pytest.raises(NotFound, match=told):
        box.put("/no/such", ("f", b""))
    with pytest.raises(InvalidArgument, match="extraction point is not a directory"):
        box.put("/bin/busybox", ("f", b""))


def test_volumes_are_seen(box: Box, tmp_path: Path) -> None:
    """Read and written through; what goes into one is no change of the container's."""
    assert box.get("/volume/here") == {"here": b"volume"}
    box.put("/volume", ("put", b"1"))
    assert (tmp_path / "volume/put").read_bytes() == b"1"
    with pytest.raises(Forbidden, match="marked read-only"):
        box.put("/readonly", ("put", b"1"))
    assert not box.changes()


def test_a_link_leads_nowhere_but_inside(box: Box, tmp_path: Path) -> None:
    """To the host's files neither for reading nor for writing, however it is written."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_text("of the host")
    box.put("/", entry("out", tarfile.SYMTYPE, linkname=str(secret)))
    for path in (f"{secret}/f", "/out/f", "/out/", f"/../..{secret}/f"):
        with pytest.raises(NotFound):
            box.stat(path)
    with pytest.raises((NotFound, InvalidArgument)):
        box.put("/out/", ("f", b"dead"))
    with pytest.raises(InvalidArgument):
        box.put("/", ("out/f", b"dead"), ("../../x", b"dead"))
    assert (secret / "f").read_text() == "of the host"
    assert os.listdir(secret) == ["f"]


def test_a_directory_is_not_overwritten_if_asked(box: Box) -> None:
    """As `docker cp` asks; without, the later one wins."""
    box.put("/", entry("d"), ("f", b""))
    with pytest.raises(InvalidArgument, match='cannot overwrite directory "/d"'):
        box.put("/", ("d", b""), no_overwrite_dir_non_dir=True)
    with pytest.raises(InvalidArgument, match='cannot overwrite non-directory "/f"'):
        box.put("/", entry("f"), no_overwrite_dir_non_dir=True)
    box.put("/", ("d", b"now a file"))
    assert box.get("/d") == {"d": b"now a file"}


def test_names_of_whiteouts_are_names(box: Box) -> None:
    """In a container; only in a layer they mean something."""
    box.put("/", (".wh.bin", b"1"), ("d/.wh..wh..opq", b"2"))
    assert box.get("/.wh.bin") == {".wh.bin": b"1"}
    assert "bin" in _names(box, "/")


def test_files_are_given_to_the_user_if_asked(engine: Engine) -> None:
    """`cp -a` the other way round: copyUIDGID."""
    box = Box(engine, User="7:8")
    box.put("/", entry("d", uid=1, gid=2), ("d/f", b""), copy_uid_gid=True)
    found = os.stat(box.upper / "d/f")
    assert (found.st_uid, found.st_gid) == (7, 8)


def test_a_compressed_archive_is_put(box: Box) -> None:
    """As `docker cp -` may send it."""
    import gzip

    packed = io.BytesIO(gzip.compress(archive(("f", b"1"))))
    box.all.archive_put(box.id, "/", packed, False, False)
    assert box.get("/f") == {"f": b"1"}


def test_a_readonly_root_is_not_written(engine: Engine, tmp_path: Path) -> None:
    """Whether it runs or not; nor by a link in a volume."""
    (tmp_path / "up").symlink_to("/tmp")
    box = Box(engine, HostConfig={"ReadonlyRootfs": True, "Binds": [f"{tmp_path}:/volume"]})
    for name in ("stopped", "running"):
        for path in ("/", "/volume/up"):
            with pytest.raises(Forbidden, match="marked read-only"):
                box.put(path, ("f", b""))
        box.put("/volume", (name, b""))
        assert (tmp_path / name).exists()
        with contextlib.suppress(NotModified):
            box.start()


def test_what_the_runtime_made_is_no_change(engine: Engine) -> None:
    """Mount points in /etc and elsewhere."""
    box = Box(engine).start()
    engine.containers.stop(box.id, 0)
    assert box.all.changes(box.id) is None


def test_an_export_is_all_of_it(engine: Engine) -> None:
    """Its own files over the image's."""
    box = Box(engine)
    box.put("/", ("mine", b"1"))
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.containers.export(box.id)))) as found:
        names = found.getnames()
        assert found.extractfile("mine").read() == b"1"  # type: ignore[union-attr]  # it is a file
    assert "bin/busybox" in names


def test_an_export_that_nobody_reads_ends(engine: Engine) -> None:
    """A client that hangs up leaves no thread and no process."""
    parts = Box(engine).all.export(engine.containers.all()[0].id)
    assert next(parts)
    parts.close()  # type: ignore[attr-defined]  # a generator


def test_a_commit_makes_an_image_that_starts(engine: Engine) -> None:
    """With the changes, the instructions, and what the image had."""
    box = Box(engine, Env=["A=1"], Labels={"of": "the container"}).start()
    box.put("/", ("mine", b"1"))
    query = {
        "repo": "docker.io/library/made", "tag": "2", "comment": "why", "author": "me",
        "changes": ["ENV B=2", 'CMD ["cat", "/mine"]'],
    }  # fmt: skip
    image_id = engine.containers.commit(box.id, query, {})["Id"]
    assert engine.containers.inspect(box.id)["State"]["Status"] == "running"
    shown = engine.images.inspect("made:2")
    assert shown["Id"] == image_id
    config = shown["Config"]
    assert config["Cmd"] == ["cat", "/mine"]
    assert {"A=1", "B=2"} <= set(config["Env"])
    assert config["Labels"] == {"of": "the container"}
    assert (shown["Author"], shown["Comment"]) == ("me", "why")
    history = engine.images.history("made:2")
    assert (history[0]["Comment"], len(shown["RootFS"]["Layers"])) == ("why", 2)
    again = Box(engine, Image="made:2", Cmd=None).start()
    engine.containers.wait(again.id, "not-running").result()
    assert b"1" in b"".join(engine.containers.logs(again.id, _all_output()))


def _all_output() -> Any:
    from minicontainer.engine.options import LogOptions

    return LogOptions(stdout=True, stderr=True)


def test_a_commit_without_a_change_adds_no_layer(engine: Engine) -> None:
    """Its history says so."""
    box = Box(engine)
    engine.containers.commit(box.id, {"repo": "same", "pause": False}, {})
    shown = engine.images.inspect("same")
    assert len(shown["RootFS"]["Layers"]) == 1


def test_a_bad_instruction_makes_nothing(engine: Engine) -> None:
    """And the container is not left paused."""
    box = Box(engine).start()
    with pytest.raises(InvalidArgument, match="RUN is not a valid change command"):
        engine.containers.commit(box.id, {"changes": ["RUN x"]}, {})
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        engine.containers.commit(box.id, {"repo": "UPPER"}, {})
    assert engine.containers.inspect(box.id)["State"]["Status"] == "running"


def test_device_bits_are_gos(engine: Engine) -> None:
    """In a running container, whose /dev is its own."""
    box = Box(engine).start()
    mode = box.stat("/dev/null")["mode"]
    assert mode & 1 << 26
    assert mode & 1 << 21
    assert stat.S_IMODE(mode) & 0o777 == 0o666


def test_a_user_namespace_sees_all_layers(engine: Engine) -> None:
    """Each as an id-mapped mount; what it writes is its own, and `cp` speaks its ids."""
    first = Box(engine)
    first.put("/", ("one", b"1"), entry("d"), ("d/a", b""))
    engine.containers.commit(first.id, {"repo": "several", "tag": "1"}, {})
    second = Box(engine, Image="several:1")
    second.put("/", ("two", b"2"), ("d/b", b""))
    engine.containers.commit(second.id, {"repo": "several", "tag": "2"}, {})
    box = Box(
        engine, Image="several:2", HostConfig={"UsernsMode": "private"},
        Cmd=["sh", "-c", "cat /one /two; ls /d; stat -c %u /two /bin; touch /d/c; sleep 1000"],
    ).start()  # fmt: skip
    wanted = b"12a\nb\n0\n0\n"
    deadline = time.monotonic() + 20
    while (said := _said(engine, box)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said == wanted
    box.put("/d", entry("mine", uid=5), ("mine/f", b""))
    assert os.stat(box.upper / "d/mine").st_uid > 5
    with tarfile.open(fileobj=io.BytesIO(box.raw("/d"))) as got:
        assert got.getmember("d/mine").uid == 5
        assert got.getmember("d/a").uid == 0
    assert box.changes() == {"C /d", "A /d/c", "A /d/mine", "A /d/mine/f"}
    image_id = engine.containers.commit(box.id, {}, {})["Id"]
    assert os.stat(Box(engine, Image=image_id).upper).st_uid == 0
    with tarfile.open(fileobj=io.BytesIO(Box(engine, Image=image_id).raw("/d"))) as got:
        assert {entry.name: entry.uid for entry in got}["d/mine"] == 5
        assert got.getmember("d/c").uid == 0


def _said(engine: Engine, box: Box) -> bytes:
    frames = b"".join(engine.containers.logs(box.id, _all_output()))
    said = b""
    while frames:
        length = int.from_bytes(frames[4:8], "big")
        said, frames = said + frames[8 : 8 + length], frames[8 + length :]
    return said


def test_the_root_is_as_the_images(engine: Engine, tmp_path: Path) -> None:
    """With its owner and mode, and not those of a new directory."""
    made = io.BytesIO(archive(entry(".", uid=3, gid=4, mode=0o711), ("f", b"")))
    image_id = list(engine.images.import_(made, "rooted", "", "", ()))[-1]["status"]
    box = Box(engine, Image=image_id)
    with tarfile.open(fileobj=io.BytesIO(box.raw("/"))) as got:
        root = got.next()
        assert root is not None
        assert (root.uid, root.gid, root.mode) == (3, 4, 0o711)
    assert box.changes() == set()


@pytest.mark.parametrize("userns", ["", "private"])
def test_without_overlay_the_files_are_copied(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, userns: str
) -> None:
    """The user is told; and the changes are the same."""
    monkeypatch.setattr(engine, "overlay_refused", "for a test")
    box = Box(
        engine, HostConfig={"UsernsMode": userns}, Cmd=["sh", "-c", "rm -r /srv; touch /f; cat"],
        OpenStdin=True,
    )  # fmt: skip
    assert (box.upper / "bin/busybox").exists()
    box.put("/", ("put", b"1"))
    assert box.changes() == {"A /put"}
    box.start()
    deadline = time.monotonic() + 20
    while len(box.changes()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert box.changes() == {"A /put", "A /f", "D /srv"}
    assert box.get("/put") == {"put": b"1"}
    image_id = engine.containers.commit(box.id, {}, {})["Id"]
    monkeypatch.undo()
    again = Box(engine, Image=image_id)
    assert again.get("/put") == {"put": b"1"}
    with pytest.raises(NotFound):
        again.stat("/srv")


def test_where_an_overlay_is_refused(tmp_path: Path) -> None:
    """On a filesystem that can be no upper directory; and not where it can."""
    assert copies.why_no_overlay(str(tmp_path)) == ""
    with contextlib.ExitStack() as stack:
        for name in ("l", "u", "w", "m"):
            (tmp_path / name).mkdir()
        options = f"lowerdir={tmp_path}/l,upperdir={tmp_path}/u,workdir={tmp_path}/w"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "x", tmp_path / "m"], check=True)
        stack.callback(lambda: subprocess.run(["umount", tmp_path / "m"], check=True))
        assert "overlay" in copies.why_no_overlay(str(tmp_path / "m"))


def test_a_deep_tree_is_removed(engine: Engine) -> None:
    """Deeper than Python recurses, and longer than a path may be: a program can make that."""
    box = Box(engine)
    deep = "/".join(["d" * 50] * 1500)
    box.put("/", entry(deep))
    upper = box.upper
    engine.containers.remove(box.id)
    assert not upper.exists()
