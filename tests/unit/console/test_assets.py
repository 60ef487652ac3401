"""What is shipped with the pages: small, licensed, and of this origin alone."""

import gzip
import re
from pathlib import Path

import pytest

import penstock.console
from penstock.console.assets import assets
from penstock.console.render import environment

WIRE_BYTES_MAX = 200_000
STATIC = Path(penstock.console.__file__).parent / "static"


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


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return how far two colours are apart: 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXTS = [
    *(
        (text, ground)
        for text in ("ink", "muted", "water", "copper", "good", "bad")
        for ground in ("paper", "surface")
    ),
    *((text, "raised") for text in ("ink", "muted")),
    ("water-ink", "water"),
    ("good", "good-soft"),
    ("bad", "bad-soft"),
    ("copper", "copper-soft"),
    ("ink", "water-soft"),
]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground_in_both_looks(scheme: int) -> None:
    css = (STATIC / "base.css").read_text()
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    tokens = {name: (light, dark) for name, light, dark in found}
    pale = [
        f"{text} on {ground}: {contrast(tokens[text][scheme], tokens[ground][scheme]):.2f}"
        for text, ground in TEXTS
        if contrast(tokens[text][scheme], tokens[ground][scheme]) < 4.5
    ]
    assert not pale
    assert contrast("#000000", "#ffffff") == 21
