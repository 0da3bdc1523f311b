// Codes that hang together: a pair is a link, and what is linked, directly or through others, is one group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "hamming/join/found.h"

namespace pyhash {

// Keeps 4 bytes a code, however many pairs it takes.
class Groups : public PairTaker {
public:
    explicit Groups(size_t n);

    void take(const RankPair* pairs, size_t n) override;

    // Ranks of the codes that have a partner, ascending within a group, groups by their first; group g is
    // ranks[offsets[g]] to ranks[offsets[g + 1]].
    struct Listed {
        std::vector<int64_t> offsets;
        std::vector<uint32_t> ranks;
    };
    Listed list();

private:
    uint32_t first_of(uint32_t rank);

    std::mutex mutex_;
    std::vector<uint32_t> parents_;  // never larger than the rank itself: the root of a group is its first
};

}  // namespace pyhash
