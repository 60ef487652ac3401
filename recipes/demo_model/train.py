"""Train the demonstration model from nothing, on one processor core.

    OMP_NUM_THREADS=1 python -m recipes.demo_model.train --steps 3000 --out build/demo_model

Writes ``weights.npz``, ``tokenizer.json`` and ``training.json`` (losses, checksum of the text). The same
seed, steps and library versions give the same model; the run is measured in steps, not in seconds, for that
reason. Needs torch, numpy and tokenizers, none of which the product needs to run.
"""

import argparse
import json
import logging
import math
import random
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional

from recipes.demo_model import corpus
from recipes.demo_model.model import Llama, Shape

SPECIAL_TOKENS = [corpus.END_OF_TEXT, "<|im_start|>", "<|im_end|>"]
TOKENS_PER_STEP = 1_024
# Most windows are short, because short ones train faster; some reach the whole context.
WINDOWS = (128, 256, 512, 1_024)
WINDOW_WEIGHTS = (0.60, 0.28, 0.10, 0.02)
LEARNING_RATE = 2.5e-3
WARM_UP_STEPS = 60
LOG = logging.getLogger("train")


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer: any UTF-8 text has tokens, and tokens give back the exact text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Return all ``texts`` as one row of token ids, each closed by the end-of-text token."""
    ids = [token for text in texts for token in tokenizer.encode(text + corpus.END_OF_TEXT).ids]
    return torch.tensor(ids, dtype=torch.long)


def loss_of(model: Llama, rows: Tensor) -> Tensor:
    """Return the mean cross-entropy, in nats a token, of predicting each row from its beginning."""
    logits = model(rows[:, :-1])
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), rows[:, 1:].reshape(-1))


@torch.no_grad()
def held_out_loss(model: Llama, data: Tensor, window: int = 256) -> float:
    """Return the loss in nats a token over text that was never trained on."""
    count = min(len(data) // (window + 1), 64)
    rows = data[: count * (window + 1)].view(count, window + 1)
    return (
        sum(loss_of(model, rows[i : i + 8]).item() * len(rows[i : i + 8]) for i in range(0, count, 8)) / count
    )


def learning_rate(step: int, steps: int) -> float:
    """Return the rate at ``step``: linear warm-up, then a cosine down to a twentieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.95 * cosine + 0.05)


def train(model: Llama, data: Tensor, steps: int, rng: random.Random) -> float:
    """Train ``model`` in place for ``steps`` steps; return the mean loss of the last hundred."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)
    began, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        window = rng.choices(WINDOWS, WINDOW_WEIGHTS)[0]
        starts = [rng.randrange(len(data) - window - 1) for _ in range(TOKENS_PER_STEP // window)]
        loss = loss_of(model, torch.stack([data[start : start + window + 1] for start in starts]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-99:], loss.item()]
        if step % 20 == 0 or step == steps - 1:
            mean = sum(recent) / len(recent)
            LOG.info("step %d loss %.3f after %.0f s", step, mean, time.monotonic() - began)
    return sum(recent) / len(recent)


def main() -> None:
    """Train and write the results to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    text = corpus.build(options.seed)
    shape = Shape()
    tokenizer = train_tokenizer(text.training, shape.vocabulary)
    tokenizer.save(str(options.out / "tokenizer.json"))
    data, held_out = encode(tokenizer, text.training), encode(tokenizer, text.held_out)
    model = Llama(shape)
    parameters = sum(p.numel() for p in model.parameters())
    LOG.info("%d documents, %d tokens, %d parameters", len(text.training), len(data), parameters)
    final = train(model, data, options.steps, random.Random(options.seed))  # noqa: S311 - reproducible windows
    report = {
        "shape": asdict(shape),
        "parameters": parameters,
        "steps": options.steps,
        "seed": options.seed,
        "tokens_seen": options.steps * TOKENS_PER_STEP,
        "corpus_tokens": len(data),
        "corpus_sha256": text.sha256,
        "python_version": text.python_version,
        "torch_version": torch.__version__,
        "training_loss_nats": round(final, 4),
        "held_out_loss_nats": round(held_out_loss(model, held_out), 4),
    }
    np.savez(
        options.out / "weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()}
    )
    (options.out / "training.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    LOG.info("%s", json.dumps(report))


if __name__ == "__main__":
    main()
