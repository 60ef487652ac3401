"""The embedding engine: texts to unit vectors, in batches, on one worker with a bounded queue.

Vectors are the mean over all tokens of the last layer, scaled to length 1, as sentence-transformers makes
them. A request is worked on in batches of texts of about one length, and one whose client has left stops at
the next batch. Its prompt tokens, the marks that begin and end each text included, are what is billed.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from penstock.drivers.ctranslate2 import bert
from penstock.drivers.ctranslate2.checkpoint import Manifest, read_manifest
from penstock.drivers.ctranslate2.embedding_wire import EmbeddingRequest
from penstock.drivers.ctranslate2.engine import Counters, QueueFullError, choose_device
from penstock.drivers.ctranslate2.text import Tokenizer, load_tokenizer
from penstock.drivers.ctranslate2.wire import ApiError

LOG = logging.getLogger("penstock.embedding")
BATCH_TEXTS = 32
BATCH_TOKENS = 4_096
Vector = Sequence[float]


class EmbeddingEngine:
    """One loaded encoder. ``load`` may run on any thread; everything else belongs to the event loop."""

    def __init__(self, folder: Path, *, cache: Path, device: str, threads: int, queue_max: int) -> None:
        self.folder = folder
        self.device = device
        self.queue_max = queue_max
        self.counters = Counters()
        self.running = 0
        self.waiting = 0
        self._cache = cache
        self._threads = threads
        self._numpy: Any = importlib.import_module("numpy")
        self._encoder: Any = None
        # One batch at a time: a batch uses every thread that the replica has.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._closing = False

    def load(self) -> None:
        """Convert the checkpoint if this node has not yet, load it, and make a first vector."""
        library: Any = importlib.import_module("ctranslate2")
        self.manifest: Manifest = read_manifest(self.folder)
        self.dimensions = bert.dimensions_of(self.folder)
        ready = bert.converted(self.folder, self._cache)
        self.tokenizer: Tokenizer = load_tokenizer(str(ready / "tokenizer.json"))
        tokenizer: Any = self.tokenizer  # the calls below are not in the protocol that texts need
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.device = choose_device(self.device)
        self._encoder = library.Encoder(
            str(ready), device=self.device, inter_threads=1, intra_threads=self._threads
        )
        self._embed([self.tokens("a")])

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text with the marks that begin and end it."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def prepare(self, request: EmbeddingRequest) -> list[list[int]]:
        """Return the token ids of every input; ApiError 400 for one that the model cannot take whole."""
        limit = min(self.manifest.context_tokens, request.truncate_tokens or self.manifest.context_tokens)
        prepared: list[list[int]] = []
        for index, item in enumerate(request.inputs):
            ids = self.tokens(item) if isinstance(item, str) else self._checked(item, index)
            if len(ids) > limit:
                if request.truncate_tokens is None:
                    raise ApiError(
                        400,
                        f"input[{index}] has {len(ids)} tokens; this model takes {limit}. Split it, or send "
                        "truncate_prompt_tokens.",
                        param="input",
                        code="context_length_exceeded",
                    )
                ids = [*ids[: limit - 1], ids[-1]]
            prepared.append(ids)
        return prepared

    def _checked(self, ids: Sequence[int], index: int) -> list[int]:
        for token_id in ids:
            if not 0 <= token_id < 1 << 31 or self.tokenizer.id_to_token(token_id) is None:
                message = f"input[{index}] holds {token_id}, which is no token."
                raise ApiError(400, message, param="input", code="invalid_value")
        return list(ids)

    async def embed(self, inputs: Sequence[list[int]], gone: Callable[[], bool]) -> list[Vector]:
        """Return one vector of length 1 per input, in their order; fewer, if ``gone`` says that nobody waits.

        Raises QueueFullError, having done nothing, if too many requests wait.
        """
        if self.waiting >= self.queue_max:
            raise QueueFullError
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))
        found: dict[int, Vector] = {}
        self.waiting += 1
        self.counters.requests += 1
        loop = asyncio.get_running_loop()
        try:
            for batch in batches(order, inputs):
                if gone() or self._closing:
                    break
                vectors = await loop.run_in_executor(
                    self._executor, self._embed, [inputs[index] for index in batch]
                )
                self.counters.prompt_tokens += sum(len(inputs[index]) for index in batch)
                found.update(zip(batch, vectors, strict=True))
        except RuntimeError:
            self.counters.failures += 1
            raise
        finally:
            self.waiting -= 1
        return [found[index] for index in sorted(found)]

    def _embed(self, batch: list[list[int]]) -> list[Vector]:
        """Return the vectors of one batch. Worker thread."""
        numpy = self._numpy
        hidden = numpy.array(self._encoder.forward_batch(batch).last_hidden_state).astype("float32")
        lengths = numpy.array([len(ids) for ids in batch])
        mask = (numpy.arange(hidden.shape[1])[None] < lengths[:, None]).astype("float32")
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        unit: Any = mean / numpy.maximum(numpy.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        return list(unit)

    def cancel_all(self) -> None:
        """Let what runs end at its next batch."""
        self._closing = True

    def close(self) -> None:
        """Let the worker end; call after everything ended."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def batches(order: Sequence[int], inputs: Sequence[list[int]]) -> list[list[int]]:
    """Cut ``order`` into runs of at most ``BATCH_TEXTS`` inputs and ``BATCH_TOKENS`` tokens with padding."""
    found: list[list[int]] = []
    for index in order:
        longest = len(inputs[index])  # ordered by length, so the newest is the longest
        if found and len(found[-1]) < BATCH_TEXTS and (len(found[-1]) + 1) * longest <= BATCH_TOKENS:
            found[-1].append(index)
        else:
            found.append([index])
    return found
