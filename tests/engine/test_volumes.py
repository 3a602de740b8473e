"""Volumes of the engine: made, filled, held, removed; and the mounts that containers get."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicontainer.engine.config import ContainerConfig
from minicontainer.engine.system import directory_size
from minicontainer.engine.volume_contents import fill
from minicontainer.engine.volumes import Volumes
from minicontainer.errors import Conflict, Error, InvalidArgument, KernelError, NotFound
from minicontainer.kernel.trees import remove_tree
from minicontainer.runtime.config.spec import Mount
from tests.engine.network_places import Table

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes owners")

Json = dict[str, Any]
ANONYMOUS = {"com.docker.volume.anonymous": ""}


class Container:
    """A container that is nothing but mounts."""

    def __init__(self, name: str, config: ContainerConfig) -> None:
        self.id = os.urandom(32).hex()
        self.name = name
        self.config = config
        self.mounts: list[Json] = []


class Place:
    """Volumes, an image of two layers, and containers of it."""

    def __init__(self, base: Path) -> None:
        self.root = base / "data"
        self.root.mkdir()
        self.table = Table()
        self.events: list[tuple[str, str]] = []
        self.containers: dict[str, Container] = {}
        self.image = (str(base / "upper"), str(base / "lower"))
        for layer in self.image:
            (Path(layer) / "srv/web").mkdir(parents=True)
        Path(self.image[1], "srv/web/index").write_text("below")
        Path(self.image[0], "srv/web/index").write_text("above")
        Path(self.image[1], "srv/web/other").write_text("other")
        os.chown(Path(self.image[0], "srv/web"), 33, 34)
        Path(self.image[0], "srv/web").chmod(0o2750)
        Path(self.image[0], "link").symlink_to("/srv/web")
        self.volumes = self.again()

    def again(self) -> Volumes:
        """Open them as an engine does that was started again."""
        return Volumes(
            str(self.root), self.table, find=self.find,
            publish=lambda kind, action, name, _: self.events.append((f"{kind} {action}", name)),
        )  # fmt: skip

    def find(self, ref: str) -> Container:
        """Find a container by its name."""
        if ref not in self.containers:
            raise NotFound(f"No such container: {ref}")
        return self.containers[ref]

    def make(self, name: str, volumes: Json | None = None, **host: Any) -> Container:
        """Make a container."""
        asked = {"Rootfs": "/", "Cmd": ["true"], "HostConfig": host, "Volumes": volumes or {}}
        container = Container(name, ContainerConfig.from_json(asked))
        self.volumes.check(container.config)
        self.volumes.give(container, self.image)
        self.containers[name] = container
        return container

    def mounts(self, container: Container) -> dict[str, Mount]:
        """Give what the runtime would mount, by place."""
        return {mount.destination: mount for mount in self.volumes.mounts_of(container)}

    def data(self, name: str) -> Path:
        """Give a volume's directory."""
        return self.root / "volumes" / name / "_data"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Volumes in a directory of the test's own."""
    return Place(tmp_path)


# ---- named ones


def test_a_volume_is_made_shown_and_removed(place: Place) -> None:
    """In Docker's shape; it is there after a restart of the engine."""
    made = place.volumes.create({"Name": "data", "Labels": {"a": "b"}})
    assert made == place.volumes.inspect("data") == place.again().inspect("data")
    assert made | {"CreatedAt": ""} == {
        "CreatedAt": "", "Driver": "local", "Labels": {"a": "b"}, "Options": None, "Name": "data",
        "Mountpoint": str(place.data("data")), "Scope": "local",
    }  # fmt: skip
    assert place.volumes.create({"Name": "data"}) == made  # as Docker: it is there
    assert place.volumes.list({}) == {"Volumes": [made], "Warnings": None}
    place.volumes.remove("data")
    assert not place.data("data").parent.exists()
    with pytest.raises(NotFound, match="get data: no such volume"):
        place.volumes.remove("data")
    place.volumes.remove("data", force=True)
    assert place.events == [("volume create", "data"), ("volume destroy", "data")]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_its_directories_have_their_modes_under_any_umask(place: Place, umask: int) -> None:
    """Every user of a container gets to the volume; no other user of the host does."""
    before = os.umask(umask)
    try:
        place.volumes.create({"Name": "data"})
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (place.data("data"), place.root / "volumes")]
    assert modes == [0o755, 0o700]


