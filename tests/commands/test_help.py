"""What `-h` says: every command has examples, and each of them is understood."""

from __future__ import annotations

import argparse
import importlib
import shlex

import pytest

from segcore.__main__ import COMMANDS, START, examples, main


def words(example: str) -> list[str]:
    return shlex.split(example, comments=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "-h"])
    shown = capsys.readouterr().out
    found = examples(importlib.import_module(f"segcore.commands.{name}").__doc__)
    assert any(words(example)[:2] == ["segcore", name] for example in found)
    for example in found:
        program, command, *given = words(example)
        assert program == "segcore" and example in shown
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(f"segcore.commands.{command}").add_arguments(parser)
        parser.parse_args(given)


def test_the_first_page_names_every_command_and_where_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in COMMANDS)
    for line in START.splitlines():
        if line.startswith("  segcore ") and "COMMAND" not in line:
            assert words(line)[1] in COMMANDS and line in shown
