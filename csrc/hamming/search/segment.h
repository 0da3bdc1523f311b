// A stored run of codes as search sees it: memory that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/kernels/kernel.h"

namespace pyhash {

struct Ring;

// Codes in blocks of 64, word-major (kernel.h), the blocks in chunks of equal size but the last. Ids ascend with the slot,
// unless a ring keeps the codes in an order of its own.
struct Segment {
    std::vector<const uint64_t*> chunks;
    size_t blocks_per_chunk = 1;
    size_t n_codes = 0;
    size_t n_words = 0;
    int64_t first_id = 0;
    const int64_t* ids = nullptr;    // null: the id of rank r is first_id + r
    const uint64_t* dead = nullptr;  // null, or one word a block: a set bit is a removed slot

    const Ring* ring = nullptr;
    const uint32_t* order = nullptr;  // with a ring: the rank of a slot, its place in the order of ids; else they are equal

    size_t n_blocks() const { return (n_codes + kLanes - 1) / kLanes; }

    int64_t id(size_t slot) const {
        // A mapped file may be damaged where nobody has looked yet: never read outside.
        if (order != nullptr) slot = order[slot] < n_codes ? order[slot] : n_codes - 1;
        return ids != nullptr ? ids[slot] : first_id + static_cast<int64_t>(slot);
    }

    const uint64_t* block(size_t b) const {
        return chunks[b / blocks_per_chunk] + (b % blocks_per_chunk) * n_words * kLanes;
    }

    // Lanes of a block that hold a code which may be answered.
    uint64_t visible(size_t b, const uint64_t* allowed) const {
        const size_t left = n_codes - b * kLanes;
        uint64_t lanes = left >= kLanes ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
        if (dead != nullptr) lanes &= ~dead[b];
        if (allowed != nullptr) lanes &= allowed[b];
        return lanes;
    }

    // Copies one code out of its block.
    void row(size_t slot, uint64_t* words) const {
        const uint64_t* lane = block(slot / kLanes) + slot % kLanes;
        for (size_t w = 0; w < n_words; ++w) words[w] = lane[w * kLanes];
    }
};

}  // namespace pyhash
