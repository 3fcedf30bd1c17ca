"""The global context at full size, beside exact attention, faiss and Reformer.

    python benchmarks/record.py life.gc --cycles 60000
    python benchmarks/context.py --recorded life.gc --work DIR

The agent's own recorded states, continued to N rows as ``dylora_ros.experiments.stream``
describes (the same ten-second pieces in random order again and again, with noise); the shipped q.
Ours and the peers take turns in one process with one thread: each tick of each log size is
followed by its peers on the same query. Exact attention gets all keys and values ready in memory
and no time code, so it is faster here than it could be in the agent. faiss replaces our index
(top 64 keys by inner product), the attention after it is the same.

Parts, each kept in --work until it is measured anew: ``prepare`` (logs, HNSW graph), ``ticks``,
``mass`` (no timing; also on the recording as it was, without repetition and noise),
``sequences``, ``huge`` (only when named: ticks at 10^7 rows). The last line is one JSON object of
all parts there are; it is also written to --out.
"""

import argparse
import json
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from context_peers import Life, Peers, quantiles, say, timed  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

from dylora_ros.core.attention import sequence_attention  # noqa: E402
from dylora_ros.core.context import GlobalContext  # noqa: E402
from dylora_ros.core.features import features, perceived  # noqa: E402
from dylora_ros.core.lsh import AngularHash, BucketHistory, distinct  # noqa: E402
from dylora_ros.core.memory import DEPTH, new_hash, Past, RECENT  # noqa: E402
from dylora_ros.core.qnetwork import HEADS, QNetwork, WIDTH  # noqa: E402
from dylora_ros.experiments.stream import asked, Stream  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402

EXACT_EVERY = 8       # ticks between two runs of the slow peers
HUGE = 10_000_000
REPEATS = 8           # of a sequence; the best counts
PARTS = ('prepare', 'ticks', 'mass', 'sequences')


def peers_of(options, life: Life, room: int) -> Peers:
    """Return the peers of a life; HNSW at the largest size only."""
    n = life.log.window
    graph = options.work / f'{n}.hnsw' if n == max(options.sizes) else None
    return Peers(life, graph, room)


def prepare(options, network) -> dict:
    """Make the logs and the HNSW graph."""
    for n in options.sizes:
        say(f'log of {n} rows')
        life = Life(options, n, network)
        if n == max(options.sizes):
            peers_of(options, life, 0)
        life.close()
    return {}


def ticks(options, network) -> dict:
    """Measure append, tick and the peers at every size."""
    lives, out = {}, {}
    process = psutil.Process()
    before = process.memory_info().rss
    for n in sorted(options.sizes):
        lives[n] = Life(options, n, network)
        say(f'index of {n} rows built in {lives[n].rebuild_ms / 1e3:.1f} s')
        lives[n].warm()
    big, small = max(lives), min(lives)
    out |= {'rss_mb': round(process.memory_info().rss / 2**20, 1),
            'rss_before_mb': round(before / 2**20, 1),
            'index_mb': round(lives[big].predictor.memory.nbytes / 2**20, 1)}
    peers = {n: peers_of(options, life, options.ticks + 200) for n, life in lives.items()}
    say('ticks')
    for i in range(options.ticks):
        for n, life in lives.items():
            row = life.next()
            life.tick(row)
            if i % EXACT_EVERY == 0 and i < options.exact_ticks * EXACT_EVERY:
                peers[n].run(asked(row))
            life.append(row)
    out |= {
        'bytes_per_row': round(lives[big].path.stat().st_size / big, 1),
        'file_mib': {n: round(life.path.stat().st_size / 2**20, 1) for n, life in lives.items()},
        'append_us': quantiles(lives[big].appends),
        'tick_ms': {n: quantiles(life.ticks) for n, life in lives.items()},
        'exact_ms': {n: quantiles(p.exact) for n, p in peers.items()},
        'faiss_ms': {n: {name: quantiles(t) for name, t in p.ticks.items()}
                     for n, p in peers.items()},
        'search_only_ms': {n: {'ours': quantiles(p.finds),
                               **{name: quantiles(t) for name, t in p.searches.items()}}
                           for n, p in peers.items()},
        'faiss_build_s': {n: {k: round(v, 1) for k, v in p.build_s.items()}
                          for n, p in peers.items()},
        'rebuild_s': {n: round(life.rebuild_ms / 1e3, 2) for n, life in lives.items()},
        'growth': round(float(np.median(lives[big].ticks) / np.median(lives[small].ticks)), 3)}
    out['exact_ratio'] = round(out['exact_ms'][big]['p50'] / out['tick_ms'][big]['p50'], 1)
    out['faiss_ratio'] = {name: round(out['tick_ms'][big]['p50'] / q['p50'], 2)
                          for name, q in out['faiss_ms'][big].items()}
    for life in lives.values():
        life.close()
    return out


