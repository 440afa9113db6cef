"""Run directories written by hand: what a training leaves behind, without the training."""

import json

import pytest
import yaml


@pytest.fixture
def make_run(tmp_path):
    """make_run("a/0", task, seed, [(frames, return) or (frames, return, env), ...]) -> its path."""

    def make(
        name, task="dmc_walker_walk", seed=0, scores=((1000, 5.0),), *, repeat=2, state="finished",
        steps=None, error="", options=None, achievements=(), second=10.0,
    ):  # fmt: skip
        path = tmp_path / name
        path.mkdir(parents=True)
        config = {
            "task": task,
            "seed": seed,
            "logdir": str(path),
            "env": {"repeat": repeat, "dmc": {"obs": "proprio"}},
        }
        for key, value in (options or {}).items():
            *groups, leaf = key.split(".")
            node = config
            for group in groups:
                node = node.setdefault(group, {})
            node[leaf] = value
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        rows = [
            {
                "step": frames // repeat,
                "frames": frames,
                "time": 1e9 + second * index,
                "env": env,
                "return": value,
            }
            for index, (frames, value, env) in enumerate((*row, 0)[:3] for row in scores)
        ]
        for row, unlocked in zip(rows, achievements):
            row |= {f"log/log/achievement_{key}": value for key, value in unlocked.items()}
        last = steps if steps is not None else (rows[-1]["step"] if rows else 0)
        status = {
            "state": state,
            "task": task,
            "seed": seed,
            "step": last,
            "steps": last,
            "updates": last // 2,
        }
        status |= {"error": error, "host": "here", "updated": 1e9}
        (path / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        metrics = [
            {key: row[key] for key in ("step", "frames", "time")} | {"updates": row["step"] // 2}
            for row in rows
        ]
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
        (path / "status.json").write_text(json.dumps(status))
        return path

    return make
