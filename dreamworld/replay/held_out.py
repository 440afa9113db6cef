"""Which episodes are held out: decided by a hash of a number, so that it never depends on what else there is."""

from __future__ import annotations

import hashlib


def is_held_out(index: int, share: float) -> bool:
    """Whether the episode with this number is among the `share` that is held out; the same on every machine."""
    return place(index) < share


def place(index: int) -> float:
    """A fixed number in [0, 1) for an episode: held out are those below the share."""
    digest = hashlib.blake2b(f"episode {index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
