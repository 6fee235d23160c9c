"""Which networks the batteries of tests run over."""

import pytest

from segcore import model_names
from segcore.models import family

# Of the many scene-parsing pairs small ones stand for all; the others have their own files.
SCENE = ["resnet18dilated8_ppm_deepsup", "mobilenetv2dilated_c1_deepsup", "resnet18_c1"]
NAMES = [name for name in model_names() if family(name) != "scene"] + SCENE
# Exporting and compiling take seconds each, so that the quick suite does them for one network of each kind.
KINDS = ["bisenetv1", "bisenetv2", "stdc1", SCENE[0]]
SLOWLY = [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
