"""What to run and how: the only reader of YAML, typed and checked before anything else happens.

`params.yaml` is what a user edits; `recipe.yaml`, written by the first stage, holds the resolved values that the other
stages depend on. A stage asks for its own section with the dataclass that `segcore` defines for it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Interval
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segcore.data.labels import TABLES, LabelTable
from segcore.data.store import find_dataset, verify
from segcore.errors import RecipeError, SegcoreError, did_you_mean
from segcore.files import atomic_write, digest, explain

T = TypeVar("T")

PARAMS = Path("params.yaml")
RECIPE = Path("recipe.yaml")
WORK = Path("work")
FILES = WORK / "fetch" / "files.csv"
LISTS = WORK / "annotations"
WEIGHTS = WORK / "weights"
TRAIN = WORK / "train"
EVALUATE = WORK / "evaluate"
BENCHMARK = WORK / "benchmark.json"
REPORT = WORK / "report"
METRICS = Path("metrics")


@dataclass(frozen=True)
class Override:
    """What differs from the recipe in one run; None keeps the recipe's.

    Attributes:
        iterations, lr, batch_size, accumulate, trained_on: values of the recipe's section `train`.
        modes: evaluation modes joined by +, such as ss+msf.
        as_published: take the recipe's block `as_published` too: the published code with its defects.
        finetune: start from a whole network instead of the recipe's pretrained backbone: a model file, or the name of
            an experiment, branch or commit, whose trained model is taken.
    """

    iterations: Annotated[int, Gt(0)] | None = None
    lr: Annotated[float, Gt(0)] | None = None
    batch_size: Annotated[int, Gt(0)] | None = None
    accumulate: Annotated[int, Gt(0)] | None = None
    modes: str | None = None
    trained_on: Literal["train", "trainval"] | None = None
    as_published: bool | None = None
    finetune: str | None = None


@dataclass(frozen=True)
class Runtime:
    """How to run on this machine; no stage depends on it.

    Attributes:
        devices: auto, cpu, cpu:N, cuda, cuda:N or a number of processes.
        workers: loader processes for each of them.
        data: a further data store, searched after $SEGCORE_DATA and before `data/`.
        allow_world_size: train with another number of processes than the one a recipe's `world_size` asks for.
        cache: keep training images decoded under work/packed/, four bytes a pixel (see `segcore.data.packed`).
    """

    devices: str | int = "auto"
    workers: Annotated[int, Ge(0)] = 2
    data: str | None = None
    allow_world_size: bool | None = None
    cache: bool | None = None


@dataclass(frozen=True)
class Params:
    """params.yaml."""

    model: str
    dataset: str
    seed: Annotated[int, Interval(ge=0, lt=2**31)] = 1
    override: Override = field(default_factory=Override)
    runtime: Runtime = field(default_factory=Runtime)


@dataclass(frozen=True)
class DatasetInfo:
    """recipe.yaml's `dataset`: what every number of this data set depends on.

    Attributes:
        labels: name of the label table, or its .csv file (see `label_table`); `label_digest` identifies its content.
        mean, std: statistics of RGB in 0 … 1 that images are normalised with.
    """

    name: str
    labels: str
    num_classes: int
    label_digest: str
    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)], Annotated[float, Gt(0)]]


@dataclass(frozen=True)
class About:
    """recipe.yaml's `about`: what is said of a data set; no number depends on it.

    Attributes:
        title: its name for a person.
        redistributable: whether its photographs may travel in reports and remotes.
        miou_tolerance: how far mIoU may differ (a fraction) when the default run is repeated on another machine.
    """

    title: str
    redistributable: bool = False
    miou_tolerance: Annotated[float, Gt(0)] = 0.02


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping by the rules of YAML 1.2, as DVC does: 5e-05 is a number, `on` is a word, 1:30 is no time.

    Raises:
        RecipeError: no such file, not YAML, a key twice, or not a mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # no UTF-8, or a date that does not exist
        raise RecipeError(f"{path}: {error}") from None
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        raise RecipeError(f"{path}{line}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: must hold `key: value` lines")
    return content


def write_yaml(path: Path, head: str, content: dict[str, Any]) -> None:
    """Writes a mapping in block style under a comment head, atomically."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(head)
        yaml.dump(content, file)


