"""Frozen text encoders by name: packaged ones, any transformers id, or a local folder."""

from pathlib import Path

from dylora_ros.modalities.text import PACKAGES, SOURCE
from dylora_ros.modalities.weights import quiet_load, resolve

# query and value projections as the common architectures call them (BERT, RoBERTa, MPNet,
# DistilBERT, Llama)
QUERY_VALUE = r'\.(query|value|q_proj|v_proj|q_lin|v_lin|attn\.q|attn\.v)$'


def load_encoder(source: str = SOURCE):
    """Return the tokenizer and the frozen model of an encoder.

    Args:
        source: ``package:NAME``, ``hub:ID`` or ``file:FOLDER``.

    Raises:
        WeightsError: unknown, missing or unreadable.

    """
    from transformers import AutoModel, AutoTokenizer
    path = resolve(source, PACKAGES, {})
    local = {'local_files_only': True} if Path(path).exists() else {}
    return (AutoTokenizer.from_pretrained(path, **local),
            quiet_load(AutoModel, path, attn_implementation='eager'))
