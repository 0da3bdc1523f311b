#include "hamming/probes/probes.h"

#include <algorithm>
#include <vector>

#include "hamming/search/scan.h"

namespace pyhash {

uint64_t read_words(const uint64_t* words, size_t n) {
    constexpr size_t kLine = 32;  // words: independent sums, so that only memory limits the loop
    uint64_t sums[kLine] = {};
    size_t i = 0;
    for (; i + kLine <= n; i += kLine)
        for (size_t j = 0; j < kLine; ++j) sums[j] ^= words[i + j];
    uint64_t all = 0;
    for (uint64_t sum : sums) all ^= sum;
    for (; i < n; ++i) all ^= words[i];
    return all;
}

size_t scan_cached(const Kernel& kernel, size_t n_words, size_t n_codes) {
    const size_t n_blocks = std::max<size_t>(1, 16 * 1024 / (n_words * kLanes * sizeof(uint64_t)));
    const std::vector<uint64_t> blocks(n_blocks * n_words * kLanes, ~uint64_t{0});
    const std::vector<uint64_t> query(n_words, 0);
    const Metric metric;
    const Probe probe = make_probe(metric, query.data(), n_words);
    const FindFn find = kernel.finder(probe);
    Hit hit;
    size_t measured = 0;
    while (measured < n_codes) {
        if (find(blocks.data(), 0, n_blocks, probe, 0, hit) != n_blocks) return 0;  // cannot be: all are farthest
        measured += n_blocks * kLanes;
    }
    return measured;
}

}  // namespace pyhash
