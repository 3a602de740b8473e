"""Templates: what Docker's client makes of them, over the same data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.cli.template_functions import Struct
from minicontainer.cli.template_words import TemplateError
from minicontainer.cli.templates import Template
from tests.conftest import PATIENCE_S

from .recorder import Recorder, serving

# What Docker's client reads as a plain map: no field of it has a type of its own. The fields come
# in the order in which engines send them: Docker's client prints that one, whatever it gets.
DATA: dict[str, Any] = {
    "CreatedAt": "2026-01-02T03:04:05Z", "Driver": "local",
    "Labels": {"a": "b", "c": "<d>&", "z": ""}, "Mountpoint": "/a b", "Name": "kept",
    "Options": None, "Scope": "local",
}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Recorder]:
    """A stand-in that has one volume."""
    if not shutil.which("docker"):
        pytest.skip("docker, the client, is missing")
    directory = Path(tempfile.mkdtemp(prefix="minic-"))
    with serving(directory / "socket", {"/volumes/kept": DATA}) as server:
        yield server
    shutil.rmtree(directory)


def dockers(engine: Recorder, template: str) -> str | None:
    """Render a template with Docker's client; None where it refuses."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent",
               "DOCKER_HOST": f"unix://{engine.server_address!s}"}  # fmt: skip
    done = subprocess.run(
        ["docker", "volume", "inspect", "-f", template, "kept"],
        env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return done.stdout.removesuffix("\n") if done.returncode == 0 else None


def ours(template: str) -> str | None:
    """Render it with ours."""
    try:
        return Template(template).render(Struct(json.loads(json.dumps(DATA))))
    except TemplateError:
        return None


TEXTS = st.sampled_from([".Name", ".Driver", ".Mountpoint", '"x y"', '""', "`raw`", "$.Scope"])
NUMBERS = st.sampled_from(["0", "1", "3", "-2", "(len .Name)", "(len .Labels)"])
TRUTHS = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne"]), TEXTS, TEXTS).map(lambda t: f"({' '.join(t)})"),
    st.tuples(st.sampled_from(["lt", "le", "gt", "ge"]), NUMBERS, NUMBERS).map(
        lambda t: f"({' '.join(t)})"
    ),
    st.sampled_from(["true", "false", ".Name", ".Labels", ".Options", '""', "0"]),
)
VALUES = st.one_of(
    TEXTS, NUMBERS, TRUTHS,
    st.tuples(st.sampled_from(["upper", "lower", "title", "json", "len", "print", "println"]),
    TEXTS)
    .map(" ".join),
    st.tuples(TEXTS, st.sampled_from(["upper", "json", "printf `%s|`", "printf `%5.2s`", "len"]))
    .map(" | ".join),
    st.tuples(st.sampled_from(["and", "or"]), TRUTHS, TRUTHS).map(" ".join),
    TRUTHS.map("not {}".format),
    st.tuples(st.sampled_from(["%s", "%v", "%q", "%10s", "%-6s|"]), TEXTS).map(
        lambda t: f'printf "{t[0]}" {t[1]}'
    ),
    st.tuples(st.sampled_from(["%d", "%5d", "%05d", "%x", "%v"]), NUMBERS).map(
        lambda t: f'printf "{t[0]}" {t[1]}'
    ),
    st.sampled_from([
        'index .Labels "a"', 'index .Labels "nosuch"', 'split .Name ""',
        'join (split "a,b" ",") "+"',
        "json .Labels", "json .", "pad .Name 1 2", "truncate .Name 2", "slice .Name 1",
        ".Nosuch", ".Labels", ".Options", "nosuch .Name", ".Name.Nosuch",
        'index (split "a,b" ",") 1', ".Labels.a",
    ]),
)  # fmt: skip
ACTIONS = st.one_of(
    VALUES.map("{{{{{}}}}}".format),
    VALUES.map("{{{{- {} -}}}}".format),
    st.sampled_from(["text ", " \n ", "{{/* comment */}}", "}}", "'"]),
)


def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Put templates into if, with and range."""
    return st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.tuples(TRUTHS, inner, inner).map(
            "{{{{if {0[0]}}}}}{0[1]}{{{{else}}}}{0[2]}{{{{end}}}}".format
        ),
        st.tuples(TRUTHS, inner, TRUTHS, inner).map(
            "{{{{if {0[0]}}}}}{0[1]}{{{{else if {0[2]}}}}}{0[3]}{{{{end}}}}".format
        ),
        st.tuples(VALUES, inner).map(
            "{{{{with {0[0]}}}}}{{{{.}}}}{{{{else}}}}{0[1]}{{{{end}}}}".format
        ),
        inner.map("{{{{range $k, $v := .Labels}}}}{{{{$k}}}}={{{{$v}}}};{{{{end}}}}{}".format),
        inner.map('{{{{range split "a,b,c" ","}}}}{{{{if eq . "b"}}}}{{{{continue}}}}{{{{end}}}}'
                  "{{{{.}}}}{{{{end}}}}{}".format),
        inner.map("{{{{range .Options}}}}x{{{{else}}}}none{{{{end}}}}{}".format),
        inner.map("{{{{$x := .Name}}}}{{{{$x}}}}{}{{{{$x}}}}".format),
    )  # fmt: skip


@settings(max_examples=int(os.environ.get("MINICONTAINER_EXAMPLES", "60")), deadline=None)
@given(st.recursive(ACTIONS, around, max_leaves=6))
def test_a_template_means_what_docker_makes_of_it(engine: Recorder, template: str) -> None:
    """The same text, or both refuse."""
    template = f"={template}"  # an empty one is none
    assert ours(template) == dockers(engine, template)


@pytest.mark.parametrize(
    "template",
    ["{{", "{{.Name", "{{end}}", "{{if .Name}}", "{{range}}{{end}}", '{{"a}}', "{{else}}",
     "{{(.Name}}", "{{.Name | nosuch}}", "{{$undeclared}}", "{{1 2}}", "{{| .Name}}"],
)  # fmt: skip
def test_what_is_no_template(engine: Recorder, template: str) -> None:
    """Both refuse."""
    assert ours(template) is None
    assert dockers(engine, template) is None
