"""Ranges of the number options: what no run can make sense of is refused before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dreamworld.errors import UserError

COUNT = (1, math.inf)  # at least one
AMOUNT = (0, math.inf)  # none is allowed
SHARE = (0, 1)

LIMITS: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    **dict.fromkeys(("env.num", "env.size", "env.repeat", "env.atari.repeat", "env.atari.max_frames"), COUNT),
    **dict.fromkeys(("env.workers", "env.time_limit", "env.timeout_s", "env.atari.noops"), AMOUNT),
    "env.max_failures": AMOUNT,
    "env.atari.sticky": SHARE,
    **{f"agent.encoder.{name}": COUNT for name in ("depth", "mults", "kernel", "layers", "units")},
    **{f"agent.rssm.{name}": COUNT for name in ("deter", "hidden", "stoch", "classes", "blocks")},
    "agent.rssm.unimix": SHARE,
    "agent.rssm.free_nats": AMOUNT,
    **{f"agent.behaviour.{name}": COUNT for name in ("units", "imag_length", "horizon")},
    "agent.behaviour.bins": (3, math.inf),
    **{f"agent.behaviour.{name}": SHARE for name in ("lam", "slow_rate", "return_rate")},
    **{f"agent.behaviour.{name}": (0, 100) for name in ("return_low", "return_high")},
    **{f"agent.loss.{name}": AMOUNT for name in ("obs", "reward", "cont", "dyn", "rep", "actor", "critic")},
    **{f"agent.optim.{name}": AMOUNT for name in ("lr", "warmup", "anneal", "agc", "agc_floor", "eps")},
    **{f"agent.optim.{name}": SHARE for name in ("beta1", "beta2")},
    **{f"replay.{name}": COUNT for name in ("capacity_steps", "chunk", "hot_chunks", "min_starts")},
    **{f"replay.{name}": AMOUNT for name in ("capacity_bytes", "uniform", "prioritized", "recent")},
    **{f"run.{name}": COUNT for name in ("steps", "batch_size", "batch_length", "log_every", "keep_last")},
    **{f"run.{name}": AMOUNT for name in ("train_ratio", "replay_context", "report_every", "save_every")},
    **{f"run.{name}": AMOUNT for name in ("prefetch", "keep_every", "grace_s", "nan_limit")},
    "eval.every": AMOUNT,
    "eval.episodes": COUNT,
    "parallel.processes": COUNT,
    "parallel.process_id": AMOUNT,
    "parallel.fsdp_threshold": AMOUNT,
}


def check(key: str, value: Any, shown: str = "") -> None:
    """Raises UserError when an option (every element, for a tuple) is out of its range; `shown` names it."""
    low, high = LIMITS.get(key, (-math.inf, math.inf))
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, str) and not low <= number <= high:
            words = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            raise UserError(f"{shown or key}: got {number:g}, expects {words}")
