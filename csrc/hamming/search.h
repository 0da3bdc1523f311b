// Exact search over segments: top-k, radius, self-join. Answers do not depend on kernel, threads, batching or segments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scan.h"
#include "store.h"
#include "topk.h"

namespace pyhash {

constexpr int32_t kPadDistance = 0x7fffffff;
constexpr int64_t kPadId = -1;

struct Queries {
    const uint64_t* words;  // (n, n_words)
    size_t n;
    size_t n_words;
};

struct Target {
    std::vector<const Segment*> segments;
    std::vector<const uint64_t*> allowed;  // empty, or one a segment: a word a block, a clear bit hides the slot
};

struct Pair {
    int64_t i;
    int64_t j;
    uint32_t distance;
};

// The k nearest of each query in (distance, id) order, padded; distances and ids are (queries, k).
void topk(const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
          int32_t* distances, int64_t* ids);

// All with distance <= radius, one list a query in (distance, id) order.
std::vector<std::vector<Candidate>> within(const Target& target, const Queries& queries, const Metric& metric,
                                           uint32_t radius, unsigned threads);

// All pairs of stored codes with distance <= radius, i < j, in (i, j) order.
std::vector<Pair> pairs(const Target& target, uint32_t radius, unsigned threads);

// Distances (a.n, b.n) between rows.
void hamming(const Queries& a, const Queries& b, unsigned threads, int32_t* distances);

}  // namespace pyhash
