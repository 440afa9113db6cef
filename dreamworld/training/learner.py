"""The agent on the device: its compiled functions, and the state that acting and learning change."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import dream, flops, parallel
from dreamworld.config import ParallelConfig
from dreamworld.contract import Agent, Phase
from dreamworld.parallel import MeshLayout
from dreamworld.random import as_uint32
from dreamworld.training import guard
from dreamworld.types import FLAGS, Array, Batch, Carry, Key, Mode, Output, Params, TimeStep, TrainState

ACT_STREAM, REPORT_STREAM, HOST_STREAM = 1, 2, 3  # random streams of a run, beside the learner's own

# Parameters from which several seeds on a CPU update in turn rather than side by side: 4 seeds of size1m (0.64 M) do
# 1.05 times the updates per second of one in turn, 0.57 side by side; with 0.19 M both do 1.25 times as many.
IN_TURN = 250_000


def in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap(function)` as a loop in the program."""
    return lambda *trees: jax.lax.map(lambda row: function(*row), trees)


def to_batch(rows: dict[str, np.ndarray]) -> Batch:
    """Replay's flat rows [B, L, ...] as a Batch. Row ids become int32 pairs: JAX has no int64 by default."""
    groups: dict[str, dict[str, Any]] = {"obs": {}, "action": {}, "extras": {}}
    for key, value in rows.items():
        group, _, name = key.partition("/")
        if group in ("obs", "action"):
            groups[group][name] = value
        elif key not in FLAGS:
            groups["extras"][key] = value.view(np.int32).reshape((*value.shape, 2)) if key == "row" else value
    return Batch(groups["obs"], groups["action"], *(rows[key] for key in FLAGS), extras=groups["extras"])


@jax.jit
def _any(own: Array, others: list[Array]) -> Array:
    for other in others:
        own = own | other
    return own


@dataclasses.dataclass
class Learning:
    """A phase on the device: its compiled update, what it hands on, and its numerical guard."""

    phase: Phase
    step: Callable[..., Any]  # the guarded update, of all seeds
    carry: Carry
    guard: guard.GuardState | None = None  # from its first update on
    update: Any = None  # the compiled step
    flops: int = 0


