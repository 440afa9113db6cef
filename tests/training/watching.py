"""Callbacks that keep what a training shows them, for the tests of every loop: `train(config, **watcher.callbacks)`."""

import json
import threading
from typing import Any

from dreamworld.logging.rows import dumps
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.training.snapshot import COMMIT


class Watcher:
    """Keeps log rows, episodes and checkpoints, and which thread called."""

    def __init__(self):
        self.logs, self.episodes, self.saved, self.threads = [], [], [], set()

    @property
    def callbacks(self) -> dict[str, Any]:
        def keep(rows):
            return lambda row: (rows.append(json.loads(dumps(row))), self.threads.add(threading.get_ident()))

        def on_checkpoint(path, step):
            self.threads.add(threading.get_ident())
            assert (path / COMMIT).is_file(), "it is not complete"
            self.saved.append((path, step))

        return {"on_log": keep(self.logs), "on_episode": keep(self.episodes), "on_checkpoint": on_checkpoint}

    def check(self, *folders):
        """They saw what was written, after the step at which they began to look, of each of the runs."""
        assert self.threads == {threading.get_ident()}
        for run in map(RunDir, folders):
            seed = run.load_config().seed
            own = lambda rows, seed=seed: [row for row in rows if row["seed"] == seed]
            for seen, file in ((own(self.logs), run.metrics), (own(self.episodes), run.episodes)):
                rows = [{k: v for k, v in row.items() if k != "time"} for row in read_jsonl(file)]
                begin = seen[0]["step"] if seen else float("inf")
                assert seen == [{"seed": seed, **row} for row in rows if row["step"] >= begin]
            saved = [step for path, step in self.saved if path.parent == run.checkpoints]
            assert saved == sorted(set(saved)) and saved[-1] == run.read_status()["step"]
        assert len(own(self.logs)) > 0 and {path.parent.parent for path, _ in self.saved} == set(folders)
