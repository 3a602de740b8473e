"""Platforms: the operating system and processor that an image is for, such as `linux/arm64`.

See: OCI image-spec image-index.md "platform"; Go's GOOS and GOARCH.
"""

from __future__ import annotations

import os
import re

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images.references import shown
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.config import ImageConfig

# What a word alone can mean. With a slash, any two words are a platform, which no image may have.
_SYSTEMS = {
    "aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd",
    "openbsd", "plan9", "solaris", "wasip1", "windows",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
# What uname(2), users and old files say, in Go's words: architecture, variant.
_ALIASES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"), "armel": ("arm", "v6"), "armv8l": ("arm64", ""),
    "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "armv5tel": ("arm", "v5"),
    "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""), "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}  # fmt: skip
_ARCHITECTURES = {
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64",
    "ppc64le", "riscv64", "s390x", "sparc64", "wasm",
}  # fmt: skip
_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
# What a processor runs beside its own, the best first.
_ALSO_RUNS = {
    "amd64": (("386", ""),),
    "arm64": (("arm", "v8"), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")),
}
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")


class Platform(Record, json={"os_version": "os.version"}):
    """An operating system, an architecture and a variant of it, in Go's words."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        """Show it as users write it: `linux/arm/v7`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def same(self, other: Platform) -> bool:
        """Say whether both mean the same; an empty variant is the architecture's usual one."""
        return self._key() == other._key()

    def _key(self) -> tuple[str, str, str]:
        architecture, variant = _ALIASES.get(self.architecture, (self.architecture, ""))
        variant = self.variant or variant
        return self.os, architecture, variant or _DEFAULT_VARIANTS.get(architecture, "")


def parse(text: str) -> Platform:
    """Read `linux/arm64`, `arm64`, `linux/arm/v7`.

    Raises:
        InvalidArgument: it is no platform.
    """
    parts = text.lower().split("/")
    for number, part in enumerate(parts):
        if not _WORD.fullmatch(part):
            raise InvalidArgument(
                f'"{shown(part)}" is an invalid {"component" if number else "OS component"} of '
                f'"{shown(text)}": use OS/ARCHITECTURE[/VARIANT], such as linux/arm64'
            )
    alone = len(parts) == 1
    parts[0] = "darwin" if parts[0] == "macos" else parts[0]
    if alone:
        if parts[0] in _SYSTEMS:
            return host().replace(os=parts[0])
        parts = ["linux", *parts]
    system, architecture, variant = (*parts, "")[:3]
    architecture, usual = _ALIASES.get(architecture, (architecture, ""))
    if len(parts) > 3 or (alone and architecture not in _ARCHITECTURES):
        raise InvalidArgument(
            f'"{shown(text)}": unknown operating system or architecture: invalid argument: '
            "use OS/ARCHITECTURE[/VARIANT], such as linux/arm64"
        )
    return Platform(os=system, architecture=architecture, variant=variant or usual)


def from_json(text: str) -> Platform:
    """Read a platform as Docker's API has it: `{"os": "linux", "architecture": "arm64"}`.

    Raises:
        InvalidArgument: it is no such object, in Docker's words.
    """
    try:
        found = Platform.from_json(jsontext.parse(text))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"failed to parse platform: {error}") from None
    if not found.os or not found.architecture:
        raise InvalidArgument("both OS and Architecture must be provided")
    return found


def fits(own: Platform, wanted: Platform) -> bool:
    """Report whether an image's platform is the one wanted; a variant left out fits any."""
    return own.same(wanted) or (
        "" in (own.variant, wanted.variant)
        and own.replace(variant="").same(wanted.replace(variant=""))
    )


def require(config: ImageConfig, name: str, wanted: Platform) -> None:
    """Check that an image is for a platform.

    Args:
        name: the image, as the user wrote it.
    Raises:
        NotFound: it is for another one, in Docker's words.
    """
    own = of(config)
    if not fits(own, wanted):
        raise NotFound(
            f"image with reference {name} was found but its platform ({own}) does not match the "
            f"specified platform ({wanted})"
        )


def warning(own: Platform) -> str:
    """Say that this machine's processor does not run an image, in Docker's words; "" if it does."""
    here = host()
    if not (own.os and own.architecture) or any(
        fits(own, each) for each in acceptable(here, False)
    ):
        return ""
    return (
        f"The requested image's platform ({own}) does not match the detected host platform "
        f"({here}) and no specific platform was requested"
    )


def of(config: ImageConfig) -> Platform:
    """Give the platform that an image's config names."""
    return Platform(os=config.os, architecture=config.architecture, variant=config.variant)


def host() -> Platform:
    """Give this machine's platform."""
    machine = os.uname().machine
    architecture, variant = _ALIASES.get(machine, (machine, ""))
    return Platform(os="linux", architecture=architecture, variant=variant)


def acceptable(wanted: Platform, alone: bool) -> tuple[Platform, ...]:
    """List the platforms whose images serve for *wanted*, the best first.

    Args:
        wanted: this machine's, or what a user asked for.
        alone: leave out other architectures that the processor runs too: the user named one.
    """
    _, architecture, variant = wanted._key()
    found = [wanted]
    if architecture == "arm":
        later = (
            _ARM_VARIANTS[_ARM_VARIANTS.index(variant) + 1 :] if variant in _ARM_VARIANTS else ()
        )
        found += [wanted.replace(variant=each) for each in later]
    if not alone:
        found += [
            Platform(os=wanted.os, architecture=name, variant=each)
            for name, each in _ALSO_RUNS.get(architecture, ())
        ]
    return tuple(found)
