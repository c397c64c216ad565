"""The lecture's scripts: verdicts follow the numbers either way, the document has a place for each, one runs whole."""

import argparse
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import _lecture
import freeze_or_finetune
import graph_by_hand
import initialization
import learning_rates
import nonlinearities
import numeric_gradient
import optimizers
import overfitting
import window_by_hand
import word_vectors_move
from windownet import config
from windownet.data import demo, vectors
from windownet.errors import InputError
from windownet.schema.curves import ScheduleConfig
from windownet.schema.training import OptimizerConfig

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "lecture.md").read_text("utf-8")
MARKS = re.findall(r"^<!-- (\w+) -->$", TEXT, re.MULTILINE)
# What each script gives values of its own, and so takes none of; and those that look at hidden layers.
VARIED = {
    overfitting: ("regularization.l2", "train.seed"),
    optimizers: ("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay", "train.seed"),
    nonlinearities: ("model.nonlinearity", "train.seed"),
    initialization: ("init.weights", "train.seed"),
    learning_rates: ("optimizer.learning_rate", "schedule.name", "train.seed"),
    numeric_gradient: ("model.hidden",),
}
LOOKING_INSIDE = (initialization, nonlinearities)
MADE = re.search(r"^figures: LECTURE := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_every_mark_is_a_script_and_has_its_end() -> None:
    assert MARKS, "no marks found"
    for name in MARKS:
        assert (ROOT / "scripts" / f"{name}.py").is_file(), name
        assert _lecture.between_marks(TEXT, name, "") is not None, name
    assert set(re.findall(r"scripts/(\w+)\.py", TEXT)) == set(MARKS)


def test_make_figures_fills_every_place() -> None:
    assert MADE is not None
    assert set(MADE.group(1).split()) == set(MARKS)


def test_every_figure_exists_and_is_small() -> None:
    figures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    assert len(figures) >= 7
    for figure in figures:
        assert (ROOT / "docs" / figure).stat().st_size < 150_000, figure


def test_formulas_survive_markdown() -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    for paragraph in prose.split("\n\n"):
        assert paragraph.count("$") % 2 == 0, paragraph


def test_every_choice_that_is_tabled_is_defined() -> None:
    maths = (ROOT / "docs" / "maths.md").read_text("utf-8")
    for heading, names in (
        ("Optimizers", get_args(OptimizerConfig.model_fields["name"].annotation)),
        ("Schedules", get_args(ScheduleConfig.model_fields["name"].annotation)),
    ):
        (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", maths, re.MULTILINE | re.DOTALL)
        rows = dict(re.findall(r"^\| ([^|]+) \| (.*\$.*) \|$", section, re.MULTILINE))
        defined = {name for row in rows for name in re.sub(r" \([^)]*\)", "", row).split(", ")}
        assert set(names) == defined, heading
        assert f"(maths.md#{heading.lower()})" in TEXT
    families = {name.removesuffix("_uniform").removesuffix("_normal") for name in initialization.NAMES}
    prose = re.sub(r"<!-- initialization -->.*<!-- end of initialization -->", "", TEXT, flags=re.DOTALL).lower()
    assert [name for name in families if name not in prose] == []


def test_a_document_is_filled_between_its_marks_alone() -> None:
    document = "before\n<!-- a -->\nold\n<!-- end of a -->\nbetween\n<!-- b -->\n<!-- end of b -->\n"
    filled = _lecture.between_marks(document, "a", "new")
    assert filled == document.replace("old", "\nnew\n")
    assert _lecture.between_marks(filled, "a", "new") == filled
    assert _lecture.between_marks(document, "c", "new") is None
    assert _lecture.between_marks(document.replace("<!-- end of b -->", ""), "b", "new") is None


def test_an_argument_overrides_what_the_script_makes_small() -> None:
    def parsed(*given: str) -> argparse.Namespace:
        return _lecture.training_parser("a script", 3).parse_args(list(given))

    assert _lecture.config(parsed(), "data.limit=50").data.limit == 50
    changed = _lecture.config(parsed(str(ROOT / "configs" / "demo.toml"), "data.limit=7"), "data.limit=50")
    assert (changed.data.limit, changed.data.source) == (7, "demo")


def test_apart_takes_runs_in_pairs() -> None:
    assert _lecture.apart([1.1, 2.1, 3.1], [1.0, 2.0, 3.01])
    assert not _lecture.apart([1.0, 2.0, 3.0], [1.1, 1.9, 2.9])
    assert not _lecture.apart([1.0, 2.0], [2.0, 3.0])


@pytest.mark.parametrize("point", [(1.0, 2.0, 0.0), (-1.5, 0.5, 4.0), (2.0, -3.0, -1.0)])
def test_every_number_of_the_graph(point: tuple[float, float, float]) -> None:
    x, y, z = point
    value, edges, gradients = graph_by_hand.edges(*point)
    larger, total = max(y, z), x + y
    assert value == total * larger
    assert gradients == {"x": larger, "y": larger + total * (y > z), "z": total * (z > y)}
    local = {(e.op, e.source): e.local for e in edges}
    assert local == {
        ("multiply", "add"): larger,
        ("multiply", "maximum"): total,
        ("add", "x"): 1,
        ("add", "y"): 1,
        ("maximum", "y"): float(y > z),
        ("maximum", "z"): float(z > y),
    }
    assert "NOT" not in graph_by_hand.verdict(edges, gradients)


@pytest.mark.parametrize(
    ("number", "change", "claim"),
    [
        (2, {"downstream": 1.0}, "+ distributes"),
        (4, {"downstream": 0.0}, "max routes"),
        (0, {"local": 3.0}, "* switches"),
        (1, {"downstream": 2.0}, "downstream = upstream x local"),
        (3, {"downstream": 3.0}, "summed at the fan-out"),
    ],
)
def test_a_wrong_number_of_the_graph_is_said(number: int, change: dict[str, float], claim: str) -> None:
    _, edges, gradients = graph_by_hand.edges(1.0, 2.0, 0.0)
    edges[number] = replace(edges[number], **change)
    wrong = graph_by_hand.verdict(edges, gradients).partition("Does NOT hold")[2]
    assert claim in wrong


@pytest.mark.parametrize(
    ("made", "formulas", "formula"),
    [
        *((window_by_hand.tagged, window_by_hand.of_tags, name) for name in ("s", "U", "c", "q", "z", "W", "b", "x")),
        *((window_by_hand.tagged, window_by_hand.of_tags, name) for name in ("words", "table")),
        *((window_by_hand.scored, window_by_hand.of_scores, name) for name in ("s", "z")),
    ],
)
def test_every_number_of_the_window(made: Any, formulas: Any, formula: str) -> None:
    walks, seconds = {of: of() for of in (window_by_hand.tagged, window_by_hand.scored)}, {"product": 1.0, "loop": 2.5}
    assert "NOT" not in (said := window_by_hand.verdict(*walks.values(), seconds)) and "takes 2.5 times as long" in said
    assert "is NOT slower" in window_by_hand.verdict(*walks.values(), {"product": 1.0, "loop": 0.5})
    right = walks[made].cotangents[formula]
    for wrong in (1.01 * right, 0 * right):
        walks[made] = replace(walks[made], cotangents=walks[made].cotangents | {formula: wrong})
        told = window_by_hand.verdict(*walks.values(), seconds).partition("NOT of these: ")[2]
        assert told.startswith(f"{formula}: {formulas(walks[made])[formula][0]}")


def test_a_word_that_stands_twice_in_the_window_gets_both_pieces() -> None:
    walk = window_by_hand.tagged()
    first, middle, last = walk.cotangents["words"][0]
    np.testing.assert_allclose(walk.cotangents["table"], [first + last, middle, 0 * first], rtol=1e-12)
    assert (first != last).all() and walk.cotangents["table"].shape == (3, 2)
    # By jax, from the table to the loss.
    with jax.enable_x64(True):
        at = {name: jnp.asarray(values, jnp.float64) for name, values in window_by_hand.PARAMS.items()}

        def loss(table: jax.Array) -> jax.Array:
            x = table[jnp.array(window_by_hand.WINDOW)].reshape(1, -1)
            scores = jnp.tanh(x @ at["W"] + at["b"]) @ at["U"] + at["c"]
            return -jax.nn.log_softmax(scores)[0, window_by_hand.TAG]

        np.testing.assert_allclose(walk.cotangents["table"], jax.grad(loss)(at["table"]), rtol=1e-12)


SMALL = ["--seeds", "2", "train.epochs=1"]


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("window_by_hand", [], "the one matrix product."),
        ("graph_by_hand", [], "f = 6; df/dx = 2, df/dy = 5, df/dz = 0."),
        ("numeric_gradient", [], "The two-sided quotient is the better one"),
        ("overfitting", SMALL, "does NOT rise"),
        ("nonlinearities", SMALL, "dev F1"),
        ("initialization", SMALL, "with sigmoid they moved, all hidden units alike to the bit"),
        ("optimizers", SMALL, "After 1 epoch"),
        ("learning_rates", SMALL, "The best constant rate is"),
        ("word_vectors_move", ["--seeds", "2", "--epochs", "1"], "television stayed where it was, to the bit"),
    ],
)
def test_a_script_from_end_to_end(tmp_path: Path, name: str, given: list[str], told: str) -> None:
    document, figure = tmp_path / "page.md", tmp_path / "drawn.png"
    document.write_text(f"above\n<!-- {name} -->\n<!-- end of {name} -->\nbelow\n")
    script = [sys.executable, ROOT / "scripts" / f"{name}.py", *given]
    done = subprocess.run(
        [*script, "--document", document, "--figure", figure], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
    text = document.read_text()
    assert done.stdout.strip() in text
    assert text.startswith("above\n") and text.endswith("below\n")
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_document_without_a_place_is_told(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("no place")
    script = [sys.executable, ROOT / "scripts" / "graph_by_hand.py"]
    lost = subprocess.run([*script, "--document", document], capture_output=True, text=True, check=False)
    assert lost.returncode == 2 and "<!-- graph_by_hand -->" in lost.stderr


@pytest.mark.parametrize(
    ("script", "given", "told"),
    [
        (word_vectors_move, ["nope.txt"], "nope.txt: required a file, found nothing there"),
        (word_vectors_move, ["--seeds", "0"], "argument --seeds: required a whole number from 1 on, got '0'"),
        (word_vectors_move, ["--epochs", "0"], "argument --epochs: required a whole number from 1 on, got '0'"),
        (word_vectors_move, ["--figure", "/proc/x.png"], "/proc/x.png: cannot be written"),
        (word_vectors_move, ["--figure", "x.foo"], "x.foo: required a name that ends in .png"),
        (word_vectors_move, ["--document", "nope.md"], "nope.md: required the lines <!-- a_script -->"),
        (freeze_or_finetune, ["V", "foo"], "required files of vectors and NAME=CONFIG, or neither, got 'V foo'"),
        (freeze_or_finetune, ["a=nope.toml"], "required files of vectors and NAME=CONFIG, or neither, got 'a=nope"),
        (freeze_or_finetune, ["V", "a=nope.toml"], "nope.toml: required a"),
        (freeze_or_finetune, ["V", f"a={ROOT / 'configs' / 'demo.toml'},bad=1"], "argument 'bad=1': "),
        (freeze_or_finetune, ["--json", "old.json"], "old.json: required records of --seeds 5 runs, got {2}"),
        (freeze_or_finetune, ["--json", "other.json"], "other.json: required records that this script wrote"),
        (optimizers, ["a.toml", "b.toml"], "required one config, got a.toml and b.toml"),
        *((script, [f"{key}=1"], f"vary, got {key}, to which") for script, keys in VARIED.items() for key in keys),
        *((script, ["model.hidden=[]"], "model.hidden: required a hidden layer, which") for script in LOOKING_INSIDE),
        (numeric_gradient, [str(ROOT / "configs" / "demo.toml"), "model.hidden=[]"], "does not vary, got model.hidden"),
        (numeric_gradient, ["--seeds", "2"], "unrecognized arguments: --seeds"),
        (nonlinearities, ["optimizer.learning_rate=0.2"], "required a usual rate, below the high one of 0.2, got 0.2"),
    ],
)
def test_what_a_person_can_mend_is_one_line_before_anything_is_computed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: Any,
    given: list[str],
    told: str,
) -> None:
    def computes(*_: object) -> None:
        raise AssertionError("something was computed")

    (tmp_path / "old.json").write_text('[{"vectors": "x", "f1": [1, 2]}]')
    (tmp_path / "other.json").write_text("{}{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scripts/a_script.py", *given])
    monkeypatch.setattr(_lecture, "vectors_of", computes)
    with pytest.raises(SystemExit) as ended:
        _lecture.run(script.main)
    assert ended.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("a_script") and told in line
    assert {path.name for path in tmp_path.iterdir()} == {"old.json", "other.json"}


