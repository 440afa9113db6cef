"""A real Chromium before the real command: one run, one server and one browser for all tests of the page."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from dreamworld.__main__ import main

USEFUL_HORIZON = 12
PATIENCE_S = 120.0  # every wait ends with a fact; this only ends one that is waited for in vain
TRAINED = (
    "--configs debug --task jax_balls --env.options n=1,time_limit=300 --run.steps 120 --run.batch_length 12"
)
QUIET = (
    "--run.report_every 0 --run.save_every 0 --eval.every 0 --run.progress False --logger.tensorboard False"
)
# What the page and the server say to each other, for tests to read; the page itself is left as it is.
LISTEN = """
window.sockets = []; window.said = []; window.heard = []; window.frames = [];
window.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    window.sockets.push(this);
    this.addEventListener("message", ({data}) => typeof data === "string"
      ? window.heard.push(JSON.parse(data)) : (window.frames = [...window.frames.slice(-5), new Uint8Array(data)]));
  }
  send(text) { window.said.push(JSON.parse(text)); super.send(text); }
};
"""


class Game:
    """The command `dreamworld play` in a process of its own."""

    def __init__(self, *words, port=0, data=None):
        self.data = data  # folder of the data set that episodes are saved in
        words = [*words, *(["--data", data] if data else [])]
        command = [
            sys.executable,
            "-m",
            "dreamworld",
            "play",
            *map(str, words),
            "--port",
            str(port),
            "--sessions",
            "8",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if found := re.search(r"http://\S+", line):
                self.url = found[0]
                return
        pytest.fail(f"the server did not start: {said}")

    @property
    def port(self):
        return int(self.url.rstrip("/").rpartition(":")[2])

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self):
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Player:
    """Somebody before the page: presses, looks, and reads what was said over the socket."""

    def __init__(self, page):
        self.page = page
        self.keyboard = page.keyboard

    def open(self, url):
        self.page.goto(url)
        self.until(lambda: self.connection == "open" and self.said("ack"), "the first picture")
        return self

    def __call__(self, script, *args):
        return self.page.evaluate(script, *args)

    def until(self, holds, what, timeout_s=PATIENCE_S):
        """Waits for a fact and returns it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if found := holds():
                return found
            self.page.wait_for_timeout(15)
        raise AssertionError(f"waited in vain for {what}; the last step: {self.step}")

    @property
    def connection(self):
        return self.page.get_attribute("#connection", "data-state")

    @property
    def step(self):
        """The newest step that the page was told."""
        return self("() => window.heard.findLast(each => each.on === 'step') ?? null")

    @property
    def state(self):
        return self("() => window.heard.findLast(each => each.on === 'state')")

    def heard(self, on):
        return self("on => window.heard.filter(each => each.on === on)", on)

    def said(self, do):
        return self("what => window.said.filter(each => each.do === what)", do)

    def at(self, t):
        """Waits until step t is painted: the number beside the slider shows what is on the screen."""
        return self.until(
            lambda: self.text("#time") == str(t) and self.step["t"] == t and self.step, f"step {t}"
        )

    def text(self, selector):
        return self.page.inner_text(selector)

    def slide(self, name, value, event="input"):
        """Moves a slider as a pointer would."""
        move = """([name, value, event]) => { const slider = document.getElementById(name);
          slider.value = value; slider.dispatchEvent(new Event(event)); }"""
        self(move, [name, value, event])

    def act(self, key, times=1):
        """Presses an action key so often while the game is paused; each press is one step."""
        for _ in range(times):
            before = self.step["t"]
            self.keyboard.press(key)
            self.at(before + 1)

    def download(self, label):
        """The file of the newest recording that a link of this name leads to."""
        with self.page.expect_download() as found:
            self.page.click(f"#recordings li:first-child a >> text={label}")
        return found.value

    def film(self):
        """Stops the recording, and reads what the server noted of the episode."""
        self.page.click("#record")
        self.page.wait_for_selector("#recordings li")
        lines = self.download("actions").path().read_text().splitlines()
        return [json.loads(line) for line in lines[1:]]

    def pixels(self, lane):
        """What the canvas of a lane shows: (width, height, RGBA values)."""
        return tuple(
            self(
                """lane => { const c = document.getElementById("canvas-" + lane);
                return [c.width, c.height, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]]; }""",
                lane,
            )
        )


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run that has learnt next to nothing, with a useful horizon as `assess` writes it."""
    folder = tmp_path_factory.mktemp("browser") / "run"
    assert main(["train", *QUIET.split(), *TRAINED.split(), "--seed", "3", "--logdir", str(folder)]) == 0
    (folder / "assess").mkdir()
    metrics = {"drift/image/useful_horizon": {"value": USEFUL_HORIZON}}
    (folder / "assess" / "step-120.json").write_text(json.dumps({"metrics": metrics}))
    return folder


@contextlib.contextmanager
def served(*words, port=0, data=None):
    game = Game(*words, port=port, data=data)
    try:
        yield game
    finally:
        game.kill()


@pytest.fixture(scope="session")
def game(run, tmp_path_factory):
    """The run as it is served."""
    data = tmp_path_factory.mktemp("episodes") / "data"
    with served(run, data=data) as found:
        yield found


@pytest.fixture
def serve():
    """Starts another server: `with serve("--task", "jax_catch") as game`."""
    return served


@pytest.fixture
def visit(browser, game):
    """Opens the page in a browser window of its own; at the end, nothing was complained about in the console."""
    contexts, complaints = [], []

    def open_page(url=None, *, width=1280, height=900, wait=True, **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **options
        )
        contexts.append(context)
        context.add_init_script(LISTEN)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        player = Player(page)
        return player.open(url or game.url) if wait else player

    yield open_page
    for context in contexts:
        context.close()
    lost = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "WebSocket connection to")
    assert [text for text in complaints if not any(word in text for word in lost)] == []


@pytest.fixture
def page(visit):
    """One page, connected, before the first step."""
    return visit()
