"""`dreamworld envs`: lists the environments there are, and checks one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated

from dreamworld import cli, text, words
from dreamworld.errors import UserError
from dreamworld.limits import Range

USAGE = """usage: dreamworld envs                        list the families, and what is installed
       dreamworld envs list FAMILY            list the names of a family
       dreamworld envs check NAME [OPTIONS]   step an environment and report what is wrong with it"""


@dataclasses.dataclass(frozen=True)
class Flags:
    """Options of `dreamworld envs check`."""

    check_steps: Annotated[int, Range(1, 1e8)] = 300
    """Steps to take."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 when the check found problems."""
    return cli.run(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    if not argv:
        print("\n".join(table()))
        return 0
    command, *rest = argv
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    if command == "list" and len(rest) == 1:
        print("\n".join(names(rest[0])))
        return 0
    if command == "check":
        return check(rest)
    raise UserError(f"envs {' '.join(argv)}: not understood; see dreamworld envs --help")


def table() -> list[str]:
    """One line per family."""
    from dreamworld.envs.adapters.custom import GROUP
    from dreamworld.envs.families import FAMILIES, missing_packages

    rows = [("name", "what it is", "installed")]
    for family in FAMILIES:
        missing = missing_packages(family)
        rows.append((family.example, family.about, f"no: {family.install}" if missing else "yes"))
    rows.append(
        ("my_package.my_module:MyEnv", "your own: gymnasium, dm_env or JAX environment, or a factory", "yes")
    )
    points = [point.name for point in importlib.metadata.entry_points(group=GROUP)]
    rows += [(name, f"entry point of the group {GROUP}", "yes") for name in sorted(points)]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{name:<{widths[0]}}  {about:<{widths[1]}}  {state}" for name, about, state in rows]
    return [*lines, "", USAGE]


def names(family: str) -> list[str]:
    """Every name of a family that can be listed."""
    from dreamworld.envs.families import FAMILIES, family_names, missing_packages
    from dreamworld.envs.names import unknown

    text.check_filled("envs list FAMILY", family, "the name of a family: dreamworld envs")
    found = [item for item in FAMILIES if item.prefix.rstrip("_") == family.rstrip("_")]
    if not found:
        raise unknown("family", family, [item.prefix.rstrip("_") for item in FAMILIES])
    missing = missing_packages(found[0])
    if missing:
        raise UserError(f"{family} needs {', '.join(missing)}, which is not installed: {found[0].install}")
    return family_names(found[0])


def check(argv: list[str]) -> int:
    """Checks the environment that argv[0] names, under the options of `dreamworld train`."""
    if not argv or argv[0].startswith("-"):
        raise UserError(
            "envs check: give the name of an environment, as in `dreamworld envs check crafter_reward`"
        )
    name, *rest = argv
    text.check_filled("envs check NAME", name, "the name of an environment")
    text.check("envs check NAME", name)
    config, flags = cli.parse_with(
        rest, Flags(), prog=f"dreamworld envs check {name}", description=__doc__ or ""
    )
    from dreamworld.envs import make_env
    from dreamworld.envs.base import Env
    from dreamworld.envs.building import building
    from dreamworld.envs.check import check_env

    def make() -> Env:
        with building(name):
            return make_env(name, config.env)

    print(f"{name}: {words.count(flags.check_steps, 'step')} with random actions", flush=True)
    report = check_env(make, steps=flags.check_steps)
    print(report.text())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
