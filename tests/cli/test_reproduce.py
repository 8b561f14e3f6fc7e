"""`abscise reproduce` on made data: what it prints, what it keeps, and its one-line errors."""

import io
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import abscise
from abscise.cli import main
from abscise.cli._options import ReproduceOptions
from abscise.cli._reproduce import _arguments, _helpers, _told
from abscise.cli._reproduce_view import ReproduceView
from abscise.compaction import Compaction
from abscise.papers import Moment, Stage, Tally, Task, append_finished, read_finished
from abscise.papers import _bench as bench
from abscise.papers._finished import finished_from_json
from abscise.train import Data, Recipe
from support.papering import made_data, run_of_task, task_of

ONE = ["reproduce", "transformed-l1", "--quick", "--methods", "l1", "--epochs", "2"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with made data in place of the real ones."""

    def data(recipe: Recipe, _root: Path | None) -> Data:
        return made_data(recipe.data)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "data_for", data)
    return tmp_path


def test_it_runs_what_is_missing_and_reports_without_running(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ONE) == 0
    assert "[1/1] l1 at 0.002 on pendigits, seed 0: error" in capsys.readouterr().out
    lines = folder / "results" / "transformed-l1-quick.jsonl"
    (run,) = read_finished(lines, "transformed-l1")
    assert (run.task.method, run.task.epochs, run.task.limit) == ("l1", 2, 1000)
    assert main(ONE) == 0
    assert "0 runs finished, 1 were there before" in capsys.readouterr().out
    before = lines.read_bytes()
    assert main(["reproduce", "transformed-l1", "--quick", "--report"]) == 0
    assert lines.read_bytes() == before
    report = folder / "results" / "transformed-l1-quick"
    assert {it.name for it in report.iterdir()} == {
        "table.md",
        "table.txt",
        "pareto.svg",
        "page.html",
    }


def test_a_report_is_of_the_runs_that_are_chosen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = folder / "results" / "transformed-l1-quick.jsonl"
    for seed in ("0", "1"):
        assert main([*ONE, "--seeds", seed]) == 0
    assert len(read_finished(lines, "transformed-l1")) == 2
    report = ["reproduce", "transformed-l1", "--quick", "--report"]
    texts = {}
    for name, chosen in {"all": [], "one": ["--seeds", "1", "--methods", "l1"]}.items():
        assert main([*report, *chosen, "--to", name]) == 0
        texts[name] = (folder / name / "page.html").read_text(encoding="utf-8")
    assert texts["all"] != texts["one"]
    _ = capsys.readouterr()
    for none in (["--seeds", "2"], ["--methods", "sgl"], ["--epochs", "3"]):
        assert main([*report, *none]) == 2
        assert "none of the 2 finished runs in" in capsys.readouterr().err


ERRORS = [
    ("transformed-l2", 2, "no experiment 'transformed-l2' (did you mean transformed-l1?)"),
    ("transformed-l1 --datasets mnits", 2, "no data set 'mnits' (did you mean mnist?)"),
    ("transformed-l1 --methods sgd", 2, "no method 'sgd' (did you mean sgl?)"),
    ("transformed-l1 --networks lenet", 2, "no network 'lenet'"),
    ("transformed-l1 --seeds one", 2, "--seeds must be a number, got 'one'"),
    ("transformed-l1 --strengths -1", 2, "strengths must be >= 0"),
    ("transformed-l1 --workers 0", 2, "workers"),
    ("transformed-l1 --to there", 2, "--to and --page belong to --report"),
    ("transformed-l1 --out .", 2, "--out ."),
    ("transformed-l1 --methods slimming --datasets mnist", 2, "slimming is not run on mnist"),
    ("transformed-l1 --report", 1, "no finished runs of transformed-l1"),
    ("transformed-l1 --report --limit 1", 2, "--limit does not belong to --report"),
    ("transformed-l1 --report --seeds 0 --page p.md", 2, "--page is for all runs"),
    ("transformed-l1 --report --out words.jsonl", 1, "words.jsonl, line 1: not valid JSON"),
    ("transformed-l1 --limit 1 --data-root nowhere", 1, "--data-root or ABSCISE_DATA"),
    ("", 2, "experiment"),
]


@pytest.mark.parametrize(("argv", "code", "words"), ERRORS, ids=lambda it: str(it)[:50])
def test_an_error_is_one_line(
    argv: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _ = (tmp_path / "words.jsonl").write_text("words\n")
    assert main(["reproduce", *argv.split()]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_view: ReproduceView, moment: Moment) -> None:
        if moment.progress is not None:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ReproduceView, "show", interrupt)
    assert main([*ONE, "--out", "my runs.jsonl"]) == 130
    printed = capsys.readouterr().out
    command = (
        "abscise reproduce transformed-l1 --methods l1 --epochs 2 --out 'my runs.jsonl' --quick"
    )
    assert f"go on with:\n    {command}\n" in printed
    assert read_finished(folder / "my runs.jsonl", "transformed-l1") == ()


def test_the_printed_command_holds_every_option() -> None:
    options = ReproduceOptions(
        experiment="e",
        out=Path("o"),
        quick=True,
        datasets=("d",),
        networks=("n",),
        methods=("m", "k"),
        seeds=("1",),
        strengths=("0.5",),
        epochs=3,
        limit=4,
        workers=2,
        device="cuda",
        data_root=Path("r"),
    )
    said = " ".join(_arguments(options))
    assert said == (
        "e --datasets d --networks n --methods m --methods k --seeds 1 --strengths 0.5 --epochs 3 "
        "--limit 4 --out o --data-root r --device cuda --workers 2 --quick"
    )
    assert "--workers" not in _arguments(options, workers=1)


def test_a_run_whose_certificate_fails_is_told_and_the_exit_code_is_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compact = abscise.compact

    def wrong(*given: Any, **named: Any) -> Compaction:
        made = compact(*given, **named)
        certificate = replace(made.certificate, passed=False, reason="the outputs differ")
        return replace(made, certificate=certificate)

    monkeypatch.setattr(abscise, "compact", wrong)
    assert main([*ONE, "--strengths", "0.1", "--out", "lines.jsonl"]) == 1
    assert "failed: l1 at 0.1 on pendigits, seed 0" in capsys.readouterr().out
    assert read_finished(folder / "lines.jsonl", "transformed-l1") == ()


@pytest.mark.slow
def test_two_workers_share_the_runs(tmp_path: Path) -> None:
    argv = (
        "reproduce transformed-l1 --quick --datasets digits --methods dense --methods random-units"
    )
    lines = tmp_path / "lines.jsonl"
    seeds = ["--seeds", "0", "--seeds", "1", "--workers", "2", "--out", str(lines)]
    assert main([*argv.split(), *seeds]) == 0
    assert len(read_finished(lines, "transformed-l1")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["lines.jsonl"]


def test_helpers_end_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asleep = tmp_path / "python"
    _ = asleep.write_text("#!/bin/sh\nexec sleep 600\n")
    asleep.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(asleep))
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def keep(*given: Any, **named: Any) -> "subprocess.Popen[bytes]":
        started.append(start(*given, **named))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", keep)
    with (
        pytest.raises(KeyboardInterrupt),
        _helpers(ReproduceOptions(experiment="e", workers=3)),
    ):
        raise KeyboardInterrupt
    assert [process.returncode for process in started] == [-signal.SIGTERM, -signal.SIGTERM]


def test_sigterm_between_two_trainings_ends_the_helpers_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(_command: list[str], **_: int) -> subprocess.Popen[bytes]:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    handler = signal.getsignal(signal.SIGTERM)

    def asked_to_end() -> None:
        with _helpers(ReproduceOptions(experiment="e", workers=2)):
            assert signal.getsignal(signal.SIGTERM) is not handler  # or the next line ends us
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        asked_to_end()
    assert [one.poll() is None for one in started] == [False]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_run_that_a_helper_leaves_undone_is_missed() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    task = task_of()
    assert _told(Tally(1, 2, 0, ()), 0, console, "command")
    assert not _told(Tally(1, 2, 1, ()), 1, console, "command")
    assert not _told(Tally(1, 2, 0, ((task, "no"),)), 1, console, "command")
    assert console.export_text().splitlines() == [
        "1 runs finished, 2 were there before",
        "the report: command",
        "1 runs finished, 2 were there before, 1 are done by other processes",
        "1 runs are missing: the same command tries them again",
        "the report: command",
        "1 runs finished, 2 were there before",
        f"failed: {task.label}: no",
        "the report: command",
    ]


def test_the_view_prints_a_line_for_each_finished_run_and_how_long_it_will_take() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    times = iter([0.0, 10.0, 20.0, 30.0])
    task = task_of(experiment="transformed-l1")
    run = finished_from_json(line_of(task), "here")
    with ReproduceView(console, lambda: next(times)) as view:
        view.show(Moment(Stage.STARTED, task, 0, 3))
        view.show(Moment(Stage.FINISHED, task, 1, 3, finished=run))
        view.show(Moment(Stage.FAILED, task, 1, 3, problem="no"))
        view.show(Moment(Stage.FINISHED, task, 3, 3, finished=replace(run, certified=False)))
    told = "l1 at 1 on pendigits, seed 0: error 3.00 %, 500 of 1,000 weights (2.0x), 50 of 100"
    assert console.export_text().splitlines() == [
        f"[1/3] {told} units left  left 0:00:20",
        "failed: l1 at 1 on pendigits, seed 0: no",
        f"[3/3] {told} units left; the outputs are constant, so nothing could be certified",
    ]


def line_of(task: Task) -> object:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "lines.jsonl"
        append_finished(path, run_of_task(task))
        return json.loads(path.read_text())
