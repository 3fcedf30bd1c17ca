"""The global context at full size, beside exact attention, faiss and Reformer.

    python benchmarks/record.py life.gc --cycles 60000
    python benchmarks/context.py --recorded life.gc --work DIR

The agent's own recorded states, continued to N rows as ``dylora_ros.experiments.stream``
describes; the trained q. Everything runs in one process, one thread, taking turns: each tick of
each log size is followed by its peers on the same query. Exact attention gets all keys and values
ready in memory and no time code, so it is faster here than it could be in the agent. faiss
replaces our index (top 64 keys by inner product), the attention after it is the same.

The last line is one JSON object; it is also written to --out.
"""

import argparse
import json
from pathlib import Path
import shutil
import sys
import time

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

from dylora_ros.core.attention import sequence_attention  # noqa: E402
from dylora_ros.core.context import GlobalContext  # noqa: E402
from dylora_ros.core.features import features, perceived  # noqa: E402
from dylora_ros.core.lsh import AngularHash  # noqa: E402
from dylora_ros.core.memory import MOST, new_hash, RECENT  # noqa: E402
from dylora_ros.core.predictor import Predictor  # noqa: E402
from dylora_ros.core.qnetwork import HEADS, QNetwork, WIDTH  # noqa: E402
from dylora_ros.experiments.stream import asked, build, Stream  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.provenance import machine, write  # noqa: E402

EXACT_EVERY = 8       # ticks between two runs of the slow peers
_CHUNK = 65536


def say(text: str):
    """Print progress at once."""
    print(f'[{time.strftime("%H:%M:%S")}] {text}', flush=True)


def timed(function, *arguments):
    """Return (milliseconds, result)."""
    start = time.perf_counter()
    result = function(*arguments)
    return 1e3 * (time.perf_counter() - start), result


def quantiles(values) -> dict:
    """Return median and 99th percentile."""
    return {'p50': round(float(np.median(values)), 4),
            'p99': round(float(np.quantile(values, 0.99)), 4), 'n': len(values)}


class Life:
    """One log of N rows that goes on, and q over it."""

    def __init__(self, path: Path, recorded: Path, n: int, network: QNetwork):
        full = path.with_suffix('.full')
        build(full, recorded, n).close()
        shutil.copy(full, path)              # the run goes on writing; the made log stays
        self.log = GlobalContext(path, True, n)
        self.stream = Stream(recorded, seed=1)
        self.stream.made = self.log.committed
        self.network = network
        self.rebuild_ms, self.predictor = timed(Predictor, network, self.log)
        self._rows: list = []
        self.ticks: list[float] = []
        self.appends: list[float] = []

    def next(self) -> np.ndarray:
        """Return the next moment of the stream."""
        if not self._rows:
            self._rows = list(self.stream.segment()[::-1])
        return self._rows.pop()

    def tick(self, row: np.ndarray):
        """Ask q."""
        self.ticks.append(timed(self.predictor.observe, asked(row))[0])

    def append(self, row: np.ndarray):
        """Commit the row."""
        self.appends.append(1e3 * timed(self.log.append_row, row)[0])


