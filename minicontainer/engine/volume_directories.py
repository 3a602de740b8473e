"""The directories of volumes: made and removed so that a crash leaves all of one, or nothing.

    NAME          a volume's
    .NAME.new     until the database knows the volume
    .NAME.gone    from the beginning of its removal

The database decides: `settle` finishes what a killed engine had begun. No volume's name begins with
a dot. A directory NAME that the database does not know is somebody's data, and is left alone.
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Directories:
    """The directories of all volumes.

    Args:
        root: where they are;  it is made with the first one.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def data(self, name: str) -> str:
        """Give the place of a volume's files."""
        return os.path.join(self._root, name, "_data")

    def make(self, name: str, keep: Callable[[], None]) -> None:
        """Make a volume's directory.

        Args:
            keep: writes the volume into the database.
        Raises:
            KernelError: ENOSPC, EROFS, …
        """
        make_directory(self._root, 0o700)  # CVE-2021-41091, see bundles.make_directory
        if os.path.exists(self._place(name)):  # somebody's data, of a database that was lost
            make_directory(self.data(name), 0o755)
            keep()
            return
        new = self._place(name, ".new")
        make_directory(new, 0o700)
        make_directory(f"{new}/_data", 0o755)
        keep()
        os.rename(new, self._place(name))

    def remove(self, name: str, forget: Callable[[], None]) -> None:
        """Remove a volume's directory with its files.

        Args:
            forget: removes the volume from the database.
        Raises:
            KernelError: EBUSY: something is mounted there. Nothing has changed then.
        """
        gone = self._place(name, ".gone")
        with suppress(FileNotFoundError):
            os.rename(self._place(name), gone)
        steps.reach("after set-volume-aside")
        try:
            trees.remove_if_there(gone)
        except KernelError:
            os.rename(gone, self._place(name))
            raise
        forget()

    def settle(self, names: set[str]) -> set[str]:
        """Finish what a killed engine had begun; give the volumes whose removal it was.

        Args:
            names: the volumes that the database knows.
        """
        removed = set()
        for found in os.listdir(self._root) if os.path.isdir(self._root) else ():
            name, _, state = found[1:].rpartition(".")
            if not found.startswith(".") or state not in ("new", "gone"):
                continue
            if state == "new" and name in names and not os.path.exists(self._place(name)):
                os.rename(self._place(name, ".new"), self._place(name))
                continue
            if state == "gone" and name in names:
                removed.add(name)
            with suppress(KernelError):  # a later engine tries again
                trees.remove_if_there(os.path.join(self._root, found))
        # of which the files were gone already when the engine was killed
        return removed | {name for name in names if not os.path.exists(self._place(name))}

    def _place(self, name: str, suffix: str = "") -> str:
        return os.path.join(self._root, f".{name}{suffix}" if suffix else name)


def make_directory(path: str, mode: int) -> None:
    """Make a directory with just that mode, whatever the umask; nothing happens when it is there.

    Raises:
        KernelError: in Docker's words.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except OSError as error:
        raise KernelError(
            error.errno, error.strerror, f"error while creating mount source path '{path}': mkdir"
        ) from None
    os.chmod(path, mode)
