// The contract between a join and the kernels: buckets of one key are walked, and pairs that are near are handed out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hamming/kernels/kernel.h"

namespace pyhash {

// Two codes of the walk: places in the order of the buckets, or of the rows that are looked up.
struct NearPair {
    uint32_t a;
    uint32_t b;
    uint32_t distance;
};

struct Walk {
    const uint32_t* starts;   // of the buckets
    const uint64_t* words;    // word w of code c is words[w * stride + c]; sixteen more may be read
    size_t stride;
    size_t n_words;
    const Term* terms;        // as in Probe
    size_t n_terms;
    uint32_t radius;
    // Keys that were walked before: a pair that met in one was taken there.
    const uint64_t* earlier;  // (n_earlier, n_words): the bits of each
    const uint32_t* reaches;  // (n_earlier,)
    size_t n_earlier;
};

// Room for what is found; `empty` is called when it is full, and now and then, and sets `n` to 0.
struct NearPairs {
    static constexpr size_t kRoom = 1024;
    NearPair pairs[kRoom];
    size_t n = 0;
    void (*empty)(NearPairs&);
    void* owner;
};

// Compares all codes of buckets [begin, end) with those of the same bucket behind them, and with those of the buckets that
// differ by one of `differences`, each pair of buckets once.
using WalkBucketsFn = void (*)(const Walk& walk, const uint32_t* differences, size_t n_differences, size_t begin, size_t end,
                               NearPairs& found);

// Compares n rows, their words `row_stride` apart, with the codes of the buckets that differ from `values` by one of
// `differences`; a bit a bucket in `full` says whether it holds any.
using WalkRowsFn = void (*)(const Walk& walk, const uint64_t* rows, size_t row_stride, const uint32_t* values, size_t n,
                            const uint32_t* differences, size_t n_differences, const uint64_t* full, NearPairs& found);

struct Walker {
    WalkBucketsFn buckets;
    WalkRowsFn rows;
    double flat_ns;    // of a flat pass, a pair and word, in nanoseconds: bit-sliced where that is possible
    double metric_ns;  // the same of a weighted metric, a pair and term
};

}  // namespace pyhash
