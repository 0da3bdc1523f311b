// Rows of words <-> blocks of 64 codes, in one place. The layout is kernel.h's: block[word * 64 + lane].
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/search/segment.h"

namespace pyhash {

// Rows as blocks, the last one padded with zeros.
std::vector<uint64_t> blocks_of(const uint64_t* rows, size_t n, size_t n_words);

// Writes n rows into slots [slot, slot + n) of blocks.
void write_rows(const uint64_t* rows, size_t n, size_t n_words, uint64_t* blocks, size_t slot);

// Blocks that somebody wants filled.
struct BlocksOut {
    uint64_t* blocks;
    size_t n_blocks;
};

// Copies the codes in slots `order` (n_codes of them) of a segment to slots 0, 1, ... of blocks that have room for them.
// Throws std::invalid_argument where the order names a slot that is not there.
void permute(const Segment& segment, const uint32_t* order, const std::vector<BlocksOut>& out);

// Copies the codes in n slots out as rows. Throws std::invalid_argument where there is no such slot.
void read_rows(const Segment& segment, const int64_t* slots, size_t n, uint64_t* rows);

}  // namespace pyhash
