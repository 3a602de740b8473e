"""A recording as one page for a browser: no network, no other file.

The page (`page.html`) has a lane for each actor, the kernel's objects as they appear and change,
and each step with its reason and its calls. The recording stands in it as JSON.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.learn.recording import Recording

_TEMPLATE = os.path.join(os.path.dirname(__file__), "page.html")
_PLACE = "/*RECORDING*/"


def write_page(recording: Recording, path: str, lang: str = "en") -> None:
    """Write the page for a recording.

    Args:
        path: the file to write.
        lang: the language that the page begins in; a button changes it.
    Raises:
        OSError: the file can't be written.
    """
    with open(_TEMPLATE, encoding="utf-8") as file:
        template = file.read()
    # "</" would end the script element in which the JSON stands
    data = json.dumps({**recording.to_json(), "lang": lang}, ensure_ascii=False)
    # a name need not be UTF-8: what is not stands in the JSON as its escapes
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(template.replace(_PLACE, data.replace("</", "<\\/"), 1))