class Peers:
    """Exact attention and faiss over the same keys."""

    def __init__(self, life: Life, hnsw: bool, room: int):
        import faiss
        faiss.omp_set_num_threads(1)
        self.life = life
        self.first = life.log.window_first
        self.count = self.indexed = 0
        size = life.log.committed - self.first + room
        self.keys, self.values = torch.empty(size, WIDTH), torch.empty(size, WIDTH)
        self.stamp = np.empty(size, np.int64)
        self.indexes = {}
        self.catch_up()
        data = self.keys[:self.count - RECENT].numpy()
        self.indexed = len(data)
        self.indexes = {}
        coarse = faiss.IndexFlatIP(WIDTH)
        ivf = faiss.IndexIVFFlat(coarse, WIDTH, 1024, faiss.METRIC_INNER_PRODUCT)
        ivf.train(data[::max(1, len(data) // 50_000)])
        self.build_s = {'ivf': timed(ivf.add, data)[0] / 1e3}
        ivf.nprobe = 16
        self.indexes['ivf'] = ivf
        if hnsw:
            say('building faiss HNSW')
            graph = faiss.IndexHNSWFlat(WIDTH, 16, faiss.METRIC_INNER_PRODUCT)
            self.build_s['hnsw'] = timed(graph.add, data)[0] / 1e3
            graph.hnsw.efSearch = 64
            self.indexes['hnsw'] = graph
        self.exact: list[float] = []
        self.ticks = {name: [] for name in self.indexes}
        self.kept = {name: [] for name in ('ours', *self.indexes)}

    @torch.inference_mode()
    def catch_up(self):
        """Take in the rows committed since the last call, as our index does (not timed)."""
        network, log = self.life.network, self.life.log
        for numbers, rows in log.chunks(self.first + self.count):
            feats = torch.from_numpy(features(rows, log.schema))
            at = slice(self.count, self.count + len(rows))
            self.keys[at] = network.keys(feats)
            self.values[at] = network.value(network.rows(feats))
            self.stamp[at] = rows['stamp']
            self.count += len(numbers)
        until = self.count - RECENT
        for index in self.indexes.values():
            if until > self.indexed:
                index.add(self.keys[self.indexed:until].numpy())
        if self.indexes:
            self.indexed = until

    @torch.inference_mode()
    def run(self, row: np.ndarray):
        """Ask the peers what our tick was just asked, about the rows that they hold."""
        network, schema = self.life.network, self.life.log.schema
        now = torch.from_numpy(features(row.reshape(1), schema))
        key = network.keys(now)
        self.catch_up()
        age = torch.from_numpy((int(row['stamp']) - self.stamp[:self.count]) * 1e-9).float()
        self.exact.append(timed(self._exact, key, age)[0])
        share = self._share(key, age)
        mine = self.life.predictor.memory.find(key[0].numpy(), int(row['stamp'])) - self.first
        self.kept['ours'].append(share[:, mine].sum(1))
        for name, index in self.indexes.items():
            ms, found = timed(self._tick, index, now, row)
            self.ticks[name].append(ms)
            self.kept[name].append(share[:, found].sum(1) + share[:, -RECENT:].sum(1))

    def _exact(self, key, age):
        network = self.life.network
        query = key.view(HEADS, -1) * network.sharpness.exp()[:, None]
        same = torch.einsum('he,nhe->hn', query, self.keys[:len(age)].view(len(age), HEADS, -1))
        weight = (same + network.decay(age[None])[0]).softmax(-1)
        return torch.einsum('hn,nhe->he', weight, self.values[:len(age)].view(len(age), HEADS, -1))

    def _share(self, key, age):
        """Return every row's share of exact attention, (h, n), time code included."""
        logits = [self.life.network.logits(key, self.keys[None, i:min(i + _CHUNK, len(age))],
                                           age[None, i:i + _CHUNK])[0]
                  for i in range(0, len(age), _CHUNK)]
        return torch.cat(logits, 1).softmax(-1)

    def _tick(self, index, now, row):
        """Do the whole tick with faiss in the place of our index; return the rows found."""
        log, network = self.life.log, self.life.network
        key = network.keys(now).numpy()
        found = index.search(key, MOST)[1][0]
        found = np.sort(found[found >= max(0, log.first - self.first)])   # others left the log
        numbers = np.concatenate([found + self.first,
                                  np.arange(log.committed - RECENT, log.committed)])
        past = log.take(numbers)
        age = np.maximum((int(row['stamp']) - past['stamp']) * 1e-9, 0).astype(np.float32)
        network(now, torch.from_numpy(features(past, log.schema))[None],
                torch.from_numpy(age)[None], torch.ones(1, len(past), dtype=torch.bool))
        return found


def ticks(options, network) -> dict:
    """Measure append, tick, mass and the peers at every size."""
    lives, out = {}, {}
    process = psutil.Process()
    for n in sorted(options.sizes):
        say(f'log of {n} rows')
        before = process.memory_info().rss
        lives[n] = Life(options.work / f'{n}.gc', options.recorded, n, network)
        say(f'index built in {lives[n].rebuild_ms / 1e3:.1f} s')
        if n == max(options.sizes):
            life = lives[n]
            for _ in range(200):          # the pages that ticks touch are resident then
                row = life.next()
                life.tick(row)
                life.append(row)
            rss = process.memory_info().rss
            out['rss_mb'] = round(rss / 2**20, 1)
            out['index_mb'] = round(life.predictor.memory.nbytes / 2**20, 1)
            out['rss_before_mb'] = round(before / 2**20, 1)
            life.ticks.clear()
            life.appends.clear()
    peers = {n: Peers(life, options.hnsw and n == max(lives), options.ticks)
             for n, life in lives.items()}
    say('ticks')
    for i in range(options.ticks):
        for n, life in lives.items():
            row = life.next()
            life.tick(row)
            if i % EXACT_EVERY == 0 and i < options.exact_ticks * EXACT_EVERY:
                life.predictor.catch_up()
                peers[n].run(asked(row))
            life.append(row)
        if i % 100 == 99:
            say(f'{i + 1}/{options.ticks} ticks')
    big, small = max(lives), min(lives)
    kept = {name: torch.stack(v) for name, v in peers[big].kept.items()}
    out |= {
        'bytes_per_row': network.schema.dtype.itemsize,
        'file_mib': {n: round(life.log.path.stat().st_size / 2**20, 1)
                     for n, life in lives.items()},
        'append_us': quantiles([a for life in lives.values() for a in life.appends]),
        'tick_ms': {n: quantiles(life.ticks) for n, life in lives.items()},
        'exact_ms': {n: quantiles(p.exact) for n, p in peers.items()},
        'faiss_ms': {n: {name: quantiles(t) for name, t in p.ticks.items()}
                     for n, p in peers.items()},
        'faiss_build_s': {n: {k: round(v, 1) for k, v in p.build_s.items()}
                          for n, p in peers.items()},
        'mass_recall': round(float(kept['ours'].mean()), 4),
        'mass_recall_by_head': [round(float(v), 4) for v in kept['ours'].mean(0)],
        'mass_recall_by_size': {n: round(float(torch.stack(p.kept['ours']).mean()), 4)
                                for n, p in peers.items()},
        'faiss_mass_recall': {n: round(float(v.mean()), 4) for n, v in kept.items()
                              if n != 'ours'},
        'rebuild_s': {n: round(life.rebuild_ms / 1e3, 2) for n, life in lives.items()},
        'growth': round(float(np.median(lives[big].ticks) / np.median(lives[small].ticks)), 3)}
    out['exact_ratio'] = round(out['exact_ms'][big]['p50'] / out['tick_ms'][big]['p50'], 1)
    out['faiss_ratio'] = {name: round(out['tick_ms'][big]['p50'] / q['p50'], 2)
                          for name, q in out['faiss_ms'][big].items()}
    for life in lives.values():
        life.log.close()
        life.log.path.unlink()
    return out


def sequences(options, network) -> dict:
    """Measure attention over whole sequences beside Reformer's, equal hashes and width."""
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention
    stream = Stream(options.recorded, seed=2)
    rows = stream.rows(max(options.lengths))
    hasher: AngularHash = new_hash()
    seen = torch.from_numpy(perceived(network.schema)).float()
    ours, theirs = {n: [] for n in options.lengths}, {n: [] for n in options.lengths}
    with torch.inference_mode():
        hidden = network.rows(torch.from_numpy(features(rows, network.schema)) * seen)
    seconds = torch.from_numpy(rows['stamp'] * 1e-9)

    def mine(h, s):
        key = torch.nn.functional.normalize(network.key(h), dim=-1)
        return sequence_attention(key, key, network.value(h), s, hasher,
                                  network.sharpness.exp(), network.decay)

    with torch.inference_mode():
        for repeat in range(3):
            for n in options.lengths:
                ours[n].append(timed(mine, hidden[:n], seconds[:n])[0])
                if repeat and n > 16384:
                    continue                    # a minute each: once is enough
                config = ReformerConfig(
                    hidden_size=WIDTH, num_attention_heads=HEADS,
                    attention_head_size=WIDTH // HEADS, num_hashes=hasher.rounds,
                    lsh_attn_chunk_length=64, lsh_num_chunks_before=1, lsh_num_chunks_after=0,
                    is_decoder=True, axial_pos_embds=False, attn_layers=['lsh'],
                    max_position_embeddings=n, hash_seed=0)
                layer = LSHSelfAttention(config, layer_idx=0).eval()
                layer.query_key.weight.copy_(network.key.weight)
                layer.value.weight.copy_(network.value.weight)
                theirs[n].append(timed(layer, hidden[None, :n])[0])
            say(f'sequences {repeat + 1}/3: ours {[round(ours[n][-1]) for n in ours]} ms')
    best = {n: min(v) for n, v in ours.items()}
    slope = np.polyfit(np.log(list(best)), np.log(list(best.values())), 1)[0]
    return {'sequence_ms': {n: round(v, 1) for n, v in best.items()},
            'reformer_ms': {n: round(min(v), 1) for n, v in theirs.items()},
            'sequence_exponent': round(float(slope), 3),
            'reformer_ratio': {n: round(min(theirs[n]) / best[n], 1) for n in best}}


def main(arguments: list[str] | None = None):
    """Measure; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--recorded', type=Path, required=True)
    parser.add_argument('--work', type=Path, default=Path('context-benchmark'))
    parser.add_argument('--q', type=Path, default=registry.SHIPPED / 'q.safetensors')
    parser.add_argument('--sizes', type=int, nargs='+', default=[10_000, 100_000, 1_080_000])
    parser.add_argument('--lengths', type=int, nargs='+',
                        default=[4096, 8192, 16384, 32768, 65536])
    parser.add_argument('--ticks', type=int, default=1000)
    parser.add_argument('--exact-ticks', type=int, default=60)
    parser.add_argument('--hnsw', action='store_true', help='faiss HNSW too (minutes to build)')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    with GlobalContext.read(options.recorded) as log:
        schema, recorded = log.schema, log.committed
    network = QNetwork.load(options.q, schema)
    result = {'command': 'python benchmarks/context.py ' + ' '.join(
        arguments if arguments is not None else sys.argv[1:]),
        'recorded_rows': recorded, 'seed': 1, **ticks(options, network)}
    result |= sequences(options, network)
    result['machine'] = machine()
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
