"""Should training move pretrained word vectors? F1 against the number of training sentences, several seeds each.

The lecture: "if you only have a small training data set, don't train the word vectors". For every data set and size:
the table frozen, fine-tuned, and as words.update = "auto" decides; with all data also without pretrained vectors. The
seeds of a setting are one compiled program. From the curves of all sets together follows the number of training words
where fine-tuning takes over, which is `ENOUGH_WORDS` in `windownet.train.word_table`.

    python scripts/freeze_or_finetune.py --figure docs/freeze_or_finetune.png
    python scripts/freeze_or_finetune.py VECTORS ... btc=configs/btc.toml,data.root=DIR ... --figure docs/freeze.png

Without arguments it is the embedded corpus, over vectors learned from other sentences of the same kind, without tags.
VECTORS is any file that words.vectors takes; `windownet pretrain` makes one. The order of the two policies on small
data hangs on the draw of the vectors as well, so name several files, of other values of pretrain.seed: each is run with
every seed, and the table is of all of these runs.
"""

import itertools
import json
import math
import tempfile
from collections.abc import Collection, Iterator, Sequence
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
SIZES = (100, 200, 500, 1000, 3000)
# Small data need more passes before the loss stops falling; the best epoch is chosen on dev in any case.
STEPS = 1500
# Other draws of the embedded corpus than the one that is trained on and scored.
RAW_SEEDS = range(1, 6)


