"""What an export tells an import, as JSON beside the columns: exact spaces, task and who acted in each episode."""

from __future__ import annotations

from typing import Any, NamedTuple

from dreamworld import text, words
from dreamworld.datasets.episodes import Schema
from dreamworld.datasets.headers import FORMAT, VERSION, schema_from_fields, schema_to_plain
from dreamworld.datasets.store import DataSet
from dreamworld.fields import Fields
from dreamworld.reading import BadFile


class Described(NamedTuple):
    """What is known of the data in a file that dreamworld wrote."""

    schema: Schema
    task: str
    labels: list[str]  # one per episode


def describe(data: DataSet) -> dict[str, Any]:
    """A data set as JSON values."""
    policies = list(data.header.policies)
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": data.task,
        "absent": data.schema.absent,
        "policies": policies,
        "labels": [policies.index(label) for label in data.labels],
        **schema_to_plain(data.schema),
    }


def read_described(row: Fields, episodes: int) -> Described:
    """What `describe` wrote beside so many episodes; BadFile that names the field for anything else."""
    if row.get("format", None) != FORMAT or row.get("version", None) != VERSION:
        raise BadFile(row.path, f"is no description of a data set of version {VERSION}")
    policies, labels = row.items("policies", str), row.items("labels", int)
    for value in [row.text("task"), *policies]:
        text.check(f"{row.path}: a name", value)
    if not all(0 <= label < len(policies) for label in labels):
        raise row.bad("labels", "numbers of policies")
    if len(labels) != episodes:
        raise BadFile(row.path, f"describes {len(labels):,} of {words.count(episodes, 'episode')}")
    return Described(
        schema_from_fields(row, row.items("absent")), row.text("task"), [policies[label] for label in labels]
    )
