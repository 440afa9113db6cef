"""The evaluations of a training: on environments of their own, logged with a video."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable

from dreamworld import words
from dreamworld.envs.vector.alone import beside_another
from dreamworld.errors import UserError
from dreamworld.logging.pictures import EVALUATIONS
from dreamworld.player import Player
from dreamworld.sessions import pieces
from dreamworld.training.evaluate import evaluate
from dreamworld.training.run import Run
from dreamworld.types import EnvSource, VectorEnv


def make_player(loop: Run) -> Player:
    """A player without parameters yet: traced once for all evaluations of a run, and of the seeds with it."""
    return Player(loop.learner.agent, None, mode=loop.config.eval.mode)


def make_evaluator(
    loop: Run, source: EnvSource, stack: contextlib.ExitStack, plain: Player
) -> Callable[[int], float | None]:
    """`step -> mean return` on environments of its own, logged with a video; None where a stop came before the end."""
    config, problems = loop.config, loop.logger.problems
    env = make_env_beside(loop, source)
    stack.callback(env.close)

    def run(step: int) -> float | None:
        player = plain.renewed(loop.learner.act_params, config.seed + step)
        found = evaluate(
            functools.partial(player.act, normalised=True),
            player.initial(env.num_envs),
            env,
            config.eval.episodes,
            seed=config.seed + 1_000_003 + step,
            video=config.eval.video and problems.goes(EVALUATIONS),
            max_steps=config.eval.max_steps,
            stop=lambda: loop.stopping,
        )
        if found.stopped:
            loop.progress.message(f"evaluation at step {step:,} was stopped; it comes when the run goes on")
            return None
        log = found.log | ({"cut": found.cut} if found.cut else {})
        row = loop.logger.evaluation(step, loop.frames, config.eval.mode, found.returns, found.lengths, log)
        if found.frames is not None:
            loop.logger.pictures.evaluation(step, found.frames)
        if found.unfilmed:
            problems.give_up(EVALUATIONS, found.unfilmed)
        loop.progress.message(
            f"evaluation at step {step:,}: mean return {row['mean']:.4g} "
            f"({words.count(len(found.returns), 'episode')})"
            + (
                f", {found.cut} of them cut at {words.count(config.eval.max_steps, 'step')} (eval.max_steps)"
                * bool(found.cut)
            )
        )
        return row["mean"]

    return run


def make_env_beside(loop: Run, source: EnvSource) -> VectorEnv:
    """The environments of evaluation, in processes of their own where they can't be built beside those of training."""
    config = loop.config
    make = functools.partial(pieces.make_eval_env, source=source, episodes=config.eval.episodes)
    if getattr(loop.env, "engine", "") != "inprocess":
        return make(config)
    try:
        with beside_another(source or config.task, config.env):
            return make(config)
    except UserError as error:
        if config.env.engine != "auto" or error.__cause__ is None:
            raise
        alone = dataclasses.replace(config.env, engine="process", workers=config.env.num)
        env = make(dataclasses.replace(config, env=alone))
        loop.progress.message(
            f"the environments of evaluation run in processes of their own: {error.__cause__}"
        )
        return env
