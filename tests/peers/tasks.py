"""Ask containerd to update a task: its API can, and Kubernetes does; ctr has no word for it.

    python tasks.py NAMESPACE TASK RESOURCES

RESOURCES is JSON, as `linux.resources` of config.json. What containerd answers is written as it
came, and what it refuses is told on stderr. A program, since gRPC starts threads: whoever forks, as
the other tests do, has none.

See: containerd api/services/tasks/v1/tasks.proto; protobuf.dev "Encoding".
"""

from __future__ import annotations

import sys

import grpc

_SOCKET = "unix:/run/containerd/containerd.sock"
_UPDATE = "/containerd.services.tasks.v1.Tasks/Update"
_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
_PATIENCE_S = 30
_BYTES = 2  # a field's kind: texts and messages, whose length stands before them


def varint(number: int) -> bytes:
    """Encode a number: seven bits a byte, the low ones first; the top bit says that more follow."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: bytes) -> bytes:
    """Encode a text or a message as a field of another message."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def request(task: str, resources: str) -> bytes:
    """Encode an UpdateTaskRequest: the container's id, and an Any of the resources."""
    packed = field(1, _TYPE.encode()) + field(2, resources.encode())
    return field(1, task.encode()) + field(2, packed)


def main() -> None:
    """Send one request."""
    namespace, task, resources = sys.argv[1:]
    with grpc.insecure_channel(_SOCKET) as channel:
        update = channel.unary_unary(_UPDATE)
        metadata = [("containerd-namespace", namespace)]
        try:
            answer = update(request(task, resources), timeout=_PATIENCE_S, metadata=metadata)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main()