def mass(options, network) -> dict:
    """Measure which share of exact attention is kept, here and on the bare recording."""
    out: dict = {'mass_by_size': {}}
    for n in options.sizes:
        life = Life(options, n, network)
        peers = peers_of(options, life, 10 * options.queries)
        kept: dict[str, list] = {}
        for i in range(10 * options.queries):
            row = life.next()
            if i % 10 == 0:
                for name, share in peers.mass(asked(row)).items():
                    kept.setdefault(name, []).append(share)
            life.append(row)
        life.close()
        out['mass_by_size'][n] = summary(kept)
        say(f'mass at {n}: {out["mass_by_size"][n]}')
    with GlobalContext.read(options.recorded) as log:
        rows = log.rows(0, log.committed)
        feats = torch.from_numpy(features(rows, log.schema))
    out['mass_recorded'] = {'rows': len(rows), **summary(recorded_mass(
        network, rows, feats, options.queries))}
    out['mass_recall'] = out['mass_by_size'][max(options.sizes)]['ours']['mean']
    return out


@torch.inference_mode()
def recorded_mass(network, rows, feats, queries: int) -> dict[str, list]:
    """Ask at moments of the second half of the recording about all that was before."""
    past = Past(network, rows, feats)
    keys, kept = torch.from_numpy(past.keys), {'ours': [], 'recent': []}
    for at in np.linspace(len(rows) // 2, len(rows) - 1, queries).astype(int):
        age = torch.from_numpy((rows['stamp'][at] - rows['stamp'][:at]) * 1e-9).float()
        share = network.logits(keys[at:at + 1], keys[None, :at], age[None])[0].softmax(-1)
        found = past.find(np.array([at]))[0]
        kept['ours'].append(share[:, found[found >= 0]].sum(1).numpy())
        kept['recent'].append(share[:, -RECENT:].sum(1).numpy())
    return kept


def summary(kept: dict[str, list]) -> dict:
    """Return the share kept, by head too, and that of what is older than the recent rows."""
    recent, out = np.array(kept['recent']), {}
    for name, values in kept.items():
        share = np.array(values)                                  # (queries, h)
        old = (share - recent).sum() / max(1e-9, (1 - recent).sum())
        out[name] = {'mean': round(float(share.mean()), 4), 'n': len(share),
                     'p5': round(float(np.quantile(share.mean(1), 0.05)), 4),
                     'by_head': [round(float(v), 4) for v in share.mean(0)],
                     'of_older_rows': round(float(old), 4)}
    return out


def huge(options, network) -> dict:
    """Measure ticks and appends at 10^7 rows, without peers."""
    before = psutil.Process().memory_info().rss
    life = Life(options, HUGE, network)
    life.warm()
    rss = psutil.Process().memory_info().rss
    for _ in range(options.ticks):
        row = life.next()
        life.tick(row)
        life.append(row)
    size = life.path.stat().st_size
    out = {'huge': {'rows': HUGE, 'tick_ms': quantiles(life.ticks),
                    'append_us': quantiles(life.appends), 'file_mib': round(size / 2**20, 1),
                    'rebuild_s': round(life.rebuild_ms / 1e3, 1),
                    'rss_mb': round(rss / 2**20, 1), 'rss_before_mb': round(before / 2**20, 1)}}
    life.close()
    return out


def reformer(network, n: int, rounds: int, chunk: int):
    """Return Reformer's LSH attention with q's projections."""
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention
    config = ReformerConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, attention_head_size=WIDTH // HEADS,
        num_hashes=rounds, lsh_attn_chunk_length=chunk, lsh_num_chunks_before=1,
        lsh_num_chunks_after=0, is_decoder=True, axial_pos_embds=False, attn_layers=['lsh'],
        max_position_embeddings=n, hash_seed=0)
    layer = LSHSelfAttention(config, layer_idx=0).eval()
    layer.query_key.weight.copy_(network.key.weight)
    layer.value.weight.copy_(network.value.weight)
    return layer


