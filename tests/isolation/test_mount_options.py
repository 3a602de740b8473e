"""mounts[].options: each word as the kernel shows it. mount(8), mount_setattr(2)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from minicontainer.kernel.mount_options import OPTIONS, RECURSIVE_OPTIONS

from .conftest import Bundles, Change, MountPoint, Spec, in_user_namespace, mounts_of

WAIT = "echo ready; sleep 60"

# What mountinfo shows of a mount for each word that sets an attribute, and who takes it back.
ATTRIBUTES = {
    "ro": ("ro", "rw"), "nosuid": ("nosuid", "suid"), "nodev": ("nodev", "dev"),
    "noexec": ("noexec", "exec"), "nosymfollow": ("nosymfollow", "symfollow"),
    "nodiratime": ("nodiratime", "diratime"), "noatime": ("noatime", "atime"),
}  # fmt: skip
# And of a filesystem.
FLAGS = {
    "ro": ("ro", "rw"), "sync": ("sync", "async"), "dirsync": ("dirsync", "nodirsync"),
    "lazytime": ("lazytime", "nolazytime"), "mand": ("mand", "nomand"),
}  # fmt: skip


def tmpfs(destination: str, *options: str) -> Spec:
    """Write a mount of a tmpfs."""
    return {"destination": destination, "type": "tmpfs", "source": "x", "options": [*options]}


def bind(source: Path | str, destination: str, *options: str, **more: object) -> Spec:
    """Write a bind mount."""
    words = ["bind", *options]
    return {"destination": destination, "source": str(source), "options": words, **more}


def with_mounts(*mounts: Spec) -> Change:
    """Add mounts, to a root that can be written to."""

    def change(config: Spec) -> None:
        config["mounts"] += mounts

    return change


def mounted(bundles: Bundles, *mounts: Spec) -> dict[str, MountPoint]:
    """Give the mounts of a container that has these too."""
    return mounts_of(bundles.start(WAIT, with_mounts(*mounts)).pid)


@pytest.mark.oci("mounts[].options", "mounts[].type")
def test_attributes_of_a_mount(bundles: Bundles, volume: Path) -> None:
    """Of a new filesystem and of a bind; with the word that takes it back, the control."""
    asked = {
        f"{kind}/{word}/{state}": (word, back)[: 1 + (state == "back")]
        for kind in ("tmpfs", "bind")
        for word, (_, back) in ATTRIBUTES.items()
        for state in ("set", "back")
    }
    found = mounted(
        bundles,
        tmpfs("/tmp"),
        *(
            tmpfs(f"/tmp/{place}", *words)
            if place.startswith("tmpfs")
            else bind(volume, f"/tmp/{place}", *words)
            for place, words in asked.items()
        ),
    )
    of_the_source = mounts_of("self")[_mount_of(volume)].options
    for place in asked:
        kind, word, state = place.split("/")
        shown = ATTRIBUTES[word][0]
        # a bind that asks for no other times of access has its source's
        kept = (kind, word) == ("bind", "noatime") and word in of_the_source
        assert (shown in found[f"/tmp/{place}"].options) == (state == "set" or kept), place


def test_flags_of_a_filesystem(bundles: Bundles) -> None:
    """In the superblock, for whoever mounts it; a tmpfs is filled before it becomes read-only."""
    words = {word: back for word, (_, back) in FLAGS.items() if word != "ro"}
    found = mounted(
        bundles,
        tmpfs("/tmp"),
        *(tmpfs(f"/tmp/{word}", word) for word in words),
        *(tmpfs(f"/tmp/{back}", word, back) for word, back in words.items()),
    )
    for word, back in words.items():
        assert word in found[f"/tmp/{word}"].super_options
        assert word not in found[f"/tmp/{back}"].super_options
    assert "ro" in found["/sys"].super_options


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("strictatime",), set()), (("relatime",), {"relatime"}), ((), {"relatime"}),
        (("noatime", "relatime"), {"relatime"}), (("strictatime", "nostrictatime"), {"relatime"}),
        (("noatime", "norelatime"), {"relatime"}), (("relatime", "noatime"), {"noatime"}),
    ],
)  # fmt: skip
def test_times_of_access(bundles: Bundles, words: tuple[str, ...], shown: set[str]) -> None:
    """One field with three values: the last word has it."""
    options = mounted(bundles, tmpfs("/tmp", *words))["/tmp"].options
    assert options & {"relatime", "noatime"} == shown


def test_words_that_ask_for_nothing(bundles: Bundles, volume: Path) -> None:
    """mount(8) knows them: they are taken, and change nothing."""
    words = ("defaults", "silent", "loud", "iversion", "noiversion")
    found = mounted(bundles, tmpfs("/tmp"), tmpfs("/tmp/x", *words), bind(volume, "/srv", *words))
    assert found["/tmp/x"].options == {"rw", "relatime"}
    assert found["/srv"].options == mounts_of("self")[_mount_of(volume)].options


def _mount_of(path: Path) -> str:
    while not os.path.ismount(path):
        path = path.parent
    return str(path)


def test_an_r_is_for_the_whole_tree(bundles: Bundles) -> None:
    """Of /sys and what is mounted below it; without the r of the upper one alone."""
    assert {f"r{word}" for word in ATTRIBUTES} <= RECURSIVE_OPTIONS.keys()
    below = "fs/cgroup"
    assert os.path.ismount(f"/sys/{below}")
    sets = {
        "tree": ["rro", "rnosuid", "rnodev", "rnoexec", "rnosymfollow", "rnodiratime", "rnoatime"],
        "one": ["ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime", "noatime"],
        "back": ["rro", "rnosuid", "rrw", "rsuid"],
    }
    binds = [{"destination": f"/tmp/{name}", "source": "/sys", "options": ["rbind", *words]}
             for name, words in sets.items()]  # fmt: skip
    found = mounted(bundles, tmpfs("/tmp"), *binds)
    wanted = {word[1:] for word in sets["tree"]}
    before = mounts_of("self")[f"/sys/{below}"].options
    assert wanted <= found["/tmp/tree"].options
    assert wanted <= found[f"/tmp/tree/{below}"].options
    assert wanted <= found["/tmp/one"].options
    assert found[f"/tmp/one/{below}"].options == before
    assert not {"ro", "nosuid"} & found["/tmp/back"].options


@pytest.mark.oci("mounts[].source", "mounts[].destination", "mounts[].type")
def test_binds_in_every_spelling(bundles: Bundles, volume: Path) -> None:
    """As a word, as a type, as both; a file; relative to the bundle, and below the root."""
    (volume / "relative").mkdir()
    source = os.path.relpath(volume, bundles.directory / "any")
    found = bundles(
        "cat /tmp/*/file /tmp/file && ls /tmp/outer",
        with_mounts(
            tmpfs("/tmp"),
            bind(volume, "/tmp/a"),
            {"destination": "/tmp/b", "type": "bind", "source": str(volume)},
            {"destination": "/tmp/c", "type": "rbind", "source": str(volume)},
            bind(volume, "/tmp/d", type="none"),
            bind(source, "/tmp/e"),
            bind(volume, "tmp/f"),
            bind(volume, "tmp/../tmp//./g/"),
            bind(volume / "file", "/tmp/file"),
            {"destination": "/tmp/outer", "type": "bind", "source": f"{source}/relative",
             "options": ["rbind", "rro"]},
        ),
    )  # fmt: skip
    assert found.output == "the host's\n" * 8, found.errors


def test_one_word_in_another(bundles: Bundles, tmp_path: Path) -> None:
    """Several options in one, and one that is longer than fsconfig(2) takes: mount(2) does."""
    lower = [tmp_path / ("x" * 100 + str(i)) for i in range(6)]
    for directory in lower:
        directory.mkdir()
    found = mounted(
        bundles,
        tmpfs("/tmp"),
        tmpfs("/tmp/several", "size=4096k,mode=711", "nosuid", "noatime", "sync"),
        {"destination": "/tmp/long", "type": "overlay", "source": "over",
         "options": ["ro", f"lowerdir={':'.join(map(str, lower))}"]},
    )  # fmt: skip
    several = found["/tmp/several"]
    assert {"size=4096k", "mode=711", "sync"} <= several.super_options
    assert {"nosuid", "noatime"} <= several.options
    assert found["/tmp/long"].fstype == "overlay"
    assert "ro" in found["/tmp/long"].options & found["/tmp/long"].super_options


def test_remount_changes_what_it_names(bundles: Bundles, volume: Path) -> None:
    """Of a tmpfs, a bind, /proc and the root; nothing of the filesystem, which is the host's."""
    before = mounts_of("self")[_mount_of(volume)]
    found = mounted(
        bundles,
        tmpfs("/tmp", "nosuid"),
        {"destination": "/tmp", "options": ["remount", "noexec"]},
        bind(volume, "/srv", "ro"),
        {"destination": "/srv", "options": ["remount", "rw", "nodev", "slave"]},
        {"destination": "/proc", "type": "none", "options": ["bind", "remount", "ro"]},
        {"destination": "/", "options": ["remount", "nodev"]},
    )
    assert found["/tmp"].options >= {"rw", "nosuid", "noexec"}
    assert found["/srv"].options >= {"rw", "nodev"}
    assert found["/proc"].options >= {"ro", "nosuid", "nodev", "noexec"}
    assert "nodev" in found["/"].options
    assert mounts_of("self")[_mount_of(volume)] == before


