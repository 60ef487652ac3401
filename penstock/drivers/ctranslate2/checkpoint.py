"""A local folder as a servable model: what is in it, whether it is whole, and what it weighs.

Used when an operator adds a model, before a replica starts, and by the server itself.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2 import bert
from penstock.drivers.ctranslate2.packaged import manifest_folder

DEMO_MODEL_NAME = "penstock-demo-5m"
MANIFEST = "manifest.json"
REQUIRED_FILES = ("model.bin", "config.json", "tokenizer.json")
VOCABULARY_FILES = ("vocabulary.json", "vocabulary.txt")
MANIFEST_BYTES_MAX = 1 << 20
FILES_MAX = 256
PACKAGE = "package:"  # begins the name of a model that ships in the package, wherever that lies on a machine
_MODELS = Path(__file__).resolve().parent / "models"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
CONTEXT_TOKENS_DEFAULT = 2_048
CONTEXT_TOKENS_MAX = 1 << 24


def demo_model_dir() -> Path:
    """Return the folder of the demonstration model that ships inside the package."""
    return _MODELS / DEMO_MODEL_NAME


def model_reference(folder: str) -> str:
    """Return what names a model on any machine: ``package:NAME`` if it ships in the package, else its folder."""
    path = Path(folder)
    return f"{PACKAGE}{path.name}" if path.parent == _MODELS else folder


def resolve_model(reference: str) -> Path:
    """Return the folder that ``model_reference`` named, on this machine; whether it is there is another question."""
    if not reference.startswith(PACKAGE):
        return Path(reference)
    return _MODELS / reference.removeprefix(PACKAGE)


def is_reference(text: str) -> bool:
    """Tell whether ``text`` can name a model: an absolute path, or a name of the package."""
    if text.startswith(PACKAGE):
        return _NAME.fullmatch(text.removeprefix(PACKAGE)) is not None
    return Path(text).is_absolute() and "\0" not in text


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a model beside its weights; every field has a usable value without a manifest."""

    name: str
    context_tokens: int
    licence: str | None
    parameters: int | None
    demonstration: bool
    chat_template: str | None
    stop_tokens: tuple[str, ...]
    temperature: float
    repetition_penalty: float
    files: Mapping[str, str]


def _fail(field: str, sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field=field)


