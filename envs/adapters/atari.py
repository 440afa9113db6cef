"""Atari 2600 as DreamerV3 publishes it, directly on the emulator (Machado et al., 2018, arXiv:1709.06009)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamworld.config import AtariConfig
from dreamworld.envs.adapters.dm import refuse_options
from dreamworld.envs.base import Step
from dreamworld.envs.images import resize_area, resize_bilinear, to_gray
from dreamworld.envs.names import unknown
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import Space

_GAMES = """
alien amidar assault asterix asteroids atlantis bank_heist battle_zone beam_rider berzerk bowling boxing
breakout centipede chopper_command crazy_climber defender demon_attack double_dunk enduro fishing_derby
freeway frostbite gopher gravitar hero ice_hockey jamesbond kangaroo krull kung_fu_master montezuma_revenge
ms_pacman name_this_game phoenix pitfall pong private_eye qbert riverraid road_runner robotank seaquest
skiing solaris space_invaders star_gunner surround tennis time_pilot tutankham up_n_down venture
video_pinball wizard_of_wor yars_revenge zaxxon
"""
_GAMES_100K = """
alien amidar assault asterix bank_heist battle_zone boxing breakout chopper_command crazy_climber
demon_attack freeway frostbite gopher hero jamesbond kangaroo krull kung_fu_master ms_pacman pong
private_eye qbert road_runner seaquest up_n_down
"""
GAMES = tuple(_GAMES.split())
GAMES_100K = tuple(_GAMES_100K.split())
ALIASES = {"james_bond": "jamesbond"}
NOOP = 0
ACTIONS = 18  # of a joystick
WORDS = 624  # of a Mersenne twister


def game_name(prefix: str, name: str, games: Sequence[str]) -> str:
    """The ROM of a game's name; UserError with the nearest one if there is no such game."""
    game = ALIASES.get(name, name)
    if game not in games:
        raise unknown("game", prefix + name, [prefix + known for known in games])
    return game


def vector_options(game: str, size: tuple[int, int], config: AtariConfig) -> dict[str, Any]:
    """Arguments of `ale_py.vector_env.AtariVectorEnv` that make it agree with AtariEnv under resize "area".

    Every default of that class is something else, and it draws from one fewer no-op than it is told.
    """
    return {
        "game": game,
        "max_num_frames_per_episode": config.max_frames,
        "repeat_action_probability": config.sticky,
        "full_action_space": config.actions == "all",
        "img_height": size[0],
        "img_width": size[1],
        "grayscale": config.gray,
        "stack_num": 1,
        "frameskip": config.repeat,
        "maxpool": True,
        "noop_max": config.noops + 1,
        "episodic_life": False,
        "life_loss_info": False,
        "reward_clipping": False,
        "use_fire_reset": False,
    }