def of_the_data(config: Config, file: Path, small: Path) -> None:
    """Write the vectors of the data set's words alone, so that every seed has a copy of a small table."""
    splits = sources.load(config.data)
    normalization = Normalization(config.features.case, config.features.digits)
    words = {normalization(w) for part in (splits.train, splits.dev, splits.test) for s in part for w in s.words}
    found = vectors.read(file, lambda word: normalization(word) in words)
    vectors.write_safetensors(small, found.words, found.matrix)


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
    name: str, config: Config, files: dict[str, Path], seeds: int, console: Console, known: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A record for each size, policy and file: training words and each seed's test F1; what is known is left out."""
    done = {(record["set"], record["policy"], record["sentences"], record["vectors"]) for record in known}
    with tempfile.TemporaryDirectory() as folder:
        # All of them before the first run, which a bad file would come too late for.
        small = {file: Path(folder) / f"{number}.safetensors" for number, file in enumerate(files)}
        for file, path in small.items():
            of_the_data(config, files[file], path)
        everything = len(sources.load(config.data).train)
        for size in [size for size in SIZES if size < everything] + [everything]:
            steps = max(1, size * 20 // config.train.batch_size)
            epochs = min(40, max(config.train.epochs, math.ceil(STEPS / steps)))
            ways = list(itertools.product(POLICIES[1:], small))
            if size == everything:
                ways.insert(0, (POLICIES[0], next(iter(small))))
            for policy, file in ways:
                if (name, policy, size, file) in done:
                    continue
                width = vectors.read(small[file], lambda word: False).matrix.shape[1]
                of_width = config_module.change(config, {"model.word_width": width})
                runs = settings(policy, small[file], size, epochs, seeds)
                outcomes = experiment.run(of_width, runs, console, every=math.ceil(epochs / 10))
                f1 = [outcome.test.f1 for outcome in outcomes if outcome.test is not None]
                line = f"{name} {size:>6,} sentences  {policy:<10}  F1 {_lecture.plus_minus(f1)}"
                console.print(line, highlight=False)
                record = {"set": name, "policy": policy, "sentences": size, "vectors": file}
                yield {**record, "words": outcomes[0].words, "f1": f1}


def pooled(records: list[dict[str, Any]], sets: Collection[str], files: Collection[str]) -> list[dict[str, Any]]:
    """The records of these sets, with the runs over all of these files of vectors in one, file by file."""
    f1s: dict[tuple[str, str, int, int], list[float]] = {}
    for r in (r for file in files for r in records if r["vectors"] == file and r["set"] in sets):
        f1s.setdefault((r["set"], r["policy"], r["sentences"], r["words"]), []).extend(r["f1"])
    keys = ("set", "policy", "sentences", "words", "f1")
    return [dict(zip(keys, (*key, f1), strict=True)) for key, f1 in f1s.items()]


def decided(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records and those of `auto`, which is one or the other."""
    auto = []
    for record in records:
        chosen = "freeze" if record["words"] < ENOUGH_WORDS else "fine-tune"
        if record["policy"] == chosen:
            auto.append({**record, "policy": "auto"})
    return records + auto


def gaps(records: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """For each set, by its training words, how far the mean F1 of fine-tuning is above that of the frozen table."""
    means = {(r["set"], r["words"], r["policy"]): float(np.mean(r["f1"])) for r in records}
    found: dict[str, dict[int, float]] = {record["set"]: {} for record in records}
    for name, words in sorted({(name, words) for name, words, policy in means if policy == "fine-tune"}):
        found[name][words] = means[name, words, "fine-tune"] - means[name, words, "freeze"]
    return found


def together(curves: dict[str, dict[int, float]]) -> dict[int, float]:
    """The mean of the sets' curves, each straight between its points, as far as all of them reach."""
    low, high = max(min(curve) for curve in curves.values()), min(max(curve) for curve in curves.values())
    words = sorted({w for curve in curves.values() for w in curve if low <= w <= high})
    logs = [np.interp(np.log(words), np.log(list(curve)), list(curve.values())) for curve in curves.values()]
    return dict(zip(words, np.mean(logs, 0).tolist(), strict=True))


def takes_over(curve: dict[int, float]) -> float:
    """Training words, on a logarithmic scale, from which a curve stays above 0; 0 where it always is."""
    points = list(curve.items())
    behind = [n for n, (_, gap) in enumerate(points) if gap < 0]
    if not behind:
        return 0.0
    if behind[-1] == len(points) - 1:
        return math.inf
    (few, below), (many, above) = points[behind[-1] : behind[-1] + 2]
    share = below / (below - above)
    return math.exp(math.log(few) + share * (math.log(many) - math.log(few)))


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
    curves, parts = gaps(records), []
    for name, curve in curves.items():
        plain, frozen, tuned = ([r["f1"] for r in records if (r["set"], r["policy"]) == (name, p)] for p in POLICIES)
        parts.append(f"{name}: by the means {_ahead(takes_over(curve))}")
        level = sum(not (_lecture.apart(a, b) or _lecture.apart(b, a)) for a, b in zip(frozen, tuned, strict=True))
        if level:
            parts[-1] += f" (at {level} of {len(tuned)} sizes the runs do NOT tell the two apart)"
        if plain:
            # Those without vectors are as many as seeds, those with them as many for each file.
            seeds = len(plain[-1])
            over = [float(np.mean(tuned[-1][n::seeds])) for n in range(seeds)]
            gap = float(np.mean(over) - np.mean(plain[-1]))
            if _lecture.apart(over, plain[-1]) or _lecture.apart(plain[-1], over):
                parts[-1] += f", and with all data vectors {'add' if gap > 0 else 'cost'} {abs(gap):.1f} of F1"
            else:
                parts[-1] += f", and with all data the seeds do NOT tell what vectors add (mean {gap:+.1f} of F1)"
    if len(curves) > 1:
        parts.append(f"all sets together: {_ahead(takes_over(together(curves)))}")
    return "; ".join(parts) + f". auto fine-tunes from {ENOUGH_WORDS:,} training words on."


def _ahead(words: float) -> str:
    if words == 0:
        return "fine-tuning is ahead at every size measured"
    if math.isinf(words):
        return "the frozen table is ahead even with all data"
    return f"fine-tuning takes over at about {words:,.0f} training words"


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
    name, _, rest = given.partition("=")
    path, *overrides = rest.split(",")
    return name, config_module.load(Path(path), overrides)


def measured(file: Path | None, seeds: int) -> list[dict[str, Any]]:
    """The records in a file, if there is one."""
    if file is None or not file.exists():
        return []
    try:
        records: list[dict[str, Any]] = json.loads(file.read_bytes())
        came = {len(record["f1"]) for record in records if record["vectors"]}
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{file}: required records that this script wrote, got others; name another file") from None
    if came - {seeds}:
        raise InputError(f"{file}: required records of --seeds {seeds} runs, got {came}; name another file")
    return records


def main() -> None:
    parser = _lecture.parser(__doc__)
    parser.add_argument("given", nargs="*", help="files of word vectors, and data sets as NAME=CONFIG[,KEY=VALUE...]")
    _lecture.add_seeds(parser, 5)
    parser.add_argument(
        "--json", type=_lecture.output, help="keep the records in this file; those it has are not measured again"
    )
    args = parser.parse_args()
    files = {text: Path(text) for text in args.given if "=" not in text}
    sets = [text for text in args.given if "=" in text]
    if bool(files) != bool(sets):
        raise InputError(
            f"required files of vectors and NAME=CONFIG, or neither, got {' '.join(args.given)!r}; "
            "name both, such as vectors.safetensors btc=configs/btc.toml"
        )
    configs = dict(map(named_config, sets or [f"demo={_lecture.ROOT / 'configs' / 'demo.toml'}"]))
    console = Console(stderr=True)
    records = measured(args.json, args.seeds)
    with tempfile.TemporaryDirectory() as folder:
        files = files or {"embedded": embedded_vectors(Path(folder))}
        for name, config in configs.items():
            for record in curves(name, config, files, args.seeds, console, records):
                records.append(record)
                if args.json is not None:
                    args.json.write_text(json.dumps(records))
    records = pooled(records, configs, files)
    _lecture.report(args, table(decided(records)), verdict(records))
    draw(records, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
