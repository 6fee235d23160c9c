"""The command line: `python -m segcore COMMAND`, also installed as `segcore`.

Exit codes: 0 done, 1 the input or the environment is at fault (one line says which, and the remedy), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
from collections.abc import Sequence

from segcore.errors import SegcoreError
from segcore.files import explain

# As the stages do: threads that spin while they wait take the cores away from those that read and write. PyTorch reads
# it when it is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Command -> what it does; each is a file under commands/ with `add_arguments(parser)` and `run(arguments)`.
COMMANDS = {
    "models": "table of all networks: size, cost, published numbers",
    "convert": "a released checkpoint -> ours, with everything needed to use it",
    "predict": "classes for pictures, folders, videos and cameras: maps, overlays, a video",
    "evaluate": "score a model file on a list of images",
    "export": "a model file -> the file that is deployed, held against its model",
    "benchmark": "how fast a model or an exported file is here, in every runtime, and what it scores",
    "compare": "two evaluations of the same images: is the difference more than chance?",
    "inspect": "look at a data set before anyone trains on it",
}
START = """\
where to begin:
  segcore models
  segcore inspect minicity
  segcore predict --weights work/train/model.pt data/minicity/leftImg8bit/val --visualize
  segcore COMMAND -h   # all that a command takes, with examples

work/ is what `make repro` leaves behind."""


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        "segcore", description="Real-time semantic segmentation.", epilog=START, formatter_class=_Help
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        sentence = purpose[0].upper() + purpose[1:] + ("" if purpose.endswith("?") else ".")
        commands.add_parser(name, help=purpose, description=sentence, formatter_class=_Help)
    given = sys.argv[1:] if words is None else list(words)
    if given and given[0] in COMMANDS:  # only the command in use is imported
        module = importlib.import_module(f"segcore.commands.{given[0]}")
        module.add_arguments(commands.choices[given[0]])
        commands.choices[given[0]].epilog = _epilog(module.__doc__)
    arguments = parser.parse_args(given)
    try:
        module.run(arguments)
    except SegcoreError as error:
        print(f"segcore {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"segcore {arguments.command}: {explain(error, getattr(arguments, 'out', ''))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


class _Help(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they are written, and every option has its explanation beside it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(shutil.get_terminal_size().columns, 120) - 2)
        self._action_max_length = 14  # argparse forgets that commands are indented, and breaks the longest one's line


def examples(text: str | None) -> list[str]:
    """The command lines that a command's file begins with: the indented lines of its docstring."""
    return [line.strip() for line in (text or "").splitlines() if line.startswith("    ")]


def _epilog(text: str | None) -> str:
    return "\n  ".join(["examples:", *examples(text)])


if __name__ == "__main__":
    sys.exit(main())
