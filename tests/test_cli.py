import json
import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from windownet import __version__
from windownet.cli import main

COMMAND = [sys.executable, "-m", "windownet"]
# As people have it: output to a pipe or a file waits in a buffer.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
PEOPLE, PLACES = ("Anna", "Tom", "Mary", "Lee"), ("Oslo", "Paris", "Berlin")
CONFIG = """
[data]
train = "train.conll"
dev = "dev.conll"
test = "test.conll"
separator = "tab"
[features]
min_count = 1
[model]
window = 3
word_width = 8
capitalization_width = 2
hidden = [8]
[optimizer]
learning_rate = 0.02
[train]
epochs = 3
batch_size = 32
"""


def sentences(count, start):
    rows = []
    for n in range(start, start + count):
        who, where = PEOPLE[n % 4], PLACES[n % 3]
        rows.append(f"{who}\tB-PER\nLee\tI-PER\nsaw\tO\n{where}\tB-LOC\n.\tO\n\n")
    return "".join(rows)


def invoke(*arguments, **options):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for part, count, start in (("train", 30, 0), ("dev", 8, 5), ("test", 7, 11)):
        (folder / f"{part}.conll").write_text(sentences(count, start))
    (folder / "tiny.toml").write_text(CONFIG)
    result = invoke("train", folder / "tiny.toml", f"data.root={folder}", "--run-dir", folder / "run")
    assert result.exit_code == 0, result.output
    return SimpleNamespace(folder=folder, run=folder / "run", result=result)


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_says_what_it_does_and_what_came_of_it(trained):
    end = records(trained.run)[-1]
    assert "30 training sentences, 8 dev, 7 test" in trained.result.stderr
    assert trained.result.stderr.count("dev F1") == 3
    last = trained.result.stdout.splitlines()[-1]
    assert f"dev F1 {end['dev']['f1']:.2f}  test F1 {end['test']['f1']:.2f}" in last
    assert str(trained.run) in last
    names = {path.name for path in trained.run.iterdir() if not path.name.startswith(".")}
    assert names == {"config.toml", "environment.json", "metrics.jsonl", "model", "last"}
    # The figures are worth comparing: the tagger learned something, and is not perfect for want of trying.
    assert end["dev"]["f1"] > 30
    assert end["compilations"] == 1


