"""Lists in one option, and lists of seeds."""

import pytest

from dreamworld.errors import UserError
from dreamworld.lists import parse_seeds, split_list


@pytest.mark.parametrize(
    ("texts", "items"),
    [
        ("a,b", ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        (["a,", "b"], ["a", "b"]),
        (["a", ",b", ","], ["a", "b"]),
        ("[a, b]", ["a", "b"]),
        ("(1, 2)", ["1", "2"]),
        ("[1, 2], [3, 4]", ["[1, 2]", "[3, 4]"]),
        (["[[1,", "2]]"], ["[1,2]"]),
        ("x=[1, 2],y={a: 1, b: 2}", ["x=[1, 2]", "y={a: 1, b: 2}"]),
        ("x='a,b',c", ["x='a,b'", "c"]),
        ("", []),
        (",", []),
    ],
)
def test_commas_outside_of_brackets_and_quotes_split(texts, items):
    assert split_list(texts) == items


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0:4", (0, 1, 2, 3)),
        ("0,3,5", (0, 3, 5)),
        ("7", (7,)),
        ("0:2,9", (0, 1, 9)),
        ("1:3, 8", (1, 2, 8)),
        ("2147483647", (2**31 - 1,)),
    ],
)
def test_seeds_are_ranges_or_lists(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0", "seed 0 is given twice"),
        ("0:3,2", "seed 2 is given twice"),
        ("3:3", "is empty"),
        ("1,,2", "'' is no seed"),
        *((text, "expects 0:8") for text in ("a", "-1", "", "0:", "1.0", "0x1", "1_0", "\u0663")),
        ("0:40000", "40,000 seeds are too many; at most 1,000"),
        ("0:1000,1000:2000", "2,000 seeds are too many"),
        ("2147483648", "at most 2147483647"),
        ("0:" + "9" * 300, "at most 2147483647"),
        ("9" * 5000, "is no seed"),
    ],
)
def test_bad_seeds_are_one_short_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_seeds(text)
    assert len(str(caught.value)) < 250
