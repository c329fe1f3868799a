#!/usr/bin/env bash
# Train on this machine: scripts/launch_local_train.sh --dataset mnist --arch lenet300 --epochs 10 --name first
# Uses all GPUs or, without a GPU, one rank on the CPU. Passes all arguments to scripts/train.py; --help lists them.
# Set the environment variable RANKS to start another number of ranks, and PORT to use a fixed port.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$here/../.venv/bin/deepspeed" ] && PATH="$here/../.venv/bin:$PATH"
command -v deepspeed >/dev/null || { echo "error: deepspeed is not installed here: run 'make setup' first" >&2; exit 2; }

gpus=$( (nvidia-smi --list-gpus 2>/dev/null || true) | wc -l)
cores=$(nproc)
if [ "$gpus" -gt 0 ]; then
  ranks=${RANKS:-$gpus}
else
  export DS_ACCELERATOR=cpu
  ranks=${RANKS:-1}
fi
[[ $ranks =~ ^[1-9][0-9]*$ ]] || { echo "error: RANKS must be a number from 1, not '$ranks'" >&2; exit 2; }
# Divide the cores among the ranks: two thread pools on the same cores are many times slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(( cores / ranks > 1 ? cores / ranks : 1 ))}
port=${PORT:-$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
world=$(printf '{"localhost": [%s]}' "$(seq -s, 0 $((ranks - 1)))" | base64 -w0 | tr '+/' '-_')

# Start DeepSpeed's launcher for one machine, as the `deepspeed` command does. It exits with status 1 after any signal,
# so this script waits for it and exits with 130 after Ctrl-C and 143 after SIGTERM, as shells do.
set -m +e   # its own process group, so that each signal reaches it only once, from this script
python -m deepspeed.launcher.launch --log_level critical --world_info "$world" --master_addr 127.0.0.1 --master_port "$port" \
  "$here/train.py" --deepspeed_config "$here/ds_config.json" "$@" &
child=$!
trap 'stopped=130; kill -INT -- -$child 2>/dev/null' INT
trap 'stopped=143; kill -TERM -- -$child 2>/dev/null' TERM
while wait $child; status=$?; kill -0 $child 2>/dev/null; do :; done
exit ${stopped:-$status}
