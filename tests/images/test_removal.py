"""Removing images: Docker's rules, case by case, and its words."""

from __future__ import annotations

import pytest

from minicontainer.errors import Conflict, NotFound
from minicontainer.images.filters import combined
from minicontainer.images.references import parse
from tests.images.conftest import add_image, sha256, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.images.image import Image
    from minicontainer.images.store import ImageStore

BASE = tar_of({"base": b"base"})
DIGEST = sha256(b"an index")
CONTAINER = "0123456789abcdef" * 4


def used_by(image: Image, running: bool) -> Callable[[str], tuple[tuple[str, bool], ...]]:
    """Say that one container is made from *image*."""
    return lambda image_id: ((CONTAINER, running),) if image_id == image.id else ()


def deleted(image: Image) -> list[dict[str, str]]:
    """Give the records of an image with one layer that is gone."""
    return [{"Deleted": image.id}, {"Deleted": image.chain_ids[0]}]


def test_the_last_name_takes_the_image_along(store: ImageStore) -> None:
    """The names before it do not."""
    image = add_image(store, "x", "y:1")
    assert store.remove("y:1") == [{"Untagged": "y:1"}]
    assert store.remove("x") == [{"Untagged": "x:latest"}, *deleted(image)]
    with pytest.raises(NotFound, match="No such image: x:latest"):
        store.remove("x")


def test_an_id_takes_all_names_of_one_repository_along(store: ImageStore) -> None:
    """One tag and its digest, that is; more tags need force."""
    image = add_image(store, "x", repo_digests=(f"x@{DIGEST}",))
    records = store.remove(image.id[7:19])
    assert records == [{"Untagged": "x:latest"}, {"Untagged": f"x@{DIGEST}"}, *deleted(image)]


def test_a_digest_goes_with_the_last_tag_of_its_repository(store: ImageStore) -> None:
    """It would be the only name left, which nobody gave."""
    image = add_image(store, "x:1", "x:2", repo_digests=(f"x@{DIGEST}",))
    assert store.remove("x:1") == [{"Untagged": "x:1"}]
    assert store.remove("x:2") == [
        {"Untagged": "x:2"}, {"Untagged": f"x@{DIGEST}"}, *deleted(image),
    ]  # fmt: skip


def test_a_digest_alone_can_be_removed(store: ImageStore) -> None:
    """Of an image that was pulled by it, too."""
    image = add_image(store, "x", repo_digests=(f"x@{DIGEST}",))
    assert store.remove(f"x@{DIGEST}") == [{"Untagged": f"x@{DIGEST}"}]
    assert store.resolve("x") == image.replace(repo_digests=())


def test_an_id_with_several_names_must_be_forced(store: ImageStore) -> None:
    """All of them go then."""
    image = add_image(store, "x", "y:1")
    words = (
        f"conflict: unable to delete {image.short_id} (must be forced) - "
        "image is referenced in multiple repositories"
    )
    with pytest.raises(Conflict) as caught:
        store.remove(image.id)
    assert str(caught.value) == words
    assert store.resolve(image.id) == image
    assert store.remove(image.id, force=True) == [
        {"Untagged": "x:latest"}, {"Untagged": "y:1"}, *deleted(image),
    ]  # fmt: skip


@pytest.mark.parametrize("running", [True, False])
def test_a_container_forbids_to_remove_the_last_name(store: ImageStore, running: bool) -> None:
    """Another name may go."""
    image = add_image(store, "x", "y")
    in_use = used_by(image, running)
    assert store.remove("y", in_use=in_use) == [{"Untagged": "y:latest"}]
    words = (
        'conflict: unable to remove repository reference "x" (must force) - '
        f"container {CONTAINER[:12]} is using its referenced image {image.short_id}"
    )
    with pytest.raises(Conflict) as caught:
        store.remove("x", in_use=in_use)
    assert str(caught.value) == words
    assert store.resolve("x").id == image.id


def test_a_forced_name_leaves_a_running_container_its_image(store: ImageStore) -> None:
    """It has no name then."""
    image = add_image(store, "x")
    records = store.remove("x", force=True, in_use=used_by(image, running=True))
    assert records == [{"Untagged": "x:latest"}]
    assert store.resolve(image.id).names == ()


@pytest.mark.parametrize("force", [True, False])
def test_an_id_of_a_running_container_can_not_be_removed(store: ImageStore, force: bool) -> None:
    """Force or not."""
    image = add_image(store, "x")
    words = (
        f"conflict: unable to delete {image.short_id} (cannot be forced) - "
        f"image is being used by running container {CONTAINER[:12]}"
    )
    with pytest.raises(Conflict) as caught:
        store.remove(image.id, force=force, in_use=used_by(image, running=True))
    assert str(caught.value) == words
    assert store.resolve("x") == image