def _object(folder: Path, file: str) -> dict[str, object]:
    """Return the JSON object in ``file``; raises InvalidInputError naming the file if it is none."""
    try:
        if (folder / file).stat().st_size > MANIFEST_BYTES_MAX:
            raise _fail(file, f"{file} is larger than {MANIFEST_BYTES_MAX} bytes.")
        document: object = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _fail(file, f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(document, dict):
        raise _fail(file, f"{file} must hold one JSON object.")
    return cast("dict[str, object]", document)


class _Fields:
    """Typed reading of a manifest; every wrong type names its field."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document

    def text(self, key: str) -> str | None:
        value = self._document.get(key)
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= 200):
            raise _fail(f"{MANIFEST}.{key}", f"{key} in {MANIFEST} must be a text of 1 to 200 characters.")
        return value

    def whole(self, key: str, low: int, high: int) -> int | None:
        value = self._document.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _fail(
                f"{MANIFEST}.{key}", f"{key} in {MANIFEST} must be a whole number from {low} to {high}."
            )
        return value

    def real(self, key: str, default: float, low: float, high: float) -> float:
        value = self._document.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise _fail(f"{MANIFEST}.{key}", f"{key} in {MANIFEST} must be a number from {low} to {high}.")
        return float(value)

    def truth(self, key: str) -> bool:
        value = self._document.get(key, False)
        if not isinstance(value, bool):
            raise _fail(f"{MANIFEST}.{key}", f"{key} in {MANIFEST} must be true or false.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._document.get(key, [])
        items = cast("list[object]", value) if isinstance(value, list) else None
        if items is None or len(items) > 32 or not all(isinstance(item, str) and item for item in items):
            raise _fail(f"{MANIFEST}.{key}", f"{key} in {MANIFEST} must be a list of at most 32 texts.")
        return tuple(cast("list[str]", items))

    def checksums(self) -> dict[str, str]:
        value = self._document.get("files", {})
        items = cast("dict[str, object]", value) if isinstance(value, dict) else None
        if items is None or len(items) > FILES_MAX:
            raise _fail(f"{MANIFEST}.files", f"files in {MANIFEST} must map file names to sha256 checksums.")
        for file, digest in items.items():
            if "/" in file or "\\" in file or file in {"", ".", "..", MANIFEST}:
                raise _fail(
                    f"{MANIFEST}.files", f"{MANIFEST} names {file!r}, which is no file of this folder."
                )
            if not (isinstance(digest, str) and len(digest) == 64):
                raise _fail(f"{MANIFEST}.files", f"{MANIFEST} has no sha256 checksum for {file}.")
        return cast("dict[str, str]", items)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a model folder, or its defaults where there is no manifest.

    Raises InvalidInputError naming the file and the field if the manifest is not as documented.
    """
    place = manifest_folder(folder)
    document = _object(place, MANIFEST) if (place / MANIFEST).exists() else {}
    fields = _Fields(document)
    stated, served = fields.text("format"), format_of(folder)
    if stated not in {None, served}:
        raise _fail(
            f"{MANIFEST}.format", f"{MANIFEST} says format {stated!r}; this engine serves {served!r} here."
        )
    return Manifest(
        name=fields.text("name") or folder.name,
        context_tokens=fields.whole("context_tokens", 16, CONTEXT_TOKENS_MAX) or CONTEXT_TOKENS_DEFAULT,
        licence=fields.text("licence"),
        parameters=fields.whole("parameters", 1, 1 << 50),
        demonstration=fields.truth("demonstration"),
        chat_template=fields.text("chat_template"),
        stop_tokens=fields.texts("stop_tokens"),
        temperature=fields.real("temperature", 1.0, 0.0, 2.0),
        repetition_penalty=fields.real("repetition_penalty", 1.0, 1.0, 2.0),
        files=fields.checksums(),
    )


def format_of(folder: Path) -> str:
    """Return ``bert`` for an encoder that is converted on the node, else ``ctranslate2``."""
    return "bert" if bert.is_checkpoint(folder) else "ctranslate2"


def check_layout(folder: Path) -> list[Path]:
    """Return the files of a model folder; raises InvalidInputError naming what is missing or forbidden.

    Links that lead out of the folder are refused: a model must not be a way to read another file.
    """
    if not folder.is_absolute():
        raise _fail("model_dir", "model_dir must be an absolute path.")
    if not folder.is_dir():
        where = "it ships with another version of Penstock" if folder.parent == _MODELS else "copy it there"
        raise _fail("model_dir", f"There is no model in {folder} on this machine: {where}.")
    inside = folder.resolve()
    files = sorted(folder.iterdir())
    if len(files) > FILES_MAX:
        raise _fail("model_dir", f"model_dir {folder} holds more than {FILES_MAX} files.")
    for path in files:
        if not path.resolve().is_relative_to(inside):
            raise _fail(path.name, f"{path.name} is a link out of the model folder; copy the file instead.")
    if bert.is_checkpoint(folder):
        return _encoder_files(folder)
    for name in REQUIRED_FILES:
        if not (folder / name).is_file():
            raise _fail(name, f"{name} is missing in {folder}: this is not a CTranslate2 model folder.")
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise _fail("vocabulary.json", f"vocabulary.json is missing in {folder}.")
    return [path for path in files if path.is_file()]


def _encoder_files(folder: Path) -> list[Path]:
    """Return the files that an encoder is made of; raises InvalidInputError if it is of no kind we serve."""
    for name in bert.CHECKPOINT_FILES:
        if not (folder / name).is_file():
            raise _fail(name, f"{name} is missing in {folder}: this is not the folder of an encoder.")
    bert.dimensions_of(folder)
    names = [*bert.CHECKPOINT_FILES, *([MANIFEST] if (folder / MANIFEST).is_file() else [])]
    return [folder / name for name in names]


class Checksums:
    """SHA-256 of files, remembered as long as a file's time, size and inode stay the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> str:
        """Return the SHA-256 of a file as 64 hexadecimal digits; raises OSError if it cannot be read."""
        status = path.stat()
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        with self._lock:
            known = self._known.get(str(path))
        if known is not None and known[0] == state:
            return known[1]
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with self._lock:
            self._known[str(path)] = (state, digest)
        return digest


def verify(folder: Path, checksums: Checksums) -> Manifest:
    """Check layout, manifest and every checksum in it; return the manifest.

    Raises InvalidInputError whose ``field`` is the file that is missing, changed or unreadable.
    """
    check_layout(folder)
    manifest = read_manifest(folder)
    for file, expected in manifest.files.items():
        try:
            actual = checksums.of(folder / file)
        except OSError as error:
            raise _fail(file, f"{file} in {folder} cannot be read: {error.strerror}.") from error
        if actual != expected.lower():
            raise _fail(
                file, f"{file} in {folder} is corrupt: its sha256 differs from the one in {MANIFEST}."
            )
    for file in ("config.json", "tokenizer.json"):
        if file not in manifest.files:
            _check_json(folder, file)
    return manifest


def _check_json(folder: Path, file: str) -> None:
    """Raise InvalidInputError unless ``file`` holds a JSON object; for files that no checksum covers."""
    try:
        whole = isinstance(json.loads((folder / file).read_bytes()), dict)
    except (OSError, ValueError) as error:
        raise _fail(file, f"{file} in {folder} is corrupt: {error}.") from error
    if not whole:
        raise _fail(file, f"{file} in {folder} is corrupt: it holds no JSON object.")


def check_byte_level(folder: Path) -> None:
    """Raise InvalidInputError unless the tokenizer is byte-level, the kind whose text the server can stream."""
    document: dict[str, object] = json.loads((folder / "tokenizer.json").read_bytes())
    if "ByteLevel" not in json.dumps(document.get("decoder")):
        sentence = "tokenizer.json is not a byte-level BPE tokenizer; other kinds are not supported yet."
        raise _fail("tokenizer.json", sentence)


def inspect_model_folder(path: Path | str) -> dict[str, object]:
    """Return what a model catalogue records of a local folder, after checking that it can be served.

    Keys: ``name, kind, dimensions, format, engine, path, size_bytes, files`` (name -> ``{size_bytes, sha256}``), ``licence,
    parameters, context_tokens, demonstration, chat_template, stop_tokens``. The cost is one read of every
    file. Raises InvalidInputError naming the file that is missing, corrupt or a link out of the folder.
    """
    folder = Path(path)
    checksums = Checksums()
    manifest = verify(folder, checksums)
    if not bert.is_checkpoint(folder):
        check_byte_level(folder)
    return _facts(folder, manifest, {file.name: checksums.of(file) for file in check_layout(folder)})


def packaged_facts(folder: Path) -> dict[str, object]:
    """Return the same of the packaged embedding model without reading its weights.

    The checksums are those that the files must have; every start of a replica compares them.
    """
    check_layout(folder)
    manifest = read_manifest(folder)
    return _facts(folder, manifest, manifest.files)


def _facts(folder: Path, manifest: Manifest, checksums: Mapping[str, str]) -> dict[str, object]:
    encoder = bert.is_checkpoint(folder)
    files = {
        name: {"size_bytes": (folder / name).stat().st_size, "sha256": digest}
        for name, digest in sorted(checksums.items())
    }
    return {
        "name": manifest.name,
        "kind": "embedding" if encoder else "generation",
        "dimensions": bert.dimensions_of(folder) if encoder else None,
        "format": format_of(folder),
        "engine": "ctranslate2",
        "path": str(folder),
        "size_bytes": sum(int(facts["size_bytes"]) for facts in files.values()),
        "files": files,
        "licence": manifest.licence,
        "parameters": manifest.parameters,
        "context_tokens": manifest.context_tokens,
        "demonstration": manifest.demonstration,
        "chat_template": manifest.chat_template,
        "stop_tokens": list(manifest.stop_tokens),
    }
