#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# First process of a guest: mounts the images (image.py) with a writable layer above them.
/bin/busybox mkdir -p /proc /sys /dev /read /write /new
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
mount -t squashfs -o ro /dev/vda /read
mount -t tmpfs -o size=80% tmpfs /write
mkdir /write/upper /write/work
mount -t overlay -o lowerdir=/read,upperdir=/write/upper,workdir=/write/work root /new
mkdir -p "/new/usr/lib/modules/$(uname -r)"
mount -t squashfs -o ro /dev/vdb "/new/usr/lib/modules/$(uname -r)"
for place in proc sys dev; do mount --move /$place /new/$place; done
exec switch_root /new /guest.sh
