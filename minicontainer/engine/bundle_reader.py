"""Read the config.json that the engine has written, in the monitor.

Three quarters of that text are the default filter of system calls. The spawner makes it once, and
every monitor inherits it: to parse those four hundred names again would take a monitor 2 ms, and
write to a hundred pages of memory that it shares with the spawner until then.

See: `bundles.write_bundle`, which writes the text; `seccomp_profile` for the filter.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.runtime.config.defaults import CAPABILITIES
from minicontainer.runtime.config.seccomp_profile import default_profile
from minicontainer.runtime.config.spec import Bundle, Spec

_PROFILE = default_profile(CAPABILITIES)
_PROFILE.key()  # kept in it, so that no monitor computes it
_FILTER = '"seccomp":'
_TEXT = _FILTER + jsontext.dump(_PROFILE.to_json())


def read(directory: str) -> Bundle:
    """Read a container's bundle.

    Raises:
        OSError: there is none.
        InvalidArgument: it is not what the engine writes.
    """
    with open(f"{directory}/config.json", encoding="utf-8") as file:
        text = file.read()
    return Bundle(path=directory, spec=parse(text), text=text)


def parse(text: str) -> Spec:
    """Parse a configuration, with the default filter taken from where it is known.

    Inside a JSON string, the quotes of `"seccomp":` would be escaped, so the text found is the
    filter.
    """
    before, found, after = text.partition(_TEXT)
    if not found:
        return Spec.from_json(jsontext.parse(text))
    spec = Spec.from_json(jsontext.parse(f"{before}{_FILTER}null{after}"))
    return spec.replace(linux=spec.linux.replace(seccomp=_PROFILE))
