"""The table of commands: noun and verb, the short spelling, the module, one line of help.

`minicontainer container stop` and `minicontainer stop` are one command. A command's module is
imported when the command is asked for; its function is named as the short spelling, or as noun and
verb where there is none.
"""

from __future__ import annotations

from minicontainer.record import Record

NOUNS = {
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Manage the engine",
    "volume": "Manage volumes",
}


class Row(Record):
    """One command.

    Args:
        noun: "" for a command that belongs to none.
        verb: as it is spelled after the noun.
        short: as it is spelled alone; "" where only the long spelling exists.
        module: the module of cli that has the function.
        help: one line.
        others: further spellings.
    """

    noun: str
    verb: str
    short: str
    module: str
    help: str
    others: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        """Name the function in the module."""
        name = self.short or f"{self.noun}_{self.verb}"
        return f"{name}_" if name == "import" else name  # a word of Python's own

    @property
    def spellings(self) -> tuple[str, ...]:
        """Give every spelling, the long one first."""
        long = f"{self.noun} {self.verb}" if self.noun else ""
        return tuple(word for word in (long, *self.others, self.short) if word)


def _rows(noun: str, *rows: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(noun=noun, verb=verb, short=short, module=module, help=help,
            others=tuple(f"{noun} {other}" for other in others))
        for verb, short, module, help, *others in rows
    )  # fmt: skip


COMMANDS = (
    *_rows(
        "container",
        ("attach", "attach", "streams", "Connect this terminal to a running container"),
        ("commit", "commit", "snapshots", "Make an image of a container's changes"),
        ("cp", "cp", "copy", "Copy files between a container and this host"),
        ("create", "create", "run", "Create a container, and do not start it"),
        ("diff", "diff", "snapshots", "Show which files a container changed"),
        ("exec", "exec", "exec", "Run a command in a running container"),
        ("export", "export", "snapshots", "Write a container's file system as a tar archive"),
        ("inspect", "", "inspect", "Show all that is known of a container"),
        ("kill", "kill", "lifecycle", "Send a signal to containers: SIGKILL"),
        ("logs", "logs", "streams", "Show what a container wrote"),
        ("ls", "ps", "containers", "List containers", "list", "ps"),
        ("pause", "pause", "lifecycle", "Freeze the processes of containers"),
        ("port", "port", "containers", "List the published ports of a container"),
        ("prune", "", "prune", "Remove all stopped containers"),
        ("rename", "rename", "lifecycle", "Give a container another name"),
        ("restart", "restart", "lifecycle", "Stop containers and start them again"),
        ("rm", "rm", "lifecycle", "Remove containers", "remove"),
        ("run", "run", "run", "Create a container and run a command in it"),
        ("start", "start", "streams", "Start stopped containers"),
        ("stats", "stats", "stats", "Show what containers use, live"),
        ("stop", "stop", "lifecycle", "Stop running containers"),
        ("top", "top", "containers", "Show the processes of a container"),
        ("unpause", "unpause", "lifecycle", "Let frozen containers go on"),
        ("update", "update", "update", "Change the limits of containers"),
        ("wait", "wait", "lifecycle", "Wait until containers stop, and print their exit statuses"),
    ),
    *_rows(
        "image",
        ("history", "history", "images", "Show how an image was made"),
        ("import", "import", "archives", "Make an image of a tar archive"),
        ("inspect", "", "inspect", "Show all that is known of an image"),
        ("load", "load", "archives", "Load images from an archive"),
        ("ls", "images", "images", "List images", "list"),
        ("prune", "", "prune", "Remove images that no container uses"),
        ("pull", "pull", "registry", "Fetch an image from a registry"),
        ("push", "push", "registry", "Send an image to a registry"),
        ("rm", "rmi", "images", "Remove images", "remove"),
        ("save", "save", "archives", "Write images to an archive"),
        ("tag", "tag", "images", "Give an image one more name"),
    ),
    *_rows(
        "network",
        ("connect", "", "networks", "Connect a container to a network"),
        ("create", "", "networks", "Create a network"),
        ("disconnect", "", "networks", "Disconnect a container from a network"),
        ("inspect", "", "inspect", "Show all that is known of a network"),
        ("ls", "", "networks", "List networks", "list"),
        ("prune", "", "prune", "Remove networks that no container uses"),
        ("rm", "", "networks", "Remove networks", "remove"),
    ),
    *_rows(
        "volume",
        ("create", "", "volumes", "Create a volume"),
        ("inspect", "", "inspect", "Show all that is known of a volume"),
        ("ls", "", "volumes", "List volumes", "list"),
        ("prune", "", "prune", "Remove volumes that no container uses"),
        ("rm", "", "volumes", "Remove volumes", "remove"),
    ),
    *_rows(
        "system",
        ("df", "", "usage", "Show what images, containers and volumes take on disk"),
        ("events", "events", "events", "Show what happens in the engine, as it happens"),
        ("info", "info", "info", "Show the engine and its host"),
        ("prune", "", "prune", "Remove what no container uses"),
    ),
    *_rows(
        "",
        ("", "daemon", "daemon", "Run the engine and its API in the foreground"),
        ("", "explain", "explain", "Show how to make a container by hand, as a shell script"),
        ("", "compare", "compare", "Run a bundle with two OCI runtimes, and show what differs"),
        ("", "check", "system", "Tell what this host offers to containers"),
        ("", "inspect", "inspect", "Show all that is known of an object"),
        ("", "login", "login", "Store the credentials for a registry"),
        ("", "logout", "login", "Forget the credentials for a registry"),
        ("", "replay", "replay", "Show what --record kept: by key press, in time, or as a page"),
        ("", "search", "registry", "Search Docker Hub for images"),
        ("", "version", "info", "Show the versions of client and engine"),
    ),
)  # fmt: skip


def find(words: list[str]) -> tuple[Row | None, int]:
    """Find the command that a command line begins with; give also how many words name it."""
    for count in (2, 1):
        name = " ".join(words[:count])
        for row in COMMANDS:
            if len(words) >= count and name in row.spellings:
                return row, count
    return None, 0
