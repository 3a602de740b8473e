"""One table of commands, two clients: what they print is the same, IDs and times apart.

Each runs against Docker's daemon and against our engine. The columns, the words of errors, the exit
status: scripts are written for all of these.
"""

from __future__ import annotations

import re

import pytest

from tests.engines import CLIENTS, IMAGE, Clients

SAME = """\
ps
ps -a
ps -aq
ps -as --no-trunc
ps -l
ps -n 1
ps --format {{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}
ps --format {{json_.}}
ps --format json
ps --format table_{{.Names}}\\t{{.Status}}\\t{{.Label_"x"}}
ps --filter name=web --filter label=a=b -q
ps --filter status=exited
ps --filter bogus=x
ps --format {{.Nosuch}}
ps --format {{.Names
ps --format {{nosuch_.Names}}
container ls
container list -q
images
images -q
images --digests --no-trunc
images nosuch
images --format {{.Repository}}:{{.Tag}}_{{.ID}}
images --format json
image ls
history IMAGE
history --no-trunc --human=false IMAGE
history --format {{json_.}} IMAGE
inspect web
inspect IMAGE
inspect nosuch
inspect nosuch web
inspect -s web
inspect --type image web
inspect -f {{.State.Running}}_{{.Name}}_{{.Config.Cmd}} web
inspect -f {{json_.Config.Labels}} web
inspect -f {{range_$k,_$v_:=_.Config.Labels}}{{$k}}={{$v}};{{end}} web
inspect -f {{index_.Config.Labels_"a"}}_{{len_.Mounts}}_{{(index_.Mounts_0).Type}} web
inspect -f {{if_.State.Running}}up{{else}}down{{end}} web
inspect -f {{with_.Config}}{{join_.Cmd_"+"}}{{end}} web
inspect -f {{printf_"%-8s|%q|%d"_.Name_.Path_.RestartCount}} web
inspect -f {{.State.Health.Status}} web
inspect -f {{.Nosuch}} web
inspect -f {{.State.Nosuch}} web
inspect -f {{upper_.Name}}{{lower_"X"}}{{title_"ab_c"}}{{split_"a.b"_"."}} web
inspect -f {{and_.Name_.Nosuch}} web
inspect -f {{eq_.Driver_"overlay2"_"vfs"}}_{{ne_1_2}}_{{lt_1_2}}_{{not_true}}_{{or_""_"x"}} web
inspect -f {{.Config.Labels}}_{{.HostConfig.RestartPolicy}}_{{.Mounts}} web
container inspect nosuch
image inspect nosuch
network inspect nosuch
volume inspect nosuch
port web
port web 80
port nosuch
top web
top web -eo pid,comm
top nosuch
diff web
diff nosuch
logs web
logs nosuch
exec web echo hello
exec web sh -c exit_7
exec -u 1000:1000 -w /tmp -e A=b web sh -c id_-u;_pwd;_echo_$A
exec -d web true
exec web nosuch
exec nosuch true
exec -it web true
network ls
network ls -q
network ls --format {{.Name}}_{{.Driver}}_{{.Scope}}_{{.Internal}}
network rm nosuch
network inspect bridge -f {{.Name}}_{{.Driver}}
network connect nosuch web
volume ls
volume ls -q
volume ls --format json
volume inspect kept -f {{.Name}}_{{.Driver}}_{{.Scope}}
volume rm nosuch
volume rm kept
tag nosuch x:1
tag IMAGE UPPER:1
rmi nosuch
rmi -f nosuch
save nosuch
export nosuch
commit nosuch x
pull INVALID
push nosuch
load -i /nonexistent
import /nonexistent x
stop nosuch
stop nosuch nosuch2
start nosuch
start -a nosuch
restart nosuch
kill nosuch
kill -s NOSUCH web
pause nosuch
unpause web
wait nosuch
rename nosuch x
rename web web
rm nosuch
rm web
rm -f nosuch
update nosuch -m 64m
attach nosuch
cp nosuch:/x .
cp web:/nosuch .
cp a b
cp web:/a web:/b
run --name web IMAGE true
run --pull never nosuch:1
run --rm IMAGE nosuch
run --rm IMAGE /etc
run --rm --network none IMAGE sh -c echo_out;_echo_err_>&2;_exit_3
run -d -a stdout IMAGE true
run -it IMAGE true
create --pull never nosuch:1
create --name web IMAGE
container prune -f
network prune -f
image prune -f
system df
system df --format json
events --since 1h --until 0s --filter event=nosuch
stats --no-stream nosuch
version --format {{.Server.Version}}
info --format {{.OSType}}_{{.Driver}}
container prune
system prune --volumes
image frob
frob
container frob x
image --frob
ps --frob
""".splitlines()

# What each says about itself, and what is another one each time.
MASKS = (
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short id>"),
    (r"\b(Less than a|About an?|\d+) (second|minute|hour)s?( ago)?", "<age>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.]*(Z| \+0000 UTC)", "<time>"),
    (r"[\d.]+([kMG]i?)?B", "<size>"),
    (r"\bSTIME\b[\s\S]*", "<processes>"),  # its columns hold times
    (r'"Containers":"(N/A|\d+)"', '"Containers":"<count>"'),  # only newer versions of the API know
    (r"^minicontainer: |^docker: ", ""),
    (r"(?<=unknown command: )minicontainer", "docker"),
    (r"\n\nUsage: [\s\S]*|\n\nRun '[\s\S]*|: see 'minicontainer .*", "\n"),
    (r"\b\d{2,7}\b", "<number>"),
    (r" {2,}", "  "),  # columns are as wide as what is masked in them
)  # fmt: skip


def masked(text: str) -> str:
    """Hide what differs between two calls of one command."""
    for pattern, shown in MASKS:
        text = re.sub(pattern, shown, text, flags=re.MULTILINE)
    return text.rstrip("\n")


@pytest.mark.parametrize("line", SAME)
def test_both_clients_say_the_same(clients: Clients, web: str, line: str) -> None:
    """Output, errors and status."""
    words = [word.replace("IMAGE", IMAGE) for word in line.split()]
    words = [  # in the table, a blank within a word is written _
        word.replace("_", " ") if "{{" in word or ";" in word or "exit_" in word else word
        for word in words
    ]
    docker, ours = (clients(name, *words) for name in ("docker", "minicontainer"))
    assert (ours.status, masked(ours.output), masked(ours.errors)) == (
        docker.status, masked(docker.output), masked(docker.errors)
    )  # fmt: skip


def test_an_engine_may_say_more_than_a_line(clients: Clients) -> None:
    """What it quotes keeps its line break; other control characters are shown, not sent."""
    docker, ours = (clients(name, "run", "--name", "a\nb", IMAGE, "true") for name in CLIENTS)
    assert (ours.status, masked(ours.errors)) == (docker.status, masked(docker.errors))


def test_a_container_that_does_not_run_has_stats(clients: Clients) -> None:
    """Zeros, for scripts that add up columns."""
    made = clients("docker", "create", "--name", "idle", IMAGE, "true").output.strip()
    try:
        for words in (("idle",), ("-a", "--no-trunc"), ("--format", "json", "idle")):
            docker, ours = (clients(name, "stats", "--no-stream", *words) for name in CLIENTS)
            shown = [line for line in ours.output.splitlines() if made[:12] in line]
            assert shown == [line for line in docker.output.splitlines() if made[:12] in line]
            assert (len(shown), ours.status) == (1, 0)
    finally:
        clients("docker", "rm", "idle")