def test_a_tmpfs_has_the_mode_of_what_it_covers(bundles: Bundles) -> None:
    """Unless it is told another; over nothing it has its own default."""
    mounts = (tmpfs("/tmp"), tmpfs("/root"), tmpfs("/home", "mode=700"), tmpfs("/tmp/new"))
    root = f"/proc/{bundles.start(WAIT, with_mounts(*mounts)).pid}/root"
    modes = [os.stat(root + mount["destination"]).st_mode & 0o7777 for mount in mounts]
    image = [os.stat(bundles.rootfs / name).st_mode & 0o7777 for name in ("tmp", "root")]
    assert modes == [*image, 0o700, 0o1777]


def test_what_is_read_only_is_filled_first(bundles: Bundles, volume: Path) -> None:
    """Mount points in a tmpfs, devices and links in /dev, the working directory."""

    def change(config: Spec) -> None:
        config["mounts"] += [tmpfs("/tmp", "ro"), bind(volume, "/tmp/new/place")]
        config["process"]["cwd"] = "/tmp/made"
        for row in config["mounts"]:
            if row["destination"] == "/dev":
                row["options"].append("ro")

    container = bundles.start(WAIT, change)
    found, root = mounts_of(container.pid), Path(f"/proc/{container.pid}/root")
    assert "ro" in found["/tmp"].options & found["/dev"].options
    assert (root / "tmp/new/place/file").read_text() == "the host's\n"
    assert (root / "tmp/made").is_dir()
    assert (root / "dev/null").is_char_device()


