"""The commands that README.md and docs/ tell people to type, and what stands in for what cannot be had here.

A fenced block without a language is a block of commands, one a line; in a transcript those behind `$ `. Blocks of other
things name their language.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# In the order in which somebody reads them: later commands use what earlier ones made.
FIRST = ("README.md", "docs/deploy.md", "docs/reproduce-cityscapes.md", "docs/your-own-data.md")
DOCUMENTS = list(dict.fromkeys([*FIRST, *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md")))]))
DOCUMENTS = [name for name in DOCUMENTS if (PROJECT / name).exists()]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)

# Commands that are not run here, each with its reason.
NOT_HERE = {
    r"make test": "the suite that this belongs to",
    r".*(cityscapes|ade20k|cocostuff).*": "an account or 20 GB of downloads, and days on GPUs",
    r"(\w+=\S+ )?(srun )?torchrun .*": "several machines; tests/test_elastic.py starts torchrun on this one",
    r"dvc commit -f train && .*": "belongs to the training on several machines",
    r"segcore predict .* 0": "a camera",
    r"(pip install|python -c|segcore|trtexec) .*(tensorrt|\.engine).*": "TensorRT; tests/deploy/test_tensorrt.py",
    r"segcore convert .*\.pth .*": "released files; tests/test_convert.py converts such with the same keys",
}
# Documents whose commands other tests type.
ELSEWHERE = {
    "docs/share-results.md": "tests/pipeline/test_sharing.py and test_remotes.py, with servers and several clones",
}
# What is made shorter: (in the command, instead of it, why).
SHORTER = (
    (r'SEEDS="1 2 3"', 'SEEDS="1"', "one seed instead of three"),
    (r"dataset=mine", "dataset=mine -S override.iterations=2 -S override.batch_size=2", "two iterations"),
    (r"512x1024|1080x1920", "64x128", "the size of this clone's images"),
    (r"--weights model\.pt", "--weights work/train/model.pt", "names of files are the reader's"),
    (r"--list (train|val)\.csv", r"--list work/annotations/\1.csv", "names of files are the reader's"),
    (r"segcore compare A B", "segcore compare work/evaluate work/evaluate", "names of folders are the reader's"),
)


@dataclass(frozen=True)
class Command:
    """A line of a document."""

    document: str
    line: str

    @property
    def reason(self) -> str | None:
        """Why it is not run here; None if it is."""
        listed = (why for pattern, why in NOT_HERE.items() if re.fullmatch(pattern, self.line))
        return ELSEWHERE.get(self.document) or next(listed, None)

    @property
    def short(self) -> str:
        """What is run in its place."""
        line = self.line
        for pattern, instead, _ in SHORTER:
            line = re.sub(pattern, instead, line)
        return line

    def parts(self) -> list[list[str]]:
        """The words of the programs that it starts one after the other."""
        words, parts = shlex.split(re.sub(r"\b[A-Z_]+=\d+ (?=\w)", "", self.line)), [[]]
        for word in words:
            if word == "&&":
                parts.append([])
            else:
                parts[-1].append(word)
        return parts

    def __str__(self) -> str:
        return f"{Path(self.document).stem}: {self.line}"


def commands() -> list[Command]:
    """All of them, in the order of the documents; one that several documents have is there once."""
    found: dict[str, Command] = {}
    for name in DOCUMENTS:
        for line in lines((PROJECT / name).read_text(encoding="utf-8")):
            found.setdefault(line, Command(name, line))
    return list(found.values())


def lines(text: str) -> Iterator[str]:
    """The commands of a document, without comments; lines that end in a backslash are joined."""
    for block in (block for _, language, block in BLOCK.findall(text) if not language):
        rows = block.replace("\\\n", " ").splitlines()
        if any(row.lstrip().startswith("$ ") for row in rows):
            rows = [row.lstrip()[2:] for row in rows if row.lstrip().startswith("$ ")]
        yield from filter(None, (without_comment(row) for row in rows))


def without_comment(row: str) -> str:
    """`dvc repro  # all` -> `dvc repro`; a # inside quotes or words stays."""
    return re.sub(r"\s+#\s.*$|^#.*$", "", " ".join(row.split()))
