"""A game: reality and dream under the same actions, and its ways back, to the bit."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import dream, presets
from dreamworld.__main__ import main
from dreamworld.config import Config
from dreamworld.datasets import open_dataset
from dreamworld.plan_options import PlanConfig
from dreamworld.play import opening, recording, timeline
from dreamworld.play.dreamer import Keys
from dreamworld.play.game import Game
from dreamworld.play.protocol import BadMessage, Command
from dreamworld.play.readouts import Step
from dreamworld.play.reality import LostPast, Played, Recorded, why_no_rewind
from dreamworld.play.session import Session
from dreamworld.sessions import pieces
from dreamworld.types import Batch


def make(world, seed=5) -> Any:
    return Game(world, seed, world.make_reality())


def start(world, seed=5) -> Any:
    session = Session(world, seed, world.make_reality() if world.make_reality else None)
    say(session, "hello")
    return session


def say(session, do, value=None, name="") -> list[Any]:
    return list(session.handle(Command(do, value, name)))


def actions(world, count, seed=0):
    random = np.random.default_rng(seed)
    return [{k: s.sample(random) for k, s in world.act_space.items()} for _ in range(count)]


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in leaves)


def same_moment(one, other):
    """Equal to the bit in everything that was seen, dreamed and shown."""
    pick = lambda m: (
        m.t,
        m.k,
        m.action,
        m.row and m.row._replace(events=()),
        m.dream,
        m.seen,
        m.shown,
        m.surprise,
    )
    return same(pick(one), pick(other)) and one.returns == other.returns


def test_the_real_lane_is_a_plain_environment_with_the_same_seed_and_actions(world):
    game = make(world)
    game.begin(5, 0)
    env = pieces.make_eval_env(opening_config(), None, episodes=1)
    step = env.reset(int(np.random.SeedSequence([5, 0]).generate_state(1)[0] >> 1))
    taken = actions(world, 29)
    for action in taken:
        assert all(np.array_equal(step.obs[key][0], value) for key, value in game.now.row.obs.items())
        assert float(step.reward[0]) == game.now.row.reward and bool(step.is_last[0]) == game.now.row.is_last
        game.step(action, "human")
        step = env.step({key: value[None] for key, value in action.items()})
    assert game.step(actions(world, 1)[0], "human").row.ended == "truncated"


def opening_config():
    return presets.replace(Config(), {"task": "jax_balls", "env.options": "n=2,time_limit=30"})


def batch_of(game):
    """The rows of a game as a batch of one, [1, L, ...]."""
    moments = game.timeline.path()
    rows = [m.row for m in moments]
    stack = lambda values: jnp.asarray(np.stack(values)[None])
    obs = {key: stack([row.obs[key] for row in rows]) for key in rows[0].obs}
    last = {key: space.zeros() for key, space in game.world.act_space.items()}
    taken = [*(m.action for m in moments[1:]), last]
    action = {key: stack([a[key] for a in taken]) for key in last}
    flags = (
        stack([np.float32(r.reward) for r in rows]),
        *(stack([getattr(r, f) for r in rows]) for f in FLAGS),
    )
    return Batch(obs, action, *flags, extras={})


FLAGS = ("is_first", "is_last", "is_terminal")


@pytest.mark.parametrize("observed", [1, 6])
def test_the_dream_is_the_open_loop_of_the_recorded_actions_to_the_bit(world, observed):
    game = make(world)
    game.begin(5, 0)
    for t, action in enumerate(actions(world, 14), 1):
        game.step(action, "human")
        if t == observed - 1:
            assert game.anchor()
    root = jax.random.fold_in(jax.random.PRNGKey(5), 0)
    run = jax.jit(
        lambda params, batch, key: dream.open_loop(world.dreamer.simulator, params, batch, observed, key)
    )
    states, features = run(world.player.params["world"], batch_of(game), root)
    for t in range(observed - 1, 15):
        here = jax.tree.map(lambda x, t=t: x[:, t], states)
        assert same(game.timeline.at(t).dream, here), f"row {t}"
    shown = world.dreamer.simulator.decode(world.player.params["world"], features)["image"][0, -1]
    np.testing.assert_array_equal(game.now.shown.obs["image"], np.round(np.clip(shown, 0, 1) * 255))


def test_anchoring_is_the_posterior_of_all_rows_so_far(world):
    game = make(world)
    game.begin(5, 0)
    for action in actions(world, 7):
        game.step(action, "human")
    before = game.now
    assert before.k == 7 and not same(before.dream, before.seen)
    game.anchor()
    key = Keys(*jax.random.split(jax.random.fold_in(jax.random.PRNGKey(5), 0))).observe
    see = jax.jit(
        lambda params, batch, key: dream.observe_rows(world.dreamer.simulator, params, batch, key)[0]
    )
    assert same(game.now.dream, see(world.player.params["world"], batch_of(game), key))
    assert game.now.k == 0 and same(game.now.dream, before.seen)


@pytest.mark.parametrize("kind", ["world", "pole"])
def test_the_same_actions_after_a_way_back_give_the_same_to_the_bit(kind, request):
    world = request.getfixturevalue(kind)
    assert not world.rewind
    game = make(world)
    game.begin(5, 0)
    taken = actions(world, 8)
    for action in taken:
        game.step(action, "human")
    first = game.timeline.path()
    assert game.go(3) and game.timeline.t == 3
    for action in taken[3:]:
        game.step(action, "human")
    assert game.timeline.branch == 1
    assert all(same_moment(a, b) for a, b in zip(first, game.timeline.path(), strict=True))
    other = actions(world, 6, seed=9)
    game.go(2)
    for action in other:
        game.step(action, "human")
    assert game.timeline.branch == 2 and not same_moment(game.timeline.at(8), first[8])
    assert game.switch(0) and same_moment(game.now, first[8])
    game.step(taken[0], "human")
    again = make(world)
    again.begin(5, 0)
    for action in [*taken, taken[0]]:
        again.step(action, "human")
    assert same_moment(again.now, game.now)


def test_an_environment_that_does_not_repeat_itself_is_known(world):
    class Moody(Played):
        """Its rows depend on what happened before."""

    env = pieces.make_eval_env(presets.replace(Config(), {"task": "gym_CartPole-v1"}), None, episodes=1)
    assert why_no_rewind(env, 0) == ""
    inner, count = env.reset, [0]

    def reset(seed):
        count[0] += 1
        return inner(seed + count[0])

    env.reset = reset
    assert "gave other rows" in why_no_rewind(env, 0)
    reality = Moody(env, render=False)
    row = reality.reset(0)
    with pytest.raises(LostPast):
        from dreamworld.play.reality import Past

        reality.restore(Past(0, [], None, row))


def test_temperature_zero_is_the_likeliest_dream_and_one_is_not(world):
    game = make(world)
    game.begin(5, 0)
    (action,) = actions(world, 1)

    def dreams(temperature):
        keys = [world.dreamer.keys(seed, 0) for seed in range(4)]
        found = [world.dreamer.imagine(game.now.dream, action, 1, one, temperature)[0] for one in keys]
        return [same(found[0], other) for other in found[1:]]

    assert all(dreams(0.0)) and not all(dreams(1.0))


def test_the_agent_goes_on_after_a_way_back_as_it_did_before(world):
    session = start(world)
    say(session, "player", "agent")
    for _ in range(6):
        say(session, "step")
    first = session.game.timeline.path()
    say(session, "rewind", 2)
    for _ in range(4):
        say(session, "step")
    assert all(same_moment(a, b) for a, b in zip(first, session.game.timeline.path(), strict=True))


def test_random_actions_follow_from_seed_episode_and_time(world):
    session, other = start(world), start(world)
    for one in (session, other):
        say(one, "player", "random")
        for _ in range(5):
            say(one, "step")
    assert same_moment(session.game.now, other.game.now)
    say(session, "rewind", 1)
    for _ in range(4):
        say(session, "step")
    assert same_moment(session.game.now, other.game.now)


def test_a_segment_happens_while_its_actions_are_taken(world):
    session = start(world)
    (event,) = say(session, "segments")
    assert event["items"] and event["items"][0]["thumbnail"].startswith("data:image/png;base64,")
    say(session, "reset", 0)
    segment = world.segments()[0]
    assert session.game.timeline.t == 4 and session.game.now.k == 0
    say(session, "player", "recording")
    say(session, "step")
    assert np.array_equal(session.game.now.row.obs["image"], segment.rows[5].obs["image"])
    say(session, "rewind", 4)
    session.player = "human"
    other = (int(segment.actions[5]["action"]) + 1) % 5
    say(session, "action", {"action": other})
    (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
    assert step.numbers["real"] is None and step.numbers["dream"] and step.numbers["drift"] == {}
    assert isinstance(session.game._reality, Recorded)


def test_edits_move_a_ball_and_take_the_state_of_a_segment(world):
    session = start(world)
    say(session, "step")
    before = session.game.now
    names = [edit.name for edit in world.edits]
    assert names == ["ball 0", "ball 1", "swap"]
    say(session, "edit", [0.3, 0.7], "ball 0")
    moved = session.game.now
    assert not same(moved.dream, before.dream) and same(moved.seen, before.seen) and moved.k == before.k
    shown = world.edits[0].change(before.shown.obs, [0.3, 0.7])["image"]
    wanted = world.dreamer.edit(before.dream, {"image": shown}, session.game._keys.imagine)
    assert same(moved.dream, wanted)
    say(session, "edit", 1, "swap")
    assert not same(session.game.now.dream, moved.dream)
    kept, count = session.game.now, len(world.segments())
    (told,) = say(session, "edit", 400, "swap")  # a person may ask for it
    assert told["text"] == f"there is no segment 400: they are counted from 0 to {count - 1}"
    assert session.game.now is kept
    with pytest.raises(BadMessage, match="takes a point"):
        say(session, "edit", 1, "ball 0")


def test_a_ball_is_drawn_where_it_was_put(world):
    from dreamworld.envs.jax import make_jax_env

    env: Any = make_jax_env("jax_balls", n=2)
    _, obs = env.reset(jax.random.PRNGKey(1))
    picture = {"image": jnp.asarray(obs["image"], jnp.float32) / 255}
    moved = env.place(picture, 1, jnp.array([0.25, 0.6]))
    found = env.locate({"image": jnp.asarray(moved, jnp.float32) / 255})["place"]
    np.testing.assert_allclose(found[1], [0.25, 0.6], atol=0.02)
    np.testing.assert_allclose(found[0], env.locate(picture)["place"][0], atol=0.03)


def test_a_recording_is_played_again_to_the_bit_and_leaves_a_film(world):
    session = start(world)
    say(session, "step")
    say(session, "record", True)
    say(session, "player", "agent")
    for value in (1.0, 0.5):
        say(session, "temperature", value)
        say(session, "step")
    say(session, "anchor")
    say(session, "edit", [0.3, 0.7], "ball 0")
    say(session, "step")
    say(session, "rewind", 2)
    for _ in range(3):
        say(session, "step")
    wanted = session.game.timeline.path()
    say(session, "record", False)
    (kept,) = session._shelf.items
    assert kept.steps == 6 and set(kept.files) >= {"actions", "GIF"}
    assert all(path.stat().st_size > 100 for path in kept.files.values())
    read = recording.read(kept.files["actions"], world.act_space)
    assert (read.lines, read.first, read.start) == (kept.lines, kept.first, kept.start)
    assert json.loads(kept.files["actions"].read_text().splitlines()[0])["task"] == "jax_balls"
    other = Session(world, 77, world.make_reality())
    other._shelf.items.append(read)
    say(other, "hello")
    say(other, "replay", 0)
    while other.playing:
        list(other.tick())
    assert all(same_moment(a, b) for a, b in zip(wanted, other.game.timeline.path(), strict=True))
    assert other.player == "human"
    folder = kept.files["actions"].parent
    session.close()
    assert not folder.exists()


def test_a_played_episode_is_a_data_set_to_train_on(balls, opened, tmp_path, capsys):
    world = opened(balls, data=str(tmp_path / "mine"))
    session = start(world)
    for value in (1, 2, 3):
        say(session, "action", {"action": value})
        say(session, "step")
    say(session, "player", "agent")
    for _ in range(12):
        say(session, "step")
    path = session.game.timeline.path()
    saved, told = say(session, "save", "dataset")
    assert saved["path"] == str(tmp_path / "mine") and "15 steps" in told["text"]
    say(session, "reset")
    for _ in range(16):
        say(session, "step")
    say(session, "save", "dataset")
    data = open_dataset(tmp_path / "mine")
    assert data.episodes == 2 and data.labels == ["agent+human", "agent"]
    episode = data.episode(0)
    for t, moment in enumerate(path):
        assert np.array_equal(episode["obs/image"][t], moment.row.obs["image"])
        assert episode["reward"][t] == np.float32(moment.row.reward)
        if t:
            assert episode["action/action"][t - 1] == moment.action["action"]
    assert episode["extra/player"].tolist() == [0] * 3 + [1] * 13
    assert episode["is_last"].tolist() == [False] * 15 + [True] and not episode["is_terminal"].any()
    assert main(["data", "info", str(tmp_path / "mine")]) == 0
    assert "player" in capsys.readouterr().out
    options = ["--run.steps", "2", "--logdir", str(tmp_path / "run"), "--run.batch_length", "8"]
    assert main(["train", "--configs", "debug", "--data", str(tmp_path / "mine"), *options, *OFF]) == 0


OFF = [
    "--run.report_every",
    "0",
    "--eval.every",
    "0",
    "--run.progress",
    "False",
    "--logger.tensorboard",
    "False",
]
OFF += ["--replay.min_starts", "1"]


def test_nothing_is_saved_before_the_first_step(world):
    session = start(world)
    (told,) = say(session, "save", "dataset")
    assert told["kind"] == "warning" and "no step to save" in told["text"]


def test_cartpole_is_rendered_and_its_dream_drawn_the_same_way(pole):
    world = pole
    assert world.images == ["render"] and world.controls.items[0].keys == ("ArrowLeft", "ArrowRight")
    session = start(world)
    (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
    assert [(picture.lane, picture.image.shape) for picture in step.pictures] == [
        (0, (400, 600, 3)),
        (1, (400, 600, 3)),
    ]
    now = session.game.now
    np.testing.assert_array_equal(world.draw(now.row.obs), now.row.picture)
    assert step.numbers["drift"]["vector"]["psnr"] is None and step.numbers["drift"]["vector"]["nmse"] > 0
    assert step.numbers["real"]["vector"]["vector"] == [round(float(x), 6) for x in now.row.obs["vector"]]
    assert len(world.edits) == 5 and world.edits[0].name == "vector[0]"


def test_an_environment_alone_has_one_lane(alone):
    session = start(alone)
    ready = alone.ready()
    assert ready["lanes"] == ["real"] and ready["players"] == ["human", "random"] and not ready["value"]
    assert ready["controls"][0]["choices"] == ["left", "stay", "right"]
    assert (
        ready["controls"][0]["keys"] == ["ArrowLeft", "", "ArrowRight"]
        and ready["controls"][0]["default"] == 1
    )
    (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
    assert step.numbers["dream"] is None and [picture.lane for picture in step.pictures] == [0]


def test_without_an_environment_dreams_begin_in_recorded_segments(recorded, opened):
    world = opened(recorded)
    session = start(world)
    now, segment = session.game.now, world.segments()[0]
    assert world.make_reality is None and (now.t, now.k) == (4, 0)
    assert np.array_equal(now.row.obs["image"], segment.rows[4].obs["image"])
    say(session, "player", "agent")
    first = session.game.choose("agent", {})[0]
    for _ in range(2):  # the recorded action may be the agent's, once
        (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
    assert same(session.game.timeline.at(5).action, first)
    assert step.numbers["dream"]["reward"] is not None and (session.game.now.t, session.game.now.k) == (6, 2)
    (told,) = say(session, "save", "dataset")
    assert told["kind"] == "warning" and "no environment" in told["text"]


def test_a_planner_acts_as_it_does_in_evaluation(planned, opened):
    world = opened(planned)
    assert world.ready()["players"] == ["human", "planner", "random"]
    session = start(world)
    say(session, "player", "planner")
    _, wanted = world.player.act(world.player.initial(), dict(session.game.now.row.obs), normalised=True)
    (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
    assert step.numbers["player"] == "planner" and same(session.game.now.action, wanted)


def test_a_planner_plays_beside_the_agent_and_each_remembers_its_own(cartpole, opened):
    few = PlanConfig(horizon=2, candidates=4, iterations=1, elites=2)
    world = opened(cartpole, planner="cem", plan=few)
    assert world.ready()["players"] == ["human", "agent", "planner", "random"]
    session = start(world)
    for who in ("planner", "planner", "agent", "planner"):
        say(session, "player", who)
        (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
        assert step.numbers["player"] == who
    steps = [session.game.timeline.at(t).mind.step for t in (1, 2, 3, 4)]
    assert steps == [1, 2, 1, 1]  # what another one remembers is of no use


def test_an_episode_ends_and_the_next_step_begins_another(alone):
    session = start(alone)
    for _ in range(9):
        events = say(session, "step")
    texts = [event["text"] for event in events if isinstance(event, dict) and event["on"] == "notice"]
    assert session.game.now.row.ended == "terminated" and "ended after 9 steps" in texts[0]
    say(session, "step")
    assert session.game.timeline.t == 0 and session.state()["episode"] == 1


def test_numbers_say_what_happened_and_what_was_expected(world):
    session = start(world)
    (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
    now, numbers = session.game.now, step.numbers
    real, dreamt = now.row.obs["image"] / 255, now.shown.obs["image"] / 255
    mse = np.mean(np.square(real - dreamt))
    assert numbers["drift"]["image"]["mse"] == pytest.approx(mse)
    assert numbers["drift"]["image"]["psnr"] == pytest.approx(-10 * np.log10(mse), abs=1e-3)
    params = world.player.params
    feature = world.dreamer.simulator.feature(params["world"], now.dream)
    reward, cont = world.dreamer.simulator.predict(params["world"], feature)
    assert numbers["dream"]["reward"] == pytest.approx(float(reward[0]), abs=1e-4)
    assert numbers["dream"]["cont"] == pytest.approx(float(cont[0]), abs=1e-4)
    value = world.player.agent.value(params, feature)
    assert numbers["dream"]["value"] == pytest.approx(float(value[0]), abs=1e-4)
    assert numbers["surprise"] >= 0 and 0 < len(numbers["latent"]) <= 256
    assert all(0 <= x <= 1 for x in numbers["latent"])
    json.dumps(numbers, allow_nan=False)


def test_the_useful_horizon_comes_from_assess_and_is_told_once(world, balls):
    import dataclasses

    folder = balls / "assess"
    folder.mkdir(exist_ok=True)
    sheet = {"metrics": {"drift/image/useful_horizon": {"value": 3.0}, "reward/mae": {"value": 1}}}
    (folder / "step-9.json").write_text("{}")
    (folder / "step-120.json").write_text(json.dumps(sheet))
    from dreamworld.sessions import stored

    assert opening.useful_horizon(stored.open_run(balls), 120) == 3
    assert opening.useful_horizon(stored.open_run(balls), 100) is None  # another checkpoint
    session = start(dataclasses.replace(world, useful_horizon=3))
    told = []
    for _ in range(6):
        told += [e["text"] for e in say(session, "step") if isinstance(e, dict) and e["on"] == "notice"]
    assert told == ["the dream is past its useful horizon of 3 steps (from assess)"]


def test_a_timeline_forgets_what_is_too_much_and_says_what_is_left(world, monkeypatch):
    monkeypatch.setattr(timeline, "MOMENTS", 6)
    game = make(world)
    game.begin(5, 0)
    for action in actions(world, 12):
        game.step(action, "human")
    kept = [t for t in range(13) if game.timeline.at(t) is not None]
    assert kept == [7, 8, 9, 10, 11, 12]
    assert game.timeline.describe()[0]["first"] == 7 and not game.go(2) and game.go(7)
