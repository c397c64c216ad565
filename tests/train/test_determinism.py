"""A run is a function of its config: another process, with its own order of sets, ends with the same bits.

That nothing depends on when a run stops, nor on how batches are prepared, is in test_resume.py and test_kills.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# All that draws numbers: held-out and chosen sentences, first values, order, dropped words and values.
CONFIG = """
[data]
source = "demo"
limit = 300
[model]
hidden = [16]
word_width = 8
[regularization]
input_dropout = 0.1
hidden_dropout = 0.1
word_dropout = 0.05
[optimizer]
learning_rate = 0.02
[train]
epochs = 2
batch_size = 64
accumulate = 2
steps_per_call = 8
average = 0.9
"""
TIMES = ("time", "seconds", "tokens_per_second")
SCRIPT = """
import json, sys
from pathlib import Path
from windownet.cli import main
from windownet.data import demo
from windownet.tagger import artifact
from windownet.tagger.tagger import Tagger
config, run, *settings = sys.argv[1:]
main(["train", config, *settings, "--run-dir", run, "--quiet"], standalone_mode=False)
tagged = Tagger(artifact.load(Path(run))).tag([sentence.words for sentence in demo.sentences("test")[:200]])
print(json.dumps(tagged))
"""


def outcome(folder: Path, name: str, hash_seed: int, *settings: str) -> dict[str, Any]:
    (folder / "c.toml").write_text(CONFIG)
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(folder / "c.toml"), str(folder / name), *settings]
    env = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    run = folder / name
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, Any] = {str(n): {k: v for k, v in line.items() if k not in TIMES} for n, line in enumerate(lines)}
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name not in ("metrics.jsonl", ".lock")]
    found |= {str(path.relative_to(run)): path.read_bytes() for path in files}
    return found | {"predictions": json.loads(done.stdout.splitlines()[-1])}


def test_another_process_ends_with_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    first, again = (outcome(tmp_path, name, seed) for name, seed in (("first", 1), ("again", 2)))
    assert {"model/model.safetensors", "last/model.safetensors", "environment.json", "config.toml"} <= first.keys()
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []
    other = outcome(tmp_path, "other", 1, "train.seed=1")
    assert {"0", "model/model.safetensors", "last/model.safetensors", "predictions"} <= {
        name for name in first if first[name] != other[name]
    }
