"""Lives and their peers for ``benchmarks/context.py``: exact attention and faiss on one query."""

from pathlib import Path
import shutil
import sys
import time

import numpy as np
import torch

from dylora_ros.core.context import GlobalContext
from dylora_ros.core.features import features
from dylora_ros.core.memory import MOST, RECENT
from dylora_ros.core.predictor import Predictor
from dylora_ros.core.qnetwork import HEADS, QNetwork, WIDTH
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.stream import asked, build, Stream

_CHUNK = 65536


def timed(function, *arguments):
    """Return (milliseconds, result)."""
    start = time.perf_counter()
    result = function(*arguments)
    return 1e3 * (time.perf_counter() - start), result


def worked(function, *arguments) -> float:
    """Return milliseconds of processor time: of seconds on a shared machine, ours alone."""
    start = time.process_time()
    function(*arguments)
    return 1e3 * (time.process_time() - start)


def quantiles(values) -> dict:
    """Return median and 99th percentile."""
    return {'p50': round(float(np.median(values)), 4),
            'p99': round(float(np.quantile(values, 0.99)), 4), 'n': len(values)}


class Life:
    """One log of N rows that goes on, and q over it."""

    def __init__(self, options, n: int, network: QNetwork):
        full = options.work / f'{n}.full'
        build(full, options.recorded, n).close()
        self.path = full.with_suffix('.gc')
        shutil.copy(full, self.path)         # the run goes on writing; the made log stays
        self.log = GlobalContext(self.path, True, n)
        self.stream = Stream(options.recorded, seed=1)
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

    def warm(self, count: int = 200):
        """Ask a little, not counted: the pages that ticks touch are resident then."""
        for _ in range(count):
            self.tick(self.next())
        self.ticks.clear()
        self._rows.clear()
        self.stream.made = self.log.committed

    def close(self):
        """Delete the log that was written to."""
        self.log.close()
        self.path.unlink()


class Peers:
    """Exact attention and faiss over the same keys."""

    def __init__(self, life: Life, graph: Path | None, room: int):
        import faiss
        faiss.omp_set_num_threads(1)
        self.life = life
        self.first = life.log.window_first
        self.count = 0
        size = life.log.committed - self.first + room
        self.keys, self.values = torch.empty(size, WIDTH), torch.empty(size, WIDTH)
        self.stamp = np.empty(size, np.int64)
        self.indexes, self.build_s = {}, {}
        self.catch_up()
        data = self.keys[:self.count - RECENT].numpy()
        self.indexed = len(data)
        coarse = faiss.IndexFlatIP(WIDTH)
        ivf = faiss.IndexIVFFlat(coarse, WIDTH, 1024, faiss.METRIC_INNER_PRODUCT)
        ivf.train(data[::max(1, len(data) // 50_000)])
        self.build_s['ivf'] = timed(ivf.add, data)[0] / 1e3
        ivf.nprobe = 16
        self.indexes['ivf'] = ivf
        if graph:
            self.indexes['hnsw'] = self._hnsw(graph, data)
        self.exact: list[float] = []
        self.finds: list[float] = []
        self.ticks = {name: [] for name in self.indexes}
        self.searches = {name: [] for name in self.indexes}

    def _hnsw(self, path: Path, data: np.ndarray):
        """Load the graph of these keys; it is built in --work if it is not there."""
        import faiss
        if not path.exists():
            say('building faiss HNSW')
            index = faiss.IndexHNSWFlat(WIDTH, 16, faiss.METRIC_INNER_PRODUCT)
            seconds = 0.0
            for i in range(0, len(data), _CHUNK):
                seconds += timed(index.add, data[i:i + _CHUNK])[0] / 1e3
                say(f'HNSW {min(i + _CHUNK, len(data))}/{len(data)}, {seconds:.0f} s')
            faiss.write_index(index, str(path))
            path.with_suffix('.seconds').write_text(str(seconds))
        index = faiss.read_index(str(path))
        if index.ntotal != len(data):
            sys.exit(f'{path} holds {index.ntotal} keys, expected {len(data)}; delete it')
        self.build_s['hnsw'] = float(path.with_suffix('.seconds').read_text())
        index.hnsw.efSearch = 64
        return index

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
        log.release_pages()
        if self.indexes and self.count - RECENT > self.indexed:
            for index in self.indexes.values():
                index.add(self.keys[self.indexed:self.count - RECENT].numpy())
            self.indexed = self.count - RECENT

    def _asked(self, row):
        """Return q's question, its key and the ages of all rows."""
        self.life.predictor.catch_up()
        self.catch_up()
        now = torch.from_numpy(features(row.reshape(1), self.life.log.schema))
        age = torch.from_numpy((int(row['stamp']) - self.stamp[:self.count]) * 1e-9).float()
        return now, self.life.network.keys(now), age

    @torch.inference_mode()
    def run(self, row: np.ndarray):
        """Time the peers on what our tick was just asked, about the rows that they hold."""
        now, key, age = self._asked(row)
        self.exact.append(timed(self._exact, key, age)[0])
        self.finds.append(timed(self.life.predictor.memory.find, key[0].numpy(),
                                int(row['stamp']))[0])
        for name, index in self.indexes.items():
            self.ticks[name].append(timed(self._tick, index, now, row)[0])
            self.searches[name].append(timed(index.search, key.numpy(), MOST)[0])

    @torch.inference_mode()
    def mass(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """Return the share of exact attention (h,) on what each index found, and on the recent."""
        _, key, age = self._asked(row)
        share = torch.cat([
            self.life.network.logits(key, self.keys[None, i:i + len(part)], part[None])[0]
            for i, part in zip(range(0, len(age), _CHUNK), age.split(_CHUNK), strict=True)],
            1).softmax(-1)
        mine = self.life.predictor.memory.find(key[0].numpy(), int(row['stamp'])) - self.first
        recent = share[:, -RECENT:].sum(1)
        out = {'ours': share[:, mine].sum(1).numpy(), 'recent': recent.numpy()}
        for name, index in self.indexes.items():
            found = self._search(index, key)
            out[name] = (share[:, found].sum(1) + recent).numpy()
        return out

    def _exact(self, key, age):
        network = self.life.network
        query = key.view(HEADS, -1) * network.sharpness.exp()[:, None]
        same = torch.einsum('he,nhe->hn', query, self.keys[:len(age)].view(len(age), HEADS, -1))
        weight = (same + network.decay(age[None])[0]).softmax(-1)
        return torch.einsum('hn,nhe->he', weight, self.values[:len(age)].view(len(age), HEADS, -1))

    def _search(self, index, key) -> np.ndarray:
        found = index.search(key.numpy(), MOST)[1][0]
        return np.sort(found[found >= max(0, self.life.log.first - self.first)])

    def _tick(self, index, now, row):
        """Do the whole tick with faiss in the place of our index."""
        log, network = self.life.log, self.life.network
        found = self._search(index, network.keys(now))
        numbers = np.concatenate([found + self.first,
                                  np.arange(log.committed - RECENT, log.committed)])
        past = log.take(numbers)
        age = np.maximum((int(row['stamp']) - past['stamp']) * 1e-9, 0).astype(np.float32)
        network(now, torch.from_numpy(features(past, log.schema))[None],
                torch.from_numpy(age)[None], torch.ones(1, len(past), dtype=torch.bool))
