"""vLLM's command line, as its documentation and its EngineArgs have it; what vLLM does not know is refused."""

import argparse

_TEXTS = """
task tokenizer revision code-revision tokenizer-revision tokenizer-mode allowed-local-media-path
download-dir load-format config-format guided-decoding-backend logits-processor-pattern model-impl
distributed-executor-backend rope-scaling hf-overrides limit-mm-per-prompt mm-processor-kwargs
override-generation-config generation-config preemption-mode otlp-traces-endpoint collect-detailed-traces
compilation-config worker-cls kv-transfer-config override-pooler-config speculative-config lora-dtype
long-lora-scaling-factors chat-template response-role tool-call-parser tool-parser-plugin
reasoning-parser ssl-keyfile ssl-certfile ssl-ca-certs root-path middleware uvicorn-log-level
allowed-origins allowed-methods allowed-headers log-config-file quantization
"""
_NUMBERS = """
pipeline-parallel-size tensor-parallel-size data-parallel-size max-parallel-loading-workers block-size
seed max-model-len max-num-batched-tokens max-num-seqs max-logprobs max-loras max-cpu-loras
num-gpu-blocks-override max-log-len port ssl-cert-reqs api-server-count
"""
_FRACTIONS = """
swap-space cpu-offload-gb gpu-memory-utilization rope-theta
"""
_FLAGS = """
skip-tokenizer-init trust-remote-code enable-prefix-caching disable-sliding-window disable-log-stats
enforce-eager disable-custom-all-reduce enable-lora fully-sharded-loras enable-chunked-prefill
enable-sleep-mode calculate-kv-scales allow-credentials return-tokens-as-token-ids
enable-auto-tool-choice enable-request-id-headers disable-fastapi-docs enable-prompt-tokens-details
enable-server-load-tracking disable-uvicorn-access-log
"""
_CHOICES = {
    "dtype": ["auto", "half", "float16", "bfloat16", "float", "float32"],
    "kv-cache-dtype": ["auto", "fp8", "fp8_e5m2", "fp8_e4m3"],
    "max-lora-rank": ["8", "16", "32", "64", "128", "256", "320", "512"],
    "scheduling-policy": ["fcfs", "priority"],
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``vllm serve``."""
    made = argparse.ArgumentParser("simulated-vllm", allow_abbrev=False)
    serve = made.add_subparsers(dest="command", required=True).add_parser("serve", allow_abbrev=False)
    serve.add_argument("model_tag")
    serve.add_argument("--host")
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--lora-modules", nargs="+", default=[])
    serve.add_argument("--api-key", nargs="+")
    for name in _TEXTS.split():
        serve.add_argument(f"--{name}")
    for name in _NUMBERS.split():
        serve.add_argument(f"--{name}", type=int)
    for name in _FRACTIONS.split():
        serve.add_argument(f"--{name}", type=float)
    for name in _FLAGS.split():
        serve.add_argument(f"--{name}", action="store_true")
    for name, choices in _CHOICES.items():
        serve.add_argument(f"--{name}", choices=choices)
    serve.set_defaults(
        tensor_parallel_size=1, gpu_memory_utilization=0.9, port=8_000, dtype="auto", max_loras=1
    )
    return made
