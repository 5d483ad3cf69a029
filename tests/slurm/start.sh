#!/bin/sh
# Starts a SLURM of one node on this machine, for tests and first steps. As root, with Debian's packages:
#   apt-get install slurm-wlm munge
# It writes /etc/slurm/slurm.conf where there is none, and starts munged, slurmctld and slurmd in the background.
# Stop it with: sh start.sh stop
set -e

stop() {
    for name in slurmd slurmctld munged; do
        for file in /run/kdface-slurm/$name.pid /run/munge/munged.pid; do
            [ "$(basename "$file" .pid)" = "$name" ] && [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
        done
    done
}

if [ "$1" = stop ]; then
    stop
    exit 0
fi
for program in munged slurmctld slurmd sinfo; do
    if ! command -v $program >/dev/null; then
        echo "$program is not installed: apt-get install slurm-wlm munge" >&2
        exit 3
    fi
done
if sinfo --noheader >/dev/null 2>&1; then
    echo "SLURM is running already"
    exit 0
fi

mkdir -p /run/munge /var/log/munge /run/kdface-slurm /var/spool/slurmctld /var/spool/slurmd /etc/slurm
chown munge: /run/munge /var/log/munge
chmod 755 /run/munge
[ -f /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom >/etc/munge/munge.key)
chown munge: /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
su -s /bin/sh munge -c munged || munged --force

host=$(hostname -s)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
[ -f /etc/slurm/slurm.conf ] || cat >/etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/kdface-slurm/slurmctld.pid
SlurmdPidFile=/run/kdface-slurm/slurmd.pid
SlurmctldLogFile=/run/kdface-slurm/slurmctld.log
SlurmdLogFile=/run/kdface-slurm/slurmd.log
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MpiDefault=none
NodeName=$host CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=$host Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
slurmctld
slurmd
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if sinfo --noheader --format %T 2>/dev/null | grep -q -E 'idle|mixed|alloc'; then
        echo "SLURM answers after $second s"
        exit 0
    fi
    sleep 1
done
echo "SLURM does not answer; see /run/kdface-slurm/*.log" >&2
exit 1
