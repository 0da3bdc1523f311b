// Comparing all with all: what a join falls back to, and what it is measured by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/join/join.h"

namespace pyhash {

// The keys in which a pair may have met before. It is not taken again then.
struct EarlierKeys {
    std::vector<uint64_t> bits;  // (n, n_words)
    std::vector<uint32_t> reaches;

    void add(const Key& key, size_t n_words) {
        bits.resize(bits.size() + n_words, 0);
        uint64_t* words = bits.data() + bits.size() - n_words;
        for (uint32_t bit : key.bits) words[bit / 64] |= uint64_t{1} << bit % 64;
        reaches.push_back(key.reach);
    }

    bool met(const uint64_t* row, const Segment& segment, size_t slot) const {
        const uint64_t* other = segment.block(slot / kLanes) + slot % kLanes;
        for (size_t k = 0; k < reaches.size(); ++k) {
            unsigned differing = 0;
            for (size_t w = 0; w < segment.n_words; ++w)
                differing += popcount((row[w] ^ other[w * kLanes]) & bits[k * segment.n_words + w]);
            if (differing <= reaches[k]) return true;
        }
        return false;
    }
};

void flat_join(const Kernel& kernel, const Target& target, const Ranks& ranks, const Metric& metric, uint32_t radius,
               unsigned threads, const EarlierKeys& earlier, PairTaker& taker);

void flat_join(const Kernel& kernel, const Target& left, const Ranks& left_ranks, const Target& right,
               const Ranks& right_ranks, const Metric& metric, uint32_t radius, unsigned threads, const EarlierKeys& earlier,
               PairTaker& taker);

// What it costs to compare so many pairs, in nanoseconds on one core.
double flat_ns(const Kernel& kernel, const Metric& metric, size_t n_words, uint32_t radius, double pairs);

}  // namespace pyhash
