"""`dreamworld agents`: lists the agents there are, what each takes and what each can do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from dreamworld import agents, cli

DESCRIPTION = "List the agents that --agent takes, and what each of them can do."
HINT = "Choose one: dreamworld train --agent NAME …; its options: dreamworld train --agent NAME --help"


@dataclasses.dataclass(frozen=True)
class Flags:
    json: bool = False
    """One JSON line per agent instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Prints the list; returns the exit status."""
    flags = cli.parse_flags(argv, Flags(), prog="dreamworld agents", description=DESCRIPTION)
    specs = [agents.find(name) for name in agents.names()]
    if flags.json:
        print("\n".join(json.dumps(describe(spec)) for spec in specs))
        return 0
    print("\n".join(table(specs)))
    return 0


def describe(spec: agents.AgentSpec) -> dict[str, object]:
    """What is known of an agent, for programs."""
    return {
        "name": spec.name,
        "paper": spec.paper,
        "observations": spec.observations,
        "actions": spec.actions,
        "acts": spec.acts,
        "can": list(spec.can),
    }


def table(specs: Sequence[agents.AgentSpec]) -> list[str]:
    """A line per agent under a heading, its paper below, and how to choose one."""
    rows = [("name", "observations", "actions", "acts by", "can")]
    rows += [(s.name, s.observations, s.actions, s.acts, ", ".join(s.can) or "-") for s in specs]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    papers = [f"{'':<{widths[0]}}  {spec.paper}" for spec in specs]
    return [lines[0], *(line for pair in zip(lines[1:], papers) for line in pair), "", HINT]
