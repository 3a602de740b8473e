"""Images as Docker's API knows them: what is asked by name, and answered with Docker's fields.

The store and the registry client do the work (`minicontainer.images`); here are the words of the
API, the events, and what depends on containers.

See: Docker Engine API, "Image".
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext

from minicontainer.engine import image_views
from minicontainer.engine.progress import streamed
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images import archives, filters, imports, loading, platforms
from minicontainer.images.builtin import Builtin
from minicontainer.images.layers import LayerStore
from minicontainer.images.references import is_digest, parse
from minicontainer.images.store import ImageStore
from minicontainer.record import NO_ENTRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from minicontainer.images.blobs import Readable
    from minicontainer.images.image import Image
    from minicontainer.images.platforms import Platform
    from minicontainer.images.references import Reference
    from minicontainer.images.registry import Settings
    from minicontainer.images.store_removal import InUse

    Json = dict[str, Any]
    Objects = list[Json]
    Filters = Mapping[str, Sequence[str]]
    # kind, action, ID, attributes: Events.publish
    Publish = Callable[[str, str, str, dict[str, str]], object]
    Tell = Callable[[Json], None]
    # called in a request's thread: another thread that enters it works for the request's story
    Telling = Callable[[], AbstractContextManager[None]]


class Images:
    """The images of an engine.

    Args:
        data_root: what is kept over a reboot: `/var/lib/minicontainer`.
        publish: tells everybody of an event.
        in_use: gives the containers of an image by its ID: their IDs, and whether it runs.
        settings: of registries; None for the usual ones.
        telling: gives what a thread enters to tell its steps: see `traces`.
    """

    def __init__(
        self,
        data_root: str,
        publish: Publish = lambda kind, action, identifier, attributes: None,
        in_use: InUse = lambda image_id: (),
        settings: Settings | None = None,
        telling: Telling = nullcontext,
    ) -> None:
        self.layers = LayerStore(data_root)
        self.store = ImageStore(data_root, self.layers)
        self._builtin = Builtin(self.store, self.layers, data_root)
        self._publish = publish
        self._in_use = in_use
        self._settings = settings
        self._telling = telling

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    # looking

    def resolve(self, text: str, platform: str = "") -> Image:
        """Find an image to start a container from; the embedded one is made when it is missing.

        Args:
            text: its name or ID.
            platform: what it must be for, `linux/arm64`; "" for any.
        Raises:
            NotFound: `No such image: mongo:latest`, or it is for another platform.
            InvalidArgument: *text* is no reference.
        """
        try:
            image = self.store.resolve(text)
        except NotFound:
            if is_digest(text) or not self._builtin.is_meant(parse(text)):
                raise
            image = self._builtin.make()
        if platform:
            platforms.require(image.config, text, platforms.parse(platform))
        return image

    def _found(self, ref: str, platform: Platform | None) -> Image:
        """Find an image that must be here, and for *platform* if one is named."""
        image = self.store.resolve(ref)
        if platform:
            platforms.require(image.config, ref, platform)
        return image

    def list(self, all: bool, filters: Filters, **more: bool) -> Objects:
        """List images, the youngest first.

        Args:
            all: also those without a name that others were made from.
            filters: see `minicontainer.images.filters`.
            more: `shared_size` counts what is shared, `manifests` shows each image's manifest;
                `digests` changes nothing.
        """
        images = _list(self.store, all, filters, more.get("shared_size", False))
        if more.get("manifests"):
            for one in images:
                one |= self._manifest(self.store.known(one["Id"]))
        return images

    def _manifest(self, image: Image) -> Json:
        size = self.store.blobs.size(image.manifest)
        return image_views.manifest(image, size, [name for name, _ in self._in_use(image.id)])

    def usage(self) -> Json:
        """Count the disk space, for `docker system df`."""
        images = self.store.list()
        sizes, users = _layer_sizes(images)
        shown = []
        for image in images:
            one = image_views.summary(image)
            shared = sum(sizes[x] for x in set(image.chain_ids) if users[x] > 1)
            shown.append(one | {"SharedSize": shared, "Containers": len(self._in_use(image.id))})
        return {"LayersSize": sum(sizes.values()), "Images": shown}

    def inspect(self, ref: str, platform: Platform | None = None, manifests: bool = False) -> Json:
        """Show all of an image.

        Args:
            platform: what it must be for; None for any.
            manifests: its manifest too.
        """
        image = self._found(ref, platform)
        try:
            directories = self.layers.lower_directories(image.chain_ids)
        except NotFound:
            directories = ()
        shown = image_views.inspected(image, directories)
        return shown | self._manifest(image) if manifests else shown

    def history(self, ref: str, platform: Platform | None = None) -> Objects:
        """Show the steps that made an image, the last one first."""
        return image_views.history(self._found(ref, platform))

    # names and removal

    def tag(self, ref: str, repository: str, tag: str) -> None:
        """Give an image another name."""
        image = self.store.resolve(ref)
        name = read_name(repository, tag)
        self.store.tag(image.id, name)
        self._tell("tag", image.id, name.familiar, image.labels)

    def remove(
        self,
        ref: str,
        force: bool = False,
        prune: bool = True,
        wanted: Sequence[Platform] = (),
    ) -> Objects:
        """Remove a name, or an image with its last one.

        Args:
            wanted: only if it is for one of these platforms; () for any.
        """
        before = self.store.list()
        image = self.store.resolve(ref)
        if not any(platforms.fits(platforms.of(image.config), each) for each in wanted):
            for each in wanted:
                platforms.require(image.config, ref, each)
        records = self.store.remove(ref, force, prune, self._in_use)
        self._tell_removed(records, before, image.id)
        return [*records]

    def prune(self, filters: Filters) -> Json:
        """Remove images that no container uses: those without a name, or all."""
        dangling, wanted = _prunable(filters, self.store)
        before = self.store.list()
        records, freed = self.store.prune(wanted, dangling, self._in_use)
        self._tell_removed(records, before)
        self._publish("image", "prune", "", {"reclaimed": str(freed)})
        return {"ImagesDeleted": records or None, "SpaceReclaimed": freed}

    def _tell_removed(
        self, records: Sequence[dict[str, str]], before: Sequence[Image], untagged: str = ""
    ) -> None:
        """Tell of names and images that are gone; the layers among the records are no images."""
        images = {image.id: image for image in before}
        by_name = {
            parse(x).familiar: one.id for one in before for x in (*one.names, *one.repo_digests)
        }
        for record in records:
            if "Untagged" in record:
                image_id = untagged or by_name.get(record["Untagged"], "")
                self._tell("untag", image_id, image_id)
            elif record["Deleted"] in images:
                self._tell("delete", record["Deleted"], record["Deleted"])

    def _tell(
        self, action: str, identifier: str, name: str, labels: Mapping[str, str] = NO_ENTRIES
    ) -> None:
        self._publish("image", action, identifier, {**labels, "name": name})

    # registries

    def pull(self, name: str, tag: str, platform: str, credentials: Json) -> Iterator[Json]:
        """Pull an image, or without a tag all of its repository; yield how far it got."""
        from minicontainer.images import pull as pulls  # here: it brings httpx, 100 ms
        from minicontainer.images import remote
        from minicontainer.images.credentials import from_auth
        from minicontainer.images.registry import Settings

        wanted = read_name(name, tag, all_tags=True)
        if platform:
            platforms.parse(platform)  # refused here, before a registry is asked
        who = from_auth(credentials)
        settings = self._settings or Settings()

        told = self._telling()  # the story of this request, for the thread of the work

        def work(tell: Tell) -> None:
            with told:
                pull_all(tell)

        def pull_all(tell: Tell) -> None:
            references = [wanted]
            if not (wanted.tag or wanted.digest):
                tags = remote.list_tags(wanted, who, settings)
                references = [wanted.replace(tag=each) for each in tags]
            for reference in references:
                pulls.pull(
                    self.store, self.layers, reference, platform=platform, credentials=who,
                    progress=tell, settings=settings,
                )  # fmt: skip
                self._tell("pull", reference.familiar, reference.familiar_repository)

        return streamed(work)

    def push(
        self, name: str, tag: str, credentials: Json, platform: Platform | None = None
    ) -> Iterator[Json]:
        """Push an image, which must be for *platform* if one is named; yield how far it got."""
        from minicontainer.images import push as pushes  # here: it brings httpx, 100 ms
        from minicontainer.images.credentials import from_auth
        from minicontainer.images.registry import Settings

        references = self._pushed(name, tag)
        if platform:
            for reference in references:
                self._found(reference.familiar, platform)
        who = from_auth(credentials)

        def work(tell: Tell) -> None:
            for reference in references:
                pushes.push(
                    self.store, reference, credentials=who,
                    progress=tell, settings=self._settings or Settings(),
                )  # fmt: skip
                self._tell("push", reference.familiar, reference.familiar_repository)

        return streamed(work)

    def _pushed(self, name: str, tag: str) -> Sequence[Reference]:
        """List the names to push: without a tag, all of the repository."""
        wanted = parse(f"{name}:{tag}" if tag else name, default_tag="")
        if wanted.digest:
            raise InvalidArgument("cannot push a digest reference")
        if wanted.tag:
            return (wanted,)
        names = [parse(text) for image in self.store.list() for text in image.names]
        found = [name for name in names if name.repository == wanted.repository]
        if not found:
            raise NotFound(
                f"An image does not exist locally with the tag: {wanted.familiar_repository}"
            )
        return sorted(found, key=str)

    def distribution(self, name: str, credentials: Json) -> Json:
        """Show what a registry has under a name, without pulling it."""
        from minicontainer.images import remote
        from minicontainer.images.credentials import from_auth

        found = remote.describe(parse(name), from_auth(credentials), self._settings)
        return {
            "Descriptor": {
                "mediaType": found.media_type,
                "digest": found.digest,
                "size": found.size,
            },
            "Platforms": [
                {key: value for key, value in each.to_json().items() if value}
                for each in found.platforms
            ],
        }

    def search(self, term: str, limit: int, filters: Filters, credentials: Json) -> Objects:
        """Search a registry for repositories, by Docker Hub's own protocol."""
        from minicontainer.images import search  # here: it brings httpx, 100 ms
        from minicontainer.images.credentials import from_auth

        found = search.search(term, limit, filters, from_auth(credentials), self._settings)
        return [one.to_json() for one in found]

    # archives

    def save(self, names: Sequence[str], platform: Platform | None = None) -> Iterator[bytes]:
        """Give a tar of images, for Docker's `load` and for OCI's tools."""
        chunks = archives.saved(self.store, names, platform)
        for chosen in archives.choose(self.store, names):
            self._tell("save", chosen.image.id, chosen.image.id)
        return chunks

    def load(
        self, stream: Readable, quiet: bool = False, platform: Platform | None = None
    ) -> Iterator[Json]:
        """Load a tar of images; yield how far it got, and what was loaded.

        Args:
            platform: leave out images for other platforms; None takes this machine's.
        """

        def work(tell: Tell) -> None:
            progress: Tell = (lambda message: None) if quiet else tell
            for name in loading.load(self.store, self.layers, stream, progress, platform):
                what = "Loaded image ID" if is_digest(name) else "Loaded image"
                tell({"stream": f"{what}: {name}\n"})
                image_id = self.store.resolve(name).id
                self._tell("load", image_id, image_id)

        return streamed(work)

    def import_(
        self,
        source: Readable | str,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str = "",
    ) -> Iterator[Json]:
        """Make an image of a root file system's tar, or of one at a URL; yield its ID."""
        name = read_name(repository, tag) if repository else None

        def work(tell: Tell) -> None:
            with imports.opened(source, tell) as stream:
                image = imports.import_image(
                    self.store, self.layers, stream, name, changes,
                    message or imports.message_for(source), platform,
                )  # fmt: skip
            tell({"status": image.id})
            self._tell("import", image.id, image.id)

        return streamed(work)


