"""Write a training checkpoint as the folder that `transformers` and the Rust runtime load.

Fourth step of the recipe. Matrices and convolutions are BF16; norms, A_log, D and dt_bias are F32, because they are
small and determine the decay. Shared weights are written once, under the first hybrid layer; the output matrix is tied
to the embedding and not written. Each file is replaced atomically: a page that loads it sees the old or the new one.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from quantise import q4, snap


def configuration(config):
    """The keys transformers 5 writes for Zamba2. `linear_attention` is its name for a mamba layer."""
    layers = range(config["num_hidden_layers"])
    return {
        "architectures": ["Zamba2ForCausalLM"],
        "model_type": "zamba2",
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "layers_block_type": ["hybrid" if i in config["hybrid_layer_ids"] else "linear_attention" for i in layers],
        "hybrid_layer_ids": config["hybrid_layer_ids"],
        "mamba_d_state": config["mamba_d_state"],
        "mamba_d_conv": config["mamba_d_conv"],
        "mamba_expand": config["mamba_expand"],
        "mamba_ngroups": 1,
        "n_mamba_heads": config["n_mamba_heads"],
        "use_conv_bias": True,
        "chunk_size": 256,
        "time_step_min": config["time_step_min"],
        "time_step_max": config["time_step_max"],
        "time_step_floor": 1e-4,
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_attention_heads"],
        "intermediate_size": config["intermediate_size"],
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": True,
        "adapter_rank": config["adapter_rank"],
        "use_mem_rope": True,
        "rope_parameters": {"rope_theta": config["rope_theta"], "rope_type": "default"},
        "use_long_context": False,
        "add_bias_linear": False,
        "max_position_embeddings": config["max_position_embeddings"],
        "rms_norm_eps": config["rms_norm_eps"],
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "num_logits_to_keep": 1,
        "use_cache": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "bfloat16",
        "transformers_version": "5.23.0",
    }


def stored(name, tensor, on_grid):
    if on_grid and tensor.ndim == 2:
        tensor = snap(tensor, q4)
    keep = "norm" in name or name.endswith((".A_log", ".D", ".dt_bias"))
    return tensor.to(torch.float32 if keep else torch.bfloat16).contiguous()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--on-grid", action="store_true", help="put the matrices on the runtime's 4-bit grid: q4 "
                           "then agrees with f32 by construction, and f32 has the loss of q4")
    options = arguments.parse_args()
    state = torch.load(options.checkpoint, weights_only=True)
    config = configuration(state["config"])
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    documents = {
        "config.json": config,
        "generation_config.json": {
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
            "do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 200,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"], **ends,
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        folder = Path(folder)
        for name, document in documents.items():
            (folder / name).write_text(json.dumps(document, indent=2) + "\n")
        shutil.copyfile(options.tokenizer, folder / "tokenizer.json")
        tensors = {name: stored(name, tensor, options.on_grid) for name, tensor in state["model"].items()}
        metadata = {"format": "pt", "step": str(state["step"]), "torch": torch.__version__}
        save_file(tensors, folder / "model.safetensors", metadata=metadata)
        for path in sorted(folder.iterdir()):
            path.chmod(0o644)
            os.replace(path, options.out / path.name)
    count = sum(tensor.numel() for tensor in tensors.values())
    print(f"{count:,} parameters in {len(tensors)} tensors, step {state['step']}")


if __name__ == "__main__":
    main()
