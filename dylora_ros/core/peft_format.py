"""Low-rank weights in the file format of PEFT's LoRA: out and in.

PEFT keeps a folder with ``adapter_config.json`` and ``adapter_model.safetensors``, whose tensors
are ``base_model.model.<site>.lora_A.weight`` (r, d_in) and ``.lora_B.weight`` (d_out, r). A centre
becomes PEFT's ``lora_bias``, since ``B (A x - c) = B A x + (-B c)``.
"""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
import torch

from dylora_ros.core.lowrank import Adapter, SchemaError

_PREFIX = 'base_model.model.'
_CONFIG, _TENSORS = 'adapter_config.json', 'adapter_model.safetensors'


def export_peft(adapter: Adapter, folder: str | Path, base_model: str | None = None):
    """Write an adapter as PEFT's LoRA (the paper's Eq. 1: gamma 1, q 0).

    Args:
        adapter: to write.
        folder: made if it is not there.
        base_model: id or path of the frozen model, for PEFT's ``base_model_name_or_path``.

    """
    folder = Path(folder)
    tensors = {}
    centred = any(layer.centre.any() for layer in adapter.layers.values())
    for site, layer in adapter.layers.items():
        tensors[f'{_PREFIX}{site}.lora_A.weight'] = layer.A.detach().contiguous()
        tensors[f'{_PREFIX}{site}.lora_B.weight'] = layer.B.detach().contiguous()
        if centred:
            bias = -layer.B.detach().flatten(1) @ layer.centre
            tensors[f'{_PREFIX}{site}.lora_B.bias'] = bias
    scaling = next(iter(adapter.layers.values())).scaling
    config = {'peft_type': 'LORA', 'task_type': None, 'base_model_name_or_path': base_model,
              'r': adapter.rank, 'lora_alpha': scaling * adapter.rank, 'lora_dropout': 0.0,
              'bias': 'none', 'lora_bias': centred, 'fan_in_fan_out': False,
              'inference_mode': True, 'target_modules': list(adapter.layers)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(folder / _TENSORS), metadata={'format': 'pt'})
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + '\n')


def import_peft(adapter: Adapter, folder: str | Path):
    """Read a LoRA folder that PEFT (or :func:`export_peft`) wrote into an adapter.

    Args:
        adapter: with the same sites and rank.
        folder: of PEFT's ``save_pretrained``.

    Raises:
        SchemaError: not a LoRA, or of other sites, rank or scaling; names both.

    """
    folder = Path(folder)
    for name in (_CONFIG, _TENSORS):
        if not (folder / name).exists():
            raise SchemaError(f'{folder} holds no {name}; expected a folder written by PEFT\'s '
                              'save_pretrained with safetensors')
    config = json.loads((folder / _CONFIG).read_text())
    if config.get('peft_type') != 'LORA':
        raise SchemaError(f'{folder} is of PEFT type {config.get("peft_type")}, expected LORA')
    odd = [key for key in ('use_dora', 'use_rslora', 'rank_pattern', 'alpha_pattern',
                           'fan_in_fan_out', 'modules_to_save') if config.get(key)]
    if odd or config.get('bias', 'none') != 'none':
        raise SchemaError(f'{folder} uses {odd or ["bias"]}, which has no counterpart here; '
                          'expected a plain LoRA')
    scaling = config['lora_alpha'] / config['r']
    ours = next(iter(adapter.layers.values())).scaling
    if config['r'] != adapter.rank or abs(scaling - ours) > 1e-9:
        raise SchemaError(f'{folder} has rank {config["r"]} and scaling {scaling:g}, this '
                          f'adapter rank {adapter.rank} and scaling {ours:g}')
    with safe_open(str(folder / _TENSORS), 'pt') as file:
        import_tensors(adapter, {key: file.get_tensor(key) for key in file.keys()})


def import_tensors(adapter: Adapter, tensors: dict[str, torch.Tensor]):
    """Copy the tensors of a PEFT LoRA (``get_peft_model_state_dict``) into an adapter.

    Raises:
        SchemaError: other sites or shapes (names both), or a bias that no centre can express.

    """
    state = {f'{site}.centre': torch.zeros(adapter.rank) for site in adapter.layers}
    biases = {}
    for key, value in tensors.items():
        site, _, kind = key.removeprefix(_PREFIX).rpartition('.lora_')
        if kind == 'B.bias':
            biases[site] = value
        else:
            state[f'{site}.{kind.removesuffix(".weight")}'] = value
    for site, bias in biases.items():
        b = state[f'{site}.B'].flatten(1)
        centre = -torch.linalg.lstsq(b.double(), bias.double()[:, None]).solution[:, 0].float()
        if not torch.allclose(-b @ centre, bias, atol=1e-5, rtol=1e-4):
            raise SchemaError(f'the lora_bias of site {site} is not -B c for any centre c; '
                              'expected a LoRA without bias or one exported from here')
        state[f'{site}.centre'] = centre
    adapter.load_state_dict(state)
