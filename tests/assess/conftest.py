import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import known


@pytest.fixture(scope="session")
def balls():
    """One ball in a box, 16 pixels wide, and segments of it."""
    env = known.Shown(size=16)
    return env, known.make_segments(env)


@pytest.fixture(scope="session")
def sheets(balls):
    """The sheet of every world of known score, computed once: `sheets(fault)`."""
    env, made = balls
    done = {}

    def find(fault=""):
        if fault not in done:
            done[fault] = known.judge(known.make_known(env, fault), made)
        return done[fault]

    return find
