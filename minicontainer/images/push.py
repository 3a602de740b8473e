"""Push an image: its layers, its config, and last its manifest, which makes them an image there.

See: OCI distribution-spec "Push"; `uploads.py`.
"""

from __future__ import annotations

import contextlib
from concurrent import futures

from minicontainer.errors import NotFound
from minicontainer.images import manifests
from minicontainer.images.blobs import chunks_of
from minicontainer.images.compression import gzipped, kind_of_media_type
from minicontainer.images.image import OCI_LAYER, short
from minicontainer.images.indexes import digest_of
from minicontainer.images.manifests import Descriptor
from minicontainer.images.references import Reference, parse
from minicontainer.images.registry import Registry, Settings
from minicontainer.images.registry_errors import Refused, for_push
from minicontainer.images.transfers import Line, Teller, ignore
from minicontainer.images.uploads import Upload, put_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minicontainer.images.credentials import Credentials
    from minicontainer.images.image import Image, Layer
    from minicontainer.images.store import ImageStore
    from minicontainer.images.store_leases import Lease
    from minicontainer.images.transfers import Progress

PARALLEL_UPLOADS = 3
_MOST_SOURCES = 4  # repositories that are asked for one layer


def push(
    store: ImageStore,
    reference: str | Reference,
    *,
    credentials: Credentials | None = None,
    insecure: Sequence[str] = (),
    progress: Progress = ignore,
    settings: Settings = Settings(),  # noqa: B008  # a Record is frozen
) -> str:
    """Push an image under the name that it has here.

    Args:
        store: where it is.
        reference: its name.
        credentials: for the registry; None asks without a name.
        insecure: registries without TLS, beside those in *settings*.
        progress: takes Docker's messages; what it raises ends the push.
        settings: of registries.
    Returns:
        The digest that it has there.
    Raises:
        NotFound: no image has that name. Unauthorized: log in first.
        Error: the registry can't be reached, refuses or stalls.
    """
    name = parse(reference) if isinstance(reference, str) else reference
    image = store.find_by_name(name)
    if image is None:
        raise NotFound(f"An image does not exist locally with the tag: {name.familiar_repository}")
    settings = settings.replace(insecure=(*settings.insecure, *insecure))
    with Registry(name.domain, credentials, settings) as registry:
        try:
            return _Push(store, name, image, registry, Teller(progress)).run()
        except Refused as error:
            raise for_push(error) from error


class _Push:
    """One push of one image."""

    def __init__(
        self,
        store: ImageStore,
        name: Reference,
        image: Image,
        registry: Registry,
        teller: Teller,
    ) -> None:
        self._store = store
        self._name = name
        self._image = image
        self._registry = registry
        self._teller = teller

    def run(self) -> str:
        """Push layers, config and manifest, and say so."""
        self._teller.status(f"The push refers to repository [{self._name.repository}]")
        with self._store.lease(f"push {self._name.familiar}") as lease:
            for digest in (self._image.manifest, *(each.digest for each in self._image.layers)):
                lease.keep(digest)  # until it is there, although somebody removes the image
            if not self._image.repo_digests:
                self._image = compressed(self._store, lease, self._image)
            return self._push_all()

    def _push_all(self) -> str:
        content = self._store.blobs.read(self._image.manifest)
        manifest = manifests.parse(content, self._image.media_type)
        self._push_layers()
        config = Upload(self._registry, self._name.path, self._store.blobs, manifest.config.digest)
        if not config.is_there():
            config.send()
        tag = self._name.tag
        digest = digest_of(content)
        put_manifest(self._registry, self._name.path, tag or digest, content, manifest.media_type)
        self._store.add_repo_digest(self._image.id, self._name.replace(tag="", digest=digest))
        self._teller.status(f"{tag or digest}: digest: {digest} size: {len(content)}")
        aux = {"Tag": tag, "Digest": digest, "Size": len(content)}
        self._teller.send({"progressDetail": {}, "aux": aux})
        return digest

    def _push_layers(self) -> None:
        """Push the layers, the uppermost first as Docker does, some at a time."""
        unique = {layer.digest: layer for layer in reversed(self._image.layers)}
        lines = {
            digest: Line(self._teller, short(layer.diff_id), layer.size)
            for digest, layer in unique.items()
        }
        for line in lines.values():
            line.say("Preparing")
        for line in list(lines.values())[PARALLEL_UPLOADS:]:
            line.say("Waiting")
        with (
            futures.ThreadPoolExecutor(PARALLEL_UPLOADS, "push") as pool,
            contextlib.ExitStack() as undo,
        ):
            undo.callback(pool.shutdown, wait=False, cancel_futures=True)
            undo.callback(self._registry.stop)
            going = [
                pool.submit(self._push_layer, layer, lines[digest])
                for digest, layer in unique.items()
            ]
            for each in futures.as_completed(going):
                each.result()
            undo.pop_all()

    def _push_layer(self, layer: Layer, line: Line) -> None:
        """Push one layer; in a thread of its own."""
        upload = Upload(
            self._registry, self._name.path, self._store.blobs, layer.digest,
            line.advance("Pushing"),
        )  # fmt: skip
        if upload.is_there():
            line.say("Layer already exists")
        elif source := upload.mount(self._sources(layer)):
            line.say(f"Mounted from {source}")
        else:
            upload.send()
            line.say("Pushed")

    def _sources(self, layer: Layer) -> list[str]:
        """List the repositories of the same registry that are known to have a layer."""
        found: dict[str, None] = {}
        for image in self._store.list():
            if any(other.digest == layer.digest for other in image.layers):
                for text in image.repo_digests:
                    other = parse(text)
                    if other.domain == self._name.domain and other.path != self._name.path:
                        found[other.path] = None
        return list(found)[:_MOST_SOURCES]


def compressed(store: ImageStore, lease: Lease, image: Image) -> Image:
    """Compress the layers that are plain tars, as archives bring them; give the image that results.

    Its ID is the same: the config names the layers by what they hold. The manifest is another, so
    an image that a registry has already stays as it is. The same tar gives the same blob.

    Args:
        store: which has the image, and gets its new blobs.
        lease: keeps them until it has them.
        image: to be pushed.
    """
    if all(kind_of_media_type(layer.media_type) for layer in image.layers):
        return image
    made = []
    for layer in image.layers:
        if kind_of_media_type(layer.media_type):
            made.append(layer)
            continue
        with store.blobs.open(layer.digest) as file, store.blobs.new() as part:
            part.write_all(gzipped(chunks_of(file)))
            size = lease.commit(part)
        made.append(layer.replace(digest=part.digest, size=size, media_type=f"{OCI_LAYER}+gzip"))
    old = manifests.parse(store.blobs.read(image.manifest), image.media_type)
    layers = tuple(
        Descriptor(digest=each.digest, size=each.size, media_type=each.media_type) for each in made
    )
    with store.blobs.new() as part:
        part.write(manifests.make(old.config, layers))
        lease.commit(part)
    sizes = {layer.chain_id: layer.unpacked_size for layer in image.layers}
    return store.add(part.digest, unpacked_sizes=sizes, parent=image.parent)
