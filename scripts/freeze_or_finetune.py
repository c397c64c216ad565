"""Should training move pretrained word vectors? F1 against the number of training sentences, several seeds each.

The lecture: "if you only have a small training data set, don't train the word vectors". For every data set and size:
the table frozen, fine-tuned, and as words.update = "auto" decides; with all data also without pretrained vectors. The
seeds of a setting are one compiled program. From the curves follows the number of training words where fine-tuning
takes over, which is `ENOUGH_WORDS` in `windownet.train.word_table`.

    python scripts/freeze_or_finetune.py --figure docs/freeze_or_finetune.png
    python scripts/freeze_or_finetune.py VECTORS btc=configs/btc.toml,data.root=DIR ... --figure docs/freeze.png

Without arguments it is the embedded corpus, over vectors learned from other sentences of the same kind, without tags.
VECTORS is any file that words.vectors takes; `windownet pretrain` makes one.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import _lecture
from windownet import config as config_module, experiment
from windownet.data import demo, sources, vectors
from windownet.data.vocabulary import Normalization
from windownet.errors import InputError
from windownet.schema.config import Config
from windownet.train.word_table import ENOUGH_WORDS

POLICIES = ("no vectors", "freeze", "fine-tune")
SIZES = (100, 300, 1000, 3000)
# Small data need more passes before the loss stops falling; the best epoch is chosen on dev in any case.
STEPS = 1500
# Other draws of the embedded corpus than the one that is trained on and scored.
RAW_SEEDS = range(1, 6)


def of_the_data(config: Config, file: Path, folder: Path) -> Path:
    """The vectors of the data set's words alone, so that every seed has a copy of a small table."""
    splits = sources.load(config.data)
    normalization = Normalization(config.features.case, config.features.digits)
    words = {normalization(w) for part in (splits.train, splits.dev, splits.test) for s in part for w in s.words}
    found = vectors.read(file, lambda word: normalization(word) in words)
    small = folder / "vectors.safetensors"
    vectors.write_safetensors(small, found.words, found.matrix)
    return small


def embedded_vectors(folder: Path) -> Path:
    """Vectors learned from the embedded corpus's kind of sentences, as raw text has them: without tags."""
    drawn = (demo.sentences(part, seed) for seed in RAW_SEEDS for part in demo.SPLITS)
    return _lecture.vectors_of((" ".join(s.words) for sentences in drawn for s in sentences), folder)


def settings(policy: str, file: Path, limit: int, epochs: int, seeds: int) -> list[dict[str, Any]]:
    changes: dict[str, Sequence[Any]] = {"train.seed": range(seeds), "data.limit": [limit], "train.epochs": [epochs]}
    if policy != "no vectors":
        changes |= {"words.vectors": [str(file)], "words.update": [policy]}
    return experiment.grid(changes)


