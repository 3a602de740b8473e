"""What a client can choose when it reads a container's streams.

See: Docker Engine API, ContainerAttach and ContainerLogs.
"""

from __future__ import annotations

from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    class ClientStream(Protocol):
        """A client's connection that is to become a stream of raw bytes in both directions.

        `buffered` holds what the client sent before the upgrade was answered. These bytes come
        before everything that `socket` will deliver.
        """

        socket: socket.socket
        buffered: bytes

        def accept(self) -> None:
            """Tell the client that the stream begins.

            A client that attaches starts the container as soon as it hears that: whoever calls
            this holds what keeps the container from starting.
            """


class AttachOptions(Record):
    """Which streams of a container are connected to the client, and how.

    Args:
        stream: connect to the running container; without it only `logs` are sent.
        logs: first send what the container has written so far.
        stdin: send the client's bytes to the container's standard input.
        detach_keys: the keys that end the connection, such as "ctrl-p,ctrl-q"; "" for the default.
        multiplex: without a terminal, wrap each write in a frame with an 8-byte header. WebSocket
            clients get raw bytes.
    """

    stream: bool = False
    logs: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str = ""
    multiplex: bool = True


class LogOptions(Record):
    """Which lines of a container's log are sent.

    Args:
        follow: go on with new lines until the container stops.
        timestamps: start each line with its time.
        details: add the attributes that `--log-opt labels` and `env` chose.
        tail: number of lines from the end; -1 for all.
        since_ns: nanoseconds since the epoch; 0 for the beginning.
        until_ns: likewise; 0 for no end.
    """

    stdout: bool = False
    stderr: bool = False
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    tail: int = -1
    since_ns: int = 0
    until_ns: int = 0
