// A store with a ring structure, made as the Python layer makes it: clustered, then permuted.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "hamming/ring.h"
#include "test.h"

namespace pyhash {
namespace test {

class RingStore : public Store {
public:
    RingStore(Random& random, const Rows& codes, size_t n_clusters, size_t blocks_per_chunk, unsigned threads = 1)
        : RingStore(random, codes, build_ring(Store(random, codes, blocks_per_chunk).segment, n_clusters, threads),
                    blocks_per_chunk) {}

    // Strictly ascending, by rank: by place in the order of the codes that the store was made of.
    void set_ids_by_rank(std::vector<int64_t> by_rank) {
        ids_by_rank_ = std::move(by_rank);
        segment.ids = ids_by_rank_.data();
        for (size_t slot = 0; slot < ids.size(); ++slot) ids[slot] = ids_by_rank_[parts.order[slot]];
    }

    RingParts parts;
    Ring ring;

private:
    RingStore(Random& random, const Rows& codes, RingParts made, size_t blocks_per_chunk)
        : Store(random, in_order(codes, made.order), blocks_per_chunk),
          parts(std::move(made)),
          centres_(random, Rows{codes.n_words, parts.centres}, 1 + parts.least.size() / kLanes) {
        ring.centres = centres_.segment;
        ring.first = parts.first;
        ring.starts = parts.starts;
        for (size_t c = 0; c < parts.least.size(); ++c)
            ring.add_cluster(parts.least[c], parts.least[c] + parts.first[c + 1] - parts.first[c] - 2);
        segment.ring = &ring;
        segment.order = parts.order.data();
        for (size_t slot = 0; slot < ids.size(); ++slot) ids[slot] = segment.first_id + parts.order[slot];
    }

    static Rows in_order(const Rows& codes, const std::vector<uint32_t>& order) {
        Rows permuted{codes.n_words, {}};
        for (const uint32_t rank : order)
            permuted.words.insert(permuted.words.end(), codes.row(rank), codes.row(rank) + codes.n_words);
        return permuted;
    }

    Store centres_;
    std::vector<int64_t> ids_by_rank_;
};

}  // namespace test
}  // namespace pyhash
