"""Users by the container's own files: whatever these hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.engine import users
from minicontainer.engine.users import Identity
from minicontainer.errors import InvalidArgument

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment:x:7:7::/:
broken line
web:x:1000:1001:Web:/srv/web:/bin/sh
1234:x:0:0:a number for a name:/n:/bin/sh
homeless:x:70:70:::/bin/sh
evil:x:-1:0::/:/bin/sh
huge:x:4294967296:0::/:/bin/sh
word:x:1x:0::/:/bin/sh
mixed:x:71:x::/:/bin/sh
"""
GROUP = """\
root:x:0:
web:x:1001:
disk:x:6:root,web
video:x:44:web
webs:x:45:webmaster,web2
nobody:x:x:web,web2
minus:x:-1:web
77:x:0:
"""


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system with these users."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


WEB = Identity(uid=1000, gid=1001, groups=(6, 44))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("", Identity(uid=0, gid=0, groups=(6,))),
        ("root", Identity(uid=0, gid=0, groups=(6,))),
        ("0", Identity(uid=0, gid=0, groups=(6,))),
        ("web", WEB),
        ("1000", WEB),
        ("web:disk", WEB.replace(gid=6, groups=())),
        ("web:6", WEB.replace(gid=6, groups=())),
        ("1000:2", WEB.replace(gid=2, groups=())),
        ("1", Identity(uid=1)),
        ("1:2", Identity(uid=1, gid=2)),
        ("4294967294:4294967294", Identity(uid=2**32 - 2, gid=2**32 - 2)),
        ("1234", Identity(uid=1234)),  # a number is an id and never a name
        ("1:77", Identity(uid=1, gid=77)),
        ("01000", WEB),
        ("mixed:5", Identity(uid=71, gid=5)),  # its own group is bad, and not needed
        ("homeless", Identity(uid=70, gid=70)),
        ("007", Identity(uid=7)),
    ],
)
def test_a_user_is_a_name_or_a_number(rootfs: Path, asked: str, expected: Identity) -> None:
    """A number needs no entry; a group that is named leaves the others out, as in Docker."""
    assert users.find(asked, str(rootfs)) == expected


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("nosuch", "unable to find user nosuch"),
        ("web:nosuch", "unable to find group nosuch"),
        (":", "use USER, UID"),
        (":1", "use USER, UID"),
        ("1:", "use USER, UID"),
        ("1:2:3", "unable to find group 2:3"),
        ("-1", "unable to find user -1"),
        ("1x", "unable to find user 1x"),
        (" 1", "unable to find user"),
        ("+1", "unable to find user"),
        ("0x10", "unable to find user"),
        ("4294967295", "invalid user id '4294967295': use 0 to 4294967294"),
        ("4294967296", "invalid user id"),
        ("18446744073709551616", "invalid user id"),
        ("1:4294967295", "invalid group id"),
        ("\u0661", "invalid user id"),  # a decimal digit, but not of ASCII
        ("\u00b2", "unable to find user"),
        ("evil", "/etc/passwd of the container, line 7: invalid user id '-1'"),
        ("huge", "/etc/passwd of the container, line 8: invalid user id '4294967296'"),
        ("word", "/etc/passwd of the container, line 9: invalid user id '1x'"),
        ("mixed", "/etc/passwd of the container, line 10: invalid group id 'x'"),
        ("1:nobody", "/etc/group of the container, line 6: invalid group id 'x'"),
    ],
)
def test_what_is_no_user_is_refused(rootfs: Path, asked: str, says: str) -> None:
    """Never guessed at: CVE-2026-30892 made root of a number that was not one."""
    with pytest.raises(InvalidArgument) as caught:
        users.find(asked, str(rootfs))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (("video", "9"), (9, 44)),
        (("77",), (77,)),  # the line that calls gid 0 "77" does not count
        (("disk", "6", "disk"), (6,)),
    ],
)
def test_groups_are_added(rootfs: Path, added: tuple[str, ...], expected: tuple[int, ...]) -> None:
    """By name or number, each once; beside those whose lines list the user."""
    assert sorted(users.find("5:5", str(rootfs), added).groups) == list(expected)
    assert set(users.find("web", str(rootfs), added).groups) == {6, 44, *expected}


def test_a_group_that_cannot_be_added_is_named(rootfs: Path) -> None:
    """With the file and the line, where the line is bad."""
    with pytest.raises(InvalidArgument, match="unable to find group nosuch"):
        users.find("0", str(rootfs), ("nosuch",))
    with pytest.raises(InvalidArgument, match=r"/etc/group of the container, line 7: .*'-1'"):
        users.find("0", str(rootfs), ("minus",))


def test_a_root_without_these_files(tmp_path: Path) -> None:
    """Numbers do; names are unknown."""
    assert users.find("", str(tmp_path)) == Identity()
    assert users.find("5:6", str(tmp_path)) == Identity(uid=5, gid=6)
    with pytest.raises(InvalidArgument):
        users.find("root", str(tmp_path))


def test_links_stay_in_the_root(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An image's /etc/passwd that leads out leads to the image's own file of that path, or none."""
    outside = tmp_path_factory.mktemp("outside") / "passwd"
    outside.write_text("spy:x:7:7::/:/bin/sh\n")
    passwd = rootfs / "etc/passwd"
    for target in (str(outside), "../../../../../../../.." + str(outside)):
        passwd.unlink()
        passwd.symlink_to(target)
        with pytest.raises(InvalidArgument):
            users.find("spy", str(rootfs))
    passwd.unlink()
    passwd.symlink_to("/etc/group")
    with pytest.raises(InvalidArgument):
        users.find("web", str(rootfs))


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop"])
def test_a_file_that_is_none_is_passed_over(rootfs: Path, kind: str) -> None:
    """A fifo would be waited for; nobody writes to it."""
    passwd = rootfs / "etc/passwd"
    passwd.unlink()
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "directory":
        passwd.mkdir()
    else:
        passwd.symlink_to("passwd")
    assert users.find("3", str(rootfs)) == Identity(uid=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    passwd=st.binary(max_size=200),
    group=st.binary(max_size=200),
    asked=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_any_file_and_any_name_give_an_identity_or_a_refusal(
    rootfs: Path, passwd: bytes, group: bytes, asked: str
) -> None:
    """And an identity's numbers are what the kernel takes for ids."""
    (rootfs / "etc/passwd").write_bytes(passwd)
    (rootfs / "etc/group").write_bytes(group)
    try:
        found = users.find(asked, str(rootfs))
    except InvalidArgument:
        return
    assert all(0 <= number <= 2**32 - 2 for number in (found.uid, found.gid, *found.groups))


@given(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2))
def test_numbers_are_themselves(uid: int, gid: int) -> None:
    """Over the whole range."""
    assert users.find(f"{uid}:{gid}", "/proc/self/fdinfo") == Identity(uid=uid, gid=gid)