@pytest.mark.oci("mounts[].options", "mounts[].destination")
def test_links_that_are_not_followed(bundles: Bundles, volume: Path, tmp_path: Path) -> None:
    """A source that is itself shown, or made again; a destination that is itself covered."""
    link = tmp_path / "link"
    link.symlink_to("/tmp/target")
    container = bundles.start(
        "ln -s /etc /tmp/there; echo ready; sleep 60",
        with_mounts(
            tmpfs("/tmp"),
            bind(volume / "file", "/tmp/target"),
            bind(link, "/tmp/shown", "src-nofollow"),
            bind(link, "/tmp/copied", "copy-symlink"),
            bind(link, "/tmp/copied", "copy-symlink"),
            bind(volume / "file", "/tmp/copied", "dest-nofollow"),
        ),
    )
    root = Path(f"/proc/{container.pid}/root/tmp")
    found = mounts_of(container.pid)
    assert os.readlink(root / "shown") == "/tmp/target"
    assert found["/tmp/shown"].root.endswith("/link")
    assert found["/tmp/copied"].root.endswith("/volume/file")
    assert (root / "copied").read_text() == "the host's\n"


def test_a_link_that_is_there_already_must_be_the_same(bundles: Bundles, tmp_path: Path) -> None:
    """copy-symlink replaces nothing."""
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(f"/{name}")
    mounts = [bind(tmp_path / name, "/tmp/link", "copy-symlink") for name in ("one", "two")]
    result = bundles("true", with_mounts(tmpfs("/tmp"), *mounts))
    assert result.status == 1
    assert "File exists" in result.errors


@pytest.mark.parametrize("own_users", [False, True], ids=["", "with a user namespace"])
@pytest.mark.parametrize("words", [(), ("rslave",)])
@pytest.mark.oci("mounts[].source")
def test_a_place_of_the_container_at_another_one(
    bundles: Bundles, volume: Path, words: tuple[str, ...], own_users: bool
) -> None:
    """What an earlier mount brings there is shown, not what it covers, nor that there is none."""
    (volume / "below").mkdir(exist_ok=True)
    (volume / "below" / "brought").touch()
    root = volume.parent / "root"
    shutil.copytree(bundles.rootfs, root, symlinks=True)
    for place in ("tmp/below", "empty", "shown/tmp", "shown/empty"):
        (root / place).mkdir(parents=True)  # which root of a user namespace could not
    shown = [bind(root / place / "below", f"/shown/{place}", *words) for place in ("tmp", "empty")]

    def change(config: Spec) -> None:
        config["root"] = {"path": str(root)}
        config["mounts"] += [bind(volume, "/tmp"), bind(volume, "/empty"), *shown]
        if own_users:
            in_user_namespace(config)

    result = bundles("ls /shown/*", change)
    assert result.output.split().count("brought") == len(shown), result.errors


def test_every_word_is_tried_here() -> None:
    """Those that the tests above leave out have files of their own."""
    elsewhere = {word for word, option in OPTIONS.items() if option.propagation}
    elsewhere |= {"idmap", "ridmap", "tmpcopyup", "src-nosymlinks"}
    source = Path(__file__).read_text()
    assert [word for word in OPTIONS.keys() - elsewhere if f'"{word}"' not in source] == []
