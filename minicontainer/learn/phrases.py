"""The words between the steps, in the reader's language: what `--step` says and asks.

English stands here, every other language in the catalogs, as `phrase:NAME`.

See: `narration` for the texts of the steps.
"""

from __future__ import annotations

from minicontainer.learn import narration

PHRASES = {
    "look": "Look from another terminal:",
    "prompt": "Enter takes this step, a name runs to it, c to the end, q undoes all, ? helps",
    "help": "Enter: take this step. NAME: run to that step, such as enter-rootfs. "
    "c: run to the end. q or Ctrl-C: undo everything and leave. ?: this, and all commands to "
    "look with.",
    "unknown": "there is no step {step}: did you mean {near}?",
    "none-near": "there is no step {step}: --explain=steps lists those of a start",
    "behind": "{step} is behind: what was done is undone by q alone",
    "never": "no step {step} came: this container has none",
    "question": "What will this step change? Type letters such as a or bc; Enter skips.",
    "nothing": "nothing of these",
    "letters": "type letters from a to {last}, without a space; Enter skips",
    "right": "Right.",
    "partly": "In part: you said {said}.",
    "wrong": "No: you said {said}.",
    "changed": "It changed:",
    "unchanged": "It changed nothing of these.",
    "ended": "The process has ended: nothing is left to look at.",
    "namespaces": "namespaces",
    "mounts": "mounts",
    "ids": "users and groups",
    "capabilities": "capabilities",
    "cgroup": "cgroup and its limits",
    "filter": "system call filter",
    "network": "network",
    "program": "program",
}


def phrase(name: str, lang: str = "en", **values: object) -> str:
    """Give a phrase in a language, with its values in their places."""
    return narration.translated(f"phrase:{name}", PHRASES[name], lang).format(**values)


def all_phrases() -> dict[str, str]:
    """Give the English phrases by the names that the catalogs have for them."""
    return {f"phrase:{name}": text for name, text in PHRASES.items()}
