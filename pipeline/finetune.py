"""The model that a training starts from instead of a backbone: `override.finetune`, a file or a run of this project.

It is known by its content. `resolve` writes its sha256 into recipe.yaml; the stage `weights` brings the file and
refuses one that has changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.settings import TRAIN, project_root
from segcore.data.pretrained import WeightsRecipe
from segcore.errors import CheckpointError, RecipeError, did_you_mean
from segcore.files import atomic_write, sha256


@dataclass(frozen=True)
class Finetune:
    """Which model, as recipe.yaml has it.

    Attributes:
        source: a file (relative to the project), or the name of an experiment, branch or commit.
        sha256: of the file, or of that run's work/train/model.pt.
    """

    source: str
    sha256: str


@dataclass(frozen=True)
class WeightsSection(WeightsRecipe):
    """recipe.yaml's `weights`: a pretrained backbone, or a whole network to fine-tune, or neither."""

    finetune: Finetune | None = None


def identify(source: str) -> Finetune:
    """Reads the model once, for its digest.

    Raises:
        RecipeError: neither a file nor a run that is known here.
        CheckpointError: a run whose model cannot be had here.
    """
    with open_model(source) as file:
        return Finetune(source, hashlib.file_digest(file, "sha256").hexdigest())


def bring(wanted: Finetune, out: Path) -> dict[str, str]:
    """Copies the model into `out/finetune.pt`.

    Returns:
        The receipt: what was taken, with which digest.

    Raises:
        RecipeError, CheckpointError: as `identify`, or its content is another than when the recipe was resolved.
    """
    with open_model(wanted.source) as file, atomic_write(out / "finetune.pt") as temporary:
        with open(temporary, "wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        if (found := sha256(temporary)) != wanted.sha256:
            raise CheckpointError(
                f"override.finetune: {wanted.source} has changed since the recipe was resolved (sha256 {found[:16]}…, "
                f"was {wanted.sha256[:16]}…); `dvc repro -f -s resolve` takes it as it is now"
            )
    name = Path(wanted.source).name if _file(wanted.source).is_file() else wanted.source
    return {"pretrained": f"{name} (whole network)", "sha256": found}


@contextlib.contextmanager
def open_model(source: str) -> Iterator[BinaryIO]:
    """The model's bytes, from a file or, through DVC, from a run's cache or remote; errors as `identify`."""
    with open(_file(source), "rb") if _file(source).is_file() else _open_trained(source) as file:
        yield file


def _open_trained(run: str) -> BinaryIO:
    # Here and not above: they take a second to import, and few runs need them.
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    files, folder = DVCFileSystem(str(project_root()), rev=run), TRAIN.as_posix()
    try:
        # Raises for an unknown name; what dvc.yaml declares and no run has made carries no checksum.
        finished = files.repo and files.exists(folder) and files.info(folder).get("md5")
    except (DvcException, SCMError):
        raise RecipeError(f"override.finetune: {_unknown(run)}") from None
    if not finished:
        raise CheckpointError(f"override.finetune: {run} has no {folder}: it is no finished run of this project")
    try:
        return files.open((TRAIN / "model.pt").as_posix(), "rb")
    except (DvcException, DataIndexDirError, OSError):
        raise CheckpointError(
            f"override.finetune: the trained model of {run} is neither in DVC's cache here nor in a remote that can be "
            "reached; whoever trained it has to push it (dvc exp push)"
        ) from None


def _file(source: str) -> Path:
    return project_root() / Path(source).expanduser()


def _unknown(source: str) -> str:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from scmrepo.exceptions import SCMError

    names: set[str] = set()
    with contextlib.suppress(DvcException, SCMError), Repo(str(project_root())) as repo:
        names = {name for found in repo.experiments.ls(all_commits=True).values() for name, _ in found}
    nearest = f"experiments here: {did_you_mean(source, sorted(names))}" if names else "there is no experiment here"
    return f"{source!r} is no file, and no experiment, branch or commit that is known here; {nearest}"