def test_a_config_file_without_a_hidden_layer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text((ROOT / "configs" / "demo.toml").read_text() + "\n[model]\nhidden = []\n")
    monkeypatch.setattr(sys, "argv", ["numeric_gradient.py", str(bare)])
    with pytest.raises(InputError, match=r"model\.hidden: required a hidden layer"):
        numeric_gradient.main()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "scripts").glob("[!_]*.py")))
def test_help_is_all_that_asking_for_it_does(name: str) -> None:
    written = {path: path.stat().st_mtime_ns for path in (ROOT / "docs").iterdir()}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: ")
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "docs").iterdir()} == written
    # Every option says what it does.
    assert not re.search(r"^  --\w+ \w+\n(?! {4})", done.stdout, re.MULTILINE)


def test_a_word_left_behind_either_way() -> None:
    def said(frozen: list[float], tuned: list[float]) -> str:
        still, far = {f"distance moved, {word}": [0.0] for word in ("tv", "telly", "television")}, [0.5, 0.6]
        gone = still | {f"distance moved, {word}": far for word in ("tv", "telly")}
        key = "P(SCREEN | television)"
        return word_vectors_move.verdict({"freeze": still | {key: frozen}, "fine-tune": gone | {key: tuned}})

    high, low, between = [0.9, 0.91, 0.92], [0.7, 0.72, 0.71], [0.7, 0.99, 0.95]
    assert "tv and telly moved, television stayed where it was, to the bit. The word" in said(high, low)
    assert "The word left behind lost by it: it is called a screen with" in said(high, low)
    assert "The word left behind gained by it: " in said(low, high)
    assert "The seeds do NOT tell whether the word left behind lost or gained: it is" in said(high, between)


