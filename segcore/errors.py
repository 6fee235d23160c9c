"""Everything a person can mend. A stage or the command line prints the message as one line and exits with 1."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SegcoreError(Exception):
    """The input or the environment is at fault; the message says what is wrong, where, and what to do.

    Attributes:
        exit_code: of a process that ends with this error.
    """

    exit_code = 1


class DataError(SegcoreError):
    """Images, labels, lists or archives."""


class UnreadableError(DataError):
    """A picture that is missing or cannot be decoded: one bad file among good ones."""


class CheckpointError(SegcoreError):
    """A weights file that does not fit the model, is damaged, or carries something else."""


class RecipeError(SegcoreError):
    """A name or value in params.yaml, a recipe or a data set's description."""


class TrainingError(SegcoreError):
    """Training cannot start or go on."""


class Interrupted(SegcoreError):
    """Somebody asked the run to stop; its state is saved. `signal` is the number of the signal that came."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal, self.exit_code = signal, 128 + signal  # as a shell says of a process that a signal ended


class ProcessError(SegcoreError):
    """The processes of a run cannot start together."""


class LostProcessError(ProcessError):
    """Another process of this run died or does not answer; started again, the run goes on. The code says so."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class ExportError(SegcoreError):
    """A model could not be turned into a deployable file."""


class BenchmarkError(SegcoreError):
    """Speed could not be measured."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, and all of them if they fit a line."""
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, 5, 0)
    if not nearest:
        return "none is known"
    listed = f"Known: {', '.join(known)}" if len(known) <= 24 else f"Near it: {', '.join(nearest)}; {len(known)} known"
    return f"did you mean {nearest[0]!r}? {listed}"
