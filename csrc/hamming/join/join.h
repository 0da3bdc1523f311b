// All pairs of codes within a distance, exactly, without comparing all with all.
//
// Method. Choose m disjoint sets of bits K_1 ... K_m, a key each (they need not cover the code), and for each a reach t_i >= 0
// such that (t_1 + 1) + ... + (t_m + 1) >= r + 1. Two codes meet in key i when they differ in at most t_i bits of K_i. Codes
// are sorted into buckets by the value of a key, so those that meet lie in buckets v and v ^ mask, mask of at most t_i bits.
// Where they meet, the whole distance is measured.
//
// Nothing is missed. Let d(x, y) <= r. The keys are disjoint, so the bits in which x and y differ inside them are at most r
// together. Were there t_i + 1 or more inside every key, they would be at least r + 1. So x and y meet in some key.
//
// Nothing comes twice. A pair is taken in the first key in which it meets. Within a key it is met once: in one bucket the
// later slot is compared with those before it; of two buckets v and v ^ mask the smaller looks at the larger.
//
// Nothing is false: what is taken was measured.
//
// A weighted metric, the sum of w_l d_l over levels, is at most r only where w_l d_l is, so where d_l <= r / w_l: one level
// with its own radius does for the keys, and the weighted distance is measured.
//
// None of it depends on how keys and reaches are chosen; that decides about speed alone. They are chosen on sampled codes,
// the work of a key is counted exactly before it is done, and where comparing the rest by a flat pass is cheaper, that is done.
// The idea of keys is that of Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", 2007; reaches
// and measured plans are ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/join/found.h"
#include "hamming/join/ranks.h"
#include "hamming/kernels/kernel.h"
#include "hamming/search/search.h"

namespace pyhash {

// A set of bits of the code, and in how many of them two codes that meet may differ.
struct Key {
    std::vector<uint32_t> bits;
    unsigned reach;
};

// What a join did.
struct JoinReport {
    size_t n_keys = 0;      // that were walked
    bool flat = false;      // whether a flat pass did all, or what keys had not done
    uint64_t compared = 0;  // pairs that met in a key, estimated where a key reaches far
};

// Hands out all pairs i < j of one target within the radius. Codes are sorted where that takes less than half of `room` bytes.
// `dearer` is for tests: a flat pass is taken to cost so many times what it does, and few codes are joined by keys, too.
JoinReport join(const Kernel& kernel, const Target& target, const Ranks& ranks, const Metric& metric, uint32_t radius,
                unsigned threads, PairTaker& taker, size_t room = kAnyRoom, double dearer = 1);

// Hands out all pairs of a code of `left`, i, and one of `right`, j, within the radius.
JoinReport join(const Kernel& kernel, const Target& left, const Ranks& left_ranks, const Target& right,
                const Ranks& right_ranks, const Metric& metric, uint32_t radius, unsigned threads, PairTaker& taker,
                size_t room = kAnyRoom, double dearer = 1);

// The same where keys make it cheaper; where they do not, nothing is handed out, and no key was walked.
JoinReport join_by_keys(const Kernel& kernel, const Target& left, const Ranks& left_ranks, const Target& right,
                        const Ranks& right_ranks, const Metric& metric, uint32_t radius, unsigned threads, PairTaker& taker,
                        size_t room = kAnyRoom, double dearer = 1);

}  // namespace pyhash
