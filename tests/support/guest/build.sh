#!/bin/sh
# Builds a tiny bootable guest image (BIOS, qcow2) from Debian packages only: Debian's cloud
# kernel + busybox-static + dropbear + qemu-guest-agent in an initramfs, booted by syslinux from
# a FAT partition, and a small ext4 partition for persistent state. No loop device, no mount.
# Also leaves OUT-vmlinuz and OUT-initrd for direct kernel boot (libvirt <kernel>/<initrd>).
# Usage: build-tiny-image.sh OUTDIR          (writes tiny.qcow2, tiny-vmlinuz, tiny-initrd)
# Needs: apt-get install --no-install-recommends kmod cpio syslinux syslinux-common mtools \
#        dosfstools e2fsprogs fdisk qemu-utils
set -eu
here=$(cd "$(dirname "$0")" && pwd); out=$1; mkdir -p "$out"; out=$(cd "$out" && pwd)
w=$(mktemp -d); trap 'rm -rf "$w"' EXIT; cd "$w"; mkdir debs sys kern root
kpkg=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/{print $2; exit}')
chmod 755 "$w" debs; chown _apt debs 2>/dev/null || true
(cd debs && apt-get -q download "$kpkg" busybox-static dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1 \
   zlib1g libc6 qemu-guest-agent libglib2.0-0 libpcre2-8-0 liburing2 libudev1 libnuma1 acpid >/dev/null)
for d in debs/*.deb; do case $d in debs/linux-image*) dpkg-deb -x "$d" kern;; *) dpkg-deb -x "$d" sys;; esac; done
kver=$(ls kern/lib/modules); depmod -b kern "$kver"
r=root; mkdir -p $r/bin $r/sbin $r/usr/bin $r/usr/sbin $r/lib/modules $r/lib64 $r/etc/acpi/events $r/dev $r/proc $r/sys $r/root $r/var/run
cp sys/bin/busybox $r/bin/busybox; ln -s busybox $r/bin/sh
for b in usr/sbin/dropbear usr/bin/dropbearkey usr/sbin/qemu-ga usr/sbin/acpid; do cp sys/$b $r/$b; done
cp "$(find sys -name 'ld-linux-x86-64.so.2' | head -n 1)" $r/lib64/
need() { LC_ALL=C objdump -p "$1" 2>/dev/null | awk '/NEEDED/{print $2}'; }
todo="$(for b in $r/usr/sbin/dropbear $r/usr/bin/dropbearkey $r/usr/sbin/qemu-ga; do need $b; done)"
while [ -n "$todo" ]; do next=""; for l in $todo; do [ -e $r/lib/$l ] && continue
  f=$(find sys -name "$l" | head -n 1); [ -n "$f" ] || { echo "missing $l" >&2; continue; }
  cp -L "$f" $r/lib/$l; next="$next $(need "$f")"; done; todo=$next; done
for f in libnss_files.so.2; do p=$(find sys -name $f | head -n 1); [ -n "$p" ] && cp -L "$p" $r/lib/; done
: > $r/etc/modules.list
for m in virtio_pci virtio_mmio virtio_net virtio_blk virtio_scsi virtio_console virtio_balloon virtio_rng \
         ata_piix ahci sd_mod sr_mod isofs vfat nls_iso8859-1 nls_cp437 nls_ascii af_packet button evdev veth bridge vxlan; do
  modprobe --show-depends -d kern -S "$kver" $m 2>/dev/null | awk '$1=="insmod"{print $2}' | while read -r ko; do
    n=$(basename "$ko"); [ -e $r/lib/modules/$n ] && continue; cp "$ko" $r/lib/modules/$n; echo $n >> $r/etc/modules.list; done; done
cp "$here/init.sh" $r/init; chmod 755 $r/init
echo 'root:*:0:0:root:/root:/bin/sh' > $r/etc/passwd; echo 'root:*:19000:0:99999:7:::' > $r/etc/shadow
echo 'root:x:0:' > $r/etc/group; echo /bin/sh > $r/etc/shells; echo 'passwd: files' > $r/etc/nsswitch.conf
cat > $r/etc/udhcpc.script <<'U'
#!/bin/sh
case $1 in bound|renew) ip addr flush dev $interface; ip addr add $ip/$(ipcalc -p $ip $subnet | cut -d= -f2) dev $interface
 for g in $router; do ip route add default via $g dev $interface; break; done
 : > /etc/resolv.conf; for d in $dns; do echo nameserver $d >> /etc/resolv.conf; done;; esac
U
chmod 755 $r/etc/udhcpc.script
printf 'event=button/power.*\naction=/sbin/poweroff\n' > $r/etc/acpi/events/power
cat > $r/sbin/shutdown <<'U'
#!/bin/sh
# what the QEMU guest agent calls: shutdown -h|-r -P|-H +0
case " $* " in *" -r "*) exec /bin/busybox reboot;; *) exec /bin/busybox poweroff;; esac
U
chmod 755 $r/sbin/shutdown
(cd $r && find . | cpio -o -H newc --quiet -R 0:0 | gzip -6) > "$out/tiny-initrd"
cp kern/boot/vmlinuz-* "$out/tiny-vmlinuz"
# disk: 48 MiB FAT (boot) + 64 MiB ext4 (state)
img=disk.raw; truncate -s 128M $img
printf 'label: dos\nstart=2048, size=98304, type=c, bootable\nstart=100352, size=131072, type=83\n' | sfdisk -q $img
truncate -s 48M fat.img; mkfs.vfat -n BOOT fat.img >/dev/null
cat > syslinux.cfg <<'S'
DEFAULT linux
PROMPT 0
TIMEOUT 0
SERIAL 0 115200
LABEL linux
  KERNEL vmlinuz
  INITRD initrd
  APPEND console=ttyS0,115200 quiet loglevel=4 tsc=reliable no_timer_check mitigations=off panic=5
S
mcopy -i fat.img "$out/tiny-vmlinuz" ::vmlinuz; mcopy -i fat.img "$out/tiny-initrd" ::initrd; mcopy -i fat.img syslinux.cfg ::syslinux.cfg
syslinux --install fat.img
mkdir data; truncate -s 64M ext.img; mke2fs -q -t ext4 -L GUESTDATA -d data ext.img
dd if=fat.img of=$img bs=1M seek=1 conv=notrunc status=none; dd if=ext.img of=$img bs=1M seek=49 conv=notrunc status=none
dd if=/usr/lib/syslinux/mbr/mbr.bin of=$img bs=440 count=1 conv=notrunc status=none
qemu-img convert -O qcow2 -c $img "$out/tiny.qcow2"
ls -la "$out"/tiny*
