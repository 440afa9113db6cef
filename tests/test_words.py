"""Counts, sizes and shares in words."""

import pytest

from dreamworld import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 steps"),
        (1, "1 step"),
        (1.0, "1 step"),
        (2, "2 steps"),
        (1234, "1,234 steps"),
        (1.5, "1.5 steps"),
    ],
)
def test_one_is_singular_and_all_else_plural(number, text):
    assert words.count(number, "step") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0, "0"),
        (0.4321, "0.43"),
        (9.9, "9.9"),
        (9.97, "10"),
        (1234.5, "1,234"),
    ],
)
def test_rates_are_zero_only_where_nothing_moved(number, text):
    assert words.rate(number) == text


def test_irregular_plurals_are_given():
    assert [words.count(n, "process", "processes") for n in (1, 3)] == ["1 process", "3 processes"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.9, "1 kB"),
        (12_300, "12.3 kB"),
        (512_000, "512 kB"),
        (61.4e9, "61.4 GB"),
        (999.4e9, "999 GB"),
        (5e15, "5 PB"),
        (5e18, "5,000 PB"),
    ],
)
def test_sizes_have_the_unit_that_fits(number, text):
    assert words.size(number) == text


def test_a_cache_has_the_units_of_its_maker():
    assert [words.binary_size(size) for size in (48 << 10, 1 << 20, 300 << 20)] == [
        "48 KiB",
        "1 MiB",
        "300 MiB",
    ]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0%"),
        (1, 1e6, "<1%"),
        (57, 100, "57%"),
        (999_999, 1e6, "99%"),
        (10, 10, "100%"),
        (4048, 4000, "100%"),
        (-1, 10, "0%"),
        (1, 0, "?"),
        (float("nan"), 1, "?"),
    ],
)
def test_a_share_is_neither_rounded_up_nor_more_than_all(part, whole, text):
    assert words.percent(part, whole) == text


def test_what_an_exception_says_is_escaped():
    """It is printed, and its text may come from a file or an environment of somebody else."""
    assert words.exception(RuntimeError("a\x1b[31mb\n c")) == r"RuntimeError: a\x1b[31mb c"
    assert words.said(RuntimeError("a\x1b[31mb\nc")) == "a\\x1b[31mb\nc"