def test_an_id_of_a_stopped_container_must_be_forced(store: ImageStore) -> None:
    """The container keeps the layers."""
    image = add_image(store, "x")
    in_use = used_by(image, running=False)
    words = (
        f"conflict: unable to delete {image.short_id} (must be forced) - "
        f"image is being used by stopped container {CONTAINER[:12]}"
    )
    with pytest.raises(Conflict) as caught:
        store.remove(image.id, in_use=in_use)
    assert str(caught.value) == words
    assert store.remove(image.id, force=True, in_use=in_use) == [
        {"Untagged": "x:latest"}, *deleted(image),
    ]  # fmt: skip


def test_an_image_that_others_were_made_from_stays(store: ImageStore) -> None:
    """Until they are gone; without a name it then goes with the last of them."""
    parent = add_image(store, layers=(BASE,))
    child = add_image(store, "child", layers=(BASE, tar_of({"x": b"x"})), parent=parent.id)
    words = (
        f"conflict: unable to delete {parent.short_id} (cannot be forced) - "
        "image has dependent child images"
    )
    with pytest.raises(Conflict) as caught:
        store.remove(parent.id, force=True)
    assert str(caught.value) == words
    assert store.remove("child") == [
        {"Untagged": "child:latest"},
        {"Deleted": child.id},
        {"Deleted": child.chain_ids[1]},
        *deleted(parent),
    ]


def test_a_parent_with_a_name_stays(store: ImageStore) -> None:
    """And one without, if that was asked for."""
    parent = add_image(store, "parent", layers=(BASE,))
    child = add_image(store, "child", layers=(BASE, tar_of({"x": b"x"})), parent=parent.id)
    assert {"Deleted": parent.id} not in store.remove("child")
    store.untag(parse("parent"))
    again = add_image(store, "child", layers=(BASE, tar_of({"x": b"x"})), parent=parent.id)
    assert again.id == child.id
    assert {"Deleted": parent.id} not in store.remove("child", prune=False)
    assert store.resolve(parent.id)


def test_a_parent_without_a_name_stays_for_its_other_children(store: ImageStore) -> None:
    """Removing one of them is no conflict; the last one takes the parent along."""
    parent = add_image(store, layers=(BASE,))
    for name in ("one", "two", ""):
        layers = (BASE, tar_of({name or "three": b"x"}))
        add_image(store, *filter(None, [name]), layers=layers, parent=parent.id)
    records, _ = store.prune(lambda _: True, True)
    assert {"Deleted": parent.id} not in records
    assert {"Deleted": parent.id} not in store.remove("one")
    assert {"Deleted": parent.id} in store.remove("two")


def test_pruning_takes_what_has_no_name(store: ImageStore) -> None:
    """Or all that no container uses."""
    dangling = add_image(store, layers=(BASE,))
    used = add_image(store, layers=(tar_of({"used": b"used"}),))
    named = add_image(store, "named")
    in_use = used_by(used, running=False)
    size = sum(store.blobs.size(x) for x in (dangling.manifest, dangling.id))
    records, freed = store.prune(lambda image: True, in_use=in_use)
    assert records == deleted(dangling)
    assert freed > size
    assert {image.id for image in store.list()} == {used.id, named.id}
    records, _ = store.prune(lambda image: True, dangling=False, in_use=in_use)
    assert records == [{"Untagged": "named:latest"}, *deleted(named)]
    assert [image.id for image in store.list()] == [used.id]


def test_pruning_takes_only_what_is_wanted(store: ImageStore) -> None:
    """By its filters."""
    add_image(store, "old", created="2020-01-01T00:00:00Z", config={"Labels": {"keep": "1"}})
    gone = add_image(store, "gone", created="2020-01-01T00:00:00Z")
    add_image(store, "new", created="2030-01-01T00:00:00Z")
    wanted = combined({"label!": ["keep"], "until": ["2025-01-01T00:00:00Z"]}, store.resolve)
    records, _ = store.prune(wanted, dangling=False)
    assert records == [{"Untagged": "gone:latest"}, *deleted(gone)]


def test_a_chain_of_parents_goes_at_once(store: ImageStore) -> None:
    """Pruning removes the uppermost, and with it those below."""
    chain = [""]
    layers: tuple[bytes, ...] = ()
    for number in range(4):
        layers += (tar_of({str(number): b"x"}),)
        chain.append(add_image(store, layers=layers, parent=chain[-1]).id)
    records, _ = store.prune(lambda image: True)
    gone = [record["Deleted"] for record in records]
    assert [one for one in gone if one in chain] == chain[:0:-1]
    assert not store.list()
    assert not list(store.blobs.digests())
