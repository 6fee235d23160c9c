"""Everything a person can mend. A stage or the command line prints the message as one line and exits with 1."""


class SegcoreError(Exception):
    """The input or the environment is at fault; the message says what is wrong, where, and what to do."""


class DataError(SegcoreError):
    """Images, labels, lists or archives."""


class CheckpointError(SegcoreError):
    """A weights file that does not fit the model, is damaged, or carries something else."""


class RecipeError(SegcoreError):
    """A name or value in params.yaml, a recipe or a data set's description."""


class TrainingError(SegcoreError):
    """Training cannot start or go on."""


class ExportError(SegcoreError):
    """A model could not be turned into a deployable file."""


class BenchmarkError(SegcoreError):
    """Speed could not be measured."""
