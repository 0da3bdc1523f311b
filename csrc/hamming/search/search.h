// Exact search over segments: top-k and radius; join/ finds pairs. The kernel is an argument of
// every call, so that one call has one kernel. Answers do not depend on kernel, threads, batching or segments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/cpu/memory.h"
#include "hamming/search/scan.h"
#include "hamming/search/segment.h"
#include "hamming/search/topk.h"

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

// The k nearest of each query in (distance, id) order, padded; distances and ids are (queries, k).
void topk(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
          int32_t* distances, int64_t* ids);

// All with distance <= radius, one list a query in (distance, id) order; std::bad_alloc when that takes more than `room` bytes.
// `dearer` is as in join/join.h, for tests.
std::vector<std::vector<Candidate>> within(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric,
                                           uint32_t radius, unsigned threads, size_t room = kAnyRoom, double dearer = 1);

// Measures given candidates again: `slots` (queries, n_slots), counted through the segments in order, -1 where there is none,
// one named twice counted once. The answer is as topk's. Throws std::invalid_argument for a slot that is not there.
void rerank(const Kernel& kernel, const Target& target, const Queries& queries, const int64_t* slots, size_t n_slots,
            const Metric& metric, size_t k, unsigned threads, int32_t* distances, int64_t* ids);

// Distances (a.n, b.n) between rows.
void hamming(const Kernel& kernel, const Queries& a, const Queries& b, unsigned threads, int32_t* distances);

}  // namespace pyhash
