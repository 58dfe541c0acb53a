#!/usr/bin/env bash
# The first process of a cluster of one node: Slurm's own daemons in namespaces of their own (network, mounts,
# processes, host name), so that the `ray stop` of a job ends nothing outside. Says `ready` when it takes jobs.
#
# STATE        folder for what the daemons write

set -euo pipefail

hostname node1
ip link set lo up
# An address that is not loopback, and a route by which Ray finds it.
ip link add link0 type veth peer name link1
ip address add 198.51.100.1/24 dev link0
ip link set link0 up
ip link set link1 up
ip route add default via 198.51.100.2 dev link0
printf '127.0.0.1 localhost\n198.51.100.1 node1\n' > "$STATE/hosts"
mount --bind "$STATE/hosts" /etc/hosts

export SLURM_CONF=$STATE/slurm.conf
mkdir -p "$STATE/ctld" "$STATE/d"
# As large as the script asks for; what the machine really has does not matter to Slurm.
cat > "$SLURM_CONF" <<EOF
ClusterName=test
SlurmctldHost=node1
AuthType=auth/none
# What is queued again waits this many seconds.
AuthInfo=cred_expire=5
CredType=cred/none
SlurmUser=root
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/d
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
NodeName=node1 CPUs=64 Gres=gpu:8 State=UNKNOWN
PartitionName=all Nodes=node1 Default=YES State=UP
EOF
for each in {0..7}; do mknod "$STATE/gpu$each" c 1 3; done
echo "NodeName=node1 Name=gpu File=$STATE/gpu[0-7]" > "$STATE/gres.conf"
slurmctld
slurmd
until sinfo --noheader --format %t 2> /dev/null | grep -q idle; do sleep 0.2; done
echo ready
# Whatever loses its parent becomes a child of this process, which bash waits for.
while :; do sleep 3600; done
