"""replay: what `--record` kept, shown again. It needs neither root, nor an engine, nor Linux."""

from __future__ import annotations

import os
import sys

from minicontainer.cli.exits import EXIT_ENGINE, Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.errors import Error, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.learn.recording import Recording


def _factor(value: str) -> float:
    try:
        factor = float(value)
    except ValueError:
        factor = -1
    if not 0 <= factor < 1e6:  # also refuses nan
        raise InvalidArgument("expected a number, such as 20; 0 does not wait at all")
    return factor


@command(
    "FILE",
    Flag(name="html", metavar="OUT", help="write one page for a browser, which needs no network"),
    Flag(name="lang", metavar="LANG", help="the language of the reasons: en, ru; by the locale"),
    toggle("play", "", "show the steps in time, and do not wait for keys"),
    Flag(name="slower", metavar="N", read=_factor, default=20.0,
         help="with --play: how many times slower than it was"),
    least=1, most=1,
)  # fmt: skip
def replay(asked: Asked) -> int:
    """Show a recording again: by key press, in time, or as a page for a browser."""
    from minicontainer.learn import page, recording
    from minicontainer.learn import replay as player
    from minicontainer.learn.words import language, translated

    own = language(asked.session.environ)
    try:
        found = recording.read(asked.args[0])
        lang = _language(found, asked.lang, own)
    except Error as error:
        message = translated(str(error), asked.lang or own)
        raise Exit(message, EXIT_ENGINE, prefix=True) from None
    if asked.html:
        try:
            page.write_page(found, asked.html, lang)
        except OSError as error:
            raise Exit(f"--html {asked.html}: {error.strerror}", EXIT_ENGINE, prefix=True) from None
    elif asked.play:
        player.play(found, sys.stdout, lang, asked.slower)
    elif os.isatty(0) and os.isatty(1):
        player.at_the_keyboard(found, lang)
    else:  # nobody to press a key
        player.play(found, sys.stdout, lang, slower=0)
    return 0


def _language(recording: Recording, asked: str, own: str) -> str:
    """Choose among the languages of the recording: by option, then by locale, then English.

    Args:
        asked: by option, or "";  own: by locale.
    """
    known = {"en", *(lang for texts in recording.steps.values() for lang in texts)}
    if asked and asked not in known:
        message = f"--lang {asked}: the recording has {', '.join(sorted(known))}"
        raise Exit(message, EXIT_ENGINE, prefix=True)
    return asked or (own if own in known else "en")
