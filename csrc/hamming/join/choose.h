// Which keys a join uses: chosen on sampled codes, by what the walk will cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/join/buckets.h"
#include "hamming/join/join.h"

namespace pyhash {

// Sampled codes as rows (n, n_words).
struct Sample {
    std::vector<uint64_t> words;
    size_t n;
    size_t n_words;
    const uint64_t* row(size_t i) const { return words.data() + i * n_words; }
};

// Codes at equal distances through a target, those that are not removed.
Sample sample(const Target& target, size_t most);

// What a walk of one key costs, in nanoseconds on one core: of a set with itself, and of rows looked up in a set.
double self_walk_ns(double n, const Key& key, double n_differences, double n_words, double meetings);
double lookup_ns(double n_rows, double n_differences, double n_words, double meetings);

struct Choice {
    std::vector<Key> keys;  // empty: comparing all with all is cheaper
    double ns;              // what it costs
};

// Keys of `bits` for codes within `radius` of one another in these bits. `n_rows` rows are looked up among `n` codes, like those
// of the sample; 0 rows: the codes are joined with themselves. None that cost more than `flat_ns`.
Choice choose_keys(const Sample& codes, size_t n, size_t n_rows, const std::vector<uint32_t>& bits, uint32_t radius,
                   double flat_ns);

}  // namespace pyhash
