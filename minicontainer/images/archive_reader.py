"""Read an archive of images from a stream: Docker's format, old and new, and OCI's.

A stream can't be searched, and the documents that say what the files are come last, or first. So
all files are kept as blobs on the way, under the digest in their name or the one that they turn out
to have, and the documents in memory. What no image needs in the end is garbage.

See: `archives.py` for the format.
"""

from __future__ import annotations

import posixpath

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.images import config, indexes, manifests, platforms
from minicontainer.images.archive_files import files_of
from minicontainer.images.config import parse_json
from minicontainer.images.layout import FULL_NAME, REF_NAME, IndexEntry
from minicontainer.images.references import Reference, is_digest, parse, shown
from minicontainer.record import Record, pascal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.archive_files import Content, File
    from minicontainer.images.blobs import Readable
    from minicontainer.images.indexes import Index
    from minicontainer.images.platforms import Platform
    from minicontainer.images.store import ImageStore
    from minicontainer.images.store_leases import Lease

_DOCUMENTS = ("manifest.json", "index.json", "oci-layout", "repositories")
_DOCUMENT_LIMIT = 32 << 20  # bytes
_CONFIG_LIMIT = 8 << 20
_MOST_NESTED = 3  # indexes in indexes
_UNUSED = ("VERSION", "json")  # of each layer, in archives of Docker before 1.10


class DockerImage(Record, names=pascal):
    """One image of Docker's manifest.json."""

    config: str
    repo_tags: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


class Found(Record):
    """An image of an archive.

    Args:
        config: its config's digest.
        manifest: its manifest's digest; "" where the archive has none.
        media_type: that manifest's, as the index says it.
        layers: the digests of its layers' blobs, bottom first.
        names: what it is called.
    """

    config: str
    manifest: str
    media_type: str
    layers: tuple[str, ...]
    names: tuple[Reference, ...]


