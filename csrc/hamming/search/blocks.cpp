#include "hamming/search/blocks.h"

#include <algorithm>
#include <stdexcept>

namespace pyhash {

void write_rows(const uint64_t* rows, size_t n, size_t n_words, uint64_t* blocks, size_t slot) {
    for (size_t done = 0; done < n;) {
        const size_t lane = (slot + done) % kLanes;
        const size_t m = std::min(kLanes - lane, n - done);
        uint64_t* block = blocks + (slot + done) / kLanes * n_words * kLanes + lane;
        for (size_t w = 0; w < n_words; ++w)
            for (size_t i = 0; i < m; ++i) block[w * kLanes + i] = rows[(done + i) * n_words + w];
        done += m;
    }
}

std::vector<uint64_t> blocks_of(const uint64_t* rows, size_t n, size_t n_words) {
    std::vector<uint64_t> blocks((n + kLanes - 1) / kLanes * n_words * kLanes, 0);
    write_rows(rows, n, n_words, blocks.data(), 0);
    return blocks;
}

void permute(const Segment& segment, const uint32_t* order, const std::vector<BlocksOut>& out) {
    size_t slot = 0;
    for (const BlocksOut& chunk : out)
        for (size_t i = 0; i < chunk.n_blocks * kLanes && slot < segment.n_codes; ++i, ++slot) {
            if (order[slot] >= segment.n_codes) throw std::invalid_argument("order must name slots");
            const uint64_t* source = segment.block(order[slot] / kLanes) + order[slot] % kLanes;
            uint64_t* target = chunk.blocks + i / kLanes * segment.n_words * kLanes + i % kLanes;
            for (size_t w = 0; w < segment.n_words; ++w) target[w * kLanes] = source[w * kLanes];
        }
}

void read_rows(const Segment& segment, const int64_t* slots, size_t n, uint64_t* rows) {
    for (size_t i = 0; i < n; ++i) {
        if (static_cast<uint64_t>(slots[i]) >= segment.n_codes) throw std::invalid_argument("slots must be slots that there are");
        segment.row(static_cast<size_t>(slots[i]), rows + i * segment.n_words);
    }
}

}  // namespace pyhash