class AtariEnv(Described):
    """One game. Sticky actions act on each emulator frame; the last two frames are pooled by their maximum.

    Lives are not used, rewards not clipped, the frame limit truncates (the published code calls it terminal). Which
    actions stick is drawn here, as the emulator would draw it from the same seed: its own state can't be saved
    exactly, because it lacks the action that was executed last.
    """

    takes_options = False

    def __init__(self, game: str, size: tuple[int, int], config: AtariConfig):
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)
        rom = roms.get_rom_path(game)
        if rom is None:
            raise UserError(f"atari_{game}: ale-py has no ROM of that name")
        if config.resize == "area" and (size[0] > 210 or size[1] > 160):
            raise UserError(
                f"env.size {size}: area only shrinks the 210x160 screen; use env.atari.resize pillow"
            )
        self._rom = rom
        self._size = size
        self._config = config
        self._ale = ALEInterface()
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._executed = NOOP
        self._seed(int(np.random.default_rng().integers(2**31)))
        all_actions = config.actions == "all"
        self._actions = self._ale.getLegalActionSet() if all_actions else self._ale.getMinimalActionSet()
        self.action_names = tuple(action.name for action in self._actions)
        # The area path takes the emulator's own gray, as ale_py does; the published one grays after resizing.
        self._gray_screen = config.gray and config.resize == "area"
        screen = (210, 160) if self._gray_screen else (210, 160, 3)
        self._screens = [np.zeros(screen, np.uint8) for _ in range(2)]
        self._frames = 0
        self._last = Step({}, 0.0, True, False, False)
        self.obs_space = {"image": Space((*size, 1 if config.gray else 3), "uint8", low=0, high=255)}
        self.act_space = {"action": Space((), "int32", classes=len(self._actions))}

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts a game: up to `noops` frames without action, then the screen."""
        refuse_options(self, options)
        if seed is not None:
            self._seed(seed)
        self._begin()
        for _ in range(self._draw_noops()):
            self._act(NOOP)
            if self._ale.game_over():
                self._begin()
        self._frames = 0
        self._capture(0)
        self._screens[1].fill(0)
        return self._row(0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by `repeat` emulator frames, fewer when the game ends."""
        chosen = self._actions[int(action["action"])].value
        reward, over, limit = 0.0, False, False
        for left in reversed(range(self._config.repeat)):
            reward += self._act(chosen)
            self._frames += 1
            over = self._ale.game_over()
            limit = self._frames >= self._config.max_frames
            # ale_py leaves out the frame that ends an episode, the published code shows it.
            if left < 2 and (self._config.resize == "pillow" or not (over or limit)):
                self._capture(left)
            if over or limit:
                break
        return self._row(reward, False, over or limit, over)

    def render(self) -> np.ndarray:
        """The screen, [210, 160, 3]."""
        return self._ale.getScreenRGB()

    def save(self) -> dict[str, np.ndarray]:
        """Emulator, what may stick, random states, pooled screens and the current row."""
        state = self._ale.cloneState(include_rng=True).serialize()
        return {
            "ale": np.frombuffer(state, np.uint8),
            "screens": np.stack(self._screens),
            "random": _state_of(self._random),
            "sticky": _state_of(self._sticking),
            "executed": np.array(self._executed, np.int32),
            "image": self._last.obs["image"].copy(),
            "flags": np.array([self._last.reward, *self._last[2:5], self._frames], np.float64),
        }

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """Restores `save()`; ValueError for a state that is none, or lacks the action that may stick."""
        from ale_py import ALEState

        if self._config.sticky > 0 and "executed" not in state:
            raise ValueError("an earlier version saved it without the action that may stick")
        if "executed" in state:
            self._executed = _action_of(state["executed"])
            _bring_back(self._sticking, state["sticky"])

        self._ale.restoreState(ALEState(np.ascontiguousarray(state["ale"]).tobytes()))
        self._screens = [x.copy() for x in state["screens"]]
        _bring_back(self._random, state["random"])
        reward, first, last, terminal, frames = state["flags"].tolist()
        self._frames = int(frames)
        self._last = Step({"image": state["image"].copy()}, reward, bool(first), bool(last), bool(terminal))
        return self._last._replace(obs={"image": state["image"].copy()})

    def close(self) -> None:
        """Nothing to release."""

    def _seed(self, seed: int) -> None:
        """Loading the ROM is what makes the emulator take a seed."""
        seed %= 2**31
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._rom)
        self._random, self._sticking = np.random.RandomState(seed), np.random.RandomState(seed)

    def _begin(self) -> None:
        self._ale.reset_game()
        self._executed = NOOP

    def _act(self, chosen: int) -> float:
        """One frame of the chosen action or, with probability `sticky`, of the one before; returns the reward.

        The emulator draws twice a frame from its seed, the second time for another player.
        """
        sticky = self._config.sticky
        if sticky <= 0 or self._sticking.randint(0, 2**32, 2, np.uint32)[0] >= sticky * 2**32:
            self._executed = chosen
        return self._ale.act(self._executed)

    def _draw_noops(self) -> int:
        """Uniform in [0, noops]: the draw of ale_py's C++ path from the same seed (Lemire, 2019)."""
        count = self._config.noops + 1
        product = int(self._random.randint(0, 2**32, dtype=np.uint32)) * count
        while (product & 0xFFFFFFFF) < (2**32 - count) % count:
            product = int(self._random.randint(0, 2**32, dtype=np.uint32)) * count
        return product >> 32

    def _capture(self, left: int) -> None:
        """Stores the screen; `left` frames of this step come after it."""
        if self._config.resize == "pillow":
            self._screens.reverse()
            left = 0
        screen = self._screens[left]
        if self._gray_screen:
            self._ale.getScreenGrayscale(screen)
        else:
            self._ale.getScreenRGB(screen)

    def _row(self, reward: float, first: bool, last: bool, terminal: bool) -> Step:
        if self._config.resize == "pillow":
            image = resize_bilinear(np.maximum(*self._screens), self._size)
            image = to_gray(image) if self._config.gray else image
        else:
            # In place, as ale_py does: it shows only in a last row that ended before its final two frames.
            pooled = np.maximum(self._screens[0], self._screens[1], out=self._screens[0])
            image = resize_area(pooled[:, :, None] if self._gray_screen else pooled, self._size)
        self._last = Step({"image": np.array(image)}, float(reward), first, last, terminal)
        return self._last._replace(obs={"image": image.copy()})


def _action_of(value: np.ndarray) -> int:
    """An action that was saved; ValueError for what the emulator, which checks nothing, has no action for."""
    if value.shape != () or not 0 <= (number := int(value)) < ACTIONS:
        raise ValueError("it holds no action of the emulator")
    return number


def _state_of(random: np.random.RandomState) -> np.ndarray:
    """uint32 [625]: the words of a Mersenne twister, and which one is next."""
    _, words, position, *_ = random.get_state(legacy=True)
    return np.array([*words, position], np.uint32)


def _bring_back(random: np.random.RandomState, state: np.ndarray) -> None:
    if state.shape != (WORDS + 1,) or state[-1] > WORDS:  # numpy would read beyond the words
        raise ValueError("it holds no state of a random generator")
    random.set_state(("MT19937", state[:-1], int(state[-1]), 0, 0.0))