def errors(kind: str, bits: int, order: float, rounding: float) -> numeric_gradient.Errors:
    h = numeric_gradient.STEPS
    return numeric_gradient.Errors(kind, bits, tuple((0.05 * h**order + rounding / h).tolist()))


def test_numeric_gradient_either_way() -> None:
    times = [numeric_gradient.Times(n, 1e-8 * n, 1e-8 * n * n) for n in (10_000, 100_000)]
    single = errors("central", 32, 2, 1e-5)
    found = [single, errors("one-sided", 64, 1, 1e-14), errors("central", 64, 2, 1e-14)]
    assert found[2].order == pytest.approx(2, abs=0.05) and found[1].order == pytest.approx(1, abs=0.05)
    said = numeric_gradient.verdict(found, times)
    assert "NOT" not in said and "100,000 times" in said and "parameters^1.0" in said
    level = [single, errors("one-sided", 64, 1, 1e-14), errors("central", 64, 1, 1e-14)]
    assert "is NOT the better one" in numeric_gradient.verdict(level, times)
    exact = [single, errors("one-sided", 64, 1, 0), errors("central", 64, 2, 0)]
    assert "does NOT show both ends" in numeric_gradient.verdict(exact, times)
    assert "It is NOT slow" in numeric_gradient.verdict(found, [replace(t, numeric=2 * t.back) for t in times])


