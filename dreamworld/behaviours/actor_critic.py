"""Actor-critic that learns in imagination (DreamerV3, arXiv:2301.04104, "Actor learning")."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld import dists, math, nets, parallel, rollout
from dreamworld.contract import WorldModel, WorldOut
from dreamworld.options import ActorCriticConfig
from dreamworld.types import Array, Batch, Carry, DType, Key, Mode, Params, Spaces

sg = jax.lax.stop_gradient


class Outlook(NamedTuple):
    """What is expected at a state: no gradients."""

    reward: Array  # [...], arrived with the state
    cont: Array  # [...], probability of going on after it, times the discount
    value: Array  # [...], of which returns are made
    slow_value: Array  # [...], what the critic is held to


@dataclasses.dataclass(frozen=True)
class ActorCritic:
    """Sees the world model through `feature`, `imagine` and `predict` only."""

    config: ActorCriticConfig
    act_space: Spaces
    dtype: DType
    at_once: bool = (
        False  # heads see all imagined states at once, as accelerators want it, not one step at a time
    )

    @property
    def actor(self) -> nets.PolicyHead:
        config = self.config
        spaces = tuple(sorted(self.act_space.items()))
        return nets.PolicyHead(
            spaces, config.actor_layers, config.units, config.std_min, config.std_max, self.dtype
        )

    @property
    def critic(self) -> nets.TwoHotHead:
        config = self.config
        return nets.TwoHotHead(config.critic_layers, config.units, config.bins, self.dtype)

    def init(self, feature: Array, key: Key) -> Params:
        """Parameters {actor, critic} for features [..., F]."""
        actor_key, critic_key = jax.random.split(key)
        return {
            "actor": self.actor.init(actor_key, feature)["params"],
            "critic": self.critic.init(critic_key, feature)["params"],
        }

    def init_slow(self, params: Params) -> Params:
        """The slow critic starts as a copy."""
        return {"critic": jax.tree.map(jnp.copy, params["critic"])}

    def update_slow(self, slow: Params, params: Params) -> Params:
        """Moves the slow critic towards the critic by `slow_rate`."""
        rate = self.config.slow_rate
        return {
            "critic": jax.tree.map(
                lambda old, new: (1 - rate) * old + rate * new, slow["critic"], params["critic"]
            )
        }

    def init_stats(self) -> math.Percentiles:
        return math.init_percentiles()

    def initial(self, params: Params, batch: int) -> tuple[()]:
        """It remembers nothing."""
        return ()

    def policy(self, params: Params, feature: Array) -> dict[str, Any]:
        """One distribution per action key over features [..., F]."""
        return nets.apply(self.actor, params["actor"], feature)

    def value(self, params: Params, feature: Array) -> dists.TwoHot:
        """Distribution of the return from features [..., F]."""
        return nets.apply(self.critic, params["critic"], feature)

    def act(
        self, params: Params, carry: Carry, feature: Array, key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, dict[str, Array]]:
        """Actions {key: [..., *shape]}; continuous ones are not clipped."""
        return carry, self.choose(params, feature, key, mode=mode)

    def choose(self, params: Params, feature: Array, key: Key, *, mode: Mode = "sample") -> dict[str, Array]:
        """`act` without a carry."""
        policy = self.policy(params, feature)
        if mode == "greedy":
            return {name: dist.mode() for name, dist in policy.items()}
        keys = jax.random.split(key, len(policy))
        return {name: policy[name].sample(one) for name, one in zip(sorted(policy), keys)}

    def loss(
        self,
        params: Params,
        slow: Params,
        stats: math.Percentiles,
        world: WorldModel,
        world_params: Params,
        out: WorldOut,
        batch: Batch,
        key: Key,
    ) -> tuple[dict[str, Array], math.Percentiles, dict[str, Array]]:
        """Losses {actor, critic: [B, T], replay_value: [B, T-1]}, the new statistics, and metrics.

        Imagines `imag_length` steps from every posterior state. No gradient of `actor` and `critic` reaches
        the world model; that of `replay_value` does, through `out.features`.
        """
        with jax.named_scope("dream"):
            features, actions, outlook = self._dream(params, slow, world, world_params, out, key)
        critic: dists.TwoHot | None = None
        if outlook is None:  # one look of the critic serves returns and loss; step by step it looks again
            critic = self.value(params, features)
            outlook = self._outlook(critic, slow, world, world_params, features)
        r, c, value, slow_value = outlook
        weight = sg(jnp.cumprod(c, 0))[:-1]
        returns = sg(math.lambda_return(r, c, value, value[-1], self.config.lam))
        stats, advantage, spread = self._advantage(stats, returns, value[:-1])

        def evaluate(rows: tuple[Array, dict[str, Array], Array, Array]) -> tuple[Array, Array, Array]:
            feature, action, target, slow_value = rows
            dist = self.value(params, feature) if critic is None else critic
            return *self._evaluate(params, feature, action), self._critic_loss(dist, target, slow_value)

        steps, count = len(returns), len(features)
        targets = rollout.append(returns, value[-1])
        rows = (features, actions, targets[:count], slow_value[:count])
        found = rollout.by_step(evaluate, rows, at_once=self.at_once)
        log_prob, entropy, critic_loss = (x[:steps] for x in found)
        actor = weight * -(log_prob * sg(advantage) + self.config.entropy * entropy)
        losses = {
            "actor": _per_start(actor, batch),
            "critic": _per_start(weight * critic_loss, batch),
            "replay_value": self._replay_value_loss(
                params, slow, out, batch, returns[0].reshape(batch.reward.shape)
            ),
        }
        metrics = {
            "imagined_return": returns.mean(),
            "imagined_reward": r.mean(),
            "value": value.mean(),
            "advantage_std": spread,
            "return_scale": stats.high - stats.low,
            "actor_entropy": entropy.mean(),
            "continue": c.mean(),
        }
        return losses, stats, sg(metrics)

    def _advantage(
        self, stats: math.Percentiles, returns: Array, value: Array
    ) -> tuple[math.Percentiles, Array, Array]:
        """The statistics after these returns, the advantages in their scale, and their spread over all rows."""
        config = self.config
        all_returns, all_values = parallel.all_rows((returns, value), axis=1)
        stats = math.update_percentiles(
            stats, all_returns, rate=config.return_rate, low=config.return_low, high=config.return_high
        )
        scale = math.percentile_scale(stats, config.return_limit)
        return stats, (returns - value) / scale, ((all_returns - all_values) / scale).std()

    def _dream(
        self, params: Params, slow: Params, world: WorldModel, world_params: Params, out: WorldOut, key: Key
    ) -> tuple[Array, dict[str, Array], Outlook | None]:
        """Trajectories from every posterior state: features [H, N, F], actions, and the outlook [H+1, N].

        No gradients. `at_once`, features and actions are those of the last state, too, [H+1, N, ...], and the outlook
        is left to the caller.
        """
        frozen, slow, model = nets.cast_kernels(sg((params, slow, world_params)), self.dtype)
        start = jax.tree.map(lambda x: sg(x).reshape((-1, *x.shape[2:])), out.states)

        def look(state: Any, key: Key) -> tuple[Any, Any]:
            feature = world.feature(model, state)
            action = self.choose(frozen, feature, key)
            if self.at_once:
                return action, (feature, action, None)
            critic = self.value(frozen, feature)
            return action, (feature, action, self._outlook(critic, slow, world, model, feature))

        advance = lambda state, action, key: world.imagine(model, state, action, key)
        rows, last = rollout.imagine(advance, look, start, self.config.imag_length, key)
        if self.at_once:
            return sg(rollout.append(rows, last))
        features, actions, outlook = sg(rows)
        return features, actions, sg(rollout.append(outlook, last[2]))

    def _outlook(
        self, critic: dists.TwoHot, slow: Params, world: WorldModel, world_params: Params, feature: Array
    ) -> Outlook:
        """Predictions at features [..., F], of which the critic's is given; no gradients."""
        reward, cont = world.predict(world_params, feature)
        slow_value = self.value(slow, feature).mean()
        value = slow_value if self.config.slow_target else critic.mean()
        return sg(Outlook(reward.mean(), cont.mean(), value, slow_value))

    def _evaluate(self, params: Params, features: Array, actions: dict[str, Array]) -> tuple[Array, Array]:
        """Log-probability of the actions and entropy, summed over action keys; [H, N]."""
        policy = self.policy(params, features)
        log_prob = sum(policy[name].log_prob(actions[name]) for name in policy)
        return jnp.asarray(log_prob), jnp.asarray(sum(policy[name].entropy() for name in policy))

    def _critic_loss(self, critic: dists.TwoHot, returns: Array, slow_value: Array) -> Array:
        """Cross-entropy with the return, and with the slow critic's mean as a regulariser."""
        return critic.loss(returns) + self.config.slow_scale * critic.loss(slow_value)

    def _replay_value_loss(
        self, params: Params, slow: Params, out: WorldOut, batch: Batch, boot: Array
    ) -> Array:
        """Critic loss on replayed rewards, bootstrapped from the imagined returns; [B, T-1]."""
        live = 1 - batch.is_terminal.astype(jnp.float32)
        going = 1 - batch.is_last.astype(jnp.float32)
        discount = 1 - 1 / self.config.horizon
        rows = (batch.reward, live * discount, boot, self.config.lam * going)
        reward, cont, boot, lam = (x.swapaxes(0, 1) for x in rows)
        returns = sg(math.lambda_return(reward, cont, boot, boot[-1], lam)).swapaxes(0, 1)
        critic = self.value(params, out.features[:, :-1])
        slow_value = sg(self.value(slow, sg(out.features[:, :-1])).mean())
        return going[:, :-1] * self._critic_loss(critic, returns, slow_value)


def _per_start(loss: Array, batch: Batch) -> Array:
    """[H, B*T] -> mean over H as [B, T]."""
    return loss.mean(0).reshape(batch.reward.shape)
