"""OpenVINO beside the rest of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from segcore.deploy.export import DeployGraph, export_onnx

pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

TWO_NETWORKS = """
import os, signal, sys
from pathlib import Path
from segcore.deploy.backends import load_openvino
first, second = (load_openvino(Path(sys.argv[1]), "fp32", 1) for _ in range(2))
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_survived_after_two_networks_were_let_go(net: nn.Module, tmp_path: Path) -> None:
    export_onnx(DeployGraph(net), tmp_path / "net.onnx", (16, 28))
    command = [sys.executable, "-X", "faulthandler", "-c", TWO_NETWORKS, str(tmp_path / "net.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")