def curves(strength: float, dev: list[float], train: float, f1: float) -> overfitting.Curves:
    return overfitting.Curves(
        strength,
        list(range(len(dev))),
        [[2.0, *[train] * (len(dev) - 1)]] * 3,
        [[loss + shift for loss in dev] for shift in (0.0, 0.01, 0.02)],
        [[f1 + shift] * len(dev) for shift in (0.0, 1.0, 2.0)],
    )


def test_overfitting_either_way() -> None:
    rises, stays = curves(0.0, [2, 0.4, 0.5], 0.0, 50), curves(1e-3, [2, 0.4, 0.4], 0.1, 60)
    said = overfitting.verdict(rises, stays)
    assert "the network overfits" in said and "in the end is smaller" in said and "dev F1 higher" in said
    assert "NOT" not in said
    said = overfitting.verdict(stays, replace(rises, strength=1e-3))
    assert "does NOT rise" in said and "is NOT smaller" in said and "NOT lower" in said and "dev F1 lower" in said
    assert "not apart" in overfitting.verdict(rises, replace(rises, strength=1e-3))


def trained(
    name: str, rate: float = 1e-3, f1: float = 60, dead: float = 0, saturated: float = 0
) -> "nonlinearities.Trained":
    values = ([mean + shift for shift in (0, 0.1, 0.2)] for mean in (f1, dead, saturated))
    f1s, deads, saturateds = values
    return nonlinearities.Trained(name, rate, f1s, deads if dead else [0.0] * 3, saturateds)


