"""Images that are mounted into containers."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.errors import Conflict, InvalidArgument, Unsupported
from tests.engine.conftest import payload

if TYPE_CHECKING:
    from tests.engine.conftest import Lab


def tar_of(**files: str) -> io.BytesIO:
    """Pack some files, which everybody may read."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    made.seek(0)
    return made


def mounted(source: str, **more: Any) -> dict[str, Any]:
    """Ask for an image at /tools."""
    return {"Mounts": [{"Type": "image", "Source": source, "Target": "/tools", **more}]}


def add_images(lab: Lab) -> None:
    """Make an image of one layer, and one of two."""
    list(lab.engine.images.import_(tar_of(a="one\n", b="one\n"), "one", "", "", ()))
    lab.engine.images.tag("one", "below", "")
    made = lab.engine.containers.create({"Image": "below", "Cmd": ["x"]})["Id"]
    lab.engine.containers.archive_put(made, "/", tar_of(b="two\n"), False, False)
    query = {"repo": "two", "tag": "", "comment": "", "author": "", "changes": [], "pause": False}
    lab.engine.containers.commit(made, query, {})
    lab.engine.containers.remove(made)
    lab.engine.images.remove("below")


@pytest.mark.parametrize(("image", "text"), [("one", b"one\none\n"), ("two", b"one\ntwo\n")])
def test_an_image_is_mounted_to_be_read(lab: Lab, image: str, text: bytes) -> None:
    """Whatever number of layers it has; it stays when it is removed by force, until the end."""
    add_images(lab)
    script = "cat /tools/a /tools/b; touch /tools/c"
    made, status = lab.run("sh", "-c", script, host=mounted(image))
    assert status == 1
    assert payload(lab.logs(made), 1) == text
    assert b"Read-only file system" in payload(lab.logs(made), 2)
    (shown,) = lab.engine.containers.inspect(made)["Mounts"]
    assert (shown["Type"], shown["Name"], shown["RW"]) == ("image", image, False)
    with pytest.raises(Conflict, match=f"container {made[:12]} is using its referenced image"):
        lab.engine.images.remove(image)
    lab.engine.images.remove(image, force=True)
    waiting = lab.engine.containers.wait(made, "next-exit")
    lab.engine.containers.start(made)
    waiting.result()
    assert payload(lab.logs(made), 1) == text * 2
    lab.engine.containers.remove(made)
    assert os.path.isdir(shown["Source"]) == (image == "one")  # the other image has it, too


def test_an_image_that_cannot_be_mounted(lab: Lab) -> None:
    """Named, and nothing is made."""
    add_images(lab)
    for host, kind, words in (
        (mounted("nosuch"), InvalidArgument, "No such image: nosuch"),
        (mounted(""), InvalidArgument, "field Source must not be empty"),
        (mounted("one", TmpfsOptions={"SizeBytes": 1}), InvalidArgument, "TmpfsOptions must not"),
        (mounted("one", ImageOptions={"Subpath": "a"}), Unsupported, "leave image-subpath out"),
        ({**mounted("one"), "UsernsMode": "private"}, InvalidArgument, "--userns private and a"),
    ):
        with pytest.raises(kind, match=words):
            lab.create("true", host=host)
    assert lab.engine.containers.all() == []
    lab.engine.images.remove("two")
    lab.engine.images.remove("one")
