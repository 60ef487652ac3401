"""The tiny guest that tests start. `make guest-image` builds it from Debian's packages and keeps it between runs.

Tests themselves reach nothing outside this machine, so they do not build it.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent / "guest"
_PROGRAMS = (
    "apt-get",
    "depmod",
    "cpio",
    "syslinux",
    "mcopy",
    "mkfs.vfat",
    "mke2fs",
    "sfdisk",
    "qemu-img",
    "objdump",
)
CACHE = Path("/var/tmp/penstock-test-cache")  # noqa: S108 - of root alone, and named by what it was built from


def _folder() -> Path:
    parts = sorted(_HERE.glob("*.sh"))
    name = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    return CACHE / f"guest-{name}"


def missing() -> str | None:
    """Return why there is no guest to start, None if there is one."""
    return None if tiny_image().exists() else "the guest's image is not built: make guest-image"


def tiny_image() -> Path:
    """Return the guest's disk, a qcow2 of about 17 MB that boots to SSH in 8 to 20 seconds without KVM."""
    return _folder() / "tiny.qcow2"


def build() -> str:
    """Build the image unless it is there (5 to 40 seconds); return a sentence about how it went."""
    if tiny_image().exists():
        return f"the guest's image is here: {tiny_image()}"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"the guest's image cannot be built, not installed here: {', '.join(absent)}; tests of machines are skipped"
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        subprocess.run(["sh", str(_HERE / "build.sh"), str(partial)], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(_folder(), ignore_errors=True)
        partial.replace(_folder())
    except subprocess.CalledProcessError as error:
        return f"the guest's image was not built ({error}); tests of machines are skipped"
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return f"the guest's image was built: {tiny_image()}"


if __name__ == "__main__":
    sys.stderr.write(build() + "\n")
