"""Images as Docker's API shows them.

See: Docker Engine API, ImageSummary, ImageInspect, HistoryResponseItem.
"""

from __future__ import annotations

from minicontainer.images import platforms
from minicontainer.images.config import NO_TIME, nanoseconds, parse_json, rfc3339
from minicontainer.images.references import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minicontainer.images.config import History
    from minicontainer.images.image import Image, Layer

    Json = dict[str, Any]

_NOT_COUNTED = -1
# What clients read of a config that says nothing: the keys are there, as Docker sends them.
_EMPTY_CONFIG: Json = {
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def familiar(names: Iterable[str]) -> list[str]:
    """Give names as users read them."""
    return [parse(name).familiar for name in names]


def summary(image: Image, names: Iterable[str] | None = None) -> Json:
    """Show an image in a list.

    Args:
        image: which one.
        names: of its names those to show; None for all.
    """
    shown = None if names is None else set(names)
    return {
        "Containers": _NOT_COUNTED,
        "Created": image.created_ns // 10**9,
        "Id": image.id,
        "Labels": image.labels or None,
        "ParentId": image.parent,
        "RepoDigests": familiar(x for x in image.repo_digests if shown is None or x in shown),
        "RepoTags": familiar(x for x in image.names if shown is None or x in shown),
        "SharedSize": _NOT_COUNTED,
        "Size": image.size,
    }


def manifest(image: Image, size: int, containers: list[str]) -> Json:
    """Show an image's manifest, for those that ask for manifests.

    Docker's other image store keeps indexes, with manifests for several platforms; here each image
    has one, its own.

    Args:
        size: bytes of the manifest.
        containers: the IDs of those that use the image.
    See: Docker Engine API, ImageManifestSummary.
    """
    descriptor = {"mediaType": image.media_type, "digest": image.manifest, "size": size}
    own = platforms.of(image.config)
    content = size + len(image.config_json.encode()) + sum(x.size for x in image.layers)
    unpacked = sum(max(x.unpacked_size, 0) for x in image.layers)
    return {
        "Descriptor": descriptor,
        "Manifests": [
            {
                "ID": image.manifest,
                "Descriptor": descriptor,
                "Available": True,
                "Size": {"Content": content, "Total": content + unpacked},
                "Kind": "image",
                "ImageData": {
                    "Platform": {key: text for key, text in own.to_json().items() if text},
                    "Containers": containers,
                    "Size": {"Unpacked": unpacked},
                },
            }
        ],
    }


def inspected(image: Image, directories: tuple[str, ...]) -> Json:
    """Show all of an image.

    Args:
        image: which one.
        directories: its unpacked layers, uppermost first.
    """
    document = parse_json(image.config_json, "image config")
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": familiar(image.names),
        "RepoDigests": familiar(image.repo_digests),
        "Parent": image.parent,
        "Comment": config.history[-1].comment if config.history else "",
        "Created": image.created or NO_TIME,
        "DockerVersion": document.get("docker_version") or "",
        "Author": config.author,
        "Config": _EMPTY_CONFIG | (document.get("config") or {}),
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        **({"OsVersion": config.os_version} if config.os_version else {}),
        "Size": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": _graph_data(directories)},
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": rfc3339(image.tagged_ns) if image.tagged_ns else NO_TIME},
    }


def _graph_data(directories: tuple[str, ...]) -> Json | None:
    if not directories:
        return None
    upper, *lower = directories
    return {"UpperDir": upper, **({"LowerDir": ":".join(lower)} if lower else {})}


def history(image: Image) -> list[Json]:
    """Show the steps that made an image, the last one first."""
    config = image.config
    layers = iter(image.layers)
    steps = [
        _step(step, None if step.empty_layer else next(layers, None)) for step in config.history
    ]
    steps += [_step(None, layer) for layer in layers]  # the history may tell less than there is
    steps.reverse()
    if steps:
        steps[0] |= {"Id": image.id, "Tags": familiar(image.names) or None}
    return steps


def _step(step: History | None, layer: Layer | None) -> Json:
    size = 0 if layer is None else max(layer.unpacked_size, 0)
    return {
        "Id": "<missing>",
        "Created": nanoseconds(step.created) // 10**9 if step else 0,
        "CreatedBy": step.created_by if step else "",
        "Tags": None,
        "Size": size,
        "Comment": step.comment if step else "",
    }
