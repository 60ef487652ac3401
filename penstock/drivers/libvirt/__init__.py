"""Virtual machines through libvirt and QEMU: one folder per machine, one domain per allocation."""
