// The codes of a target sorted by the value of a key.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "hamming/join/join.h"
#include "hamming/join/ranks.h"

namespace pyhash {

constexpr unsigned kMostKeyBits = 24;
constexpr unsigned kMostReach = 2;

// Gathers the bits of a key, through a table for each byte of the code that has any: no special instruction is needed.
class KeyReader {
public:
    KeyReader(const Key& key, size_t n_words);

    // The words of the code lie `stride` apart.
    uint32_t operator()(const uint64_t* words, size_t stride) const {
        uint32_t value = 0;
        for (const Table& table : tables_) value |= table.part[words[table.word * stride] >> table.shift & 255];
        return value;
    }

    // Those of the 64 codes of a block.
    void of_block(const uint64_t* block, uint32_t* values) const {
        std::fill_n(values, kLanes, uint32_t{0});
        for (const Table& table : tables_) {
            const uint64_t* words = block + table.word * kLanes;
            for (size_t lane = 0; lane < kLanes; ++lane) values[lane] |= table.part[words[lane] >> table.shift & 255];
        }
    }

private:
    struct Table {
        uint32_t word;
        uint32_t shift;
        std::array<uint32_t, 256> part;
    };
    std::vector<Table> tables_;
};

// All differences of at most `reach` bits between two values of so many bits, none first.
std::vector<uint32_t> differences(unsigned bits, unsigned reach);

// Codes in the order of their key's value. Words lie apart, so that a register can hold one word of several codes.
struct Buckets {
    std::vector<uint32_t> starts;        // of each value, and the end: 2^bits + 1
    std::unique_ptr<uint32_t[]> ranks;   // of the codes
    std::unique_ptr<uint64_t[]> words;   // word w of code c is words[w * stride + c]; some more may be read
    size_t n = 0;
    size_t stride = 0;

    size_t n_buckets() const { return starts.size() - 1; }

    // What sorting n codes takes.
    static size_t bytes(size_t n, size_t n_words, size_t n_bits) {
        return n * (sizeof(uint32_t) + n_words * sizeof(uint64_t)) + (sizeof(uint32_t) << n_bits);
    }
};

// Sorts the codes of a target that are not removed, into the memory of `out`.
void sort_by_key(const Target& target, const Ranks& ranks, const Key& key, unsigned threads, Buckets& out);

// Pairs of codes of one set that meet in a key, counted by the sizes of its buckets (of many differences, on every 16th).
uint64_t count_meetings(const Buckets& buckets, const std::vector<uint32_t>& differences);

}  // namespace pyhash
