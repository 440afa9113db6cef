"""Discrete recurrent state-space model with a block GRU (Hafner et al., 2023, arXiv:2301.04104)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import dists, nets, random, rollout
from dreamworld.contract import WorldOut
from dreamworld.errors import UserError
from dreamworld.models import observations
from dreamworld.models.representation import Representation
from dreamworld.options import EncoderConfig, RSSMConfig
from dreamworld.types import Array, Batch, DType, Key, Params, Space, Spaces

sg = jax.lax.stop_gradient


class Latent(NamedTuple):
    """The model state."""

    deter: Array  # [..., D] recurrent state, compute dtype; [..., blocks, D/blocks] in dreams (`in_blocks`)
    stoch: Array  # [..., S, K] one-hot samples, float32


class Known(NamedTuple):
    """What a step of `observe` takes beside the state; a sequence of them is made at once."""

    action: Array  # [..., hidden] the embedded previous action, of zeros where is_first
    tokens: Array  # [..., hidden] the tokens' part of the posterior's first product
    is_first: Array  # [...]


class Recurrent(nn.Module):
    """Block GRU: (deter [B, D], stoch [B, S*K], action [B, A]) -> deter [B, D].

    The embedding of the action, `in_action`, is not recurrent: with `embedded` the action is [B, hidden] already, so
    that a sequence is embedded before its scan.

    r = sigmoid(reset); c = tanh(r * candidate); u = sigmoid(update - 1); deter' = u c + (1 - u) deter.
    """

    config: RSSMConfig
    dtype: DType

    def setup(self) -> None:
        config = self.config
        self.in_deter = nets.DenseNorm(config.hidden, self.dtype)
        self.in_stoch = nets.DenseNorm(config.hidden, self.dtype)
        self.in_action = nets.DenseNorm(config.hidden, self.dtype)
        for index in range(config.dyn_layers):
            setattr(self, f"hidden{index}", nets.BlockLinear(config.deter, config.blocks, self.dtype))
            setattr(self, f"hidden{index}_norm", nets.RMSNorm())
        self.gates = nets.BlockLinear(3 * config.deter, config.blocks, self.dtype)

    def __call__(self, deter: Array, stoch: Array, action: Array, *, embedded: bool = False) -> Array:
        config = self.config
        embedded_action = action if embedded else self.in_action(limit(action))
        shared: Array | None = jnp.concatenate(
            [self.in_deter(deter), self.in_stoch(stoch), embedded_action], -1
        )
        x = nets.to_blocks(deter.astype(self.dtype), config.blocks)
        for index in range(config.dyn_layers):
            x = getattr(self, f"hidden{index}")(x, shared).reshape(deter.shape)
            x = nets.silu(getattr(self, f"hidden{index}_norm")(x))
            x, shared = nets.to_blocks(x, config.blocks), None
        # The gates stay in blocks: flat, their three parts would be strided, which a CPU computes in scalars.
        reset, candidate, update = jnp.split(self.gates(x, shared), 3, -1)
        # The bias of -1 keeps the gate mostly closed at first: the state is remembered.
        update = jax.nn.sigmoid(update - 1)
        before = nets.to_blocks(deter.astype(self.dtype), config.blocks)
        after = update * jnp.tanh(jax.nn.sigmoid(reset) * candidate) + (1 - update) * before
        return after.reshape(deter.shape)


class LatentHead(nn.Module):
    """[..., in] -> logits [..., S, K] of the categorical latents: `layers` hidden layers and a linear one."""

    config: RSSMConfig
    layers: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array, known: Array | None = None) -> Array:
        config = self.config
        if self.layers:
            x, known = nets.MLP(self.layers, config.hidden, self.dtype, name="mlp")(x, known), None
        x = nets.Linear(config.stoch * config.classes, self.dtype, name="logits")(x, known)
        return x.reshape((*x.shape[:-1], config.stoch, config.classes))


@dataclasses.dataclass(frozen=True)
class RSSM:
    """The world model: encoder, dynamics (recurrent, prior, posterior), decoder, reward and continue head."""

    config: RSSMConfig
    act_space: Spaces
    encoder: observations.Encoder
    decoder: observations.ObservationDecoder | None
    reward: nets.TwoHotHead
    cont: nets.BernoulliHead
    discount: float  # what the continue head learns is the probability of going on times this
    context: int  # rows before the trained ones whose stored latents start the recurrence: 0 or 1
    dtype: DType
    at_once: bool  # weight gradients of the observe scan: of all steps at once
    representation: Representation | None = None  # in place of a decoder

    @property
    def recurrent(self) -> Recurrent:
        return Recurrent(self.config, self.dtype)

    @property
    def prior(self) -> LatentHead:
        return LatentHead(self.config, self.config.prior_layers, self.dtype)

    @property
    def posterior(self) -> LatentHead:
        return LatentHead(self.config, self.config.posterior_layers, self.dtype)

    @property
    def latent_space(self) -> Spaces:
        """What replay stores beside each row."""
        return latent_space(self.config.deter, self.config.stoch, self.config.classes, self.dtype)

    def init(self, key: Key) -> Params:
        """Parameters {encoder, dynamics, decoder (or projection), reward, cont}."""
        keys = jax.random.split(key, 7)
        state = self.initial(None, 1)
        stoch = _flat(state.stoch)
        action = jnp.zeros((1, self._action_size()))
        encoder = self.encoder.init(keys[0])
        obs = {name: jnp.zeros((1, *space.shape), space.dtype) for name, space in self.encoder.spaces.items()}
        tokens = self.encoder(encoder, obs)
        feature = self.feature(None, state)
        dynamics = {
            "recurrent": self.recurrent.init(keys[1], state.deter, stoch, action)["params"],
            "prior": self.prior.init(keys[2], state.deter)["params"],
            "posterior": self.posterior.init(keys[3], jnp.concatenate([state.deter, tokens], -1))["params"],
        }
        seeing = {"decoder": self.decoder.init(keys[4], feature)} if self.decoder else {}
        if self.representation:
            seeing["projection"] = self.representation.init(keys[4], feature, tokens)
        return {
            "encoder": encoder,
            "dynamics": dynamics,
            **seeing,
            "reward": self.reward.init(keys[5], feature)["params"],
            "cont": self.cont.init(keys[6], feature)["params"],
        }

    def initial(self, params: Params, batch: int) -> Latent:
        """Zeros [batch, ...]."""
        config = self.config
        return Latent(
            jnp.zeros((batch, config.deter), self.dtype),
            jnp.zeros((batch, config.stoch, config.classes), jnp.float32),
        )

    def observe(
        self,
        params: Params,
        state: Latent,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> tuple[Latent, Array]:
        """Advances by the previous action, then corrects by obs; `is_first` [B] clears state and action.

        Returns the posterior state and its log-probabilities [B, S, K].
        """
        known = self._known(params, prev_action, obs, is_first)
        return self._observe(params, state, known, _gumbel(key, state.stoch))

    def correct(self, params: Params, state: Latent, obs: dict[str, Array], key: Key) -> Latent:
        """The state [B, ...] as the posterior has it if `obs` is seen now: deter stays, no time passes."""
        return self._correct(params, state.deter, self._tokens(params, obs), _gumbel(key, state.stoch))[0]

    def observe_sequence(
        self,
        params: Params,
        state: Latent,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> tuple[Latent, Array]:
        """`observe` over axis T: states [B, T, ...] and log-probabilities [B, T, S, K]."""
        # Only what depends on the state is left to the scan, whose small steps are the slowest part of an update.
        known = self._known(params, prev_action, obs, is_first)
        keys = jax.random.split(key, is_first.shape[1])
        noise = jax.vmap(lambda key: _gumbel(key, state.stoch))(keys)

        def step(dynamics: Params, state: Latent, row: tuple[Known, Array]) -> tuple[Latent, Array]:
            return self._observe({"dynamics": dynamics}, state, *row)

        scan = rollout.scan_states_at_once if self.at_once else rollout.scan_states
        return rollout.time_first(scan(step, params["dynamics"], state, (rollout.time_first(known), noise)))

    def imagine(
        self,
        params: Params,
        state: Latent,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array | None = None,
    ) -> Latent:
        """The next state [B, ...] as the prior dreams it; a `temperature` scales the noise of its samples."""
        embedded = self._embed(params, self._action(action))
        deter = self._advance(params, state, embedded)
        noise = _gumbel(key, state.stoch)
        noise = noise if temperature is None else noise * temperature
        stoch = dists.sample_onehot(self._prior(params, deter), noise)
        return Latent(deter.reshape(state.deter.shape), stoch)

    def in_blocks(self, state: Latent) -> Latent:
        """A state that `imagine` keeps in blocks from step to step, where a CPU computes its gates twice as fast.

        XLA fuses the gates with what follows them. Where that is the flat state, it computes them in scalars; where the
        state that is carried on has blocks, in vectors.
        """
        return state._replace(deter=nets.to_blocks(state.deter, self.config.blocks))

    def feature(self, params: Params, state: Latent) -> Array:
        """[deter, flat stoch] [..., F] in the compute dtype."""
        return jnp.concatenate([_flat_deter(state), _flat(state.stoch).astype(self.dtype)], -1)

    def predict(self, params: Params, feature: Array) -> tuple[dists.TwoHot, dists.Bernoulli]:
        """Reward that arrived with the state; probability of continuing after it, times the discount."""
        reward = nets.apply(self.reward, params["reward"], feature)
        return reward, nets.apply(self.cont, params["cont"], feature)

    def decode(self, params: Params, feature: Array) -> dict[str, Any]:
        """Distributions of the observations [..., *shape]; none without a decoder."""
        return self.decoder(params["decoder"], feature) if self.decoder else {}

    def start(self, batch: Batch) -> tuple[Latent, dict[str, Array]]:
        """State and actions before the trained rows: ([B, ...], {key: [B, T, ...]}).

        The state is the one stored with the context row; without one, zeros.
        """
        if not self.context:
            return self.initial(None, batch.reward.shape[0]), rollout.actions_before(batch)
        return before(batch, self.context - 1, self.config.classes, self.dtype)

    def loss(self, params: Params, batch: Batch, key: Key) -> tuple[dict[str, Array], WorldOut]:
        """Losses {obs keys or representation, reward, cont, dyn, rep: [B, T]} of the rows after the context."""
        state, prev_action = self.start(batch)
        rows = rollout.trained_rows(batch, self.context)
        states, post = self.observe_sequence(params, state, prev_action, rows.obs, rows.is_first, key)
        prior = self._prior(params, states.deter)
        features = self.feature(params, states)
        losses, metrics = self._kl_losses(post, prior)
        for name, dist in self.decode(params, features).items():
            losses[f"obs/{name}"] = dist.loss(nets.target(self.encoder.spaces[name], rows.obs[name]))
        if self.representation:
            tokens = self.encoder(params["encoder"], rows.obs)
            own = self.representation.loss(params["projection"], features, tokens)
            losses["representation"] = jnp.broadcast_to(own, losses["dyn"].shape)
        reward, cont = self.predict(params, features)
        losses["reward"] = reward.loss(rows.reward)
        losses["cont"] = cont.loss((1 - rows.is_terminal.astype(jnp.float32)) * self.discount)
        return losses, WorldOut(self.in_blocks(states), features, self.entries(states), metrics)

    def surprise(self, params: Params, state: Latent, post: Array) -> Array:
        """KL of the posterior (log-probabilities [B, S, K]) from the prior of a state that was observed; [B] nats."""
        return dists.categorical_kl(post, self._prior(params, state.deter)).sum(-1)

    def entries(self, state: Latent) -> dict[str, Array]:
        """What replay stores of a state."""
        return entries(state)

    def _kl_losses(self, post: Array, prior: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """KL split: the prior learns from `dyn`, the posterior from `rep`; each [b, t] has its free nats."""
        kl = lambda left, right: dists.categorical_kl(left, right).sum(-1)
        dyn, rep = kl(sg(post), prior), kl(post, sg(prior))
        clip = lambda x: jnp.maximum(x, self.config.free_nats)
        entropy = lambda log_probs: -jnp.sum(jnp.exp(log_probs) * log_probs, (-2, -1)).mean()
        metrics = {"kl": dyn.mean(), "prior_entropy": entropy(prior), "posterior_entropy": entropy(post)}
        return {"dyn": clip(dyn), "rep": clip(rep)}, sg(metrics)

    def _known(
        self, params: Params, prev_action: dict[str, Array], obs: dict[str, Array], is_first: Array
    ) -> Known:
        """Everything in `_observe` that does not depend on the state; any leading axes."""
        action = self._action(prev_action)
        action = jnp.where(_expand(is_first, action), 0, action)
        tokens = self._tokens(params, obs)
        return Known(self._embed(params, action), tokens, is_first)

    def _tokens(self, params: Params, obs: dict[str, Array]) -> Array:
        """The tokens' part of the posterior's first product, [..., hidden]."""
        tokens = self.encoder(params["encoder"], obs)
        head = params["dynamics"]["posterior"]
        first = head["mlp"]["layer0"]["linear"] if self.posterior.layers else head["logits"]
        return nets.known_product(first, tokens)

    def _observe(self, params: Params, state: Latent, known: Known, noise: Array) -> tuple[Latent, Array]:
        state = jax.tree.map(lambda x: jnp.where(_expand(known.is_first, x), 0, x), state)
        deter = self._advance(params, state, known.action)
        return self._correct(params, deter, known.tokens, noise)

    def _correct(self, params: Params, deter: Array, tokens: Array, noise: Array) -> tuple[Latent, Array]:
        """A posterior state and its log-probabilities."""
        logits = nets.apply(self.posterior, params["dynamics"]["posterior"], deter, tokens)
        post = dists.log_unimix(logits, self.config.unimix)
        return Latent(deter, dists.sample_onehot(post, noise)), post

    def _embed(self, params: Params, action: Array) -> Array:
        layer = nets.DenseNorm(self.config.hidden, self.dtype)
        return nets.apply(layer, params["dynamics"]["recurrent"]["in_action"], limit(action))

    def _advance(self, params: Params, state: Latent, embedded: Array) -> Array:
        stoch = _flat(state.stoch).astype(self.dtype)
        inputs = (_flat_deter(state), stoch, embedded)
        return nets.apply(self.recurrent, params["dynamics"]["recurrent"], *inputs, embedded=True)

    def _prior(self, params: Params, deter: Array) -> Array:
        logits = nets.apply(self.prior, params["dynamics"]["prior"], deter)
        return dists.log_unimix(logits, self.config.unimix)

    def _action(self, action: dict[str, Array]) -> Array:
        return nets.concat_actions(self.act_space, action, self.dtype)

    def _action_size(self) -> int:
        return sum(space.size * (nets.class_count(space) or 1) for space in self.act_space.values())


class Heads(NamedTuple):
    """Sizes of the heads of reward and continuation."""

    units: int
    reward_layers: int
    cont_layers: int
    bins: int  # of the reward
    discount: float  # factor of what the continue head learns


def make_rssm(
    config: RSSMConfig,
    encoding: EncoderConfig,
    heads: Heads,
    obs_space: Spaces,
    act_space: Spaces,
    *,
    context: int,
    dtype: DType,
    at_once: bool = False,
) -> RSSM:
    """Builds the model; raises UserError for observations that no encoder takes."""
    assignment = observations.assign(obs_space, encoding)
    _check_blocks(config, encoding, images="image" in assignment.values())
    spaces = {key: obs_space[key] for key in assignment}
    encoder = observations.Encoder(encoding, spaces, assignment, dtype)
    decoder = observations.ObservationDecoder(encoder, config.deter, config.blocks)
    reward = nets.TwoHotHead(heads.reward_layers, heads.units, heads.bins, dtype)
    cont = nets.BernoulliHead(heads.cont_layers, heads.units, dtype)
    return RSSM(config, act_space, encoder, decoder, reward, cont, heads.discount, context, dtype, at_once)


def _check_blocks(config: RSSMConfig, encoding: EncoderConfig, *, images: bool) -> None:
    blocks, deter = config.blocks, config.deter
    if deter % blocks:
        raise UserError(f"--agent.rssm.deter {deter} is not a multiple of --agent.rssm.blocks {blocks}")
    channels = encoding.depth * encoding.mults[-1]
    if images and channels % blocks:
        raise UserError(
            f"the image decoder starts from {channels} channels (--agent.encoder.depth times the last of "
            f"--agent.encoder.mults), which is not a multiple of --agent.rssm.blocks {blocks}"
        )
    if config.classes > 256:
        raise UserError(f"--agent.rssm.classes {config.classes}: at most 256, replay stores them as bytes")


def latent_space(deter: int, stoch: int, classes: int, dtype: DType) -> Spaces:
    """What replay stores of a state: deter as it is, stoch as class indices (lossless)."""
    return {
        "latent/deter": Space((deter,), jnp.dtype(dtype).name),
        "latent/stoch": Space((stoch,), "uint8", classes=classes),
    }


def entries(state: Latent) -> dict[str, Array]:
    """The columns of `latent_space`."""
    return {
        "latent/deter": sg(state.deter),
        "latent/stoch": jnp.argmax(sg(state.stoch), -1).astype(jnp.uint8),
    }


def before(batch: Batch, row: int, classes: int, dtype: DType) -> tuple[Latent, dict[str, Array]]:
    """The state that was stored with a row [B, ...], and the actions that led to those after it {key: [B, T, ...]}."""
    stoch = jax.nn.one_hot(batch.extras["latent/stoch"][:, row], classes, dtype=jnp.float32)
    state = Latent(batch.extras["latent/deter"][:, row].astype(dtype), stoch)
    return state, {key: value[:, row:-1] for key, value in batch.action.items()}


def limit(action: Array) -> Array:
    """Actions [..., A] of at most 1 in size; the divisor has no gradient."""
    return action / sg(jnp.maximum(1.0, jnp.abs(action)))


def _gumbel(key: Key, like: Array) -> Array:
    return random.draw(jax.random.gumbel, key, like.shape)


def _flat_deter(state: Latent) -> Array:
    """[..., D], in blocks or not."""
    return state.deter.reshape((*state.stoch.shape[:-2], -1))


def _flat(stoch: Array) -> Array:
    return stoch.reshape((*stoch.shape[:-2], -1))


def _expand(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
