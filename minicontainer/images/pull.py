"""Pull an image: from a name in a registry to an image in the store, unpacked.

    name ──► manifest, chosen for the platform ──► config ──► layers
                                                               three downloads at a time,
                                                               and beside them, in order:
                                                               decompress, verify, unpack

What has arrived is kept when a pull fails, and the next one goes on from there. Two pulls of the
same image share each download and each unpacked layer.

See: OCI distribution-spec "Pull"; `downloads.py`, `layers.py`.
"""

from __future__ import annotations

import contextlib
from concurrent import futures
from functools import partial

from minicontainer import steps
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images import config as configs
from minicontainer.images import downloads, indexes, mirrors, platforms
from minicontainer.images.compression import kind_of_media_type
from minicontainer.images.image import short
from minicontainer.images.references import Reference, parse
from minicontainer.images.registry import Registry, Settings
from minicontainer.images.registry_errors import Refused
from minicontainer.images.transfers import Line, Teller, ignore
from minicontainer.images.unpacking import unpack
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import BinaryIO

    from minicontainer.images.config import ImageConfig
    from minicontainer.images.credentials import Credentials
    from minicontainer.images.image import Image
    from minicontainer.images.layers import LayerStore
    from minicontainer.images.manifests import Manifest
    from minicontainer.images.platforms import Platform
    from minicontainer.images.store import ImageStore
    from minicontainer.images.store_leases import Lease
    from minicontainer.images.transfers import Progress

PARALLEL_DOWNLOADS = 3  # as Docker's
_CONFIG_LIMIT = 8 << 20  # bytes: it is held in memory
_MOST_NESTED = 3  # indexes in indexes


class Found(Record):
    """What a registry has under a name, for one platform.

    Args:
        digest: of what the name means: the index, where there is one.
        manifest_digest: of the image's manifest.
        media_type: of that manifest.
        content: its bytes.
    """

    digest: str
    manifest_digest: str
    media_type: str
    content: bytes


def pull(
    store: ImageStore,
    layers: LayerStore,
    reference: str | Reference,
    *,
    platform: str = "",
    credentials: Credentials | None = None,
    insecure: Sequence[str] = (),
    progress: Progress = ignore,
    settings: Settings = Settings(),  # noqa: B008  # a Record is frozen
) -> Image:
    """Pull an image.

    Args:
        store: where the image goes.
        layers: where its layers are unpacked.
        reference: its name.
        platform: `linux/arm64`; "" for this machine's.
        credentials: for the registry; None asks without a name.
        insecure: registries without TLS, beside those in *settings*.
        progress: takes Docker's messages; what it raises ends the pull.
        settings: of registries.
    Raises:
        NotFound: there is no such image, in Docker's words. Unauthorized: log in first.
        InvalidArgument: a name, a platform, a digest or a document is wrong.
        Unsupported: it is no image that can be run here.
        Error: the registry can't be reached, refuses or stalls.
    """
    name = parse(reference) if isinstance(reference, str) else reference
    wanted = platforms.parse(platform) if platform else platforms.host()
    settings = settings.replace(insecure=(*settings.insecure, *insecure))
    teller = Teller(progress)

    def pulled(registry: Registry) -> Image:
        return Pull(store, layers, name, wanted, bool(platform), registry, teller).run()

    return mirrors.ask(name, credentials, settings, pulled)


