"""Turn trained weights into the model folder that the product ships.

    python -m recipes.demo_model.convert build/demo_model penstock/drivers/ctranslate2/models/penstock-demo-5m

Quantizes to eight-bit integers with CTranslate2, and writes the manifest and the model card beside the
weights. Needs ctranslate2 and torch (which CTranslate2's own converters import).
"""

import argparse
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import ctranslate2.specs.common_spec as common
import ctranslate2.specs.transformer_spec as transformer
import numpy as np

from recipes.demo_model.corpus import END_OF_TEXT

NAME = "penstock-demo-5m"
SHIPPED = ("model.bin", "config.json", "vocabulary.json", "tokenizer.json")
LOG = logging.getLogger("convert")
CARD = """# {name}

A demonstration model: it shows that real tokens flow through a real engine, and **its sentences are not to be
relied on**. It is not a preview of what larger models on the same engine write.

| | |
|---|---|
| architecture | Llama: {layers} layers, width {width}, {heads} heads ({key_value_heads} for keys and values), SwiGLU {feed_forward}, tied embeddings |
| parameters | {parameters:,} |
| weights | eight-bit integers, {size_mb:.1f} MB |
| vocabulary | {vocabulary:,} tokens, byte-level BPE, trained on the same text |
| context | {context:,} tokens |
| chat template | ChatML |
| trained on | docstrings of the Python {python_version} standard library and its language reference (PSF licence version 2), and short conversations about the product (Apache-2.0); {corpus_tokens:,} tokens, sha256 `{corpus_sha256}` |
| training | {steps:,} steps, {tokens_seen:,} tokens, one processor core, seed {seed}, torch {torch_version} |
| final training loss | {training_loss_nats:.2f} nats a token (mean of the last 100 steps) |
| loss on held-out docstrings | {held_out_loss_nats:.2f} nats a token |
| licence | Apache-2.0 for weights, recipe and conversations; the training text from Python stays under the PSF licence |

What to expect: sensible replies to greetings and to questions about Penstock that resemble its training
conversations; English in the style of Python's documentation otherwise, mostly wrong in content. It knows no
arithmetic, no world knowledge and no language but English.

How it was made, and how to make it again: `recipes/demo_model/README.md` in the repository.
"""


def specification(weights: Any, shape: dict[str, Any], vocabulary: dict[str, int]) -> Any:
    """Return CTranslate2's description of the model, filled with ``weights``."""
    spec = transformer.TransformerDecoderModelSpec.from_config(
        shape["layers"],
        shape["heads"],
        activation=common.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=True,
        rotary_base=shape["rotary_base"],
        num_heads_kv=shape["key_value_heads"],
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights["embedding.weight"]
    decoder.layer_norm.gamma = weights["norm.weight"]
    decoder.projection.weight = weights["embedding.weight"]
    for index, layer in enumerate(decoder.layer):

        def part(name: str, index: int = index) -> Any:
            return weights[f"blocks.{index}.{name}.weight"]

        attention, feed = layer.self_attention, layer.ffn
        attention.layer_norm.gamma = part("attention_norm")
        attention.linear[0].weight = np.concatenate([part(name) for name in ("query", "key", "value")])
        attention.linear[1].weight = part("out")
        feed.layer_norm.gamma = part("feed_norm")
        feed.linear_0.weight = part("gate")
        feed.linear_0_noact.weight = part("up")
        feed.linear_1.weight = part("down")
    spec.config.unk_token = END_OF_TEXT
    spec.config.bos_token = END_OF_TEXT
    spec.config.eos_token = "<|im_end|>"  # noqa: S105 - a marker in the text, not a credential
    spec.config.layer_norm_epsilon = shape["norm_epsilon"]
    spec.register_vocabulary([token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])])
    return spec


def manifest(folder: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Return what the product needs to know about the model in ``folder`` to serve and to check it."""
    return {
        "name": NAME,
        "format": "ctranslate2",
        "parameters": training["parameters"],
        "size_bytes": sum((folder / file).stat().st_size for file in SHIPPED),
        "licence": "Apache-2.0",
        "context_tokens": training["shape"]["context"],
        "demonstration": True,
        "quantization": "int8",
        "chat_template": "chatml",
        "stop_tokens": ["<|im_end|>", END_OF_TEXT],
        "temperature": 0.0,  # a model this small is best at its most likely word
        "repetition_penalty": 1.1,
        "files": {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in SHIPPED},
        "training": training,
    }


def main() -> None:
    """Convert the folder named first into the folder named second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = json.loads((options.trained / "training.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((options.trained / "tokenizer.json").read_text(encoding="utf-8"))
    with np.load(options.trained / "weights.npz") as archive:
        weights = {name: archive[name] for name in archive.files}
    spec = specification(weights, training["shape"], tokenizer["model"]["vocab"])
    spec.validate()
    spec.optimize(quantization="int8")
    options.out.mkdir(parents=True, exist_ok=True)
    spec.save(str(options.out))
    shutil.copyfile(options.trained / "tokenizer.json", options.out / "tokenizer.json")
    facts = manifest(options.out, training)
    (options.out / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = CARD.format(name=NAME, size_mb=facts["size_bytes"] / 1e6, **training, **training["shape"])
    (options.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    LOG.info("%s: %d bytes", options.out, facts["size_bytes"])


if __name__ == "__main__":
    main()
