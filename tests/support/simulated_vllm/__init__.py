"""A simulated vLLM: its command line, its endpoints, its metrics, its manners; but no model and no accelerator.

Everything it writes says that it is simulated. ``make_program`` gives a program to start it by.
"""

import json
import sys
from pathlib import Path

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def make_program(folder: Path) -> str:
    """Return the path of a program that behaves as ``vllm`` does."""
    program = folder / "simulated-vllm"
    root = Path(__file__).parents[3]
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -P -m tests.support.simulated_vllm.server "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def make_checkpoint(folder: Path, **changes: object) -> Path:
    """Return a folder that looks like a checkpoint; its weights are none."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"simulated")
    return folder


def make_adapter(folder: Path, rank: int = 8, base: str = "base") -> Path:
    """Return a folder that looks like a LoRA adapter of PEFT."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": base, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"simulated")
    return folder
