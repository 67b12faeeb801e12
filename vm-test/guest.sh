#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs what the kernel's command line names (base64 of a shell line, as run=...) in the project's
# directory, sends /run/answer, with its exit code, to the virtio port, and switches the guest off.
export PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8
ulimit -n 65536 # a test session holds many data planes at once
project=$(sed -n 's/.*project=\([^ ]*\).*/\1/p' /proc/cmdline)
[[ $project == /tmp/* ]] || mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t devpts devpts /dev/pts 2>/dev/null || { mkdir /dev/pts && mount -t devpts devpts /dev/pts; }
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
ln -s /proc/self/fd /dev/fd
for device in /sys/bus/{pci,virtio}/devices/*/modalias; do modprobe -q "$(cat "$device")"; done
modprobe -qa tun mpls_router mpls_iptunnel # nothing else asks for them
ip link set lo up
line=$(sed -n 's/.*run=\([^ ]*\).*/\1/p' /proc/cmdline | base64 -d)
cd "$project" || exit
eval "$line"
code=$?
# As comments behind the XML: how the line ended, the clock, and what the kernel complained of.
{
	echo
	echo "<!-- exit $code -->"
	echo "<!-- up $(cut -d. -f1 /proc/uptime) -->"
	dmesg | grep -aE "WARNING: |BUG: |Oops: " | grep -av "soft lockup" | head -n 3 | while read -r text; do
		echo "<!-- kernel ${text//--/- -} -->"
	done
} >>/run/answer
cat /run/answer >/dev/vport*
sync
echo o >/proc/sysrq-trigger
sleep 10
