"""The stages of dvc.yaml, one file each: recipe in, one call into segcore, outs out."""

import os

# Idle threads that spin take the cores away from the loader's processes: on two cores a training step then takes
# three times as long. Read when torch is first imported, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