def test_nonlinearities_either_way() -> None:
    usual = [trained(name) for name in nonlinearities.NAMES]
    usual[nonlinearities.NAMES.index("tanh")] = trained("tanh", f1=70, saturated=30)
    usual[nonlinearities.NAMES.index("sigmoid")] = trained("sigmoid", f1=40)
    high = [trained("relu", 0.3, dead=40), trained("elu", 0.3)]
    said = nonlinearities.verdict(usual, high)
    assert "tanh has the highest" in said and "sigmoid the lowest" in said and "from all others" in said
    assert "which the high rate killed; of elu 0.0 %, fewer. " in said and "tanh saturates most" in said
    level = [trained(name) for name in nonlinearities.NAMES]
    said = nonlinearities.verdict(level, [trained("elu", 0.3, dead=5), trained("relu", 0.3)])
    assert "from NONE of the others" in said and "0.0 %, NOT more beyond chance" in said
    assert "of elu 5.1 %, NOT fewer beyond chance" in said
    level[nonlinearities.NAMES.index("gelu")] = trained("gelu", f1=50)
    assert "from gelu only" in nonlinearities.verdict(level, high)


@pytest.mark.parametrize("name", nonlinearities.NAMES)
def test_curves_are_the_ops_and_their_slopes(name: str) -> None:
    x = np.linspace(-3.05, 2.95, 61)
    y, slope = nonlinearities.curve(name, x.astype(np.float32))
    assert np.abs(np.gradient(np.asarray(y), x) - np.asarray(slope))[1:-1].max() < (0.02 if name not in KINKED else 0.6)


KINKED = ("hard_tanh", "relu", "leaky_relu", "prelu")


def layers(name: str, f1: float, *kept: float) -> initialization.Layers:
    return initialization.Layers(
        name,
        [[1.0, k] for k in kept],
        [[k, 1.0] for k in kept],
        [k / 2 for k in kept],
        [0.3] * 3,
        [f1, f1 + 1, f1 + 2],
    )


def test_initialization_either_way() -> None:
    good, bad = layers("glorot", 60, 0.9, 0.89, 0.91), layers("uniform", 10, 1e-3, 1.1e-3, 0.9e-3)
    stuck, alike = initialization.Symmetry("tanh", 0, 0), initialization.Symmetry("sigmoid", 0, 0.5)
    said = initialization.verdict([stuck, alike], [good, bad])
    assert "with tanh no weight" in said and "with sigmoid they moved, all hidden units alike to the bit" in said
    assert "glorot keeps the forward deviation best" in said and "uniform loses most" in said and "NOT" not in said
    assert (
        "With a ReLU glorot keeps the forward deviation best (0.45)" in said
        and "the seeds tell glorot from all others." in said
    )
    said = initialization.verdict([stuck], [good, replace(bad, f1=good.f1)])
    assert "the seeds do NOT tell glorot from uniform." in said
    near = replace(layers("he", 10, 0.91, 0.87, 0.9), with_relu=[0.3, 0.31, 0.29])
    said = initialization.verdict([stuck], [good, bad, near])
    assert "best (last over first 0.90), which the seeds do NOT tell from he; glorot forward and back" in said
    assert "(0.90 and 0.90), which the seeds do NOT tell from he; uniform" in said
    assert "With a ReLU glorot keeps the forward deviation best (0.45). " in said
    assert "to the bit" not in initialization.verdict([replace(alike, apart=1e-7)], [good, bad])


