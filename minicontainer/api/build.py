"""Routes of builds, which this engine does not have yet.

See: Docker Engine API, ImageBuild and BuildPrune.
"""

from __future__ import annotations

from minicontainer.api.calls import Answer, error_answer, json_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.api.calls import Call


def build(call: Call) -> Answer:
    """POST /build."""
    return error_answer(
        501, "this engine cannot build images yet: build elsewhere, then pull or load"
    )


def cancel(call: Call) -> Answer:
    """POST /build/cancel."""
    return error_answer(404, "no such build")


def prune(call: Call) -> Answer:
    """POST /build/prune: without builds there is no cache, and `docker system prune` goes on."""
    return json_answer({"CachesDeleted": None, "SpaceReclaimed": 0})


def buildkit(call: Call) -> Answer:
    """POST /session and /grpc: BuildKit's own protocol."""
    return error_answer(501, "this engine has no BuildKit: set DOCKER_BUILDKIT=0")
