#!/usr/bin/env bash
# The first process of a machine of the laboratory, see lab.py. It runs in namespaces of its own: network,
# mounts, processes, host name. What it hides or changes is hidden or changed for this machine alone.
#
# NAME         host name
# STATE        folder with hosts, resolv.conf, bashrc, authorized_keys (all made by lab.py)
# KEPT         folders that stay visible although they may lie in what is hidden, one a line; read-only
# SHARED       folder that all machines share, mounted at /mnt/shared

set -euo pipefail

hostname "$NAME"
ip link set lo up

# Aside first: what is kept may lie below what is hidden next.
mount -t tmpfs tmpfs /mnt
mapfile -t kept <<< "$KEPT"
for each in "${!kept[@]}"; do
  mkdir "/mnt/$each"
  mount --rbind "${kept[$each]}" "/mnt/$each"
  mount -o remount,bind,ro "/mnt/$each"
done
mkdir /mnt/shared /mnt/state
mount --bind "$SHARED" /mnt/shared
mount --bind "$STATE" /mnt/state

mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=0700 tmpfs "$HOME"
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for each in "${!kept[@]}"; do
  mkdir -p "${kept[$each]}"
  mount --rbind "/mnt/$each" "${kept[$each]}"
  umount --recursive --lazy "/mnt/$each"
  rmdir "/mnt/$each"
done

# One core, whatever the machine around it has.
echo 0 > /run/online
mount --bind /run/online /sys/devices/system/cpu/online
mount --bind /mnt/state/hosts /etc/hosts
mount --bind /mnt/state/resolv.conf /etc/resolv.conf

# The home of a user who has installed hdsweep there before.
mkdir -p -m 700 "$HOME/.ssh" "$HOME/hdsweep"
cp /mnt/state/authorized_keys "$HOME/.ssh/"
cp /mnt/state/bashrc "$HOME/.bashrc"
ln -s "$VENV" "$HOME/hdsweep/.venv"
umount --lazy /mnt/state
mkdir /run/sshd

echo ready
# Whatever loses its parent becomes a child of this process, which bash waits for.
while :; do sleep 3600; done