def test_units_that_came_apart_are_an_error() -> None:
    units = np.outer([0.5, -2.0, 0.1], np.ones(4))
    assert initialization.compared("sigmoid", units) == initialization.Symmetry("sigmoid", 0, 2)
    assert initialization.compared("tanh", 0 * units) == initialization.Symmetry("tanh", 0, 0)
    units[2, 3] += 1e-4
    with pytest.raises(AssertionError, match="sigmoid: hidden units came apart by"):
        initialization.compared("sigmoid", units)


def optimizer(name: str, *last: float, rate: float = 0.5) -> optimizers.Curve:
    return optimizers.Curve(name, rate, [[2.0, value] for value in last], [50.0] * len(last))


def test_optimizers_either_way() -> None:
    sgd, adam = optimizer("sgd", 0.5, 0.51, 0.52), optimizer("adam", 0.2, 0.21, 0.23)
    said = optimizers.verdict([sgd, adam, optimizer("lion", 0.7, 0.71, 0.73)])
    assert "adam has the least training loss" in said and "apart from all others" in said
    assert "; adam is below it, lion above it." in said
    level = optimizers.verdict([sgd, optimizer("adam", 0.4, 0.6, 0.5)])
    assert "do not tell from" in level and "none is below it" in level
    assert optimizers.best([optimizer("adam", math.nan), adam]) is adam
    assert "tried" not in said
    ends = [replace(curve, rate=pick(optimizers.RATES[curve.name])) for curve, pick in ((sgd, max), (adam, min))]
    assert optimizers.verdict(ends).endswith(
        " The best rate is the highest tried for sgd and the lowest tried for adam."
    )
    assert optimizers.verdict([sgd, ends[1]]).endswith(" The best rate is the lowest tried for adam.")


def rates(rate: float, schedule: str, *last: float) -> learning_rates.Curve:
    return learning_rates.Curve(rate, schedule, [[2.0, value] for value in last], [50.0] * len(last))


def test_the_schedules_are_those_that_the_page_speaks_of() -> None:
    assert learning_rates.SCHEDULES == ("constant", "step", "exponential", "cosine")


def test_learning_rates_either_way() -> None:
    low, right, high = (
        rates(0.01, "constant", 1, 1.1),
        rates(1, "constant", 0.2, 0.21),
        rates(10, "constant", 9, math.nan),
    )
    assert learning_rates.best([low, right, high]) is right
    assert learning_rates.above([low, right, high], right) == 10
    scheduled = [rates(1, "cosine", 0.1, 0.11), rates(1, "exponential", 0.4, 0.42), rates(10, "cosine", 0.5, 0.4)]
    scheduled.append(rates(10, "exponential", math.nan, 9))
    said = learning_rates.verdict([low, right, high], scheduled)
    assert "best constant rate is 1 " in said and "still above that: 0.01." in said and "Too high: 10." in said
    assert "At 10 the loss does not come down at all." in said
    assert "At a peak of 1 cosine ends below constant, exponential ends above it." in said
    assert "At a peak of 10 cosine ends below constant, the seeds do NOT tell exponential from it." in said
    assert "Begun at 10, the seeds do NOT tell cosine from the best constant rate; exponential ends above" in said
    far = [rates(10, "cosine", 0.1, 0.11), rates(10, "exponential", 3, 3.1)]
    said = learning_rates.verdict([low, right, high], far)
    assert "Begun at 10, cosine ends below the best constant rate; exponential ends above the best constant" in said
    said = learning_rates.verdict([low, right, rates(3, "constant", 0.5, 0.6), high], [])
    assert "Too high: 3, 10. At 10 the loss" in said
    assert "come down" not in learning_rates.verdict(
        [replace(c, losses=[run[1:] for run in c.losses]) for c in (low, right, high)], []
    )
    three = [rates(1, name, 0.1, 0.11) for name in ("step", "exponential", "cosine")]
    assert "peak of 1 step, exponential and cosine end below" in learning_rates.verdict([low, right, high], three)
    said = learning_rates.verdict([right], [])
    assert "NONE tried is too low." in said and "NONE tried is too high." in said


