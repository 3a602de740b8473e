"""Requests and answers as bytes: versions, parameters, bodies, errors."""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.api import routes
from minicontainer.api.calls import parse_filters
from minicontainer.errors import InvalidArgument, NotFound
from tests.api.conftest import Reply, Wire, receive_until
from tests.api.fake_engine import FakeEngine
from tests.conftest import wait_until

CREATE = {"Image": "busybox", "Cmd": ["true"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linux", "failed to parse platform: "),
        ("{}", "both OS and Architecture must be provided"),
        ('{"os":"linux"}', "both OS and Architecture must be provided"),
        ('{"os":1,"architecture":"arm64"}', "os: "),
    ],
)
def test_a_platform_is_an_object(wire: Wire, text: str, words: str) -> None:
    """As Docker reads it; a version of the API that has none passes over it."""
    query = urllib.parse.quote(text)
    for method, path in (("GET", "web/json"), ("POST", "load")):
        reply = wire.ask(method, f"/v1.50/images/{path}?platform={query}")
        assert (reply.status, words in reply.message) == (400, True), reply.message
    assert wire.ask("GET", f"/v1.47/images/web/json?platform={query}").status == 200
    good = urllib.parse.quote('{"os":"linux","architecture":"arm","variant":"v7"}')
    assert wire.ask("GET", f"/v1.50/images/web/json?platform={good}").status == 200
    two = wire.ask("GET", f"/v1.50/images/web/json?platform={good}&platform={good}")
    assert two.message.endswith("multiple platform parameters not supported")
    both = wire.ask("GET", f"/v1.50/images/web/json?platform={good}&manifests=1")
    assert both.message.endswith("manifests and platform options cannot both be set")


def test_credentials_come_in_a_header(wire: Wire, engine: FakeEngine) -> None:
    """Base64 of a JSON object, in either alphabet, with or without padding; empty is nobody."""

    def pull(header: str) -> Reply:
        head = f"X-Registry-Auth: {header}\r\nConnection: close\r\n\r\n"
        path = "/images/create?fromImage=web&tag=1"
        return Reply(wire.send(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}".encode()))

    values = {"username": "ann", "password": "pass:word???>>>"}
    text = json.dumps(values).encode()
    for encoded in (base64.urlsafe_b64encode(text), base64.b64encode(text)):
        for header in (encoded.decode(), encoded.decode().rstrip("=")):
            assert pull(header).status == 200
            assert engine.images.calls[-1][-1] == values
    assert pull("").status == 200
    assert engine.images.calls[-1][-1] == {}
    deep = base64.b64encode(b"[" * 10_000).decode()
    for wrong in ("x", "W10=", "%%%", deep):
        reply = pull(wrong)
        assert (reply.status, "invalid X-Registry-Auth header" in reply.message) == (400, True)


def test_a_ping_tells_the_version_in_its_headers(wire: Wire) -> None:
    """The docker client sends HEAD first, and reads the newest version from the headers."""
    for method in ("HEAD", "GET"):
        reply = wire.ask(method, "/_ping")
        assert reply.status == 200
        assert reply.status_line == "HTTP/1.1 200 OK"
        assert reply.headers["api-version"] == "1.50"
        assert reply.headers["ostype"] == "linux"
        assert reply.headers["docker-experimental"] == "false"
        assert reply.headers["builder-version"] == "1"
        assert reply.headers["swarm"] == "inactive"
        assert reply.body == (b"OK" if method == "GET" else b"")


@pytest.mark.parametrize("version", ["", "/v1.24", "/v1.43", "/v1.50"])
def test_every_version_up_to_the_newest_is_spoken(wire: Wire, version: str) -> None:
    """And a path without one is of the newest."""
    assert wire.ask("GET", f"{version}/containers/json").json() == []


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.51", "client version 1.51 is too new. Maximum supported API version is 1.50"),
        ("9.0", "client version 9.0 is too new. Maximum supported API version is 1.50"),
    ],
)
def test_another_version_is_refused_in_dockers_words(wire: Wire, version: str, words: str) -> None:
    """The words end up in front of the user."""
    reply = wire.ask("GET", f"/v{version}/containers/json")
    assert (reply.status, reply.message[: len(words)]) == (400, words)


@pytest.mark.parametrize("path", ["/nonsense", "/v1.50/containers", "/v1.50", "//", "/v1.x/info"])
def test_a_path_that_no_route_has_is_not_found(wire: Wire, path: str) -> None:
    """Docker says the same of a wrong method."""
    for method in ("GET", "PATCH"):
        reply = wire.ask(method, path)
        assert (reply.status, reply.json()) == (404, {"message": "page not found"})


