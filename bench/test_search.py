"""Top-10 search beside what people use: `pytest bench/test_search.py --benchmark-group-by=group`.

The cases of search in tests/index, at one size; each answer is checked after the clock has stopped. One
thread each. `pyhash bench` has the comparison round by round, with ratios, over more cases.
"""

import numpy as np
import pytest

import pyhash
from pyhash.bench.peers import packed_numpy, textbook, uniform

K = 10
N = 200_000
PEERS = ["textbook NumPy", "packed NumPy", "Cython loop", "Numba", "FAISS", "USearch", "pyhash"]


@pytest.fixture(scope="module", params=[64, 256], ids=lambda bits: f"{bits}bit")
def codes(request):
    return uniform(np.random.default_rng(0), N, request.param)


@pytest.fixture(scope="module")
def queries(codes):
    return uniform(np.random.default_rng(1), 32, codes.shape[1] * 8)


def _distances_of(ids, codes, query):
    return np.bitwise_count(codes[ids] ^ query).sum(axis=1).tolist()


def _index(codes):
    index = pyhash.Index(bits=codes.shape[1] * 8, structure="flat")
    index.add(codes)
    return index


def _pyhash(codes, kernel="auto"):
    index = _index(codes)

    def search(queries):
        with pyhash.use(kernel):
            return index.search(queries, K, threads=1)[0]

    return search


def _numba(codes):
    if "numba" not in pyhash.kernels():
        pytest.skip("Numba is not installed")
    return _pyhash(codes, "numba")


def _textbook(codes):
    ones = np.unpackbits(codes, axis=1)
    return lambda queries: [_distances_of(textbook(ones, np.unpackbits(q)), codes, q) for q in queries]


def _packed(codes):
    words = codes.view(np.uint64)
    return lambda queries: [_distances_of(packed_numpy(words, q.view(np.uint64)), codes, q) for q in queries]


def _cython(codes):
    pyximport = pytest.importorskip("pyximport", reason="Cython is not installed")
    installed = pyximport.install(language_level=3, inplace=False)
    try:
        from cython_loop import distances
    finally:
        pyximport.uninstall(*installed)
    words = codes.view(np.uint64)
    out = np.empty(len(words), dtype=np.int32)

    def search(queries):
        answers = []
        for query in queries:
            distances(words, query.view(np.uint64), out)
            answers.append(np.sort(np.partition(out, K)[:K]))
        return answers

    return search


def _faiss(codes):
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    return lambda queries: index.search(queries, K)[0]


def _usearch(codes):
    usearch = pytest.importorskip("usearch.index", reason="USearch is not installed")
    kind = usearch.MetricKind.Hamming

    def search(queries):
        return [usearch.search(codes, query, K, kind, exact=True, threads=1).distances.astype(int) for query in queries]

    return search


MAKE = dict(zip(PEERS, [_textbook, _packed, _cython, _numba, _faiss, _usearch, _pyhash], strict=True))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("n_queries", [1, 32], ids=["scan", "batch"])
def test_top_10(benchmark, codes, queries, peer, n_queries):
    benchmark.group = f"{codes.shape[1] * 8} bits, {n_queries} queries over {N:,} codes"
    search = MAKE[peer](codes)
    few = queries[:n_queries]
    rounds = 3 if peer in ("textbook NumPy", "USearch") else 10
    found = benchmark.pedantic(search, args=(few,), rounds=rounds, warmup_rounds=1)
    expected, _ = _index(codes).search(few, K)
    assert np.array_equal(np.asarray(found), expected)