class Learner:
    """Holds the train state and the carries of acting and of each phase.

    Every call only dispatches work; nothing here waits for the device.

    Random bits of acting depend on the seed and the iteration alone, so that a resumed run draws the same.

    Args:
      seed: of the run; several seeds train together, and then every array here and in the arguments and results
        of the methods leads with that axis.
      num_envs: N, of this process (and seed).
      batch_size: chunks of a batch, of all processes together, by which the default layout is made.
      layout: where arrays lie; default one device.
    """

    def __init__(
        self,
        agent: Agent,
        seed: int | Sequence[int],
        *,
        num_envs: int,
        batch_size: int,
        nan_policy: str = "stop",
        nan_limit: int = 0,
        layout: MeshLayout | None = None,
    ):
        self.agent = agent
        self.num_envs = num_envs
        self.layout = layout = layout or parallel.make_layout(ParallelConfig(data=1), batch_size=batch_size)
        over_seeds = functools.partial(jax.vmap, spmd_axis_name="seed")
        self._lift = lift = over_seeds if layout.seeds else lambda function: function
        seeds = list(seed) if isinstance(seed, Sequence) else [seed]
        roots = np.stack([np.asarray(jax.random.PRNGKey(number)) for number in seeds])
        root = roots if layout.seeds else roots[0]
        self.root = root
        self._act_params: Params = None
        like = jax.eval_shape(lift(agent.init), root)
        self.shardings = layout.train_state(like)
        self.state = jax.jit(lift(agent.init), out_shardings=self.shardings)(root)
        self._learning = {
            phase.name: self._begin(phase, guard.guarded(phase.update, nan_policy, nan_limit))
            for phase in agent.phases
        }
        self.batch: Batch | None = None  # the last one trained on, for reports
        self._reported = 0  # its context
        self._make_acting()

    def _begin(self, phase: Phase, step: Callable[..., Any]) -> Learning:
        """A phase before its first update."""
        rows = phase.window.batch if phase.window else 1
        first = self._lift(lambda params: phase.initial(params, rows))
        carry = jax.jit(first, out_shardings=self._rows_of(phase))(self.state.params)
        step = in_turn(step) if self._seeds_in_turn() else self._lift(step)
        return Learning(phase, self.layout.known_to(step), carry)

    def _rows_of(self, phase: Phase) -> Any:
        """Where what leads with the rows of a phase lies; without a batch it has none."""
        return self.layout.rows if phase.window else self.layout.replicated

    def learning(self, phase: str = "") -> Learning:
        """The state of a phase; without a name, of the agent's last one."""
        return self._learning[phase or self.agent.phase.name]

    def _seeds_in_turn(self) -> bool:
        """Whether seeds update one after the other: on a CPU, whose cache holds the arrays of one large model."""
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        on_cpu = jax.default_backend() == "cpu" and self.layout.mesh.size == 1
        return on_cpu and self.layout.seeds > 0 and parameters > IN_TURN * self.layout.seeds

    def _make_acting(self) -> None:
        """Acting runs in this process alone, on the devices that hold one copy of the parameters."""
        mesh = self.layout.acting()
        self._act_mesh = mesh if mesh.size < self.layout.mesh.size else None
        sharding = MeshLayout(mesh, seeds=self.layout.seeds).replicated
        initial = self._lift(lambda params: self.agent.initial(params, self.num_envs))
        self._act_initial = jax.jit(initial, out_shardings=sharding)
        self._act = jax.jit(self._act_fn, static_argnames="mode", donate_argnums=1, out_shardings=sharding)
        self._report = jax.jit(self._report_fn, static_argnums=3)
        process = jax.process_index()
        fold = lambda root: jax.random.fold_in(jax.random.fold_in(root, HOST_STREAM), process)
        self._act_root = np.asarray(self._lift(fold)(self.root)) if process else self.root
        self.reset_acting()

    @property
    def state(self) -> TrainState:
        """What learning changes."""
        return self._state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._state, self._act_params = state, None

    @property
    def act_params(self) -> Params:
        """What acting needs, on the devices that act; nothing is copied. Made once for each state."""
        if self._act_params is None:
            acting = self.agent.acting(self.state)
            self._act_params = acting if self._act_mesh is None else parallel.view(acting, self._act_mesh)
        return self._act_params

    def act(self, step: TimeStep, iteration: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Actions and latents {key: [N, ...]} for the current rows."""
        obs = {**step.obs, "is_first": step.is_first}
        self.act_carry, action, entries = self._act(
            self.act_params, self.act_carry, obs, self._act_root, as_uint32(iteration), mode="sample"
        )
        return action, entries

    def put(self, rows: dict[str, np.ndarray]) -> Batch:
        """Moves a batch of replay rows to the devices: this process's part of it, of one seed."""
        return self.layout.put(to_batch(rows))

    def update(self, batch: Batch | None, phase: str = "") -> Output:
        """One learning step of a phase. The results are those of this process's rows."""
        own = self.learning(phase)
        if own.guard is None:
            own.guard = self.init_guard(batch, phase)
        own.update = own.update or self.jit_update(phase)
        if batch is not None and own.phase.window is not None:
            self.batch, self._reported = batch, own.phase.window.context
        others = [each.guard.frozen for each in self._learning.values() if each is not own and each.guard]
        if others:  # what froze one phase freezes all
            own.guard = own.guard._replace(frozen=_any(own.guard.frozen, others))
        own.guard, self.state, own.carry, output = own.update(own.guard, self.state, own.carry, batch)
        if jax.process_count() > 1:
            mesh = self.layout.local()
            output = output._replace(
                writeback=parallel.view(output.writeback, mesh),
                priorities=parallel.view(output.priorities, mesh),
            )
        return output

    @property
    def update_flops(self) -> int:
        """Floating-point operations of an update of the last phase, of all rows and seeds; 0 before the first."""
        own = self.learning()
        if own.flops == 0 and own.guard is not None and hasattr(own.update, "trace"):
            # Cached by its first call.
            traced = own.update.trace(own.guard, self.state, own.carry, own.guard.batch)
            own.flops = flops.count_jaxpr(traced.jaxpr.jaxpr)
        return own.flops

    def report(self, step: int) -> dict[str, np.ndarray]:
        """Open-loop predictions on the last batch; empty before the first update."""
        return self.report_on(self.act_params, self.batch, self.root, step)

    def report_on(self, params: Params, batch: Batch | None, root: Key, step: int) -> dict[str, np.ndarray]:
        """`report` with the parameters, batch and root key given."""
        if batch is None:
            return {}
        if self._act_mesh is not None:
            batch = parallel.view(batch, self.layout.acting())
        key = jax.random.fold_in(jax.random.fold_in(root, REPORT_STREAM), as_uint32(step))
        return jax.device_get(self._report(params, batch, key, self._reported))

    @property
    def learnings(self) -> list[Learning]:
        """The states of all phases."""
        return list(self._learning.values())

    @property
    def caught(self) -> guard.GuardState | None:
        """The guard that caught something, one that froze before others; None where none did."""
        name = self.caught_phase
        return self._learning[name].guard if name else None

    @property
    def caught_phase(self) -> str:
        """The phase of `caught`; empty for none."""
        return guard.first_caught({name: own.guard for name, own in self._learning.items()})

    def release(self) -> None:
        """Lets go of what was caught, and goes on."""
        for own in self._learning.values():
            own.guard = own.guard and guard.release(own.guard)

    def reset_acting(self) -> None:
        """Forgets what the policy has seen: every environment starts a new episode."""
        self.act_carry = self.initial_acting()

    def initial_acting(self) -> Carry:
        """The carry of acting at the start of episodes."""
        return self._act_initial(self.act_params)

    def snapshot(self) -> dict[str, Any]:
        """Everything that learning changes, as one pytree; the same on all processes."""
        return {"train": self.state, "carry": {name: own.carry for name, own in self._learning.items()}}

    def load(self, tree: dict[str, Any]) -> None:
        """Takes a pytree of `snapshot` back."""
        self.state = tree["train"]
        for name, own in self._learning.items():
            own.carry = tree["carry"][name]

    def acting_state(self) -> list[np.ndarray]:
        """What acting changes in this process, as host arrays; waits for the device."""
        return jax.tree.leaves(jax.device_get(self.act_carry))

    def load_acting(self, leaves: list[np.ndarray]) -> None:
        """Takes `acting_state` back."""
        old = jax.tree.leaves(self.act_carry)
        new = [
            jax.device_put(np.asarray(x).astype(y.dtype), y.sharding)
            for x, y in zip(leaves, old, strict=True)
        ]
        self.act_carry = jax.tree.unflatten(jax.tree.structure(self.act_carry), new)

    def jit_update(self, phase: str = "") -> Any:
        """The jitted update, `(guard, train_state, carry, batch) -> (guard, train_state, carry, output)`."""
        own = self.learning(phase)
        rows, caught = self._rows_of(own.phase), self._guard_shardings(phase)
        return jax.jit(
            own.step,
            in_shardings=(caught, self.shardings, rows, rows),
            out_shardings=(caught, self.shardings, rows, self.layout.output()),
            donate_argnums=(0, 1, 2),
        )

    def _act_fn(
        self,
        params: Params,
        carry: Carry,
        obs: dict[str, Array],
        root: Array,
        iteration: Array,
        *,
        mode: Mode,
    ) -> Any:
        def one(params: Params, carry: Carry, obs: dict[str, Array], root: Array) -> Any:
            key = jax.random.fold_in(jax.random.fold_in(root, ACT_STREAM), iteration)
            return self.agent.act(params, carry, obs, key, mode=mode)

        return self._lift(one)(params, carry, obs, root)

    def _report_fn(self, params: Params, batch: Batch, key: Key, context: int) -> dict[str, Array]:
        agent = self.agent
        if agent.simulator is None:
            return {}
        return dream.report(agent.simulator, agent.obs_space, params["world"], batch, context, key)

    def set_update(self, program: Any, phase: str = "") -> None:
        """Uses a compiled `jit_update` (of this agent and layout) from now on."""
        self.learning(phase).update = program

    def init_guard(self, batch: Batch | None, phase: str = "") -> guard.GuardState:
        """The guard of a phase before its first update."""
        own, seeds = self.learning(phase), self.layout.seeds
        # The arrays themselves, since the trace of an update is shared by what knows the same of where they lie.
        update = self.layout.known_to(self._lift(own.phase.update))
        health = jax.eval_shape(update, self.state, own.carry, batch)[2].health
        strip = lambda x: jax.ShapeDtypeStruct(x.shape[1:] if seeds else x.shape, x.dtype)
        carry, batch = jax.tree.map(strip, (own.carry, batch))

        def empty() -> guard.GuardState:
            single = guard.init_guard(batch, health, carry)
            return jax.tree.map(lambda x: jnp.zeros((seeds, *x.shape), x.dtype) if seeds else x, single)

        return jax.jit(empty, out_shardings=self._guard_shardings(phase))()

    def _guard_shardings(self, phase: str = "") -> guard.GuardState:
        rows: Any = self._rows_of(self.learning(phase).phase)
        same: Any = self.layout.replicated
        return guard.GuardState(*[same] * (len(guard.GuardState._fields) - 2), carry=rows, batch=rows)
