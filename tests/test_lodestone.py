"""The front door: it opens quickly, to every room, and no room opens it from inside."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import lodestone
from market.errors import BadInput, Corrupt, Forbidden, NotReady

REPOSITORY = Path(__file__).parents[1]
ROOMS = ["bidder", "campaigns", "creatives", "ledger", "market", "policies", "simulator"]
HEAVY = [
    "alembic", "chdb", "fastapi", "httpx", "lightning", "matplotlib", "numba", "numpy", "onnx",
    "pyarrow", "ray", "sqlalchemy", "torch", "uvicorn", "uvloop",
]  # fmt: skip
LEARNS = ("torch", "lightning", "pytorch_lightning", "ray", "onnx", "onnxruntime", "onnxscript")
MAY_LEARN = ("policies/", "bidder/recommendation/training", "bidder/recommendation/export")


def commands(command, path=()):
    """Every command and group below ``command``, as its words."""
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


def sources():
    return [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")]


def imports_of(path):
    """Every module that a file imports anywhere, type checking and functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module)
    return found


@pytest.mark.parametrize("words", list(commands(get_command(lodestone.app))), ids=" ".join)
def test_every_command_has_help(words):
    shown = CliRunner().invoke(lodestone.app, [*words, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def test_the_commands_are_those_that_the_door_names():
    found = {" ".join(words) for words in commands(get_command(lodestone.app))}
    named = {
        "demo", "serve", "replay", "explain", "attribute", "calibrate", "train", "train response",
    }  # fmt: skip
    assert found == {"", *named}
    for words in found:
        assert all(word in lodestone.__doc__ for word in words.split())


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["demo", "--help"]])
def test_nothing_heavy_is_imported_before_it_is_asked_for(arguments):
    code = (
        "import sys, contextlib, lodestone\n"
        f"sys.argv = ['lodestone', *{arguments!r}]\n"
        "with contextlib.suppress(SystemExit): lodestone.main()\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert ran.stdout.splitlines()[-1] == "HEAVY []"


def test_no_room_imports_the_front_door():
    assert len(sources()) > 100
    inside = [
        path
        for path in sources()
        if "lodestone" in {name.split(".")[0] for name in imports_of(path)}
    ]
    assert inside == []


def test_only_policies_and_the_training_of_the_response_model_learn():
    learning = {
        path.relative_to(REPOSITORY).as_posix()
        for path in sources()
        if {name.split(".")[0] for name in imports_of(path)} & set(LEARNS)
    }
    assert [path for path in learning if not path.startswith(MAY_LEARN)] == []
    assert any(path.startswith("bidder/recommendation/training") for path in learning)


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadInput("a"), 2), (Forbidden("b"), 2), (Corrupt("c"), 2), (NotReady("d"), 1),
     (PermissionError(13, "no", "e"), 1)],
)  # fmt: skip
def test_an_error_is_one_line_and_its_code_says_who_must_act(monkeypatch, capsys, error, code):
    def fails(**_):
        raise error

    monkeypatch.setattr(lodestone, "app", fails)
    with pytest.raises(SystemExit) as left:
        lodestone.main()
    assert left.value.code == code
    assert capsys.readouterr().err == f"lodestone: {error}\n"


def test_bad_input_on_the_command_line_is_one_line_without_a_traceback(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "lodestone", "replay", str(tmp_path / "missing.ndjson")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "missing.ndjson" in line