def test_without_a_name_it_is_anonymous(place: Place) -> None:
    """64 digits, and Docker's label."""
    made = place.volumes.create({})
    assert len(made["Name"]) == 64
    assert made["Labels"] == ANONYMOUS


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ({"Name": "a/b"}, InvalidArgument, '"a/b" includes invalid characters for a local volume'),
        ({"Name": "x"}, InvalidArgument, "volume name is too short"),
        ({"Name": ".."}, InvalidArgument, "includes invalid characters"),
        ({"Name": "ok", "Driver": "nfs"}, NotFound, "error looking up volume plugin nfs"),
        ({"Name": "ok", "DriverOpts": {"x": "y"}}, InvalidArgument, 'invalid option: "x"'),
        ({"Name": "ok", "Labels": {"a": 1}}, InvalidArgument, "Labels: expected an object of str"),
    ],
)
def test_a_volume_that_cannot_be(place: Place, body: Json, error: type[Error], says: str) -> None:
    """Refused in Docker's words, and not kept."""
    with pytest.raises(error, match=says):
        place.volumes.create(body)
    assert place.volumes.list({})["Volumes"] == []


# ---- what a container gets


def test_a_new_volume_has_the_images_files(place: Place) -> None:
    """Of all layers, as laid over one another; with the owner and mode of the directory itself."""
    one = place.make("one", Binds=["data:/srv/web"])
    data = place.data("data")
    assert {path.name: path.read_text() for path in data.iterdir()} == {
        "index": "above", "other": "other",
    }  # fmt: skip
    found = data.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (33, 34, 0o2750)
    assert one.mounts == [
        {
            "Type": "volume", "Name": "data", "Source": str(data), "Destination": "/srv/web",
            "Driver": "local", "Mode": "z", "RW": True, "Propagation": "",
        }
    ]  # fmt: skip
    assert place.mounts(one)["/srv/web"].source == str(data)
    assert str(place.root.parent) not in Path("/proc/self/mountinfo").read_text()


def test_links_on_the_way_are_the_images(place: Place) -> None:
    """/link leads to /srv/web of the image, and not of the host."""
    place.make("one", Binds=["data:/link"])
    assert (place.data("data") / "index").read_text() == "above"


@pytest.mark.parametrize(
    "host",
    [
        {"Binds": ["data:/srv/web:nocopy"]},
        {"Mounts": [{"Type": "volume", "Source": "data", "Target": "/srv/web",
                     "VolumeOptions": {"NoCopy": True}}]},
        {"Binds": ["data:/nosuch"]},
        {"Binds": ["data:/srv/web/index"]},
    ],
)  # fmt: skip
def test_a_volume_that_stays_empty(place: Place, host: Json) -> None:
    """By nocopy; or there is nothing to copy, or no directory."""
    place.make("one", **host)
    assert list(place.data("data").iterdir()) == []


def test_a_volume_with_files_keeps_them(place: Place) -> None:
    """Only an empty one is filled."""
    place.volumes.create({"Name": "data"})
    (place.data("data") / "mine").touch()
    place.make("one", Binds=["data:/srv/web"])
    assert [path.name for path in place.data("data").iterdir()] == ["mine"]


