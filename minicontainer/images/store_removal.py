"""Removing images by Docker's rules, in Docker's words.

A name is removed first, and the image goes with its last one. An ID removes the image, if all its
names are of one repository. Containers, images made from it, and further names forbid that: some
always, some unless it is forced.

See: moby daemon/images/image_delete.go, whose cases these are.
"""

from __future__ import annotations

from minicontainer.errors import Conflict
from minicontainer.images.image import short
from minicontainer.images.references import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.images.image import Image
    from minicontainer.images.references import Reference
    from minicontainer.images.store import ImageStore
    from minicontainer.images.store_schema import Database

    Records = list[dict[str, str]]
    # an image's containers: ID, and whether it runs
    InUse = Callable[[str], tuple[tuple[str, bool], ...]]


class _Conflict(Conflict):
    """Why an image stays.

    Args:
        used: a container is the reason.
    """

    def __init__(self, image: Image, hard: bool, reason: str, used: bool = False) -> None:
        how = "cannot be forced" if hard else "must be forced"
        super().__init__(f"conflict: unable to delete {image.short_id} ({how}) - {reason}")
        self.used = used


class Removal:
    """The removing of images from a store."""

    def __init__(self, store: ImageStore, database: Database) -> None:
        self._store = store
        self._database = database

    def remove(self, text: str, force: bool, prune: bool, in_use: InUse) -> Records:
        """Remove what *text* names; see `ImageStore.remove`."""
        records: Records = []
        with self._database.change():
            image = self._store.resolve(text)
            by_id = image.id.startswith(text) or image.id.startswith(f"sha256:{text}")
            if not by_id:
                self._untag(image, text, force, in_use, records)
                left = self._store.find(image.id)
                if left is not None and (left.names or left.repo_digests):
                    return records
            elif _is_of_one_repository(image):
                self._check(image, in_use, soft=not force, names=False)
                self._untag_all(image, records)
            self._delete(image.id, force, prune, in_use, records, quiet=not by_id)
        return records

    def prune(self, wanted: Callable[[Image], bool], dangling: bool, in_use: InUse) -> Records:
        """Remove all images that *wanted* takes, and that no container uses."""
        records: Records = []
        for image in self._store.list():
            if (dangling and image.names) or in_use(image.id) or not wanted(image):
                continue
            with self._database.change():
                if self._store.find(image.id) is None or self._children(image.id):
                    continue  # it went as another one's parent, or another one needs it
                self._untag_all(image, records)
                self._delete(image.id, False, True, in_use, records, quiet=True)
        return records

    def _untag(self, image: Image, text: str, force: bool, in_use: InUse, records: Records) -> None:
        """Remove a name; with a repository's last tag go its digests."""
        name = parse(text)
        if not force and _is_of_one_repository(image):
            for container, _ in in_use(image.id)[:1]:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{text}" '
                    f"(must force) - container {short(container)} is using its referenced image "
                    f"{image.short_id}"
                )
        self._drop_name(name.replace(tag="") if name.digest else name, records)
        of_repository = f"{name.repository}:"
        tags = [one for one in image.names if one.startswith(of_repository)]
        if not name.digest and tags == [name.canonical]:
            for one in image.repo_digests:
                if one.startswith(f"{name.repository}@"):
                    self._drop_name(parse(one), records)

    def _untag_all(self, image: Image, records: Records) -> None:
        for name in (*image.names, *image.repo_digests):
            self._drop_name(parse(name), records)

    def _drop_name(self, name: Reference, records: Records) -> None:
        self._store.untag(name)
        records.append({"Untagged": name.familiar})

    def _delete(
        self, image_id: str, force: bool, prune: bool, in_use: InUse, records: Records, quiet: bool
    ) -> None:
        """Remove an image, then its parents without a name.

        Args:
            quiet: leave an image that may not go without a word.
        """
        image = self._store.find(image_id)
        if image is None:
            return
        try:
            self._check(image, in_use, soft=not force, names=True)
        except _Conflict as conflict:
            named = image.names or image.repo_digests
            if quiet and (named or conflict.used or self._children(image.id)):
                return
            raise
        self._untag_all(image, records)
        unneeded = self._store.forget(image_id)
        records.append({"Deleted": image_id})
        records.extend(
            {"Deleted": chain} for chain in reversed(image.chain_ids) if chain in unneeded
        )
        if prune and image.parent:
            self._delete(image.parent, False, True, in_use, records, quiet=True)

    def _check(self, image: Image, in_use: InUse, soft: bool, names: bool) -> None:
        """Refuse to remove an image that somebody needs.

        Args:
            soft: heed also what could be forced.
            names: heed also that it has names.
        """
        containers = in_use(image.id)
        if self._children(image.id):
            raise _Conflict(image, True, "image has dependent child images")
        for container, running in containers:
            if running:
                reason = f"image is being used by running container {short(container)}"
                raise _Conflict(image, True, reason, used=True)
        if not soft:
            return
        if names and (image.names or image.repo_digests):
            raise _Conflict(image, False, "image is referenced in multiple repositories")
        for container, _ in containers:
            reason = f"image is being used by stopped container {short(container)}"
            raise _Conflict(image, False, reason, used=True)

    def _children(self, image_id: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM images WHERE parent=? LIMIT 1", image_id))


def _is_of_one_repository(image: Image) -> bool:
    """Say whether the image has at most one tag, and no other repository's digest."""
    if len(image.names) + len(image.repo_digests) <= 1:
        return True
    if len(image.names) > 1:
        return False
    repositories = {parse(one).repository for one in image.repo_digests}
    single = parse((image.names or image.repo_digests)[0]).repository
    return repositories == {single}