@pytest.mark.parametrize("part", ["dev", "test"])
def test_evaluate_gives_the_figures_of_the_run_again(trained, part):
    result = invoke("evaluate", trained.run, trained.folder / f"{part}.conll", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    scores = json.loads(result.stdout)
    assert scores == records(trained.run)[-1][part]
    assert {"precision", "recall", "f1", "by_type", "tokens"} <= scores.keys()
    assert scores["tokens"] == {"dev": 40, "test": 35}[part]
    table = invoke("evaluate", trained.run, trained.folder / f"{part}.conll")
    assert (table.exit_code, table.stderr) == (0, "")
    for name, figures in [*scores["by_type"].items(), ("all", scores)]:
        (row,) = [line for line in table.stdout.splitlines() if re.search(rf"\b{name}\b", line)]
        percents = [f"{figures[key]:.2f}" for key in ("precision", "recall", "f1")]
        counts = [str(figures[key]) for key in ("gold", "predicted", "correct")]
        assert re.findall(r"[\d.]+", row) == percents + counts


def test_evaluate_reads_a_file_as_the_settings_say(trained, tmp_path):
    text = (trained.folder / "test.conll").read_text()
    other = tmp_path / "other.conll"
    other.write_text(re.sub(r"(.*)\t(.*)", r"x \2 \1", text))
    settings = ("data.separator=space", "data.word_column=2", "data.tag_column=1")
    result = invoke("evaluate", trained.run, other, *settings, "--json")
    assert json.loads(result.stdout) == records(trained.run)[-1]["test"]
    same = invoke("evaluate", trained.run, trained.folder / "test.conll", "data.separator=tab", "--json")
    assert same.stdout == result.stdout


def test_evaluate_finds_a_file_where_the_command_line_says(trained, monkeypatch):
    monkeypatch.chdir(trained.folder.parent)
    assert invoke("evaluate", trained.run, f"{trained.folder.name}/test.conll", "--json").exit_code == 0
    assert invoke("evaluate", trained.run, "test.conll", f"data.root={trained.folder}", "--json").exit_code == 0


def test_evaluate_warns_beside_its_json(trained, tmp_path):
    (tmp_path / "a.conll").write_text("Anna\tB-GPE\n\nOslo\tB-LOC\nParis\tB-GPE\n")
    result = invoke("evaluate", trained.run, tmp_path / "a.conll", "--json")
    assert json.loads(result.stdout)["by_type"]["GPE"]["gold"] == 2
    assert "mentions of types that the model was never shown: 2 GPE\n" in result.stderr


def test_evaluate_warns_of_a_model_that_predicts_nothing(trained, tmp_path, monkeypatch):
    tag = "windownet.tagger.tagger.Tagger.tag"
    monkeypatch.setattr(tag, lambda self, sentences: [["O"] * len(words) for words in sentences])
    result = invoke("evaluate", trained.run, trained.folder / "test.conll", "--json")
    assert json.loads(result.stdout)["f1"] == 0
    assert "warning: the model predicts only O; " in result.stderr
    assert "has 14 mentions" in result.stderr


def test_tag_reads_text_and_columns_from_file_and_pipe(trained, tmp_path):
    text = "Anna Lee saw Oslo.\n\nTom  Lee\n"
    (tmp_path / "a.txt").write_text(text)
    outputs = {}
    for form in ("column", "jsonl", "text"):
        result = invoke("tag", trained.run, tmp_path / "a.txt", "--format", form)
        assert (result.exit_code, result.stderr) == (0, "")
        for arguments in (["-"], []):
            assert invoke("tag", trained.run, *arguments, "--format", form, input=text).stdout == result.stdout
        outputs[form] = result.stdout
    assert invoke("tag", trained.run, tmp_path / "a.txt").stdout == outputs["column"]
    lines = [json.loads(line) for line in outputs["jsonl"].splitlines()]
    assert [line["text"] for line in lines] == text.splitlines()
    assert outputs["column"] == "".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(line["words"], line["tags"], strict=True)) + "\n"
        for line in lines
    )
    assert re.sub(r"\[(.*?)\]\(\w+\)", r"\1", outputs["text"]) == text
    assert lines[0]["entities"][0]["type"] == "PER"


def test_tag_repeats_columns_and_writes_the_scheme_of_the_data(trained):
    file = trained.folder / "test.conll"
    tagged = invoke("tag", trained.run, file, "--columns").stdout
    rows = [row.split("\t") for row in tagged.splitlines()]
    assert "".join("\t".join(row[:-1]) + "\n" for row in rows) == file.read_text()
    # What it wrote is read as it was told to read the data: the tags that it predicted are a labelled file.
    (trained.folder / "tagged.conll").write_text(tagged)
    scores = json.loads(invoke("evaluate", trained.run, trained.folder / "tagged.conll", "--json").stdout)
    assert (scores["f1"], scores["gold"]) == (100, records(trained.run)[-1]["test"]["predicted"])
    assert {row[-1] for row in rows if row[0]} <= {"O", "B-PER", "I-PER", "B-LOC", "I-LOC"}
    bioes = invoke("tag", trained.run, file, "--columns", "data.scheme=BIOES").stdout
    assert {row.split("\t")[-1] for row in bioes.splitlines() if row} & {"S-LOC", "E-PER", "S-PER"}