def test_a_volume_that_is_too_small_for_its_files(place: Place, tmp_path: Path) -> None:
    """The error is the copy's, and the image stays as it was; half a volume was given before."""
    Path(place.image[1], "srv/web/large").write_bytes(bytes(1 << 20))
    small = tmp_path / "small"
    small.mkdir()
    words = ("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small))
    subprocess.run(["mount", *words], check=True)
    try:
        with pytest.raises(KernelError, match="No space left"):
            fill(str(small), place.image, "/srv/web")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert sorted(os.listdir(Path(place.image[1], "srv/web"))) == ["index", "large", "other"]


def test_anonymous_volumes_of_the_image(place: Place) -> None:
    """VOLUME, and `-v /place`: one each, but not where the user mounts something."""
    one = place.make(
        "one", {"/srv/web": {}, "/cache": {}, "/given": {}, "/memory": {}},
        Binds=["data:/given"], Tmpfs={"/memory": ""},
    )  # fmt: skip
    names = {mount["Destination"]: mount["Name"] for mount in one.mounts}
    assert set(names) == {"/srv/web", "/cache", "/given"}
    assert place.volumes.inspect(names["/cache"])["Labels"] == ANONYMOUS
    assert (place.data(names["/srv/web"]) / "index").read_text() == "above"
    assert place.mounts(one)["/memory"].type == "tmpfs"


def test_read_only_and_a_part_of_a_volume(place: Place) -> None:
    """All the way down; and the part is found without following a link out."""
    place.volumes.create({"Name": "data"})
    (place.data("data") / "in/side").mkdir(parents=True)
    (place.data("data") / "out").symlink_to("/etc")
    asked = {"Type": "volume", "Source": "data", "Target": "/x", "ReadOnly": True}
    one = place.make("one", Mounts=[asked | {"VolumeOptions": {"Subpath": "in/side"}}])
    assert place.mounts(one)["/x"] == Mount(
        destination="/x", type="bind", source=str(place.data("data") / "in/side"),
        options=("rbind", "ro", "rro", "src-nosymlinks"),
    )  # fmt: skip
    assert one.mounts[0]["RW"] is False
    two = place.make("two", Mounts=[asked | {"VolumeOptions": {"Subpath": "out"}}])
    with pytest.raises(InvalidArgument, match=r"escapes the base directory, base: .*subpath: out"):
        place.mounts(two)
    (place.data("data") / "empty").mkdir()
    asked["Target"] = "/srv/web"
    place.make("filled", Mounts=[asked | {"VolumeOptions": {"Subpath": "empty"}}])
    assert (place.data("data") / "empty/index").read_text() == "above"  # as a whole volume is
    asked["Target"] = "/x"
    gone = place.make("gone", Mounts=[asked | {"VolumeOptions": {"Subpath": "gone"}}])
    with pytest.raises(NotFound, match=r"cannot access path .*/gone: No such file"):
        place.mounts(gone)
    with pytest.raises(InvalidArgument, match="subpath must be a relative path"):
        place.make("three", Mounts=[asked | {"VolumeOptions": {"Subpath": "../x"}}])


def test_directories_as_deep_as_a_container_can_make_them(tmp_path: Path) -> None:
    """Their size is counted: os.walk recurses, and Python gives up at a thousand."""
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("a")
            os.chdir("a")
        Path("file").write_bytes(b"x" * 1000)
    finally:
        os.chdir(here)
    assert directory_size(str(tmp_path)) == 1000
    remove_tree(str(tmp_path))  # pytest could not
    tmp_path.mkdir()


def test_a_bind_makes_its_directory_and_a_mount_does_not(place: Place) -> None:
    """-v makes what is missing on the host; --mount refuses, unless it is told to make it."""
    path = place.root / "new/deep"
    asked = {"Type": "bind", "Source": str(path), "Target": "/x"}
    with pytest.raises(InvalidArgument, match=f"bind source path does not exist: {path}"):
        place.make("one", Mounts=[asked])
    before = os.umask(0o077)
    try:
        two = place.make("two", Binds=[f"{path}:/x:ro,rslave"])
    finally:
        os.umask(before)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o755, 0o755)
    assert two.mounts == [
        {
            "Type": "bind", "Source": str(path), "Destination": "/x", "Mode": "ro,rslave",
            "RW": False, "Propagation": "rslave",
        }
    ]  # fmt: skip
    path.rmdir()
    place.make("three", Mounts=[asked | {"BindOptions": {"CreateMountpoint": True}}])
    assert path.is_dir()


def test_tmpfs_by_both_options(place: Place) -> None:
    """--mount shows it in `inspect`; --tmpfs does not, as with Docker."""
    options = {"SizeBytes": 9, "Mode": 0o1770}
    one = place.make(
        "one", Tmpfs={"/a": "size=1m"},
        Mounts=[{"Type": "tmpfs", "Target": "/b", "TmpfsOptions": options}],
    )  # fmt: skip
    assert [mount["Destination"] for mount in one.mounts] == ["/b"]
    found = place.mounts(one)
    assert found["/a"].options == ("nosuid", "nodev", "noexec", "size=1m")
    assert found["/b"].options == ("nosuid", "nodev", "noexec", "size=9", "mode=1770")


