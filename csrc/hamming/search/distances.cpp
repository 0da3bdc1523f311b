#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "hamming/search/blocks.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"

namespace pyhash {

void hamming(const Kernel& kernel, const Queries& a, const Queries& b, unsigned threads, int32_t* distances) {
    if (a.n == 0 || b.n == 0) return;
    // b as blocks, so that the kernels measure 64 of its rows at a time.
    const size_t n_blocks = (b.n + kLanes - 1) / kLanes;
    const std::vector<uint64_t> blocks = blocks_of(b.words, b.n, b.n_words);
    const Metric metric;
    const FindFn find = kernel.finder(make_probe(metric, a.words, a.n_words));
    const size_t rows_per_task = 16;
    const size_t n_tasks = (a.n + rows_per_task - 1) / rows_per_task;
    run_tasks(n_tasks, useful_threads(threads, a.n * n_blocks * a.n_words), [&](size_t task) {
        const size_t first = task * rows_per_task;
        const size_t last = std::min(a.n, first + rows_per_task);
        Hit hit;
        for (size_t block = 0; block < n_blocks; ++block) {
            const size_t n = std::min(kLanes, b.n - block * kLanes);
            for (size_t i = first; i < last; ++i) {
                const Probe probe = make_probe(metric, a.words + i * a.n_words, a.n_words);
                find(blocks.data(), block, block + 1, probe, std::numeric_limits<uint32_t>::max(), hit);
                std::memcpy(distances + i * b.n + block * kLanes, hit.distances, n * sizeof(int32_t));
            }
        }
    });
}

}  // namespace pyhash