def read_name(repository: str, tag: str, all_tags: bool = False) -> Reference:
    """Read a name that comes in two parts; the tag may be a digest, or part of the name.

    Args:
        repository: the name, also with a tag or a digest.
        tag: "" for none.
        all_tags: a name without any is left so; else its tag is `latest`.
    """
    name = parse(repository, default_tag="")
    if not tag:
        return name if all_tags else parse(repository)
    if is_digest(tag) or ":" in tag:
        return parse(f"{name.repository}@{tag}")
    try:
        return parse(f"{name.repository}:{tag}")
    except InvalidArgument:
        raise InvalidArgument("invalid tag format") from None


def _list(store: ImageStore, all: bool, wanted: Filters, shared_size: bool) -> Objects:
    images = store.list()
    parents = set() if all else {image.parent for image in images}
    # a step of a build: without a name, and only there for the image above it
    shown = [x for x in images if not (filters.is_dangling(x) and x.id in parents)]
    patterns = wanted.get("reference", ())
    passed = filters.passing(shown, wanted, store.resolve)
    sizes, users = _layer_sizes(images) if shared_size else ({}, {})
    found = []
    for image in passed:
        names = filters.matching_names(image, patterns) if patterns else None
        one = image_views.summary(image, names)
        if shared_size:
            one["SharedSize"] = sum(sizes[x] for x in set(image.chain_ids) if users[x] > 1)
        found.append(one)
    return found


def _layer_sizes(images: Sequence[Image]) -> tuple[dict[str, int], dict[str, int]]:
    """Give the size of each layer, and how many images have it, by chain ID."""
    sizes: dict[str, int] = {}
    users: dict[str, int] = {}
    for layer in itertools.chain.from_iterable(image.layers for image in images):
        sizes[layer.chain_id] = max(layer.unpacked_size, 0)
        users[layer.chain_id] = users.get(layer.chain_id, 0) + 1
    return sizes, users


def _prunable(wanted: Filters, store: ImageStore) -> tuple[bool, Callable[[Image], bool]]:
    rest = {name: values for name, values in wanted.items() if name != "dangling"}
    values = wanted.get("dangling", ())
    dangling = filters.boolean("dangling", values) if values else True
    return dangling, filters.combined(rest, store.resolve, filters.FOR_PRUNING)
