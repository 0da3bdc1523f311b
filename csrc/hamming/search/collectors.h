// What a scan does with what it finds (scan.h says what a collector is), and what becomes of that.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "hamming/search/search.h"
#include "hamming/search/segment.h"
#include "hamming/search/topk.h"

namespace pyhash {

struct TopKCollector {
    TopK top;
    int64_t bound() const { return top.bound(); }
    void take(const Segment& segment, size_t slot, uint32_t distance) { top.push(distance, segment.id(slot)); }
};

// Memory for results whose number nobody knows beforehand: a radius too large must be an error, not the end of the process.
class Budget {
public:
    // Vectors grow by copying, and the caller gets arrays of its own.
    explicit Budget(size_t room) : limit_(room / 4) {}

    void add(size_t bytes) {
        if (bytes_.fetch_add(bytes) + bytes > limit_) throw std::bad_alloc();
    }

private:
    std::atomic<size_t> bytes_{0};
    const size_t limit_;
};

template <class Result>
void append(std::vector<Result>& found, const Result& result, Budget& budget) {
    if (found.size() == found.capacity()) {
        const size_t more = std::max<size_t>(found.capacity(), 8);
        budget.add(more * sizeof(Result));
        found.reserve(found.capacity() + more);
    }
    found.push_back(result);
}

struct WithinCollector {
    std::vector<Candidate> found;
    int64_t radius;
    Budget* budget;
    int64_t bound() const { return radius; }
    void take(const Segment& segment, size_t slot, uint32_t distance) {
        append(found, {distance, segment.id(slot)}, *budget);
    }
};

// Writes the nearest, in order, and pads them to k.
inline void write_padded(const std::vector<Candidate>& nearest, size_t k, int32_t* distances, int64_t* ids) {
    const size_t n = std::min(k, nearest.size());
    for (size_t i = 0; i < n; ++i) {
        distances[i] = static_cast<int32_t>(nearest[i].distance);
        ids[i] = nearest[i].id;
    }
    std::fill(distances + n, distances + k, kPadDistance);
    std::fill(ids + n, ids + k, kPadId);
}

}  // namespace pyhash