def validate(cls: type[T], value: Any, where: str) -> T:
    """Builds dataclass `cls` from plain containers.

    Raises:
        RecipeError: an unknown key (names the nearest), a wrong type or an impossible value (with the key's path).
    """
    _refuse_unknown_keys(cls, value, where)
    try:
        # Through JSON, so that a list fills a tuple while "1e-4" in quotes is still no number.
        return TypeAdapter(cls).validate_json(json.dumps(value, allow_nan=False, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"] if part != "function-after")])
        given = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise RecipeError(f"{path}: {message}{given}") from None
    except ValueError:
        raise RecipeError(f"{where}: holds a number that is not finite") from None


def _refuse_unknown_keys(cls: type, value: Any, where: str) -> None:
    if not isinstance(value, dict):
        return
    hints = typing.get_type_hints(cls)
    known = [item.name for item in dataclasses.fields(cls)]
    for key, inner in value.items():
        if key not in known:
            raise RecipeError(f"{where}.{key}: unknown key; {did_you_mean(key, known)}")
        for candidate in _members(hints[key]):
            if dataclasses.is_dataclass(candidate):
                _refuse_unknown_keys(candidate, inner, f"{where}.{key}")


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def params() -> Params:
    """params.yaml, checked. An empty section means its defaults, and `-S override.lr=`, which writes '', no value."""
    content = {key: value for key, value in read_yaml(PARAMS).items() if value is not None}
    for key, value in content.items():
        if isinstance(value, dict):
            content[key] = {name: None if inner == "" else inner for name, inner in value.items()}
    return validate(Params, content, str(PARAMS))


def section(name: str, cls: type[T]) -> T:
    """One section of recipe.yaml as its dataclass."""
    content = read_yaml(RECIPE)
    if name not in content:
        raise RecipeError(f"{RECIPE}: has no section {name!r}; `dvc repro resolve` writes the file anew")
    return validate(cls, content[name], f"{RECIPE}: {name}")


def project_root() -> Path:
    """The main repository, also inside DVC's temporary workspaces (then the working folder is another)."""
    return Path(os.environ.get("DVC_ROOT") or ".")


def image_root(dataset: str) -> Path:
    """The folder of a data set: in the first data store that has it, else where it is to be put."""
    configured = params().runtime.data
    further = [project_root() / Path(configured).expanduser()] if configured else []
    return find_dataset(dataset, further, project_root() / "data")


def label_table(dataset: str, labels: str) -> LabelTable:
    """The table that a data set's `labels` names: a known one, or a .csv file in its folder or in this project.

    Raises:
        RecipeError: there is none of that name.
        DataError: the file is no label table.
    """
    if labels in TABLES:
        return TABLES[labels]
    files = [image_root(dataset) / labels, Path(labels)]
    for file in files if labels.endswith(".csv") else []:
        if file.is_file():
            return LabelTable.read_csv(file)
    places = f"one of {', '.join(TABLES)}, or a .csv file in {files[0].parent} or in this project"
    raise RecipeError(f"datasets/{dataset}.yaml: dataset.labels must be {places}, got {labels!r}")


def verified_images() -> Path:
    """The folder of the data set in use, once its files are known to be the ones that were fetched.

    Raises:
        DataError: they are not here, or a file has other content.
    """
    name = section("dataset", DatasetInfo).name
    verify(image_root(name), FILES, checksum_memory(name))
    return image_root(name)


def checksum_memory(dataset: str) -> Path:
    """Where this machine remembers which files of the folder it has already read and compared."""
    place = digest(str(image_root(dataset).resolve()))[:8]
    return project_root() / "work" / "checksums" / f"{dataset}-{place}.csv"


def packed_folder(dataset: str) -> Path:
    """Where this machine keeps a data set's images decoded, if `runtime.cache` wants it to."""
    return project_root() / "work" / "packed" / dataset


def resume_folder(stage_name: str, identity: str) -> Path:
    """Where an unfinished run keeps its state: outside DVC's outs, which are deleted before a stage starts."""
    return project_root() / "work" / "resume" / stage_name / identity[:16]


def stage(main: Callable[[], int | None]) -> Callable[[], None]:
    """Turns what a person can mend into one line on stderr and exit code 1."""

    @functools.wraps(main)
    def run() -> None:
        try:
            sys.exit(main())
        except SegcoreError as error:
            print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except OSError as error:
            print(f"{Path(sys.argv[0]).stem}: {explain(error, WORK)}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on where it stopped", file=sys.stderr)
            sys.exit(130)

    return run
