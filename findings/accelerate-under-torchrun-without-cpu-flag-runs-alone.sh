#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0, a machine without an accelerator: under torchrun with two processes each
# Accelerator() thinks that it is alone.
#
# Behaviour: "torchrun --nproc_per_node 2 script.py" starts two processes with RANK and WORLD_SIZE set. In each of them
# Accelerator() has num_processes 1 and process_index 0, no process group is made, and nothing is said. gather() gives a
# process its own tensor back, and both are the main process. With Accelerator(cpu=True) the same script has
# num_processes 2 and gathers over gloo.
# A good guess: the launcher's WORLD_SIZE is followed, since the CPU is the only device there is; or an error or a
# warning says that cpu=True is needed.
# Hurt: data-parallel runs on CPUs: both processes train on all batches, both write the results, each over the other's,
# and gathered metrics look right, since each has computed all of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
"$folder/venv/bin/pip" install -q accelerate==1.15.0
cd "$folder"
cat > script.py <<'PY'
import os
import sys

import torch
from accelerate import Accelerator

alone = Accelerator(cpu=True) if sys.argv[1] == "cpu" else Accelerator()
gathered = alone.gather(torch.tensor([float(os.environ["RANK"])])).tolist()
line = (
    f"{sys.argv[1]}: RANK {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: num_processes {alone.num_processes}, "
    f"main {alone.is_main_process}, gathered {gathered}\n"
)
os.write(1, line.encode())  # a whole line at once: both processes write to one place
PY
if ! venv/bin/python -c "import sys, torch; sys.exit(torch.accelerator.is_available())"; then
    echo "does not apply: this machine has an accelerator"
    exit 0
fi
venv/bin/python -c "import accelerate, torch; print('accelerate', accelerate.__version__, 'torch', torch.__version__)"
for how in default cpu; do
    OMP_NUM_THREADS=1 venv/bin/torchrun --nproc_per_node 2 --master_port 29655 script.py "$how" 2>&1 | sort | tee "$how.txt"
done
[ "$(grep -c 'default: RANK .* of 2: num_processes 1, main True' default.txt)" = 2 ]
[ "$(grep -c 'cpu: RANK .* of 2: num_processes 2, .*gathered \[0.0, 1.0\]' cpu.txt)" = 2 ]
! grep -qi "warn" default.txt