@torch.inference_mode()
def sequences(options, network) -> dict:
    """Measure attention over whole sequences beside Reformer's, equal hashes and width.

    Reformer with chunks of 64 (its default) reads up to 128 rows a round, ours 8: it is measured
    with chunks of 8 (up to 16 rows a round) too.
    """
    rows = Stream(options.recorded, seed=2).rows(max(options.lengths))
    hasher: AngularHash = new_hash()
    seen = torch.from_numpy(perceived(network.schema)).float()
    hidden = network.rows(torch.from_numpy(features(rows, network.schema)) * seen)
    seconds = torch.from_numpy(rows['stamp'] * 1e-9)
    times = {name: {n: [] for n in options.lengths} for name in ('ours', 'wide', 'narrow')}

    def mine(h, s):
        key = torch.nn.functional.normalize(network.key(h), dim=-1)
        return sequence_attention(key, key, network.value(h), s, hasher,
                                  network.sharpness.exp(), network.decay)

    mine(hidden[:4096], seconds[:4096])                     # the first call loads code
    for repeat in range(REPEATS):
        for n in options.lengths:
            times['ours'][n].append(timed(mine, hidden[:n], seconds[:n])[0])
            for name, chunk, most in (('wide', 64, 1 if n > 16384 else 2), ('narrow', 8, 1)):
                if repeat < most:
                    layer = reformer(network, n, hasher.rounds, chunk)
                    times[name][n].append(timed(layer, hidden[None, :n])[0])
        say(f'sequences {repeat + 1}/{REPEATS}: {times["ours"]}')
    best = {name: {n: min(v) for n, v in t.items()} for name, t in times.items()}
    ours = best['ours']
    bucket = hasher(torch.nn.functional.normalize(network.key(hidden), dim=-1).numpy())
    found = {n: distinct(BucketHistory(bucket[:n], np.arange(n), n, DEPTH).query(
        bucket[:n, :, None], np.arange(n))) for n in ours}
    slope = np.polyfit(np.log(list(ours)), np.log(list(ours.values())), 1)[0]
    return {'sequence_ms': {n: round(v, 1) for n, v in ours.items()},
            'reformer_ms': {n: round(v, 1) for n, v in best['wide'].items()},
            'reformer_narrow_ms': {n: round(v, 1) for n, v in best['narrow'].items()},
            'rows_found': {n: round(float((f >= 0).sum(1).mean()), 1) for n, f in found.items()},
            'sequence_exponent': round(float(slope), 3),
            'reformer_ratio': {n: round(best['wide'][n] / v, 1) for n, v in ours.items()},
            'reformer_narrow_ratio': {n: round(best['narrow'][n] / v, 2)
                                      for n, v in ours.items()}}


def main(arguments: list[str] | None = None):
    """Measure; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--recorded', type=Path, required=True)
    parser.add_argument('--work', type=Path, default=Path('context-benchmark'))
    parser.add_argument('--parts', nargs='+', choices=(*PARTS, 'huge'), default=PARTS,
                        help='what to measure (anew)')
    parser.add_argument('--q', type=Path, default=registry.SHIPPED / 'q.safetensors')
    parser.add_argument('--sizes', type=int, nargs='+', default=[10_000, 100_000, 1_080_000])
    parser.add_argument('--lengths', type=int, nargs='+',
                        default=[4096, 8192, 16384, 32768, 65536])
    parser.add_argument('--ticks', type=int, default=1000)
    parser.add_argument('--exact-ticks', type=int, default=60)
    parser.add_argument('--queries', type=int, default=100, help='of mass')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    with GlobalContext.read(options.recorded) as log:
        schema, recorded = log.schema, log.committed
    network = QNetwork.load(options.q, schema)
    measure = {'prepare': prepare, 'ticks': ticks, 'mass': mass, 'sequences': sequences,
               'huge': huge}
    result = provenance('python benchmarks/context.py --recorded life.gc',
                        ('torch', 'numpy', 'transformers', 'faiss-cpu'), seed=1,
                        recorded_rows=recorded)
    for part, function in measure.items():
        kept = options.work / f'{part}.json'
        if part in options.parts:
            write(kept, function(options, network))
        if kept.exists():
            result |= json.loads(kept.read_text())
    if options.out:
        write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
