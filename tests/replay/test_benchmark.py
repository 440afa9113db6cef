"""`dreamworld benchmark replay` measures what the documentation quotes."""

from __future__ import annotations

import json

from dreamworld.benchmarks import replay as benchmark


def test_the_benchmark_prints_one_json_line_with_every_figure(capsys, tmp_path):
    small = ["--rows", "3000", "--frames", "128", "--rounds", "1", "--round_s", "0.05", "--update_ms", "1"]
    assert benchmark.main([*small, "--directory", str(tmp_path), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    for storage in ("raw", "lz4", "disk"):
        for figure in ("inserts_per_s", "batches_per_s", "gb_per_s"):
            assert row[f"{storage}_{figure}"] > 0
    assert row["pictures"] == ["crafter", "pong"]
    assert row["crafter_image_ratio"] > 3 and row["pong_image_ratio"] > 10
    assert 0 <= row["waiting_share"] < 1
    assert row["save_all_latents_rows"] > 2500 and row["save_all_latents_s"] > 0
    assert row["machine"]["cores"] > 0
    assert list(tmp_path.iterdir()) == []