def curves(
    name: str, config: Config, file: Path, seeds: int, console: Console, known: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """One record a policy and size: training words and the test F1 of each seed; those that are known are left out."""
    with tempfile.TemporaryDirectory() as folder:
        small = of_the_data(config, file, Path(folder))
        width = vectors.read(small, lambda word: False).matrix.shape[1]
        config = config_module.change(config, {"model.word_width": width})
        everything = len(sources.load(config.data).train)
        done = {(record["set"], record["policy"], record["sentences"]) for record in known}
        for size in [size for size in SIZES if size < everything] + [everything]:
            steps = max(1, size * 20 // config.train.batch_size)
            epochs = min(40, max(config.train.epochs, math.ceil(STEPS / steps)))
            for policy in POLICIES if size == everything else POLICIES[1:]:
                if (name, policy, size) in done:
                    continue
                runs = settings(policy, small, size, epochs, seeds)
                outcomes = experiment.run(config, runs, console, every=math.ceil(epochs / 10))
                f1 = [outcome.test.f1 for outcome in outcomes if outcome.test is not None]
                line = f"{name} {size:>6,} sentences  {policy:<10}  F1 {_lecture.plus_minus(f1)}"
                console.print(line, highlight=False)
                yield {"set": name, "policy": policy, "sentences": size, "words": outcomes[0].words, "f1": f1}


def decided(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records and those of `auto`, which is one or the other."""
    auto = []
    for record in records:
        chosen = "freeze" if record["words"] < ENOUGH_WORDS else "fine-tune"
        if record["policy"] == chosen:
            auto.append({**record, "policy": "auto"})
    return records + auto


def crossings(records: list[dict[str, Any]]) -> dict[str, float]:
    """Training words, on a logarithmic scale, from which fine-tuning is ahead for good; 0 where it always is."""
    found = {}
    for name in dict.fromkeys(record["set"] for record in records):
        means = {
            (r["policy"], r["words"]): float(np.mean(r["f1"]))
            for r in records
            if r["set"] == name and r["policy"] in ("freeze", "fine-tune")
        }
        words = sorted({words for _, words in means})
        ahead = [means["fine-tune", w] - means["freeze", w] for w in words]
        behind = [n for n, gap in enumerate(ahead) if gap < 0]
        if not behind:
            found[name] = 0.0
        elif behind[-1] == len(words) - 1:
            found[name] = math.inf
        else:
            n = behind[-1]
            share = -ahead[n] / (ahead[n + 1] - ahead[n])
            found[name] = math.exp(math.log(words[n]) + share * (math.log(words[n + 1]) - math.log(words[n])))
    return found


def table(records: list[dict[str, Any]]) -> str:
    policies = [*POLICIES, "auto"]
    rows = []
    for name, size, words in dict.fromkeys((r["set"], r["sentences"], r["words"]) for r in records):
        cells = []
        for policy in policies:
            found = [r["f1"] for r in records if (r["set"], r["sentences"], r["policy"]) == (name, size, policy)]
            cells.append(_lecture.plus_minus(found[0]) if found else "-")
        rows.append((name, f"{size:,}", f"{words:,}", *cells))
    return _lecture.table(("data set", "sentences", "training words", *policies), rows)


def verdict(records: list[dict[str, Any]]) -> str:
    """What the numbers say, in words."""
    parts = []
    for name, words in crossings(records).items():
        plain, frozen, tuned = ([r["f1"] for r in records if (r["set"], r["policy"]) == (name, p)] for p in POLICIES)
        if words == 0:
            parts.append(f"{name}: by the means fine-tuning is ahead at every size measured")
        elif math.isinf(words):
            parts.append(f"{name}: by the means the frozen table is ahead even with all data")
        else:
            parts.append(f"{name}: by the means fine-tuning takes over at about {words:,.0f} training words")
        level = sum(not (_lecture.apart(a, b) or _lecture.apart(b, a)) for a, b in zip(frozen, tuned, strict=True))
        if level:
            parts[-1] += f" (at {level} of {len(tuned)} sizes the seeds do NOT tell the two apart)"
        if plain and tuned:
            gap = float(np.mean(tuned[-1]) - np.mean(plain[-1]))
            if _lecture.apart(tuned[-1], plain[-1]) or _lecture.apart(plain[-1], tuned[-1]):
                parts[-1] += f", and with all data vectors {'add' if gap > 0 else 'cost'} {abs(gap):.1f} of F1"
            else:
                parts[-1] += f", and with all data the seeds do NOT tell what vectors add (mean {gap:+.1f} of F1)"
    return "; ".join(parts) + f". auto fine-tunes from {ENOUGH_WORDS:,} training words on."


def draw(records: list[dict[str, Any]], file: Path | None) -> None:
    names = list(dict.fromkeys(record["set"] for record in records))
    colours = {"no vectors": _lecture.GREY, "freeze": _lecture.LIGHT, "fine-tune": _lecture.RED}
    with _lecture.figure(file, 1, len(names), (3.4 * len(names), 3.2), sharex=True) as axes:
        if axes is None:
            return
        from matplotlib.ticker import NullFormatter

        for axis, name in zip(axes[0], names, strict=True):
            for policy, colour in colours.items():
                mine = [r for r in records if r["set"] == name and r["policy"] == policy]
                words, runs = [r["words"] for r in mine], np.array([r["f1"] for r in mine]).T.tolist()
                _lecture.band(axis, words, runs, color=colour, marker="o", markersize=3, label=policy)
            axis.axvline(ENOUGH_WORDS, color="black", linewidth=0.8, linestyle=":")
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(name, loc="left")
            axis.set_xlabel("training words")
        axes[0][0].set_ylabel("test F1, mean and 95 % interval")
        axes[0][0].legend(frameon=False)


def named_config(given: str) -> tuple[str, Config]:
    name, found, rest = given.partition("=")
    if not found:
        raise InputError(f"argument {given!r}: required NAME=CONFIG; write such as btc=configs/btc.toml")
    path, *overrides = rest.split(",")
    return name, config_module.load(Path(path), overrides)


def measured(file: Path | None, seeds: int) -> list[dict[str, Any]]:
    """The records in a file, if there is one."""
    if file is None or not file.exists():
        return []
    try:
        records: list[dict[str, Any]] = json.loads(file.read_bytes())
        came = {len(record["f1"]) for record in records}
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{file}: required records that this script wrote, got others; name another file") from None
    if came - {seeds}:
        raise InputError(f"{file}: required records of --seeds {seeds} runs, got {came}; name another file")
    return records


def main() -> None:
    parser = _lecture.parser(__doc__)
    parser.add_argument("vectors", nargs="?", type=Path, help="file of word vectors")
    parser.add_argument("sets", nargs="*", help="NAME=CONFIG[,KEY=VALUE...]")
    parser.add_argument("--seeds", type=_lecture.count, default=5)
    parser.add_argument(
        "--json", type=_lecture.output, help="keep the records in this file; those it has are not measured again"
    )
    args = parser.parse_args()
    if args.vectors is not None and not args.sets:
        raise InputError("required NAME=CONFIG after the file of vectors, got none; name the data sets to train on")
    configs = dict(map(named_config, args.sets or [f"demo={_lecture.ROOT / 'configs' / 'demo.toml'}"]))
    console = Console(stderr=True)
    records = measured(args.json, args.seeds)
    with tempfile.TemporaryDirectory() as folder:
        file = args.vectors or embedded_vectors(Path(folder))
        for name, config in configs.items():
            for record in curves(name, config, file, args.seeds, console, records):
                records.append(record)
                if args.json is not None:
                    args.json.write_text(json.dumps(records))
    _lecture.report(args, table(decided(records)), verdict(records))
    draw(records, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
