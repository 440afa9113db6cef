"""Which episodes are held out: decided by a hash of their number, so that it stays when more are appended."""

from __future__ import annotations

import hashlib

from dreamworld.errors import UserError


def is_held_out(index: int, share: float) -> bool:
    """Whether the episode with this number is among the `share` that is held out; the same on every machine."""
    return place(index) < share


def place(index: int) -> float:
    """A fixed number in [0, 1) for an episode: held out are those below the share."""
    digest = hashlib.blake2b(f"episode {index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def split(episodes: int, share: float) -> tuple[list[int], list[int]]:
    """The episodes to train on and those held out, about `share` of them, as `is_held_out` decides.

    A small data set gets at least one of each kind (if the share is above 0 and there are two episodes): the episode
    whose place is nearest to the other side. With share 0 nothing is held out.
    """
    if not 0 <= share < 1:
        raise UserError(f"a held-out share of {share:g} is impossible; give at least 0 and less than 1")
    held = [index for index in range(episodes) if is_held_out(index, share)]
    if share > 0 and episodes > 1 and len(held) in (0, episodes):
        held = [min(range(episodes), key=place)] if not held else sorted(held, key=place)[:-1]
    kept = set(held)
    return [index for index in range(episodes) if index not in kept], sorted(held)
