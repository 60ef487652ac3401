"""What is shipped with the pages: small, licensed, and of this origin alone."""

import gzip
import re

from penstock.console.assets import assets
from penstock.console.render import environment

WIRE_BYTES_MAX = 200_000


def test_everything_a_page_loads_is_light_on_the_wire() -> None:
    weight = sum(len(asset.packed or asset.content) for asset in assets().values())
    assert weight < WIRE_BYTES_MAX, weight


def test_packed_files_unpack_to_what_they_are() -> None:
    for name, asset in assets().items():
        if asset.packed is not None:
            assert gzip.decompress(asset.packed) == asset.content, name


def test_whatever_is_vendored_has_its_licence_beside_it() -> None:
    vendored = {name for name in assets() if name.startswith("vendor/") and not name.endswith(".txt")}
    assert vendored == {
        "vendor/htmx.min.js",
        "vendor/ibm-plex-sans-latin-wght-normal.woff2",
        "vendor/ibm-plex-mono-latin-400-normal.woff2",
    }
    assert b"Permission to use, copy, modify" in assets()["vendor/LICENSE-htmx.txt"].content
    assert b"SIL Open Font License" in assets()["vendor/LICENSE-ibm-plex.txt"].content


def test_no_style_and_no_script_of_ours_names_another_host() -> None:
    for name, asset in assets().items():
        if name.endswith((".css", ".js")) and not name.startswith("vendor/"):
            assert not re.search(rb"https?://(?!www\.w3\.org)", asset.content), name


def test_every_template_compiles_and_none_has_inline_style_or_script() -> None:
    made = environment()
    names = made.list_templates(extensions=["html"])
    assert len(names) > 30
    for name in names:
        made.get_template(name)
        assert made.loader is not None
        text = made.loader.get_source(made, name)[0]
        assert not re.search(r"\sstyle=|\son[a-z]+=\"|<script(?![^>]*src)", text), name
