"""The inference engine: CTranslate2 behind slots and a bounded queue.

CTranslate2 runs ``parallel`` generations at once, each on a worker of its own with its own cache, so requests
make progress together and a short one is not stuck behind a long one. (One batch that requests join and leave
at every token would use a processor better; the library offers no such thing.) Requests beyond ``parallel``
wait here, where they can be cancelled before they cost anything, and beyond ``queue_max`` they are refused.
"""

import asyncio
import ctypes
import importlib
import json
import logging
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.drivers.ctranslate2.checkpoint import Manifest, read_manifest
from penstock.drivers.ctranslate2.generation import Generation, Job
from penstock.drivers.ctranslate2.template import TEMPLATES, ChatTemplate, encode_text
from penstock.drivers.ctranslate2.text import Tokenizer, Vocabulary, load_tokenizer
from penstock.drivers.ctranslate2.wire import ApiError, Request, Sampling

LOG = logging.getLogger("penstock.engine")
# A seeded request loads the weights once more, because the library seeds a worker once in its life. That
# costs 20 ms for a model of this size and would cost seconds and gigabytes for a large one.
SEEDED_MODEL_BYTES_MAX = 64 << 20
_UNSEEDED = (1 << 32) - 1  # the library's own mark for "seed from the operating system"


class QueueFullError(Exception):
    """More requests wait than the limit allows."""


@dataclass(slots=True)
class Counters:
    """Totals since the start, for /metrics."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: int = 0


def _return_unused_memory() -> None:
    """Give the buffers that only loading needed back to the system; about a tenth of a small replica."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, other C libraries may not
    if trim is not None:
        trim(0)


