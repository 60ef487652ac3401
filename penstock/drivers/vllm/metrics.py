"""What vLLM says of itself at /metrics, read: the names are those of vLLM's documentation, of both its engines."""

import math

# name here: names there (the first that is present counts), factor. Several series of a name (models, engines) are summed.
_READ: dict[str, tuple[tuple[str, ...], int]] = {
    "requests_running": (("vllm:num_requests_running",), 1),
    "requests_waiting": (("vllm:num_requests_waiting",), 1),
    "cache_permille": (("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), 1_000),
    "prompt_tokens": (("vllm:prompt_tokens_total", "vllm:prompt_tokens"), 1),
    "generation_tokens": (("vllm:generation_tokens_total", "vllm:generation_tokens"), 1),
    "preemptions": (("vllm:num_preemptions_total", "vllm:num_preemptions"), 1),
}


def read(text: str) -> dict[str, int]:
    """Return the meters in a page of metrics (Prometheus text format); what is not there is left out."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("vllm:"):
            continue
        name, _, rest = line.partition("{")
        value = rest.rpartition("}")[2] if rest else name.partition(" ")[2]
        try:
            number = float(value.split()[0])
        except (ValueError, IndexError):
            continue  # a line that is none of ours to judge
        if math.isfinite(number):
            name = name.partition(" ")[0]
            sums[name] = sums.get(name, 0.0) + number
    found: dict[str, int] = {}
    for name, (theirs, factor) in _READ.items():
        present = next((one for one in theirs if one in sums), None)
        if present is not None:
            found[name] = round(sums[present] * factor)
    return found
