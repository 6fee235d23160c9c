"""The progress of long work, as a terminal of any width shows it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

# Nothing that takes long to import.
SCRIPT = """
import sys
from segcore.progress import Progress
with Progress(sys.argv[1], eval(sys.argv[2])) as progress:
    for _ in range(3):
        progress.advance(1, "main 2.345  auxiliary 9.876  lr 5.00e-03  12.3 images/s  7.1 GiB")
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def last_line(columns: int, description: str = "train", total: int | None = 150000) -> str:
    """What stands in the terminal's last line in the end."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    settings = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    command = [sys.executable, "-c", SCRIPT, description, repr(total)]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=settings) as process:
        os.close(child)
        text = b""
        while True:
            try:
                text += os.read(parent, 4096)
            except OSError:  # the other end is closed
                break
    os.close(parent)
    assert process.returncode == 0, text.decode()
    return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", text.decode())) if line.strip()][-1]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_count_and_times_survive_in_a_narrow_terminal_and_the_note_gives_way(columns):
    line = last_line(columns)
    assert len(line) <= columns
    assert re.match(r"train .* 3/150000 0:00:0\d eta \S+", line), line
    assert "main 2.345" in line and ("…" in line) == (columns < 120), line


def test_a_long_name_does_not_push_the_count_out():
    line = last_line(60, "[/a]_video_with_a_very_long_name_of_sixty_characters_and_more.mp4")
    assert "[/a]_video" in line and "3/150000" in line and "eta" in line and len(line) <= 60, line


def test_without_a_known_end_the_count_goes_on():
    assert "3/?" in last_line(80, total=None)