def test_errors_are_plain_text_for_attach_and_for_old_clients(wire: Wire) -> None:
    """As Docker's: they would show JSON as it is."""
    for path, status, text in (
        ("/v1.50/containers/no/attach", 404, b"No such container: no\r\n"),
        ("/v1.23/info", 400, b"client version 1.23 is too old. Minimum supported API version"),
    ):
        reply = wire.post(path)
        assert (reply.status, reply.body[: len(text)]) == (status, text)
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_options_are_no_error(wire: Wire) -> None:
    """For every path, as Docker's."""
    for path in ("/", "/v1.50/containers/json"):
        reply = wire.ask("OPTIONS", path)
        assert (reply.status, reply.body) == (200, b"")


def test_an_images_name_may_have_slashes_and_a_port(wire: Wire, engine: FakeEngine) -> None:
    """Also percent-encoded, as docker-py sends it."""
    name = "registry.example:5000/team/web"
    assert wire.ask("GET", f"/v1.50/images/{name}/json").json()["Id"] == name
    quoted = name.replace("/", "%2F").replace(":", "%3A")
    assert wire.ask("GET", f"/v1.50/images/{quoted}/json").json()["Id"] == name
    assert wire.post(f"/images/{name}/tag?repo=a%2Fb&tag=1").status == 201
    assert engine.images.calls == [("tag", name, "a/b", "1")]


def test_a_container_is_created_and_an_error_has_its_status(wire: Wire) -> None:
    """201, then 409 for the same name, 404 for another, 204, and 304 without a body."""
    created = wire.post("/v1.50/containers/create?name=web", CREATE)
    assert (created.status, created.json()["Warnings"]) == (201, [])
    assert wire.post("/v1.50/containers/create?name=web", CREATE).status == 409
    missing = wire.ask("GET", "/v1.50/containers/no/json")
    assert (missing.status, missing.json()) == (404, {"message": "No such container: no"})
    assert missing.headers["content-type"] == "application/json"
    started = wire.post("/v1.50/containers/web/start")
    assert (started.status, started.raw_body) == (204, b"")
    again = wire.post("/v1.50/containers/web/start")
    assert (again.status, again.raw_body) == (304, b"")
    assert wire.ask("GET", "/info").status == 501


def test_an_error_of_the_kernel_is_told_as_everywhere(wire: Wire, engine: FakeEngine) -> None:
    """Such as no descriptors left, where the engine itself has nothing to add."""

    def fail(ref: str, signal: str = "") -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    engine.containers.kill = fail
    reply = wire.post("/containers/web/kill")
    assert reply.status == 500
    assert reply.message == "Too many open files: raise the limit (ulimit -n)"


def test_a_bug_is_an_answer_and_the_connection_goes_on(wire: Wire) -> None:
    """500 with a message, and the next request on the same connection works."""
    with wire.connect() as sock:
        sock.sendall(b"POST /containers/web/kill HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = Reply(receive_until(sock, b"}\n"))
        assert (reply.status, reply.message) == (500, "a bug")
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in receive_until(sock, b"OK")


def test_several_requests_share_a_connection(wire: Wire) -> None:
    """Keep-alive, also when they come in one piece."""
    request = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert wire.send(request * 3 + last).count(b"\r\n\r\nOK") == 4


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b'{"Image":', "invalid JSON: expected a value at line 1, column 10"),
        (b"{Image", "invalid JSON: invalid character 'I' looking for beginning of object key str"),
        (b'{"Image" 1', "invalid JSON: invalid character '1' after object key"),
        (b"{", "invalid JSON: unexpected EOF"),
        (b"[1]", "invalid JSON: "),
        (b"null", "config cannot be empty in order to create a container"),
        (b"[" * 200_000, "invalid JSON: "),
        (b'"\xff"', "invalid JSON: "),
    ],
)
def test_a_body_that_is_no_configuration_is_refused(wire: Wire, body: bytes, words: str) -> None:
    """With what is wrong, and nothing is made."""
    reply = wire.ask("POST", "/containers/create", body)
    assert reply.status == 400
    assert reply.message.startswith(words)
    assert wire.ask("GET", "/containers/json").json() == []


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/containers/create", {"Volumes": ["/x"]}, "Volumes: expected an object"),
        ("/containers/create", {"Labels": {"a": 1}}, "Labels.a: expected a string, got 1"),
        ("/containers/create", {"ExposedPorts": "80"}, "ExposedPorts: expected an object"),
        (
            "/containers/create",
            {"HostConfig": {"PidsLimit": "x"}},
            "PidsLimit: expected",
        ),
        ("/containers/create", {"Env": "A=1"}, "Env: expected a list"),
        ("/containers/x/update", {"RestartPolicy": "no"}, "RestartPolicy: expected an object"),
        ("/containers/x/exec", {"Cmd": "id"}, "Cmd: expected a list"),
        ("/containers/x/exec", {"Cmd": ["id"], "User": 1}, "User: expected a string"),
        ("/networks/create", {"Name": "x", "IPAM": {"Config": 1}}, "IPAM.Config: expected a list"),
        ("/networks/x/connect", {"EndpointConfig": []}, "EndpointConfig: expected an object"),
        ("/volumes/create", {"DriverOpts": {"a": []}}, "DriverOpts.a: expected a string"),
        ("/commit?container=x", {"Env": 1}, "Env: expected a list"),
        ("/commit?container=x", [], "invalid JSON: expected an object"),
    ],
)
def test_a_wrong_type_is_named_by_its_path(wire: Wire, path: str, body: object, words: str) -> None:
    """Before anything is done."""
    reply = wire.post(path, body)
    assert (reply.status, words in reply.message) == (400, True), reply.message


