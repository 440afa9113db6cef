"""Reads snapshots of earlier formats: what their tensors are called now."""

from __future__ import annotations

from typing import Any

# Format 1 had DreamerV3 alone, whose modules were not yet parts of a world and a behaviour; and what updates hand to
# the next one, and `consec` of its batches, which had no effect.
PARTS = {
    **dict.fromkeys(("encoder", "dynamics", "decoder", "reward", "cont"), "world"),
    **dict.fromkeys(("actor", "critic"), "behaviour"),
}
TREES = ("params", "slow", "mu", "nu", "grad")
GONE = ("carry/", "guard/carry/", "guard/batch/extras/consec")


def stored_names(body: dict[str, Any]) -> dict[str, str]:
    """{name of a tensor now: its name in the snapshot with this commit file}; those that nothing needs left out."""
    names = body["tensors"]
    if body["format"] > 1:
        return {name: name for name in names}
    return {_since_2(name): name for name in names if not name.startswith(GONE)}


def _since_2(name: str) -> str:
    words = name.split("/")
    for index in range(1, len(words)):
        if words[index] in PARTS and words[index - 1] in TREES:
            return "/".join([*words[:index], PARTS[words[index]], *words[index:]])
    return name
