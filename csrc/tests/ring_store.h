// A store with a ring structure, made as the Python layer makes it: clustered, then permuted.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "hamming/ring/ring.h"
#include "test.h"

namespace pyhash {
namespace test {

class RingStore : public Store {
public:
    RingStore(Random& random, const Rows& codes, size_t n_clusters, size_t blocks_per_chunk, unsigned threads = 1)
        : RingStore(random, codes,
                    build_ring(best_kernel(), Store(random, codes, blocks_per_chunk).segment, n_clusters, threads), blocks_per_chunk) {}

    // Strictly ascending, by rank: by place in the order of the codes that the store was made of.
    void set_ids_by_rank(std::vector<int64_t> by_rank) {
        ids_by_rank_ = std::move(by_rank);
        segment.ids = ids_by_rank_.data();
        for (size_t slot = 0; slot < ids.size(); ++slot) ids[slot] = ids_by_rank_[parts.order[slot]];
    }

    RingParts parts;

private:
    RingStore(Random& random, const Rows& codes, RingParts made, size_t blocks_per_chunk)
        : Store(random, in_order(codes, made.order), blocks_per_chunk),
          parts(std::move(made)),
          ring_(make_ring(segment, view(parts, codes.n_words))) {
        segment.ring = ring_.get();
        segment.order = parts.order.data();
        for (size_t slot = 0; slot < ids.size(); ++slot) ids[slot] = segment.first_id + parts.order[slot];
    }

    static RingView view(const RingParts& parts, size_t n_words) {
        return {parts.centres.data(), parts.centres.size() / n_words / kLanes, parts.least.data(), parts.least.size(),
                parts.first.data(), parts.starts.data(), parts.starts.size()};
    }

    static Rows in_order(const Rows& codes, const std::vector<uint32_t>& order) {
        Rows permuted{codes.n_words, {}};
        for (const uint32_t rank : order)
            permuted.words.insert(permuted.words.end(), codes.row(rank), codes.row(rank) + codes.n_words);
        return permuted;
    }

    std::unique_ptr<Ring> ring_;
    std::vector<int64_t> ids_by_rank_;

public:
    const Ring& ring = *ring_;
};

}  // namespace test
}  // namespace pyhash