@pytest.mark.parametrize("path", ["/containers/%00/json", "/containers/x/logs?stdout=1&tail=%00"])
def test_a_nul_is_refused(wire: Wire, path: str) -> None:
    """No system call takes it."""
    reply = wire.ask("GET", path)
    assert (reply.status, "NUL" in reply.message) == (400, True)


def test_the_fields_of_a_body_have_names_in_any_case(wire: Wire, engine: FakeEngine) -> None:
    """Go's decoder takes them so, and docker-py sends `detachKeys`; keys of maps stay."""
    body = {"image": "x", "hostConfig": {"MEMORY": 1}, "Labels": {"image": "y"}}
    assert wire.post("/containers/create?name=web", body).status == 201
    made = engine.containers.created["web"]["Config"]
    assert made["Image"] == "x"
    assert made["HostConfig"] == {"Memory": 1}
    assert made["Labels"] == {"image": "y"}


def test_a_body_of_another_type_is_refused(wire: Wire) -> None:
    """In Docker's words."""
    reply = wire.ask("POST", "/containers/create", b"{}", kind="text/plain")
    assert reply.status == 400
    words = "unsupported Content-Type header (text/plain): must be 'application/json'"
    assert reply.message == words


def test_booleans_are_read_as_docker_does(wire: Wire, engine: FakeEngine) -> None:
    """The CLI sends 1, docker-py True; all that is not false is true."""
    for text in ("1", "true", "True", "yes"):
        wire.ask("GET", f"/containers/json?all={text}")
    for text in ("0", "false", "False", "no", ""):
        wire.ask("GET", f"/containers/json?all={text}")
    wire.ask("GET", "/containers/json")
    assert [call[1] for call in engine.containers.calls] == [True] * 4 + [False] * 6


def test_numbers_are_checked(wire: Wire, engine: FakeEngine) -> None:
    """A number may be negative, and what is none is named."""
    wire.post("/containers/create?name=web", CREATE)
    assert wire.post("/containers/web/stop?t=-1&signal=HUP").status == 204
    assert wire.post("/containers/web/stop").status == 204
    assert engine.containers.calls == [("stop", "web", -1, "HUP"), ("stop", "web", None, "")]
    reply = wire.post("/containers/web/stop?t=soon")
    assert (reply.status, "soon" in reply.message) == (400, True)
    for height in ("70000", "-1", "+-1", "1-", ""):
        assert wire.post(f"/containers/web/resize?h={height}&w=1").status == 400


def test_filters_come_in_two_shapes(wire: Wire, engine: FakeEngine) -> None:
    """The CLI sends objects, docker-py lists."""
    wire.ask("GET", '/containers/json?filters={"label":{"a=b":true},"status":{"x":false}}')
    wire.ask("GET", '/containers/json?filters={"label":["a=b"]}')
    assert [call[4] for call in engine.containers.calls] == [
        {"label": ["a=b"], "status": []},
        {"label": ["a=b"]},
    ]
    for bad in ("x", "[]", '{"label":"a"}', '{"label":{"a":1}}', "{"):
        assert wire.ask("GET", f"/containers/json?filters={bad}").status == 400


@given(st.dictionaries(st.text(), st.lists(st.text(), unique=True)))
def test_both_shapes_of_filters_say_the_same(filters: dict[str, list[str]]) -> None:
    """Whatever the names and values are."""
    as_objects = {name: dict.fromkeys(values, True) for name, values in filters.items()}
    assert parse_filters(json.dumps(filters)) == parse_filters(json.dumps(as_objects)) == filters


