#!/usr/bin/env bash
# Train on several hosts: scripts/launch_distributed_train.sh --hostfile scripts/hostfile.example --dataset mnist --name first
#
#   --hostfile FILE         the hosts and their numbers of ranks, as in scripts/hostfile.example (default: ./hostfile)
#   --launcher NAME         how to start all hosts from this one: pdsh (default), slurm or openmpi
#   --launcher_args 'ARGS'  more arguments for that launcher, as one quoted word
#   --no_ssh --node_rank N  start only host N of the file (0, 1, …); run the same command on each host with its own N
#   --master_addr ADDRESS   address that all ranks connect to (default: the first host of the file)
#   --master_port PORT      port that all ranks connect to (default: 29500)
#
# All other arguments are passed to scripts/train.py. All hosts need the same code, Python environment and data, and
# --runs must name a folder that they share. If a host dies, the run ends on the others within --timeout seconds;
# run the same command with --resume to continue it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$here/../.venv/bin/deepspeed" ] && PATH="$here/../.venv/bin:$PATH"
fail() { echo "error: $*" >&2; exit 2; }
command -v deepspeed >/dev/null || fail "deepspeed is not installed here: run 'make setup' first"

hostfile=hostfile launcher=pdsh launcher_args= no_ssh= node_rank= master_addr= master_port=29500 rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --no_ssh) no_ssh=yes; shift ;;
    --hostfile|--launcher|--launcher_args|--node_rank|--master_addr|--master_port)
      [ $# -gt 1 ] || fail "$1 needs a value"
      printf -v "${1#--}" %s "$2"; shift 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done

[ -f "$hostfile" ] || fail "there is no hostfile $hostfile: write one like scripts/hostfile.example, or pass another with --hostfile"
hosts=() slots=() line=0
while read -r host count more || [ -n "${host:-}" ]; do
  line=$((line + 1))
  case $host in ''|'#'*) continue ;; esac
  [[ $count =~ ^slots=[1-9][0-9]*$ && -z $more ]] || fail "$hostfile, line $line: a host is 'NAME slots=NUMBER', not '$host${count:+ $count}${more:+ $more}'"
  hosts+=("$host") slots+=("${count#slots=}")
done < "$hostfile"
[ ${#hosts[@]} -gt 0 ] || fail "$hostfile names no host"
[[ $master_port =~ ^[0-9]+$ ]] || fail "--master_port must be a number, not '$master_port'"

command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus >/dev/null 2>&1 || export DS_ACCELERATOR=cpu
export MASTER_ADDR=${master_addr:-${hosts[0]}} MASTER_PORT=$master_port
threads() { echo $(( $(nproc) / $1 > 1 ? $(nproc) / $1 : 1 )); }   # divide the cores among the ranks of a host
script=("$here/train.py" --deepspeed_config "$here/ds_config.json" ${rest[@]+"${rest[@]}"})

if [ -n "$no_ssh" ]; then
  [[ $node_rank =~ ^[0-9]+$ ]] && [ "$node_rank" -lt ${#hosts[@]} ] || fail "--no_ssh needs --node_rank from 0 to $((${#hosts[@]} - 1)), this host's place in $hostfile"
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(threads "${slots[$node_rank]}")}
  world=
  for i in "${!hosts[@]}"; do world+="${world:+, }\"${hosts[$i]}\": [$(seq -s, 0 $((slots[i] - 1)))]"; done
  exec python -m deepspeed.launcher.launch --log_level critical --world_info "$(printf '{%s}' "$world" | base64 -w0 | tr '+/' '-_')" \
    --node_rank "$node_rank" --master_addr "$MASTER_ADDR" --master_port "$master_port" "${script[@]}"
fi

case $launcher in
  pdsh) needs=pdsh ;; slurm) needs=srun ;; openmpi) needs=mpirun ;;
  *) fail "unknown launcher $launcher: known are pdsh, slurm and openmpi" ;;
esac
command -v $needs >/dev/null || fail "--launcher $launcher needs $needs, which is not installed: use another launcher, or start each host with --no_ssh --node_rank N"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(threads "${slots[0]}")}
[ $launcher = pdsh ] || export TRAIN_TICKET_LAUNCHER=$launcher   # tells a rank which variables contain its number
# the variables that the ranks on other hosts need
export DS_ENV_FILE=$(mktemp)
trap 'rm -f "$DS_ENV_FILE"' EXIT
for name in DS_ACCELERATOR OMP_NUM_THREADS GOMP_SPINCOUNT TRAIN_TICKET_DATA TRAIN_TICKET_LAUNCHER MASTER_ADDR MASTER_PORT; do
  [ -z "${!name:-}" ] || echo "$name=${!name}"
done > "$DS_ENV_FILE"
check=(); [ $launcher = pdsh ] || check=(--no_ssh_check)
deepspeed --log_level critical --hostfile "$hostfile" ${check[@]+"${check[@]}"} --force_multi --launcher "$launcher" --launcher_args="$launcher_args" \
  --master_addr "$MASTER_ADDR" --master_port "$master_port" "${script[@]}"