@pytest.mark.parametrize("file", [["-"], []])
def test_tag_writes_running_text_in_the_scheme_asked_for(trained, file):
    result = invoke("tag", trained.run, *file, "data.scheme=IO", input="Anna Lee saw Oslo .\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert {row.split("\t")[-1] for row in result.stdout.splitlines() if row} <= {"O", "I-PER", "I-LOC"}


def test_tag_hints_at_columns(trained):
    result = invoke("tag", trained.run, trained.folder / "test.conll")
    hint = f"warning: {trained.folder / 'test.conll'} looks like a column file, but was taken for text, one sentence a "
    assert (result.exit_code, result.stderr) == (0, f"{hint}line; give --columns\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{run}", "-"], "-: required a labelled file, got standard input, which evaluate does not read"),
        (["evaluate", "{run}", "{run}/none"], "{run}/none: required a file, found nothing there; check the path"),
        (["evaluate", "{run}", "x", "train.epochs=3"], "argument 'train.epochs=3': required data.KEY=VALUE"),
        (
            ["evaluate", "{run}", "x", "data.limit=5", "data.scheme=IO", "data.dev_share=0.5", "data.train=nonsense"],
            "argument 'data.limit=5' 'data.dev_share=0.5' 'data.train=nonsense': required a data.KEY that says how",
        ),
        (["evaluate", "{run}", "x", "data.dev=a", "data.test=b"], "argument 'data.dev=a' 'data.test=b': required a da"),
        (["evaluate", "{run}", "x", "data.separator=comma"], "argument 'data.separator=comma': data.separator: requ"),
        (["tag", "{run}", "x", "model.window=3"], "argument 'model.window=3': required data.KEY=VALUE"),
        (["tag", "{run}", "x", "data.separator=tab"], "argument 'data.separator=tab': required --columns with it"),
        (["tag", "{run}", "{run}/none"], "{run}/none: required a file, found nothing there; check the path"),
        (["tag", "{run}", "{run}"], "{run}: required a file, got a directory; name a file in it"),
        (["train", "{run}/config.toml", "--replace"], "--replace: required --run-dir as well"),
    ],
)
def test_arguments_that_do_not_fit(trained, arguments, message):
    result = invoke(*(argument.format(run=trained.run) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("windownet: " + message.format(run=trained.run))
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nothing"], ["train"], ["tag", "x", "-", "--format", "xml"], ["evaluate", "x"]])
def test_misuse_is_answered_with_the_usage(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize("zeros", [np.zeros, jnp.zeros])
def test_what_memory_does_not_hold_is_told_without_a_traceback(trained, monkeypatch, zeros):
    monkeypatch.setattr("windownet.train.proof.prove", lambda config, console: zeros((10**5, 10**5, 10**5)) + 1)
    result = invoke("gradcheck", trained.folder / "tiny.toml")
    assert result.exit_code == 2
    assert re.fullmatch(
        r"windownet: not enough memory \(.*\); a tagger needs less with a smaller train.batch_size .*\n", result.stderr
    )


def test_what_a_program_cannot_allocate_is_told_without_a_traceback(trained, monkeypatch):
    def run(config, console):
        square = jax.jit(lambda x: jnp.ones((10**6, 1)) @ (x + jnp.ones((1, 10**9))))
        return jax.block_until_ready(square(jnp.float32(1)))

    monkeypatch.setattr("windownet.train.proof.prove", run)
    result = invoke("gradcheck", trained.folder / "tiny.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith("windownet: not enough memory (")


def test_an_unforeseen_error_is_not_taken_for_one_of_memory(trained, monkeypatch):
    def fail(config, console):
        raise ValueError("a defect")

    monkeypatch.setattr("windownet.train.proof.prove", fail)
    result = invoke("gradcheck", trained.folder / "tiny.toml")
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("ok", [True, False])
def test_gradcheck_reports_and_exits_by_the_verdict(trained, tmp_path, monkeypatch, ok):
    class Report:
        def __init__(self):
            self.ok = ok

        def __str__(self):
            return "words: right"

        def to_json(self):
            return {"ok": ok}

    asked = []
    monkeypatch.setattr("windownet.train.proof.prove", lambda config, console: asked.append(config) or Report())
    result = invoke("gradcheck", trained.folder / "tiny.toml", "train.seed=9", "--json", tmp_path / "report.json")
    assert (result.exit_code, result.stdout) == (0 if ok else 1, "words: right\n")
    assert json.loads((tmp_path / "report.json").read_text()) == {"ok": ok}
    assert asked[0].train.seed == 9
    (tmp_path / "report.json").write_text("older")
    for place, why in (("none/report.json", "No such file or directory"), ("report.json/a", "Not a directory")):
        result = invoke("gradcheck", trained.folder / "tiny.toml", "--json", tmp_path / place)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"windownet: {tmp_path / place}: cannot be written: {why}; name another file\n"
    assert len(asked) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "older"


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from windownet.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(*({name.partition('.')[0] for name in sys.modules}))\n"
    )
    *help_text, modules = python(code).splitlines()
    heavy = {"jax", "numpy", "pydantic", "datasets", "matplotlib", "flax", "optax", "rich", "safetensors"}
    assert not heavy & set(modules.split())
    assert {line.split()[0] for line in help_text if line.startswith("  ")} >= {"train", "evaluate", "tag", "gradcheck"}
    assert __version__ in invoke("--version").stdout


def test_tagging_needs_neither_optimizer_nor_data_set_library(trained):
    code = (
        "import sys; from windownet.cli import main\n"
        "main(['tag', *sys.argv[1:]], standalone_mode=False)\n"
        "print(*({name.partition('.')[0] for name in sys.modules}))\n"
    )
    *tagged, modules = python(code, trained.run, trained.folder / "test.conll", "--columns").splitlines()
    assert len(tagged) == 7 * 6
    assert not {"flax", "optax", "datasets", "matplotlib", "pyarrow", "pandas"} & set(modules.split())
    assert "jax" in modules.split()


def test_tag_answers_a_pipe_line_by_line_until_it_is_interrupted(trained):
    process = subprocess.Popen(
        [*COMMAND, "tag", trained.run, "-", "--format", "text"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=BUFFERED,
    )
    # Without an answer the test would wait for ever.
    out_of_patience = threading.Timer(60, process.kill)
    out_of_patience.daemon = True
    out_of_patience.start()
    with process:
        for line in (b"anna saw 3 .\n", b"\n", "na\u00efve\u2028 one\n".encode()):
            process.stdin.write(line)
            process.stdin.flush()
            assert re.sub(rb"\[(.*?)\]\(\w+\)", rb"\1", process.stdout.readline()) == line
        out_of_patience.cancel()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (130, b"", b"windownet: interrupted\n")


def test_a_reader_that_has_enough_is_not_complained_of(trained, tmp_path):
    file = tmp_path / "long.txt"
    file.write_bytes(b"Anna saw Oslo .\n" * 50_000)
    command = [*COMMAND, "tag", trained.run, file]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED)
    with process:
        assert process.stdout.readline().startswith(b"Anna\t")
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


def to_nobody(*command, stderr=subprocess.PIPE):
    """Run it with a standard output that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(command, stdout=writer, stderr=stderr, env=BUFFERED, text=True, check=False)
    finally:
        os.close(writer)


@pytest.mark.parametrize("arguments", [["lint", "{config}"], ["--help"]])
def test_what_nobody_reads_is_no_error(trained, arguments):
    # What it is linted for: its test part is its training part.
    config = trained.folder / "leak.toml"
    config.write_text(
        CONFIG.replace("test.conll", "train.conll").replace("[data]", f'[data]\nroot = "{trained.folder}"')
    )
    assert invoke("lint", config).exit_code == 1
    done = to_nobody(*COMMAND, *(argument.format(config=config) for argument in arguments))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [False, True])
def test_a_run_goes_on_when_nobody_reads_how_it_goes(trained, tmp_path, closed):
    command = [*COMMAND, "train", trained.folder / "tiny.toml", f"data.root={trained.folder}", "--run-dir"]
    if closed:
        done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "-", *command, tmp_path / "run"], check=False)
    else:
        done = to_nobody(*command, tmp_path / "run", stderr=subprocess.STDOUT)
    assert done.returncode == 0
    assert records(tmp_path / "run")[-1]["dev"] == records(trained.run)[-1]["dev"]


@pytest.mark.parametrize("verb", ["tag", "evaluate", "lint", "runs", "sweep"])
def test_a_closed_output_is_refused_where_the_result_goes_there(trained, verb):
    command = ["sh", "-c", 'exec "$@" >&-', "-", *COMMAND, verb, trained.run, trained.folder / "test.conll"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = "windownet: standard output: required an open stream, got a closed one; open it in the shell\n"
    assert (done.returncode, done.stderr) == (2, line)
