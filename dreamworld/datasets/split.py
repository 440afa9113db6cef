"""Which episodes of a data set are held out: decided by their number, so that it stays when more are appended."""

from __future__ import annotations

from dreamworld.errors import UserError
from dreamworld.replay.held_out import is_held_out, place


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