def test_volumes_from_another_container(place: Place) -> None:
    """All its binds and volumes, read-only if that is asked; one's own win."""
    place.make("web", {"/cache": {}}, Binds=["data:/srv/web", "/usr:/u"])
    one = place.make("one", VolumesFrom=["web:ro"], Binds=["mine:/u"])
    shown = {mount["Destination"]: mount for mount in one.mounts}
    assert shown["/srv/web"]["Name"] == "data"
    assert (shown["/srv/web"]["RW"], shown["/u"]["Name"]) == (False, "mine")
    assert "ro" in place.mounts(one)["/cache"].options
    with pytest.raises(InvalidArgument, match="No such container: nosuch"):
        place.make("two", VolumesFrom=["nosuch"])
    with pytest.raises(InvalidArgument, match="invalid mode: x, of volumes-from"):
        place.make("two", VolumesFrom=["web:x"])


def test_a_driver_with_a_device_is_mounted_by_the_runtime(place: Place) -> None:
    """The local driver's type, device and o, as for mount(8)."""
    options = {"type": "none", "device": "/usr", "o": "bind,nosuid"}
    place.volumes.create({"Name": "usr", "DriverOpts": options})
    one = place.make("one", Binds=["usr:/x"])
    assert place.mounts(one)["/x"] == Mount(
        destination="/x", type="bind", source="/usr", options=("bind", "nosuid")
    )


def test_outer_places_come_first(place: Place) -> None:
    """Whatever the order in which they were asked for."""
    one = place.make("one", Binds=["aa:/x/y/z", "bb:/x"], Tmpfs={"/x/y": ""})
    assert [mount.destination for mount in place.volumes.mounts_of(one)] == ["/x", "/x/y", "/x/y/z"]
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        place.make("two", Binds=["aa:/x", "bb:/x"])


# ---- in use


def test_a_held_volume_stays(place: Place) -> None:
    """Also after a restart of the engine; it goes when the container is removed."""
    one = place.make("one", Binds=["data:/x"])
    again = place.again()
    again.adopt(one)
    for volumes in (place.volumes, again):
        with pytest.raises(Conflict, match=rf"remove data: volume is in use - \[{one.id}\]"):
            volumes.remove("data", force=True)
    place.volumes.release(one)
    place.volumes.remove("data")


def test_nameless_volumes_go_with_their_last_container(place: Place) -> None:
    """If that is asked; named ones stay."""
    one = place.make("one", {"/cache": {}}, Binds=["data:/x"])
    two = place.make("two", VolumesFrom=["one"])
    place.volumes.release(one, anonymous=True)
    assert len(place.volumes.list({})["Volumes"]) == 2
    place.volumes.release(two, anonymous=True)
    assert [volume["Name"] for volume in place.volumes.list({})["Volumes"]] == ["data"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"name": ["at"]}, ["data"]),
        ({"label": ["tier=1"]}, ["data"]),
        ({"label": ["tier"]}, ["data", "logs"]),
        ({"dangling": ["true"]}, ["logs"]),
        ({"dangling": ["0"]}, ["data"]),
        ({"driver": ["local"]}, ["data", "logs"]),
        ({"driver": ["nfs"]}, []),
    ],
)
def test_filters(place: Place, filters: dict[str, list[str]], found: list[str]) -> None:
    """Each of Docker's; an unknown one is refused."""
    place.volumes.create({"Name": "data", "Labels": {"tier": "1"}})
    place.volumes.create({"Name": "logs", "Labels": {"tier": "2"}})
    place.make("one", Binds=["data:/x"])
    assert [one["Name"] for one in place.volumes.list(filters)["Volumes"]] == found
    with pytest.raises(InvalidArgument, match="invalid filter 'what'"):
        place.volumes.list({"what": ["x"]})


def test_prune(place: Place) -> None:
    """Nameless ones; with `all` named ones too; never what is held."""
    place.make("one", {"/cache": {}}, Binds=["held:/x"])
    place.volumes.create({"Name": "data"})
    (place.data("data") / "file").write_bytes(b"x" * 1000)
    nameless = place.volumes.create({})["Name"]
    assert place.volumes.prune({}) == {"VolumesDeleted": [nameless], "SpaceReclaimed": 0}
    assert place.volumes.prune({"all": ["true"], "label": ["x"]})["VolumesDeleted"] == []
    pruned = place.volumes.prune({"all": ["true"]})
    assert pruned["VolumesDeleted"] == ["data"]
    assert pruned["SpaceReclaimed"] >= 1000
    assert len(place.volumes.list({})["Volumes"]) == 2
