"""References: short and long names, and Docker's words for what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument
from minicontainer.images.references import Reference, check_digest, is_digest, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4

# what a user types, in full, and as users read it
NAMES = [
    ("mongo", "docker.io/library/mongo:latest", "mongo:latest"),
    ("mongo:4.4", "docker.io/library/mongo:4.4", "mongo:4.4"),
    ("docker.io/mongo", "docker.io/library/mongo:latest", "mongo:latest"),
    ("docker.io/library/mongo", "docker.io/library/mongo:latest", "mongo:latest"),
    ("index.docker.io/mongo", "docker.io/library/mongo:latest", "mongo:latest"),
    ("library/mongo", "docker.io/library/mongo:latest", "mongo:latest"),
    ("team/app", "docker.io/team/app:latest", "team/app:latest"),
    ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
    ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
    ("host:5000/x", "host:5000/x:latest", "host:5000/x:latest"),
    ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
    ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
    ("[2001:db8::1]/x", "[2001:db8::1]/x:latest", "[2001:db8::1]/x:latest"),
    ("REGISTRY/app", "REGISTRY/app:latest", "REGISTRY/app:latest"),
    ("a__b/c---d/e.f_g", "docker.io/a__b/c---d/e.f_g:latest", "a__b/c---d/e.f_g:latest"),
    (f"mongo@{DIGEST}", f"docker.io/library/mongo@{DIGEST}", f"mongo@{DIGEST}"),
    (f"mongo:4@{DIGEST}", f"docker.io/library/mongo:4@{DIGEST}", f"mongo:4@{DIGEST}"),
    ("x:" + "a" * 128, "docker.io/library/x:" + "a" * 128, "x:" + "a" * 128),
    ("x:_Tag.1-2", "docker.io/library/x:_Tag.1-2", "x:_Tag.1-2"),
    ("a" * 63, f"docker.io/library/{'a' * 63}:latest", f"{'a' * 63}:latest"),
    ("g" * 64, f"docker.io/library/{'g' * 64}:latest", f"{'g' * 64}:latest"),
]

# what is no reference, and what Docker says of it
WRONG = [
    ("", "invalid reference format"),
    (":latest", "invalid reference format"),
    ("Mongo", r"invalid reference format: repository name \(library/Mongo\) must be lowercase"),
    ("a/Mongo", r"invalid reference format: repository name \(a/Mongo\) must be lowercase"),
    ("mongo:", "invalid reference format"),
    ("mongo:a:b", "invalid reference format"),
    ("mongo:" + "a" * 129, "invalid reference format"),
    ("mongo:-x", "invalid reference format"),
    ("-mongo", "invalid reference format"),
    ("mongo_", "invalid reference format"),
    ("a..b", "invalid reference format"),
    ("a___b", "invalid reference format"),
    ("a//b", "invalid reference format"),
    ("/a", "invalid reference format"),
    ("a/", "invalid reference format"),
    ("http://a/b", "invalid reference format"),
    ("mongo latest", "invalid reference format"),
    ("mongo\n", "invalid reference format"),
    ("mongo:latest\n", "invalid reference format"),
    ("mongö", "invalid reference format"),
    ("host:port/x", "invalid reference format"),
    ("-host.io/x", "invalid reference format"),
    ("mongo@sha256:abc", "invalid reference format"),
    ("mongo@", "invalid reference format"),
    ("mongo@sha256:" + "a" * 63, "invalid checksum digest length"),
    ("mongo@sha256:" + "A" * 64, "invalid checksum digest format"),
    ("mongo@md5:" + "a" * 32, "unsupported digest algorithm"),
    ("a" * 64, "cannot specify 64-byte hexadecimal strings"),
    ("a" * 256, "repository name must not be more than 255 characters"),
    ("a.io/" + "b" * 256, "repository name must not be more than 255 characters"),
]


@pytest.mark.parametrize(("text", "canonical", "familiar"), NAMES)
def test_a_name_is_read_as_docker_reads_it(text: str, canonical: str, familiar: str) -> None:
    """The full form is what is stored, the short one what a user sees."""
    reference = parse(text)
    assert (reference.canonical, reference.familiar) == (canonical, familiar)


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_no_reference_is_refused_in_dockers_words(text: str, words: str) -> None:
    """Clients and people search for them."""
    with pytest.raises(InvalidArgument, match=words):
        parse(text)


def test_a_bare_name_can_stay_without_a_tag() -> None:
    """For what is about all tags of a repository."""
    reference = parse("mongo", default_tag="")
    assert (reference.tag, reference.familiar) == ("", "mongo")
    assert reference.repository == "docker.io/library/mongo"
    assert reference.familiar_repository == "mongo"


WORD = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
SEPARATOR = st.sampled_from([".", "_", "__", "-", "---"])
COMPONENT = st.builds(
    lambda first, rest: first + "".join(a + b for a, b in rest),
    WORD,
    st.lists(st.tuples(SEPARATOR, WORD), max_size=2),
)
LABEL = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?", fullmatch=True)
DOMAIN = st.builds(
    lambda labels, port: ".".join(labels) + port,
    st.lists(LABEL, min_size=2, max_size=3),
    st.sampled_from(["", ":5000", ":0"]),
)
REFERENCE = st.builds(
    lambda domain, path, tag, digest: Reference(
        domain=domain, path="/".join(path), tag=tag or ("" if digest else "latest"), digest=digest
    ),
    st.one_of(st.sampled_from(["docker.io", "localhost", "[::1]:5000"]), DOMAIN),
    st.lists(COMPONENT, min_size=2, max_size=4),
    st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True)),
    st.sampled_from(["", DIGEST]),
)


@given(REFERENCE)
def test_both_forms_of_a_reference_mean_the_same(reference: Reference) -> None:
    """Whatever is shown to a user can be typed again."""
    if reference.domain == "index.docker.io":
        return
    assert parse(reference.canonical) == reference
    assert parse(reference.familiar) == reference


@given(st.text(st.sampled_from("aA0.:/@-_[] \n~%é\0"), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else is raised, and what was read is stable."""
    try:
        reference = parse(text)
    except InvalidArgument:
        return
    assert parse(reference.canonical) == reference
    assert parse(reference.familiar) == reference


def test_digests_are_told_from_other_texts() -> None:
    """By algorithm, length and digits."""
    assert is_digest(DIGEST)
    assert is_digest("sha512:" + "a" * 128)
    for text in ("", "sha256", "sha256:", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), "a" * 64):
        assert not is_digest(text)
        with pytest.raises(InvalidArgument):
            check_digest(text)