@given(
    st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT"]), st.text(alphabet="/v1.50{}%aé\n*")
)
def test_any_path_is_found_or_refused(method: str, path: str) -> None:
    """No path makes the table fail in another way."""
    try:
        _, rest = routes.split_version(path)
        routes.find(method, rest)
    except (NotFound, InvalidArgument):
        pass


def test_logs_have_their_options(wire: Wire, engine: FakeEngine) -> None:
    """Times keep their nanoseconds; a tail that is no number means all."""
    wire.post("/containers/create?name=web", CREATE)
    reply = wire.ask(
        "GET", "/containers/web/logs?stdout=1&tail=all&since=1700000000.000000001&until=5"
    )
    assert reply.body == b"\1\0\0\0\0\0\0\6hello\n"
    assert reply.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    options = engine.containers.calls[-1][1]
    assert (options.tail, options.since_ns, options.until_ns) == (
        -1,
        1_700_000_000_000_000_001,
        5_000_000_000,
    )
    reply = wire.ask("GET", "/v1.41/containers/web/logs?stdout=1&tail=7")
    assert reply.headers["content-type"] == "application/vnd.docker.raw-stream"
    assert engine.containers.calls[-1][1].tail == 7
    assert wire.ask("GET", "/containers/web/logs").status == 400
    assert wire.ask("GET", "/containers/web/logs?stdout=1&since=never").status == 400


def test_a_pull_fails_with_a_status_or_in_the_stream(wire: Wire, engine: FakeEngine) -> None:
    """The first message decides."""
    reply = wire.post("/images/create?fromImage=web&tag=1")
    assert reply.body.count(b"\r\n") == 2
    assert wire.post("/images/create?fromImage=web&tag=none").status == 404
    half = wire.post("/images/create?fromImage=web&tag=half")
    assert half.status == 200
    words = "the layer is broken"
    lines = half.body.split(b"\r\n")
    assert json.loads(lines[1]) == {"errorDetail": {"message": words}, "error": words}


def test_a_load_fails_in_the_stream(wire: Wire) -> None:
    """Also before the first message: docker-py raises ImageLoadError for that."""
    reply = wire.ask("POST", "/images/load", b"", kind="application/x-tar")
    words = "the archive is empty"
    assert reply.status == 200
    assert json.loads(reply.body) == {"errorDetail": {"message": words}, "error": words}


def test_a_pull_that_fails_late_has_a_status_too(wire: Wire, engine: FakeEngine) -> None:
    """Signs of life are no messages; a client that leaves before the first one ends the work."""
    late = wire.post("/images/create?fromImage=web&tag=late")
    assert (late.status, late.message) == (404, "registry of web can't be reached")
    with wire.connect() as sock:
        sock.sendall(b"POST /images/create?fromImage=web&tag=endless HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: engine.images.calls[-1][2:3] == ("endless",), "the pull to begin")
    wait_until(lambda: engine.images.calls[-1] == ("left", "web"), "the pull to end")


def test_a_large_upload_streams(wire: Wire, engine: FakeEngine) -> None:
    """In chunks, without a length; the limit of JSON bodies does not hold for it."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    with wire.connect() as sock:
        sock.sendall(head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert receive_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        for _ in range(160):
            sock.sendall(chunk)
        sock.sendall(b"0\r\n\r\n")
        assert b"Loaded 10485760" in receive_until(sock, b"0\r\n\r\n")
    assert engine.images.received == 10 * 1024 * 1024


def test_a_paths_description_is_a_header(wire: Wire) -> None:
    """Of HEAD, which has no body."""
    reply = wire.ask("HEAD", "/containers/web/archive?path=/etc/hosts")
    assert (reply.status, reply.raw_body) == (200, b"")
    assert reply.headers["x-docker-container-path-stat"]
    assert wire.ask("HEAD", "/containers/web/archive").status == 400


@pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services/x", "/secrets", "/tasks/1/logs"])
def test_there_is_no_swarm(wire: Wire, path: str) -> None:
    """503, in the words that Compose and the docker client know."""
    reply = wire.ask("GET", path)
    assert reply.status == 503
    assert reply.message.startswith("This node is not a swarm manager")


def test_what_is_not_there_says_so(wire: Wire) -> None:
    """Build, BuildKit, plugins."""
    assert wire.post("/build?t=x").status == 501
    assert wire.post("/grpc").status == 501
    assert wire.post("/build/prune").json() == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert wire.ask("GET", "/plugins").json() == []
    assert wire.ask("GET", "/plugins/x/json").message == 'plugin "x" not found'


def test_the_socket_is_for_root_and_its_group_alone(wire: Wire) -> None:
    """0660 from the first moment."""
    assert stat.S_IMODE(os.stat(wire.path).st_mode) == 0o660
