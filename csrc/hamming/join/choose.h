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

// At most so many codes at equal distances through a target, those that may be answered.
Sample sample(const Target& target, size_t most);

// What a join joins: codes with themselves, or, where there are rows, each row with codes that are sorted.
struct Joined {
    const Target& codes;
    double n;
    const Target* rows;  // null: none
    double n_rows;
    size_t n_words;
};

// What the walk of a key of so many bits costs, in nanoseconds on one core, where so many pairs meet in it.
double key_ns(const Joined& joined, size_t n_bits, unsigned reach, double meetings);

struct Choice {
    std::vector<Key> keys;   // empty: comparing all with all is cheaper
    std::vector<double> ns;  // what each of them costs
    Sample rows{{}, 0, 0};   // some of the rows, where there are any
};

// Bits of which each counts at least `weight`, so that codes within r differ in at most r / weight of them.
struct Choosable {
    std::vector<uint32_t> bits;
    uint32_t weight;
};

// Keys of one of the sets, for pairs within the radius. None that cost more than `flat_ns` together.
Choice choose_keys(const Joined& joined, const std::vector<Choosable>& sets, uint32_t radius, double flat_ns);

// How many codes in the buckets of a key one row meets, on average of some rows.
double met_by_a_row(const Buckets& buckets, const Key& key, const Sample& rows);

}  // namespace pyhash
