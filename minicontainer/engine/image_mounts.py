"""Images that are mounted into containers: `--mount type=image,source=tools,target=/tools`.

The container has the image's files at the target, and can't write to them: the layers as an overlay
without an upper directory, or bound where there is only one. It holds the layers as it does those
of its own image, so that they stay when the image is removed by force.

See: Docker's `docker container run` reference, "--mount"; overlayfs.rst "Multiple lower layers".
"""

from __future__ import annotations

import contextlib

from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.kernel.overlay import Overlay
from minicontainer.runtime.config.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine


def give(engine: Engine, container: Container) -> None:
    """Find the images that a new container wants mounted, hold them, and add its mounts.

    Raises:
        InvalidArgument: there is no such image; or the container's root could not read it.
    """
    for plan in engine.volumes.plans(container.config):
        if plan.type != "image":
            continue
        if container.config.host_config.userns_mode == "private":
            raise InvalidArgument("conflicting options: --userns private and a mount of type image")
        try:
            image = engine.images.resolve(plan.source)
        except NotFound as error:  # 404 is for the container's own image: clients then pull that
            raise InvalidArgument(str(error)) from None
        if not image.chain_ids:
            raise InvalidArgument(f"image {plan.source} has no files that could be mounted")
        engine.images.store.hold(image.id, container.id)
        lowers = engine.images.layers.lower_directories(image.chain_ids)
        container.mounted_images[plan.target] = [image.id, *image.chain_ids]
        container.mounts.append(
            {
                "Type": "image",
                "Name": plan.source,
                "Source": lowers[0],
                "Destination": plan.target,
                "Mode": "",
                "RW": False,
                "Propagation": "",
            }
        )


def hold_again(engine: Engine, container: Container) -> None:
    """Hold a container's images after a power cut, unless they are gone."""
    for image_id, *_ in container.mounted_images.values():
        with contextlib.suppress(NotFound):
            engine.images.store.hold(image_id, container.id)


def with_images(engine: Engine, container: Container, wanted: Iterable[Mount]) -> tuple[Mount, ...]:
    """Make a container's mounts of images those of all their layers."""
    found = []
    for mount in wanted:
        _, *layers = container.mounted_images.get(mount.destination, ["", ""])
        if len(layers) > 1:
            lowers = engine.images.layers.lower_directories(tuple(layers))
            options = (*Overlay(lowers=lowers).options(), "ro")
            mount = mount.replace(type="overlay", source="overlay", options=options)
        found.append(mount)
    return tuple(found)
