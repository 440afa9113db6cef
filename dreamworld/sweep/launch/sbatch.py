"""Parameters of SLURM's sbatch, checked: a line of a script holds the value that was given, and nothing else."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dreamworld import schema, text
from dreamworld.errors import UserError
from dreamworld.limits import Range

COMMANDS = ("setup", "teardown", "srun_args")  # lists, of which a line gives one element
MORE = "additional_parameters"  # those of sbatch that submitit has no name for
FLAGS = ("stderr_to_stdout", "use_srun")
NUMBERS = ("nodes", "ntasks_per_node", "cpus_per_task", "array_parallelism", "signal_delay_s")
NUMBER = Range(1, 1e6)
TIME = Range(0, 10 * 366 * 1440)  # minutes; 0 is no limit


class Form(NamedTuple):
    """The texts that a parameter takes, and how to say it."""

    pattern: str
    expects: str


NAMES = Form(
    r"[\w.+@/-]+(,[\w.+@/-]+)*", "letters, digits and _ . + @ / -, or several such names with commas"
)
NODES = Form(r"[\w.,/\[\]-]+", "names of nodes, such as node[1-4,7]")
SIZE = Form(r"[0-9]+([KMGT]B?)?", "a number with K, M, G or T, such as 32G")
COUNT = Form(r"([\w.-]+:)*[0-9]+", "a number, or a kind and a number, such as a100:2")
FORMS = {
    **dict.fromkeys(("partition", "account", "qos", "wckey", "mail_type", "mail_user"), NAMES),
    **dict.fromkeys(("nodelist", "exclude"), NODES),
    **dict.fromkeys(("mem", "mem_per_cpu", "mem_per_gpu"), SIZE),
    **dict.fromkeys(("gpus_per_node", "gpus_per_task", "num_gpus", "cpus_per_gpu"), COUNT),
    "exclusive": Form(r"true|user|mcs|topo", "true, user, mcs or topo"),
    "constraint": Form(r"[\w.,:=*&|()\[\]+-]+", "features with & | , * and brackets, such as a100|h100"),
    "gres": Form(r"[\w.,:=()/+-]+", "kinds with numbers, such as gpu:a100:2"),
    "dependency": Form(r"[\w.,:?+]+", "conditions and numbers of jobs, such as afterok:123"),
    "comment": Form(r"[^\W_]([\w .,:;=+@/-]*[^\W_])?", "words of letters, digits and _ . , : ; = + @ / -"),
}
OTHER = Form(r"[\w.,:;=@%+/&|*?()\[\]-]+", "no space, quote, $, # or other character of a shell")
KEY = Form(r"[a-z][a-z0-9_-]*", "the name of an option of sbatch, such as reservation")


def parameter(key: str, value: str, before: Any = None) -> Any:
    """The value of a parameter as submitit takes it, added to the one `before` where it takes several."""
    if key == "time":
        return minutes(value)
    if key in COMMANDS:
        return [*(before or []), value]
    if key == MORE:
        name, equals, given = value.partition("=")
        if not name.strip() or not equals:
            raise UserError(
                f"slurm: {MORE}: got {value!r}, expects KEY=VALUE, such as {MORE}=reservation=NAME"
            )
        name = _formed(MORE, name, KEY)
        return {**(before or {}), name: _formed(f"{MORE}: {name}", given, OTHER)}
    if key in FLAGS or key in NUMBERS:
        found = schema.coerce(f"slurm: {key}", value, bool if key in FLAGS else int)
        if key in NUMBERS:
            NUMBER.check(found, f"slurm: {key}")
        return found
    if key == "exclusive" and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true" or None
    value = _formed(key, value, FORMS.get(key, OTHER))
    return int(value) if value.isdecimal() else value


def _formed(key: str, value: str, form: Form) -> str:
    """A text without the space around it; UserError, which says what is allowed, where it has another form."""
    value = value.strip()
    if not re.fullmatch(form.pattern, value):
        raise UserError(f"slurm: {key}: got {text.printable(value)!r:.100}, expects {form.expects}")
    return value


def minutes(given: str) -> int:
    """SLURM's time formats in minutes, rounded up: 90, 90:00, 1:30:00, 2-12, 2-12:00, 2-12:00:00."""
    days, dash, clock = given.strip().rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in [*parts, *([days] if dash else [])]) or len(parts) > 3:
        raise UserError(f"slurm: time: got {given!r}, expects minutes, MM:SS, HH:MM:SS or D-HH:MM:SS")
    numbers = [int(part) for part in parts]
    if dash:  # D-HH, D-HH:MM, D-HH:MM:SS
        hours, minute, second = [*numbers, 0, 0][:3]
    else:  # MM, MM:SS, HH:MM:SS
        hours, minute, second = [0, *numbers, 0][:3] if len(numbers) == 1 else [0, 0, *numbers][-3:]
    found = int(days or 0) * 1440 + hours * 60 + minute + (second > 0)
    TIME.check(found, f"slurm: time {given}, in minutes")
    return found
