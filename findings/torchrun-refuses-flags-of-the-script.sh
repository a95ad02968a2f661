#!/usr/bin/env bash
# torch 2.13.0: torchrun looks at flags that stand behind the name of the script, and refuses some of them.
#
# Behaviour: "torchrun --nproc_per_node 1 script.py --start 3" ends with "error: ambiguous option: --start could match
# --start-method, --start_method", and the script never runs; "--start=3" and "-m module --start 3" likewise. Which flags
# are refused follows from torchrun's own, each of which has two spellings with a hyphen or an underscore within: any
# beginning that reaches no further than the hyphen, as in --start, --max, --master, --node, --log or --local. Flags that
# are torchrun's own as a whole (--role) are passed on to the script all the same. With "--" before the script all are
# passed on; where the script is given "--" itself, that one is gone.
# A good guess: what stands behind the script's name is the script's, as for python, mpirun and accelerate launch.
# Hurt: programs with such a flag run alone and fail as soon as they are started in several processes, with the usage of
# another program; one that takes "--" for itself gets other arguments.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cd "$folder"
echo 'import sys; print("the script has", sys.argv[1:], flush=True)' > script.py
venv/bin/python -c "import torch; print('torch', torch.__version__)"
run() { OMP_NUM_THREADS=1 venv/bin/torchrun --nproc_per_node 1 --master_port 29657 "$@" 2>&1; }
for flag in --start --start=3 --max --master --node --log; do
    run script.py "$flag" > said.txt && { echo "$flag is passed on now"; exit 1; }
    grep -o "error: ambiguous option.*" said.txt
done
run -m script --start 3 > said.txt && exit 1
grep -q "ambiguous option: --start" said.txt
run script.py --role a | tee said.txt
grep -q "the script has \['--role', 'a'\]" said.txt
run -- script.py --start 3 | tee said.txt
grep -q "the script has \['--start', '3'\]" said.txt
run script.py -- --start 3 | tee said.txt
grep -q "the script has \['--start', '3'\]" said.txt
