"""Names of containers on networks of users, in the hosts files of those that run there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .network_places import SUBNET, Place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_names_on_a_users_network(place: Place, tmp_path: Path) -> None:
    """In /etc/hosts of all that run there; what a program wrote stays, and the bridge has none."""
    place.create("back", IPAM=SUBNET)
    made = {}
    for name, mode in (("web", "back"), ("db", "back"), ("apart", "bridge")):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "hosts").write_text("10.0.0.1\tits-own\n")
        places = {mode: {"Aliases": ["alias"]}}
        made[name] = place.run(name, mode, directory=directory, places=places)[0]
        place.networks.tell_names(made[name])

    def hosts(name: str) -> list[list[str]]:
        text = (tmp_path / name / "hosts").read_text()
        return [line.partition("#")[0].split() for line in text.splitlines()]

    lines = [
        [made[name].endpoints["back"]["IPAddress"], name, "alias", made[name].id[:12],
         f"{name}.back", "alias.back"]
        for name in ("web", "db")
    ]  # fmt: skip
    own = [["10.0.0.1", "its-own"]]
    assert hosts("web") == hosts("db") == own + lines
    assert hosts("apart") == own
    place(place.networks.connect, "back", {"Container": "apart"})
    address = made["apart"].endpoints["back"]["IPAddress"]
    lines.append([address, "apart", made["apart"].id[:12], "apart.back"])
    assert hosts("web") == hosts("apart") == own + lines
    place(place.networks.disconnect, "back", {"Container": "apart"})
    assert hosts("web") == own + lines[:2]
    assert hosts("apart") == own
    place.stop(made["web"])
    assert hosts("db") == own + lines[1:2]


def test_a_network_whose_name_is_no_host_name(place: Place, tmp_path: Path) -> None:
    """A blank in it would make two names of web.NETWORK, of which one may be somebody else's."""
    place.create("my back", IPAM=SUBNET)
    (tmp_path / "hosts").write_text("")
    made = place.run("web", "my back", directory=tmp_path)[0]
    place.networks.tell_names(made)
    address = made.endpoints["my back"]["IPAddress"]
    expected = f"{address}\tweb {made.id[:12]}\t# network my back\n"
    assert (tmp_path / "hosts").read_text() == expected
    place(place.networks.disconnect, "my back", {"Container": "web"})
    assert (tmp_path / "hosts").read_text() == ""


def test_what_ended_without_an_engine_has_no_place_left(place: Place, tmp_path: Path) -> None:
    """Its network can be removed, and the others find it no more."""
    place.create("back", IPAM=SUBNET)
    (tmp_path / "hosts").touch()
    web = place.run("web", "back", directory=tmp_path)[0]
    gone = place.run("gone", "back")[0]
    place.networks.tell_names(web)
    assert "gone" in (tmp_path / "hosts").read_text()
    place.networks = place.again()
    place(place.networks.adopt, web)
    place(place.networks.sweep, {web.id})
    assert gone.endpoints["back"]["IPAddress"] == ""
    assert "web" in (tmp_path / "hosts").read_text()
    assert "gone" not in (tmp_path / "hosts").read_text()
    place.stop(web)
    place(place.networks.remove, "back")


def test_a_link_is_a_name_for_one_container_alone(place: Place, tmp_path: Path) -> None:
    """By `run --link` and `network connect --link`; the other one may come later."""
    place.create("back", IPAM=SUBNET)
    for name in ("web", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts").touch()
    places = {"back": {"Links": ["db:second"]}}
    links = ("db:first",)
    web = place.run("web", "back", directory=tmp_path / "web", places=places, links=links)[0]
    other = place.run("other", "back", directory=tmp_path / "other")[0]
    db = place.run("db", "back")[0]
    for one in (web, other, db):
        place.networks.tell_names(one)
    names = (tmp_path / "web/hosts").read_text()
    address = db.endpoints["back"]["IPAddress"]
    line = next(line.split() for line in names.splitlines() if line.startswith(f"{address}\t"))
    assert {"db", "db.back", "first", "second"} <= set(line)
    assert "first" not in (tmp_path / "other/hosts").read_text()
