"""Which engine has probably kept the beginning of a prompt: a bounded memory of what was sent where.

Engines keep the attention of prompts' beginnings and reuse it, block by block; a request that meets its beginning
there starts sooner. The index remembers hashes of blocks, never text, and forgets the ones that were used longest ago.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

BLOCK_BYTES = 1_024
BLOCK_TOKENS = BLOCK_BYTES // 4  # about, for natural text
BLOCKS_PER_PROMPT_MAX = 64


def blocks_of(prompt: bytes) -> list[int]:
    """Return a hash for each whole block of a prompt's beginning; each stands for everything before it too."""
    found: list[int] = []
    chain = 0
    for start in range(
        0, min(len(prompt), BLOCK_BYTES * BLOCKS_PER_PROMPT_MAX) - BLOCK_BYTES + 1, BLOCK_BYTES
    ):
        chain = hash((chain, prompt[start : start + BLOCK_BYTES]))
        found.append(chain)
    return found


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class PrefixIndex:
    """Blocks and the engines, as numbers, that were sent them."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._holders: OrderedDict[int, int] = OrderedDict()  # block: set of engines as bits

    def __len__(self) -> int:
        """Return how many blocks are remembered."""
        return len(self._holders)

    def matched(self, blocks: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks each engine holds; engines that hold none are not in it."""
        found: dict[int, int] = {}
        alive = self._holders.get(blocks[0], 0) if blocks else 0
        for depth, block in enumerate(blocks):
            holders = self._holders.get(block, 0)
            for engine in _bits(alive & ~holders):
                found[engine] = depth
            alive &= holders
            if not alive:
                return found
        for engine in _bits(alive):
            found[engine] = len(blocks)
        return found

    def add(self, blocks: Sequence[int], engine: int) -> None:
        """Remember that an engine was sent these blocks."""
        holders, bit = self._holders, 1 << engine
        for block in blocks:
            holders[block] = holders.get(block, 0) | bit
            holders.move_to_end(block)
        while len(holders) > self._blocks_max:
            holders.popitem(last=False)

    def forget(self, engine: int) -> None:
        """Forget an engine: it is gone, or it has lost its memory."""
        keep = ~(1 << engine)
        for block in list(self._holders):
            left = self._holders[block] & keep
            if left:
                self._holders[block] = left
            else:
                del self._holders[block]
