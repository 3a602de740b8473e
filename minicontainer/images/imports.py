"""Import: a root file system's tar, sent or at a URL, becomes an image of one layer.

See: `docker import`.
"""

from __future__ import annotations

import contextlib

from minicontainer.errors import InvalidArgument
from minicontainer.images import instructions, platforms
from minicontainer.images.making import keep_layer, make_image, new_document
from minicontainer.images.transfers import Line, Teller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from minicontainer.images.blobs import Readable
    from minicontainer.images.image import Image
    from minicontainer.images.layers import LayerStore
    from minicontainer.images.references import Reference
    from minicontainer.images.store import ImageStore
    from minicontainer.images.transfers import Progress


@contextlib.contextmanager
def opened(source: Readable | str, tell: Progress) -> Iterator[Readable]:
    """Give a tar to read; one that is named by its URL is downloaded meanwhile.

    Args:
        tell: takes messages about a download.
    Raises:
        InvalidArgument: it is no URL. NotFound, Error: there is no such file, or no server.
    """
    if not isinstance(source, str):
        yield source
        return
    from minicontainer.images import web  # here: it brings httpx, 100 ms

    place = web.read_url(source)
    tell({"status": f"Downloading from {web.without_login(place)}"})

    def teller(total: int) -> Callable[[int], None]:
        return Line(Teller(tell), "", total).advance("Importing")

    with web.opened(place, teller) as stream:
        yield stream


def message_for(source: Readable | str) -> str:
    """Say where an image comes from, for its history."""
    if not isinstance(source, str):
        return "Imported from -"
    from minicontainer.images import web  # here: it brings httpx, 100 ms

    return f"Imported from {web.without_login(web.read_url(source))}"


def import_image(
    store: ImageStore,
    layers: LayerStore,
    stream: Readable,
    reference: Reference | None,
    changes: Iterable[str] = (),
    message: str = "",
    platform: str = "",
) -> Image:
    """Make an image of a tar, plain or compressed.

    Args:
        store: where it goes.
        layers: where its files go.
        stream: the tar.
        reference: its name; None for none.
        changes: Dockerfile instructions that say how its containers start.
        message: for its history.
        platform: what it is for, `linux/arm64`; "" for this machine.
    Raises:
        InvalidArgument: it is no tar, or an instruction makes no sense. Nothing is kept.
    """
    config = instructions.apply({}, changes)  # first: it may be wrong, and the tar may be large
    target = platforms.parse(platform) if platform else platforms.host()
    if target.os != "linux":
        raise InvalidArgument("operating system is not supported")
    with store.lease("import", is_resumable=False) as lease:
        layer = keep_layer(store, layers, lease, stream)
        document = new_document(config, message or "Imported from -", platform=target)
        return make_image(
            store, lease, document, (layer,), () if reference is None else (reference,)
        )