def test_only_vectors_of_the_data_s_words_are_kept(tmp_path: Path) -> None:
    known = demo.sentences("dev")[0].words[0]
    vectors.write_word2vec_text(tmp_path / "all.txt", [known, "no-word-of-it"], np.eye(2))
    small = tmp_path / "small.safetensors"
    freeze_or_finetune.of_the_data(config.load(ROOT / "configs" / "demo.toml"), tmp_path / "all.txt", small)
    assert vectors.read(small).words == (known,)


def of_policies(**f1: list[float]) -> list[dict[str, Any]]:
    names = {"none": "no vectors", "freeze": "freeze", "tune": "fine-tune"}
    return [{"set": "x", "policy": names[n], "sentences": 9, "words": 99, "f1": each} for n, each in f1.items()]


def test_freeze_or_finetune_either_way() -> None:
    said = freeze_or_finetune.verdict(of_policies(none=[50, 51], freeze=[60, 61], tune=[70, 71.1]))
    assert "ahead at every size" in said and "vectors add 20.0" in said and "NOT" not in said
    said = freeze_or_finetune.verdict(of_policies(none=[60, 71], freeze=[65, 55], tune=[60, 65]))
    assert "(at 1 of 1 sizes the runs do NOT tell the two apart)" in said
    assert "with all data the seeds do NOT tell what vectors add (mean -3.0 of F1)" in said
    assert "vectors cost 20.0" in freeze_or_finetune.verdict(of_policies(none=[90, 91.1], freeze=[1, 2], tune=[70, 71]))


def test_fine_tuning_takes_over_where_the_curve_crosses_for_good() -> None:
    assert freeze_or_finetune.takes_over({100: 1.0, 1000: 2.0}) == 0
    assert freeze_or_finetune.takes_over({100: 1.0, 1000: -2.0}) == math.inf
    halfway = freeze_or_finetune.takes_over({10: 1.0, 100: -1.0, 10_000: 1.0, 20_000: 3.0})
    assert halfway == pytest.approx(1000)


def test_sets_count_alike_and_only_where_all_were_measured() -> None:
    curves = {"x": {10: -1.0, 1000: 1.0}, "y": {100: 3.0, 10_000: 5.0}}
    assert freeze_or_finetune.together(curves) == pytest.approx({100: 1.5, 1000: 2.5})


def test_runs_over_several_files_of_vectors_are_one_row() -> None:
    over_a, over_b = (
        [{**record, "vectors": file} for record in of_policies(freeze=frozen, tune=tuned)]
        for file, frozen, tuned in (("a", [1, 2], [3, 4]), ("b", [5, 6], [7, 8]))
    )
    plain = [{**record, "vectors": "a"} for record in of_policies(none=[9, 10])]
    # Runs that were kept from another call, over a file or of a set that this one does not name.
    others = [{**over_a[0], "vectors": "c"}, {**over_a[0], "set": "y"}]
    records = freeze_or_finetune.pooled([*others, *plain, *over_b, *over_a], {"x"}, ["a", "b"])
    assert {record["policy"]: record["f1"] for record in records} == {
        "no vectors": [9, 10],
        "freeze": [1, 2, 5, 6],
        "fine-tune": [3, 4, 7, 8],
    }
    assert freeze_or_finetune.gaps(records) == {"x": {99: 2.0}}
    # The mean over the files for each seed, 5 and 6, against 9 and 10.
    assert "vectors cost 4.0" in freeze_or_finetune.verdict(records)
