// How a call is shared out among threads: tiles of queries, and parts of the database.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/search/scan.h"
#include "hamming/search/search.h"

namespace pyhash {

// Words that a kernel looks at to measure one code.
size_t words_measured(const Metric& metric, size_t n_words);

// How many of `threads` (0: as many as there are CPUs) the work, in words of blocks, is worth.
unsigned useful_threads(unsigned threads, size_t work);

// Blocks [begin, end) of one segment.
struct Range {
    size_t segment;
    size_t begin;
    size_t end;
};

// The target's blocks in order, cut into `parts` lists of about equal length.
std::vector<std::vector<Range>> split(const Target& target, size_t parts);

// How a call is shared out: tiles of queries, each over one or several parts of the database.
struct Plan {
    unsigned threads;
    const Slicer* slicer;
    size_t query_tile;
    size_t n_tiles;
    size_t parts;
};

Plan make_plan(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, unsigned threads);

size_t total_blocks(const Target& target);
size_t total_codes(const Target& target);

// Whether candidates come with ascending ids when the blocks are passed over in order.
bool ids_ascend(const Target& target);

inline const uint64_t* allowed_of(const Target& target, size_t segment) {
    return target.allowed.empty() ? nullptr : target.allowed[segment];
}

}  // namespace pyhash
