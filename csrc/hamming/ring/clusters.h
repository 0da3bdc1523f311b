// Clustering codes: k-means in Hamming space on samples.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/search/blocks.h"
#include "hamming/search/scan.h"
#include "hamming/search/segment.h"
#include "hamming/threads/pool.h"

namespace pyhash {

constexpr size_t kSamplesPerCluster = 32;

// Rows of words as a segment of blocks that owns its memory.
struct OwnedSegment {
    std::vector<uint64_t> blocks;
    Segment segment;

    OwnedSegment(const std::vector<uint64_t>& rows, size_t n_words) {
        segment.n_codes = rows.size() / n_words;
        segment.n_words = n_words;
        blocks = blocks_of(rows.data(), segment.n_codes, n_words);
        segment.chunks.push_back(blocks.data());
        segment.blocks_per_chunk = segment.n_blocks();
    }
};

// One from each of n equal stretches of slots: spread evenly, and no pattern in the data can hide from it.
std::vector<uint64_t> sample_rows(const Segment& segment, size_t n, uint64_t seed);

// Centres (n_clusters, n_words) for rows.
std::vector<uint64_t> train_centres(const Kernel& kernel, const std::vector<uint64_t>& rows, size_t n_words, size_t n_clusters,
                                    unsigned threads);

// The nearest centre of a code; the first of several.
struct NearestCollector {
    int64_t distance;
    size_t slot = 0;
    int64_t bound() const { return distance - 1; }
    void take(const Segment&, size_t s, uint32_t d) {
        if (static_cast<int64_t>(d) < distance) {
            distance = d;
            slot = s;
        }
    }
};

struct Assignment {
    std::vector<uint32_t> cluster;
    std::vector<uint16_t> radius;
};

// The nearest centre of rows [0, n); `row(i, words)` copies row i out.
template <class RowFn>
Assignment assign(const Kernel& kernel, size_t n, size_t n_words, const RowFn& row, const Segment& centres, unsigned threads) {
    Assignment result;
    result.cluster.resize(n);
    result.radius.resize(n);
    constexpr size_t kRowsPerTask = 512;
    const Metric metric;
    run_tasks((n + kRowsPerTask - 1) / kRowsPerTask, threads, [&](size_t task) {
        const size_t first = task * kRowsPerTask;
        const size_t m = std::min(kRowsPerTask, n - first);
        std::vector<uint64_t> rows(m * n_words);
        std::vector<Probe> probes;
        probes.reserve(m);
        for (size_t j = 0; j < m; ++j) {
            row(first + j, rows.data() + j * n_words);
            probes.push_back(make_probe(metric, rows.data() + j * n_words, n_words));
        }
        std::vector<NearestCollector> nearest(m, {static_cast<int64_t>(64 * n_words) + 1});
        scan_best(centres, nullptr, 0, centres.n_blocks(), probes.data(), m, kernel.finder(probes[0]),
                  slicer_for(kernel, metric, n_words, m), nearest.data());
        for (size_t j = 0; j < m; ++j) {
            result.cluster[first + j] = static_cast<uint32_t>(nearest[j].slot);
            result.radius[first + j] = static_cast<uint16_t>(nearest[j].distance);
        }
    });
    return result;
}

}  // namespace pyhash