class Archive:
    """An archive that has been read: its documents, and its files' digests.

    Args:
        store: keeps the files.
        lease: keeps them until images need them.
        stream: the tar, plain or compressed.
    Raises:
        InvalidArgument: it is no archive of images, or broken.
    """

    def __init__(self, store: ImageStore, lease: Lease, stream: Readable) -> None:
        self._store = store
        self._lease = lease
        self._documents: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}  # by the file's name
        self._links: dict[str, str] = {}
        for file in files_of(stream):
            self._take(file)

    def _take(self, file: File) -> None:
        name = file.name
        if file.content is None:
            self._links[name] = file.target
        elif name in _DOCUMENTS:
            if file.size > _DOCUMENT_LIMIT:
                raise InvalidArgument(f"{name} is larger than {_DOCUMENT_LIMIT} bytes")
            self._documents[name] = file.content.read()
        elif posixpath.basename(name) not in _UNUSED:
            self._digests[name] = self._keep(name, file.content, file.size)

    def _keep(self, name: str, content: Content, size: int) -> str:
        algorithm, _, encoded = name.removeprefix("blobs/").partition("/")
        digest = f"{algorithm}:{encoded}"
        if name.startswith("blobs/") and is_digest(digest):
            if not self._lease.keep(digest):
                self._store.blobs.ingest(content, digest, size)
            return digest
        with self._store.blobs.new(size) as part:
            part.write_all(content)
            self._lease.commit(part)
        return part.digest

    def images(self, platform: Platform | None = None) -> list[Found]:
        """List the images.

        Args:
            platform: leave out images for others; None takes this machine's from an index.
        Raises:
            InvalidArgument: there are none, or a file of them is missing.
        """
        found = self._all(platform)
        if platform is None:
            return found
        fitting = [image for image in found if platforms.fits(self._platform_of(image), platform)]
        if not fitting:
            raise InvalidArgument(f"the archive has no image for the platform {platform}")
        return fitting

    def _platform_of(self, image: Found) -> Platform:
        return platforms.of(config.parse(self._store.blobs.read(image.config, _CONFIG_LIMIT)))

    def _all(self, platform: Platform | None) -> list[Found]:
        in_index = self._from_index(platform)
        if "manifest.json" in self._documents:
            return self._from_manifest_json({image.config: image for image in in_index})
        if "index.json" not in self._documents:
            if "repositories" in self._documents:
                raise Unsupported(
                    "the archive is of a format older than Docker 1.10: load and save it with a "
                    "newer Docker"
                )
            raise InvalidArgument(
                "the archive has neither manifest.json nor index.json: it is no archive of images "
                "(a root file system is imported)"
            )
        if not in_index:
            wanted = f"the platform {platform}" if platform else "this machine's platform"
            raise InvalidArgument(f"the archive has no image for {wanted}")
        return in_index

    def _from_manifest_json(self, in_index: dict[str, Found]) -> list[Found]:
        text = self._documents["manifest.json"].decode(errors="replace")
        listed = parse_json(f'{{"images":{text}}}', "manifest.json")["images"]
        if not isinstance(listed, list):
            raise InvalidArgument("manifest.json: expected a list")
        found = []
        for number, item in enumerate(listed):
            image = DockerImage.from_json(item, f"manifest.json[{number}]")
            digest = self._digest_of(image.config)
            names = tuple(_tagged(text) for text in image.repo_tags)
            if digest in in_index:  # with the manifest as it is in a registry
                found.append(in_index[digest].replace(names=names))
                continue
            layers = tuple(map(self._digest_of, image.layers))
            found.append(
                Found(config=digest, manifest="", media_type="", layers=layers, names=names)
            )
        return found

    def _digest_of(self, name: str) -> str:
        """Find the blob of a file, also by a link to it."""
        path = posixpath.normpath(name)
        for _ in range(8):
            if digest := self._digests.get(path):
                return digest
            path = self._links.get(path, "")
        raise InvalidArgument(f"the archive has no file {shown(name)}, which manifest.json names")

    def _from_index(self, platform: Platform | None) -> list[Found]:
        raw = self._documents.get("index.json")
        if raw is None:
            return []
        items = parse_json(raw, "index.json").get("manifests") or []
        if not isinstance(items, list):
            raise InvalidArgument("index.json: manifests: expected a list")
        by_digest: dict[str, Found] = {}
        for number, item in enumerate(items):
            entry = IndexEntry.from_json(item, f"index.json: manifests[{number}]")
            image = self._image_of(entry.digest, entry.media_type, _MOST_NESTED, platform)
            if image is not None:
                name = _annotated(entry.annotations)
                known = by_digest.setdefault(image.manifest, image)
                if name is not None and name not in known.names:
                    by_digest[image.manifest] = known.replace(names=(*known.names, name))
        return list(by_digest.values())

    def _image_of(
        self, digest: str, media_type: str, depth: int, platform: Platform | None
    ) -> Found | None:
        """Read a manifest, or choose one from an index; None for what is no image."""
        if not self._store.blobs.has(digest):
            return None  # an index lists platforms that were left out
        raw = self._store.blobs.read(digest)
        try:
            document = indexes.parse(raw, media_type, digest)
        except Unsupported:  # an artifact: a signature, an attestation
            return None
        if isinstance(document, manifests.Manifest):
            return self._described(digest, document)
        return self._chosen(document, depth, platform) if depth else None

    def _chosen(self, index: Index, depth: int, platform: Platform | None) -> Found | None:
        """Choose the image for *platform*; for None, this machine's, else the first one here."""
        best = [
            entry
            for one in platforms.acceptable(platform or platforms.host(), platform is not None)
            for entry in index.manifests
            if entry.platform and entry.platform.same(one)
        ]
        unnamed = index.manifests if platform is None else ()
        for entry in (*best, *unnamed):
            if image := self._image_of(entry.digest, entry.media_type, depth - 1, platform):
                return image
        return None

    def _described(self, digest: str, manifest: manifests.Manifest) -> Found | None:
        blobs = self._store.blobs
        if not blobs.has(manifest.config.digest):
            raise InvalidArgument(f"the archive has no blob {manifest.config.digest}")
        parsed = config.parse(blobs.read(manifest.config.digest, _CONFIG_LIMIT))
        if parsed.os == "unknown":  # an attestation of BuildKit's looks like an image
            return None
        return Found(
            config=manifest.config.digest,
            manifest=digest,
            media_type=manifest.media_type,
            layers=tuple(layer.digest for layer in manifest.layers),
            names=(),
        )


def _tagged(text: str) -> Reference:
    """Read a name of manifest.json."""
    name = parse(text, default_tag="")
    if not name.tag:
        raise InvalidArgument(f'invalid tag "{shown(text)}"')
    return name.replace(digest="")


def _annotated(annotations: dict[str, str]) -> Reference | None:
    """Read a name of index.json. A word alone is a tag without a repository, so it is none."""
    text = annotations.get(FULL_NAME) or annotations.get(REF_NAME, "")
    if ":" not in text and "/" not in text:
        return None
    try:
        name = parse(text)
    except InvalidArgument:
        return None
    return name.replace(digest="") if name.tag else None