def choose_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu``: ``auto`` takes CUDA where the library finds a device."""
    library: Any = importlib.import_module("ctranslate2")
    if wanted != "auto":
        return wanted
    return "cuda" if int(library.get_cuda_device_count()) > 0 else "cpu"


class Engine:
    """One loaded model. ``load`` may run on any thread; everything else belongs to the event loop."""

    def __init__(self, folder: Path, *, device: str, threads: int, parallel: int, queue_max: int) -> None:
        self.folder = folder
        self.device = device
        self.parallel = parallel
        self.queue_max = queue_max
        self.counters = Counters()
        self._threads = threads
        self._library: Any = None
        self._generator: Any = None
        self._running: set[Generation] = set()
        self._waiting: deque[Generation] = deque()
        self._executor = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="generate")
        self._seeding = threading.Lock()

    def load(self) -> None:
        """Load weights and tokenizer and generate a first token on every worker.

        Raises ValueError or RuntimeError (the library's own) if the files cannot be used.
        """
        self._library = importlib.import_module("ctranslate2")
        self.manifest: Manifest = read_manifest(self.folder)
        self.tokenizer: Tokenizer = load_tokenizer(str(self.folder / "tokenizer.json"))
        self._vocabulary = Vocabulary(self.tokenizer)
        self.device = choose_device(self.device)
        self._generator = self._new_generator(self.parallel)
        self.template = self._chat_template()
        self._end_ids = self._ends()
        self._warm_up()
        _return_unused_memory()

    def _chat_template(self) -> ChatTemplate | None:
        """Return the template that the manifest names, else one whose markers the tokenizer has, else None."""
        named = self.manifest.chat_template
        if named is not None:
            if named not in TEMPLATES:
                raise ValueError(f"unknown chat template {named!r}; known are {', '.join(TEMPLATES)}")
            return TEMPLATES[named]
        for template in TEMPLATES.values():
            markers = (template.opening, template.closing)
            if all(self.tokenizer.token_to_id(marker) is not None for marker in markers):
                return template
        return None

    def _ends(self) -> frozenset[int]:
        """Return the ids that end an answer: the manifest's, else the model's own and its template's."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        names = list(self.manifest.stop_tokens) or [str(config.get("eos_token", ""))]
        if self.template is not None and not self.manifest.stop_tokens:
            names.append(self.template.closing)
        ids = [self.tokenizer.token_to_id(name) for name in names]
        found = frozenset(token_id for token_id in ids if token_id is not None)
        if len(found) != len(set(names)):
            raise ValueError(f"the tokenizer does not have every stop token of {', '.join(names)}")
        return found

    def _new_generator(self, workers: int) -> Any:
        return self._library.Generator(
            str(self.folder),
            device=self.device,
            inter_threads=workers,
            intra_threads=self._threads,
        )

    def _warm_up(self) -> None:
        """Let every worker draw one random token at the same time.

        Ready then means that tokens were generated, and no worker is left that would take its random seed
        from the next seeded request: a worker reads the library's global seed at its first draw.
        """
        workers = int(self._generator.num_generators)
        together = threading.Barrier(workers)
        prompt = self._tokens(encode_text(self.tokenizer, "a"))

        def meet(_result: Any) -> bool:
            together.wait(timeout=60)
            return True

        pending = [
            self._generator.generate_batch(
                [prompt],
                max_length=1,
                sampling_topk=0,
                include_prompt_in_result=False,
                callback=meet,
                asynchronous=True,
            )[0]
            for _ in range(workers)
        ]
        for result in pending:
            result.result()

    def _tokens(self, ids: list[int]) -> list[str]:
        tokens = [self.tokenizer.id_to_token(token_id) for token_id in ids]
        return [token for token in tokens if token is not None]

    @property
    def running(self) -> int:
        """How many requests are being generated."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._waiting)

    def active(self) -> list[Generation]:
        """Return what is being generated now."""
        return list(self._running)

    def prepare(self, request: Request, request_id: str) -> Generation:
        """Return the generation for a request; raises ApiError 400 if its prompt cannot be fed."""
        ids = self._prompt_ids(request)
        room = self.manifest.context_tokens - len(ids)
        if room < 1:
            raise ApiError(
                400,
                f"The prompt has {len(ids)} tokens; this model's context holds {self.manifest.context_tokens}, "
                "one of which must be left for the answer. Shorten the prompt.",
                param="messages" if request.chat else "prompt",
                code="context_length_exceeded",
            )
        job = self._job(ids, room, request.sampling)
        return Generation(request_id, job, self._end_ids, self._vocabulary.detokenizer())

    def _prompt_ids(self, request: Request) -> list[int]:
        prompt = request.prompt
        if isinstance(prompt, str):
            ids = encode_text(self.tokenizer, prompt)
        elif request.chat:
            if self.template is None:
                raise ApiError(400, "This model has no chat template; use /v1/completions.", param="model")
            messages = [item for item in prompt if not isinstance(item, int)]
            ids = self.template.prompt(self.tokenizer, messages, continues=request.continues)
        else:
            ids = [item for item in prompt if isinstance(item, int)]
            for token_id in ids:
                if not 0 <= token_id < 1 << 31 or self.tokenizer.id_to_token(token_id) is None:
                    raise ApiError(
                        400,
                        f"prompt holds {token_id}, which is no token.",
                        param="prompt",
                        code="invalid_value",
                    )
        if not ids:
            raise ApiError(400, "prompt must not be empty.", param="prompt", code="invalid_value")
        return ids

    def _job(self, ids: list[int], room: int, sampling: Sampling) -> Job:
        temperature = self.manifest.temperature if sampling.temperature is None else sampling.temperature
        seed = sampling.seed if temperature > 0 else None  # the most likely token needs no chance
        if seed is not None and not self._can_seed():
            message = "seed is supported for this model only with temperature 0."
            raise ApiError(400, message, param="seed", code="unsupported_parameter")
        return Job(
            prompt_ids=ids,
            max_tokens=min(room, sampling.max_tokens or room),
            temperature=temperature,
            top_p=sampling.top_p,
            repetition_penalty=self.manifest.repetition_penalty,
            seed=seed,
            stop=sampling.stop,
        )

    def _can_seed(self) -> bool:
        return self.device == "cpu" and (self.folder / "model.bin").stat().st_size <= SEEDED_MODEL_BYTES_MAX

    def start(self, generation: Generation) -> None:
        """Begin, or queue, a generation; raises QueueFullError without having changed anything."""
        if self.running >= self.parallel and self.waiting >= self.queue_max:
            raise QueueFullError
        self.counters.requests += 1
        if self.running >= self.parallel:
            self._waiting.append(generation)
        else:
            self._begin(generation)

    def cancel(self, generation: Generation) -> None:
        """Stop a generation within one token, or before its first one if it still waits."""
        generation.cancelled = True
        if generation in self._waiting:
            self._waiting.remove(generation)
            generation.finish()

    def cancel_all(self) -> None:
        """Stop everything that runs or waits."""
        for generation in [*self._waiting, *self._running]:
            self.cancel(generation)

    def _begin(self, generation: Generation) -> None:
        self._running.add(generation)
        generation.prompt_tokens = len(generation.job.prompt_ids)
        self.counters.prompt_tokens += generation.prompt_tokens
        loop = asyncio.get_running_loop()
        future = self._executor.submit(self._generate, generation)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._ended, generation, done))

    def _ended(self, generation: Generation, done: "Future[None]") -> None:
        self._running.discard(generation)
        self.counters.completion_tokens += generation.completion_tokens
        error = done.exception()
        if error is not None:
            self.counters.failures += 1
            LOG.error("request %s failed: %r", generation.request_id, error)
        generation.finish(None if error is None else "The engine failed while generating.")
        while self._waiting and self.running < self.parallel:
            self._begin(self._waiting.popleft())

    def _generate(self, generation: Generation) -> None:
        """Run one generation to its end. Worker thread."""
        seed = generation.job.seed
        if seed is None:
            self._run(self._generator, generation)
            return
        with self._seeding:
            self._library.set_random_seed(seed & 0x7FFFFFFF)
            try:
                self._run(self._new_generator(1), generation)
            finally:
                self._library.set_random_seed(_UNSEEDED)

    def _run(self, generator: Any, generation: Generation) -> None:
        job = generation.job
        generator.generate_batch(
            [self._tokens(job.prompt_ids)],
            max_length=job.max_tokens,
            include_prompt_in_result=False,
            sampling_topk=0 if job.temperature > 0 else 1,
            sampling_topp=job.top_p,
            sampling_temperature=job.temperature if job.temperature > 0 else 1.0,
            repetition_penalty=job.repetition_penalty,
            end_token=sorted(generation.end_ids),
            callback=generation.step,
        )

    def close(self) -> None:
        """Let the worker threads end; call after everything ended."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def default_parallel() -> int:
    """Return how many generations run at once: enough to share a small machine fairly, bounded for memory."""
    return max(4, min(16, (os.cpu_count() or 1)))
