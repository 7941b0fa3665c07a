#!/usr/bin/env bash
# slurm_here.sh start|stop DIR: a SLURM of two nodes on loopback, for root, with Debian's slurm-wlm and munge.
set -euo pipefail
action=${1:-} folder=${2:-}
if [[ -z $folder || ($action != start && $action != stop) ]]; then
    echo "usage: $0 start|stop DIR" >&2
    exit 2
fi
if [[ $action == stop ]]; then
    for file in "$folder"/run/*.pid "$folder"/mrun/munged.pid; do
        [[ -f $file ]] || continue
        pid=$(cat "$file")
        kill "$pid" || true
        timeout 30 tail --pid="$pid" -f /dev/null # it writes into the folder until it ends
    done
    exit 0
fi
mkdir -p "$folder"/{run,mrun,state,spool-n1,spool-n2}
chown slurm "$folder/run" "$folder/state"
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 400 "$folder/munge.key"
chown munge "$folder/munge.key" "$folder/mrun"
touch "$folder/ctld.log"
chown slurm "$folder/ctld.log"
runuser -u munge -- munged --socket="$folder/mrun/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/mrun/munged.pid" --log-file="$folder/mrun/munged.log" --force
sed "s#@DIR@#$folder#g; s#@HOST@#$(hostname -s)#g" "$(dirname "$0")/slurm.conf.template" >"$folder/slurm.conf"
runuser -u slurm -- slurmctld -f "$folder/slurm.conf"
for node in n1 n2; do
    slurmd -N "$node" -f "$folder/slurm.conf"
done