class Pull:
    """One pull from one registry. Its steps are part of the story of who asked for it."""

    def __init__(
        self,
        store: ImageStore,
        layers: LayerStore,
        name: Reference,
        wanted: Platform,
        is_explicit: bool,
        registry: Registry,
        teller: Teller,
    ) -> None:
        self._store = store
        self._layers = layers
        self._name = name
        self._wanted = wanted
        self._is_explicit = is_explicit
        self._registry = registry
        self._teller = teller

    def run(self) -> Image:
        """Pull the image, and say so."""
        name = self._name
        before = self._store.find_by_name(name)
        if before and (digest := steps.take(self.compare_digest, before)):
            self._begin()
            return self._end(before, before, digest)
        found = steps.take(self.find_manifest)
        self._begin()
        manifest = indexes.parse(found.content, found.media_type, name.familiar)
        assert not isinstance(manifest, indexes.Index)
        with self._store.lease(f"pull {name.familiar}") as lease:
            for digest in (found.manifest_digest, manifest.config.digest):
                lease.keep(digest)
            self._store.blobs.ingest((found.content,), found.manifest_digest, len(found.content))
            config = steps.take(self.fetch_config, manifest)
            sizes = steps.take(self.fetch_layers, lease, manifest, config)
            image = steps.take(self.add_image, found, sizes)
        return self._end(before, image, found.digest)

    def add_image(self, found: Found, sizes: dict[str, int]) -> Image:
        """Enter the image in the store, under its name: from now on it is here.

        This comes last, and in one transaction. A pull that breaks off leaves no half of an image;
        what it has downloaded stays for the next one.
        """
        name = self._name
        image = self._store.add(
            found.manifest_digest,
            media_type=found.media_type.partition(";")[0].strip(),
            names=() if name.digest else (name,),
            repo_digests=(name.replace(tag="", digest=found.digest),),
            unpacked_sizes=sizes,
        )
        steps.note(f"add {name.familiar}", object=f"image:{name.familiar}", after=image.id)
        return image

    def _begin(self) -> None:
        self._teller.status(f"Pulling from {self._name.path}", self._name.digest or self._name.tag)

    def _end(self, before: Image | None, image: Image, digest: str) -> Image:
        self._teller.status(f"Digest: {digest}")
        is_new = before is None or before.id != image.id
        what = "Downloaded newer image for" if is_new else "Image is up to date for"
        self._teller.status(f"Status: {what} {self._name.familiar}")
        return image

    def compare_digest(self, before: Image) -> str:
        """Ask the registry whether the name still means the image that is here.

        A HEAD request brings the digest of the manifest without the manifest.

        Returns:
            That digest; "" where the image must be pulled.
        """
        digest = self._name.digest
        if not digest:
            with contextlib.suppress(Refused):  # a registry may know no HEAD; GET will tell why
                digest = downloads.fetch_digest(
                    self._registry, self._name.path, self._name.tag, indexes.ACCEPT
                )
                self._note("HEAD", f"manifests/{self._name.tag}", f"manifest:{digest}")
        own = self._name.replace(tag="", digest=digest).canonical
        is_same = bool(digest) and own in before.repo_digests
        is_whole = all(
            self._layers.has(layer.chain_id) and self._store.blobs.has(layer.digest)
            for layer in before.layers
        )
        # a config that says only arm may be for a variant that does not run here: the index knows
        is_plain = before.config.architecture != "arm" or before.config.variant
        return digest if is_same and is_whole and is_plain and self._fits(before.config) else ""

    def _fits(self, config: ImageConfig) -> bool:
        """Say whether an image is for the platform that was asked for."""
        own = platforms.of(config)
        usable = platforms.acceptable(self._wanted, self._is_explicit)
        if not own.variant:  # older images do not say theirs
            return any((own.os, own.architecture) == (x.os, x.architecture) for x in usable)
        return any(own.same(platform) for platform in usable)

    # -- documents

    def find_manifest(self) -> Found:
        """Ask the registry what the name means: a manifest, which lists the image's parts.

        A name may mean an index, which has a manifest for each platform; then the one for this
        machine is fetched too. Each document must have the digest by which it was asked for.
        """
        name = self._name
        digest = name.digest
        content, kind, told = self._document(digest or name.tag, digest)
        first = digest or told or indexes.digest_of(content)
        if told and not digest:
            downloads.check_document(content, told, name.familiar)
        digest = first
        for _ in range(_MOST_NESTED):
            found = indexes.parse(content, kind, name.familiar)
            if not isinstance(found, indexes.Index):
                return Found(
                    digest=first,
                    manifest_digest=digest,
                    media_type=found.media_type,
                    content=content,
                )
            digest = indexes.choose(found, self._wanted, self._is_explicit).digest
            content, kind, _ = self._document(digest, digest)
        raise InvalidArgument(f"{name.familiar} is an index of indexes of indexes")

    def _document(self, reference: str, digest: str) -> tuple[bytes, str, str]:
        content, kind, told = downloads.fetch_document(
            self._registry, self._name.path, reference, indexes.ACCEPT
        )
        if digest:
            downloads.check_document(content, digest, self._name.familiar)
        what = f"manifest:{digest or told or indexes.digest_of(content)}"
        self._note("GET", f"manifests/{reference}", what, f"size={len(content)}")
        return content, kind, told

    def _note(self, method: str, what: str, object: str, after: str = "") -> None:
        """Note a request that was answered; its size is in bytes."""
        if steps.listening():
            url = f"{self._registry.base()}/v2/{self._name.path}/{what}"
            steps.note(f"{method} {url}", object=object, after=after or None)

    def fetch_config(self, manifest: Manifest) -> ImageConfig:
        """Fetch the image's config: what to run, and the digest of each layer's files.

        The digest of the config is the image's ID.
        """
        blob = manifest.config
        if blob.size > _CONFIG_LIMIT:
            raise InvalidArgument(
                f"{self._name.familiar}: a config of {blob.size} bytes is larger than "
                f"{_CONFIG_LIMIT} bytes"
            )
        if downloads.download(
            self._registry, self._name.path, self._store.blobs, blob.digest, blob.size
        ):
            self._note_blob(blob.digest, blob.size)
        config = configs.parse(self._store.blobs.read(blob.digest, _CONFIG_LIMIT))
        if config.os and not self._fits(config):
            raise NotFound(
                f"image with reference {self._name.familiar} was found but its platform "
                f"({config.platform}) does not match the specified platform ({self._wanted})"
            )
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"{self._name.familiar} is damaged: its manifest has {len(manifest.layers)} "
                f"layers, and its config {len(config.diff_ids)}"
            )
        return config

    # -- layers

    def _note_blob(self, digest: str, size: int) -> None:
        self._note("GET", f"blobs/{digest}", f"blob:{digest}", f"size={size}")

    def fetch_layers(self, lease: Lease, manifest: Manifest, config: ImageConfig) -> dict[str, int]:
        """Download the layers that are not here: three at a time, each hashed on the way.

        A layer is unpacked as soon as it is here and those below it are unpacked, while the next
        ones are still coming.

        Returns:
            The bytes of their files, by chain ID.
        """
        chain = configs.chain_ids(config.diff_ids)
        lines: dict[str, Line] = {}
        sizes = {blob.digest: blob.size for blob in manifest.layers}
        for blob, chain_id in zip(manifest.layers, chain, strict=True):
            lease.keep(chain_id)
            line = Line(self._teller, short(blob.digest), blob.size)
            if lease.keep(blob.digest) and self._layers.has(chain_id):
                line.say("Already exists")
            elif blob.digest not in lines:
                lines[blob.digest] = line
                line.say("Pulling fs layer")
        for line in list(lines.values())[PARALLEL_DOWNLOADS:]:
            line.say("Waiting")
        with (
            futures.ThreadPoolExecutor(PARALLEL_DOWNLOADS, "pull") as pool,
            contextlib.ExitStack() as undo,
        ):
            undo.callback(pool.shutdown, wait=False, cancel_futures=True)
            undo.callback(self._registry.stop)
            coming = {
                digest: pool.submit(self._fetch_layer, digest, sizes[digest], line)
                for digest, line in lines.items()
            }
            self._unpack_in_order(manifest, config, coming, lines)
            undo.pop_all()
        return {chain_id: self._layers.size(chain_id) for chain_id in chain}

    def _fetch_layer(self, digest: str, size: int, line: Line) -> bool:
        """Download one layer, in a thread of its own; False where it was here already."""
        came = downloads.download(
            self._registry, self._name.path, self._store.blobs, digest, size,
            line.advance("Downloading"),
        )  # fmt: skip
        line.say("Verifying Checksum")
        line.say("Download complete")
        return came

    def _unpack_in_order(
        self,
        manifest: Manifest,
        config: ImageConfig,
        coming: dict[str, futures.Future[bool]],
        lines: dict[str, Line],
    ) -> None:
        """Unpack each layer when it has come; end as soon as one of the downloads fails."""
        below = ""
        chain = configs.chain_ids(config.diff_ids)
        for blob, diff_id, chain_id in zip(manifest.layers, config.diff_ids, chain, strict=True):
            if blob.digest in coming and _wait(coming[blob.digest], coming.values()):
                self._note_blob(blob.digest, blob.size)
            line = lines.get(blob.digest) or Line(self._teller, short(blob.digest), blob.size)
            work = partial(
                unpack, self._store, self._layers, blob.digest, diff_id, chain_id, below,
                kind_of_media_type(blob.media_type), partial(_Counted, line=line),
            )  # fmt: skip
            if self._layers.has(chain_id):
                steps.note(f"look for {chain_id}", object=f"layer:{chain_id}", after="here")
                work()
            else:
                steps.take(self.unpack_layer, blob.digest, chain_id, work)
            if blob.digest in lines:
                lines[blob.digest].say("Pull complete")
            below = chain_id

    def unpack_layer(self, digest: str, chain_id: str, work: Callable[[], int]) -> None:
        """Unpack a layer into a directory of its own, the lower directory of an overlay.

        The archive is a stranger's: a process that is confined to the new directory, without the
        network and without most capabilities, reads it. A file `.wh.NAME` says that NAME of a layer
        below is gone; overlay shows the same by a character device 0:0.
        """
        size = work()
        blob, directory = self._store.blobs.path(digest), self._layers.directory(chain_id)
        steps.note(
            f"unpack {digest}", object=f"layer:{chain_id}", after=f"size={size}",
            shell=f"tar -x -f {blob} -C {directory}",
        )  # fmt: skip


class _Counted:
    """A blob that says how far it has been read."""

    def __init__(self, file: BinaryIO, line: Line) -> None:
        self._file = file
        self._done = 0
        self._advance = line.advance("Extracting")

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        block = self._file.read(size)
        self._done += len(block)
        self._advance(self._done)
        return block


def _wait(awaited: futures.Future[bool], others: Iterable[futures.Future[bool]]) -> bool:
    """Wait for one download, and give its result; raise the error of any that fails meanwhile."""
    waiting = set(others)
    while not awaited.done():
        done, waiting = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
        for each in done:
            each.result()
    return awaited.result()
