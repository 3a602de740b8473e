"""Dockerfile instructions of `import --change` and `commit --change`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument
from minicontainer.images.instructions import apply
from minicontainer.images.words import expand, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
        (["CMD a b  c"], {"Cmd": ["/bin/sh", "-c", "a b  c"]}),
        (["cmd [not json"], {"Cmd": ["/bin/sh", "-c", "[not json"]}),
        (['SHELL ["/bin/bash", "-ec"]', "CMD a"],
         {"Shell": ["/bin/bash", "-ec"], "Cmd": ["/bin/bash", "-ec", "a"]}),
        (['ENTRYPOINT ["a"]'], {"Entrypoint": ["a"], "Cmd": None}),
        (["CMD []", 'ENTRYPOINT ["a"]'], {"Entrypoint": ["a"], "Cmd": []}),
        (["ENV A=1 B=2"], {"Env": ["PATH=/bin", "A=1", "B=2"]}),
        (["ENV A some  value"], {"Env": ["PATH=/bin", "A=some  value"]}),
        (['ENV A="b c" D=e\\ f G=\'$PATH\''], {"Env": ["PATH=/bin", "A=b c", "D=e f", "G=$PATH"]}),
        (["ENV PATH=/x:$PATH", "ENV PATH=/y:${PATH}"], {"Env": ["PATH=/y:/x:/bin"]}),
        (["ENV A=${NONE:-b}c D=${PATH:+e}"], {"Env": ["PATH=/bin", "A=bc", "D=e"]}),
        (["EXPOSE 80 443/udp 9000-9001/TCP"],
         {"ExposedPorts": {port: {} for port in ("80/tcp", "443/udp", "9000/tcp", "9001/tcp")}}),
        (['LABEL a=b "c d"="e f"'], {"Labels": {"a": "b", "c d": "e f"}}),
        (["USER nobody:nogroup"], {"User": "nobody:nogroup"}),
        (["VOLUME /data /log"], {"Volumes": {"/data": {}, "/log": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["WORKDIR /srv", "WORKDIR www/../x"], {"WorkingDir": "/srv/x"}),
        (["WORKDIR x"], {"WorkingDir": "/x"}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        (["ONBUILD RUN make"], {"OnBuild": ["RUN make"]}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (["HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x"],
         {"Healthcheck": {"Interval": 90 * 10**9, "Retries": 3,
                          "Test": ["CMD-SHELL", "curl -f x"]}}),
        (['HEALTHCHECK --start-period=500ms CMD ["a"]'],
         {"Healthcheck": {"StartPeriod": 5 * 10**8, "Test": ["CMD", "a"]}}),
        (["", "  # a comment"], {}),
    ],
)  # fmt: skip
def test_an_instruction_changes_the_config(lines: list[str], expected: dict[str, Any]) -> None:
    """Each as a Dockerfile's."""
    before = {"Env": ["PATH=/bin"], "Cmd": ["old"]}
    assert apply(before, lines) == {**before, **expected}
    assert before == {"Env": ["PATH=/bin"], "Cmd": ["old"]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("copy a b", "copy is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in 'B'"),
        ("ENV =1", "ENV names can not be blank"),
        ('ENV A="b', 'matching "'),
        ("ENV A=${B", "missing '}'"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 80/icmp", "invalid containerPort: 80/icmp"),
        ("SHELL bash", "JSON form"),
        ("ONBUILD ONBUILD RUN x", "isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK curl", "Unknown type 'curl' in HEALTHCHECK"),
        ("HEALTHCHECK --interval=often CMD x", "invalid duration 'often'"),
        ("HEALTHCHECK --color=red CMD x", "--color=red"),
        ('VOLUME [""]', "can not be an empty string"),
    ],
)
def test_an_instruction_without_sense_is_refused(line: str, words: str) -> None:
    """With what is wrong in it."""
    with pytest.raises(InvalidArgument) as caught:
        apply({}, [line])
    assert words in str(caught.value)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), max_size=5))
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    """Whatever is in them."""
    quoted = [
        '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'
        for word in words
    ]
    assert [expand(word, {}) for word in split("  ".join(quoted))] == words


@given(st.text(max_size=40))
def test_any_line_is_read_or_refused(text: str) -> None:
    """Nothing but InvalidArgument is raised."""
    for name in ("ENV", "EXPOSE", "LABEL", "VOLUME", "HEALTHCHECK", "WORKDIR", "CMD", "ONBUILD"):
        try:
            apply({}, [f"{name} {text}"])
        except InvalidArgument:
            continue
