"""What a run keeps of a factory that has no name: enough to see that another one is another, and no more than text."""

import functools
import subprocess
import sys

import pytest
import toys

from dreamworld.envs.made import MOST, describe_source


def closing_over(length):
    return lambda: toys.Counter(length)


class Bare:
    pass


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


class Long:
    def __repr__(self):
        return "x\x1b[2J\n" * 10_000


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (lambda: toys.Counter(3), r"<lambda> (line {}, 3)"),
        (
            lambda length=3, *, truncate=True: toys.Counter(length, truncate),
            r"<lambda> (line {}, length=3, truncate=True)",
        ),
        (closing_over(7), r"closing_over.<locals>.<lambda> (line {}, length=7)"),
    ],
)
def test_a_function_is_its_place_its_line_and_what_is_given_to_it(source, says):
    found = describe_source(source)
    assert found.endswith(says.format(source.__code__.co_firstlineno)), found
    assert found.partition(":")[0].endswith("test_made")


def test_a_partial_is_what_it_calls_and_what_it_passes():
    inner = functools.partial(toys.Counter, 4)
    assert describe_source(inner) == "partial of toys:Counter with 4"
    outer = functools.partial(inner, truncate=True)
    assert describe_source(outer) == "partial of toys:Counter with 4, truncate=True"
    assert describe_source(functools.partial(toys.Counter)) == "partial of toys:Counter with nothing"
    assert describe_source(toys.Counter) == describe_source(toys.Counter()) == "toys:Counter"
    assert describe_source("gym_CartPole-v1") == ""


@pytest.mark.parametrize("value", [Bare(), Rude(), Long(), "y" * 10**6, list(range(10**6)), {"a": [Bare()]}])
def test_whatever_is_passed_is_text_of_a_limited_length(value):
    found = describe_source(functools.partial(toys.Counter, value))
    assert found.isprintable() and found.startswith("partial of toys:Counter with ") and len(found) < MOST
    assert " at 0x" not in found


def test_two_lambdas_are_two_and_one_is_one():
    one, other = lambda: toys.Counter(3), lambda: toys.Counter(4)
    assert describe_source(one) != describe_source(other)
    assert (
        describe_source(closing_over(3))
        == describe_source(closing_over(3))
        != describe_source(closing_over(4))
    )


def test_another_process_tells_the_same(tmp_path):
    (tmp_path / "walk_maker.py").write_text(
        "import functools\n\n\nclass Thing:\n    pass\n\n\ndef make(thing):\n    pass\n\n\n"
        "MADE = functools.partial(make, Thing(), names={'a', 'b', 'c', 'd'})\n"
    )
    code = "import walk_maker; from dreamworld.envs import made; print(made.describe_source(walk_maker.MADE))"
    command = [sys.executable, "-c", code]
    found = {
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1 and "names={'a', 'b', 'c', 'd'}" in found.pop()
