"""A Slurm job array that does what a sweep does: each job one experiment, pushed when it is done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from segcore.files import atomic_write

HEAD = """\
#!/bin/bash
# Written by `python -m pipeline.sweep --slurm`: {count} experiments, one for each job of the array.
#
#   sbatch {name}                  # all of them; again later: what is left
#   sbatch --array 0-3%2 {name}    # the first four, two at a time
#   bash {name} 0                  # the first one here, without Slurm
#   dvc exp pull origin NAME… && make table        # anywhere else: fetch them by name, and their table
#
# The project's folder must lie where all nodes see it, with .venv made and the images in the data store. If a data set
# was never used there, let one job end before the others: it unpacks the archives for all.
# A job that is stopped saves its training, and goes on there when it is submitted again.
#SBATCH --job-name=segcore-sweep
#SBATCH --array=0-{last}
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:TERM@300
#SBATCH --output=work/sweep/slurm-%a.log
#SBATCH --open-mode=append
"""
BODY = """\
  *) echo "there is no job ${SLURM_ARRAY_TASK_ID:-${1:-}}; they are 0 to $last" >&2; exit 2 ;;
esac

cd "${SLURM_SUBMIT_DIR:-.}"
[ -f .venv/bin/activate ] && . .venv/bin/activate
there=$(dvc exp list --name-only)
if ! grep -qxF "$name" <<< "$there"; then
  # In a process group of its own, so that a signal to this shell can reach all that DVC started.
  set -m
  "${run[@]}" &
  job=$!
  trap 'kill -INT -- "-$job"' TERM INT
  code=0; wait "$job" || code=$?
  while kill -0 "$job" 2> /dev/null; do code=0; wait "$job" || code=$?; done  # a signal ended the waiting, not the job
  [ "$code" = 0 ] || exit "$code"
fi
dvc exp push origin "$name"
"""


def write_script(path: Path, jobs: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Writes the script for jobs of (experiment, command), and makes the folder of their logs."""
    cases = [f"  {index}) name={name} run=({shlex.join(command)}) ;;\n" for index, (name, command) in enumerate(jobs)]
    last = len(jobs) - 1
    head = HEAD.format(count=len(jobs), name=path.name, last=last)
    opening = f'\nset -euo pipefail\nlast={last}\ncase "${{SLURM_ARRAY_TASK_ID:-${{1:-}}}}" in\n'
    Path("work/sweep").mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(head + opening + "".join(cases) + BODY, encoding="utf-8")
    path.chmod(0o755)
