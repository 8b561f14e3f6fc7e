"""Rows of argv: the exit code and the one line that the user reads."""

from pathlib import Path

import pytest

from abscise._errors import MissingExtraError, NotEqualError, RecipeError
from abscise.cli import _main, main
from abscise.cli._main import COMMANDS

MODELS = '''
import torch
from torch import nn


class Net(nn.Module):
    """Three hidden units; `dead` of them are read by nothing."""

    def __init__(self, dead: int = 0, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(4, width)
        self.out = nn.Linear(width, 3)
        with torch.no_grad():
            self.out.weight[:, :dead] = 0.0

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


class Branching(Net):
    def forward(self, x):
        if x.sum() > 0:
            return super().forward(x)
        return super().forward(-x)


def nan():
    net = Net()
    with torch.no_grad():
        net.hidden.weight[0, 0] = float("nan")
    return net


def broken():
    raise RuntimeError("two\\nlines")


def number():
    return 3


constant = 7
'''

NET = "--model nets_for_cli:Net --input 8x4"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the module `nets_for_cli` in it."""
    monkeypatch.chdir(tmp_path)
    _ = (tmp_path / "nets_for_cli.py").write_text(MODELS)
    _ = (tmp_path / "empty.pt").write_bytes(b"")
    _ = (tmp_path / "words.safetensors").write_text("not one")
    (tmp_path / "bare").mkdir()
    _ = (tmp_path / "plan.json").write_text("{}")
    return tmp_path


USAGE = [
    ("", "expected", "no command"),
    ("shrink", "invalid choice: 'shrink'", "unknown command"),
    (f"compact {NET} --snap -1", "does not conform to restriction v>0", "negative threshold"),
    (f"compact {NET} --snap much", "snap", "threshold is no number"),
    (f"compact {NET} --plan-onl", "unrecognized arguments", "abbreviated option"),
    ("compact --input 8x4", "--model package.module:function is needed", "no model"),
    ("measure --model nets_for_cli:Net", "--input 1x3x224x224 or --inputs", "no inputs"),
    (f"measure {NET} --inputs x.safetensors", "exclude each other", "inputs given twice"),
    ("measure --model nets_for_cli:Net --input 8x", "positive sizes", "shape with a gap"),
    ("measure --model nets_for_cli:Net --input 0x4", "positive sizes", "size of zero"),
    ("measure --model nets_for_cli:Net --input 8x4:float99", "no torch dtype", "unknown dtype"),
    ("measure --model nets_for_cli --input 8x4", "package.module:function", "spec without colon"),
    ("measure --model no_such_module:Net --input 8x4", "no_such_module", "unknown module"),
    ("measure --model nets_for_cli:Nope --input 8x4", "Nope", "unknown factory"),
    ("measure --model nets_for_cli:constant --input 8x4", "class or function", "not callable"),
    ("measure --model nets_for_cli:number --input 8x4", "torch.nn.Module, got int", "not a module"),
    (
        "measure --model nets_for_cli:broken --input 8x4",
        "RuntimeError: two lines",
        "factory raises",
    ),
    (
        'measure --model nets_for_cli:Net --model-args {"depth":1} --input 8x4',
        "depth",
        "bad keyword",
    ),
    (
        "measure --model nets_for_cli:Net --model-args [1] --input 8x4",
        "model_args",
        "args no object",
    ),
    ("measure --model . --input 8x4", "is a folder, which holds no code", "folder as a model"),
    (
        f"compact {NET} --plan plan.json --keep out",
        "--plan applies a finished plan",
        "plan and keep",
    ),
    ("explain nets_for_cli:Net nowhere 0 --input 8x4", "nowhere", "unknown layer"),
    ("explain nets_for_cli:Net hidden 99 --input 8x4", "99", "no such unit"),
    (f"compact {NET} --keep nothing", "nothing", "pattern that matches nothing"),
    ("explain nets_for_cli:Net hidden -1", "index", "negative index"),
    ("explain nets_for_cli:Net hidden", "index", "no index"),
    ("demo --control sgd", "control", "unknown control"),
    ("demo --seed -1", "seed", "negative seed"),
]

REFUSED = [
    (f"measure {NET} --checkpoint gone.safetensors", "gone.safetensors", "missing checkpoint"),
    (f"measure {NET} --checkpoint empty.pt", "empty.pt", "empty checkpoint"),
    (f"measure {NET} --checkpoint words.safetensors", "words.safetensors", "no safetensors"),
    (f"measure {NET} --checkpoint bare", "bare/plan.json", "a folder that is no saved model"),
    ("measure --model nets_for_cli:Net --inputs gone.safetensors", "gone.safetensors", "no inputs"),
    ("measure --model nets_for_cli:Net --input 8x5", "[(8, 5)]", "wrong shape"),
    ("compact --model nets_for_cli:Branching --input 8x4", "cannot capture Branching", "branches"),
    ("compact --model nets_for_cli:nan --input 8x4", "hidden.weight", "NaN weights"),
    (f"compact {NET} --plan gone.json", "gone.json", "missing plan"),
    (f"compact {NET} --plan plan.json", "plan", "a plan without fields"),
    ("verify gone " + NET, "gone", "missing folder"),
]


def one_line_of(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1, captured
    assert captured.startswith("abscise: ")
    return captured


@pytest.mark.parametrize(("argv", "words", "_case"), USAGE, ids=[row[2] for row in USAGE])
@pytest.mark.usefixtures("folder")
def test_a_wrong_command_line_gives_one_line_and_exit_code_2(
    argv: str, words: str, _case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv.split()) == 2
    assert words in one_line_of(capsys)


@pytest.mark.parametrize(("argv", "words", "_case"), REFUSED, ids=[row[2] for row in REFUSED])
def test_bad_input_gives_one_line_and_exit_code_1_and_leaves_the_files(
    argv: str, words: str, _case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    assert main([*argv.split(), *(["--out", "saved"] if argv.startswith("compact") else [])]) == 1
    assert words in one_line_of(capsys)
    assert {path.name for path in folder.iterdir()} - before <= {"__pycache__"}


def test_every_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as exit_:
            _ = main([command.name, "--help"])
        assert exit_.value.code == 0
        assert command.help.split()[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingExtraError("training needs datasets: pip install 'abscise[train]'"), 1),
        (NotEqualError("not equal"), 1),
        (RecipeError("unknown key"), 2),
        (KeyboardInterrupt("interrupted"), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_argv: object) -> int:
        raise error

    monkeypatch.setattr(_main, "_run", fail)
    assert main([]) == code
    assert str(error) in one_line_of(capsys)


def test_an_error_nobody_expected_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_argv: object) -> int:
        message = "a defect"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(_main, "_run", fail)
    with pytest.raises(ZeroDivisionError):
        _ = main([])
