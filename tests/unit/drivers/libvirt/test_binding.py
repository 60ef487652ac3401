"""libvirt's binding is found beside this environment, and where it is not the driver says what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt import binding
from tests.support import hypervisors

_SCRIPT = """
import sys
from pathlib import Path
from penstock.drivers.libvirt import binding
from penstock.base.errors import UnavailableError
try:
    binding.load(Path(sys.argv[1]))
except UnavailableError as error:
    print(error.sentence)
print(sorted(set(sys.modules) & {"libvirt", "libvirtmod"}))
print([one for one in sys.path if "dist-packages" in one])
"""


def _loaded(folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_without_a_binding_the_sentence_says_what_to_install(tmp_path: Path) -> None:
    said = _loaded(tmp_path)
    if said[0].startswith("["):
        pytest.skip("libvirt-python is installed in this environment")
    assert "python3-libvirt" in said[0]
    assert said[1:] == ["[]", "[]"]


def test_a_broken_binding_is_no_binding(tmp_path: Path) -> None:
    (tmp_path / "libvirtmod.so").write_bytes(b"no library")
    (tmp_path / "libvirt.py").write_text("")
    said = _loaded(tmp_path)
    if said[0].startswith("["):
        pytest.skip("libvirt-python is installed in this environment")
    assert "python3-libvirt" in said[0]
    assert said[1] == "[]"


@pytest.mark.skipif(hypervisors.missing() is not None, reason="no hypervisor can run here")
def test_debians_binding_is_loaded_without_its_folder() -> None:
    assert _loaded(binding.SYSTEM_FOLDER) == ["['libvirt', 'libvirtmod']", "[]"]
    assert binding.is_available()


def test_availability_is_the_absence_of_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(folder: Path) -> object:
        raise UnavailableError(str(folder))

    monkeypatch.setattr(binding, "load", refuse)
    assert not binding.is_available(tmp_path)
