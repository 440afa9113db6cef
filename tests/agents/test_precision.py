"""bfloat16 needs no loss scaling: gradients hardly ever underflow to zero."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import cli
from dreamworld.agents.dreamerv3 import agent as dreamerv3
from dreamworld.benchmarks import update


def gradients(precision, at_once):
    """Of all losses, by parameter, at a point where every head has an output."""
    words = ["--configs", "debug", "--agent.precision", precision, "--agent.weight_gradients", at_once]
    flags = update.Flags(obs="image:16x16x3,vector:8", act="continuous:6")
    config, flags = cli.parse_with(words, flags, prog="", description="")
    agent = update.make_synthetic_agent(config, flags)
    batch = update.synthetic_batch(agent, config.run.batch_size, config.run.batch_length + 1)
    state = jax.jit(agent.init)(jax.random.PRNGKey(0))
    carry = agent.phase.initial(state.params, config.run.batch_size)
    loss = dreamerv3.make_loss(
        *dreamerv3.make_parts(config, agent.obs_space, agent.act_space), config.agent.loss
    )
    shift = lambda p: p + 0.01 * jax.random.normal(jax.random.PRNGKey(p.size), p.shape)
    params = jax.tree.map(shift, state.params)
    arguments = (params, state.slow, state.stats, carry, batch, jax.random.PRNGKey(1))
    return jax.tree.leaves(jax.jit(jax.grad(loss, has_aux=True))(*arguments)[0])


def test_gradients_in_bfloat16_do_not_underflow():
    wide, narrow = (
        gradients("float32", "per_step"),
        gradients("bfloat16", "at_once"),
    )  # as on CPUs, as on GPUs
    assert all(leaf.dtype == jnp.float32 for leaf in narrow)
    lost = sum(int(np.sum((np.asarray(b) == 0) & (np.asarray(a) != 0))) for a, b in zip(wide, narrow))
    total = sum(leaf.size for leaf in wide)
    assert any(not np.array_equal(a, b) for a, b in zip(wide, narrow))  # it was computed in another precision
    assert lost / total < 1e-3
