#include "hamming/join/groups.h"

#include <numeric>

#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

// Calls visit(rank) for each, in order.
template <class Visit>
void each_rank(size_t n, const Visit& visit) {
    for (size_t rank = 0; rank < n; ++rank) {
        if (rank % (1 << 16) == 0) checkpoint();
        visit(rank);
    }
}

}  // namespace

Groups::Groups(size_t n) : parents_(n) { std::iota(parents_.begin(), parents_.end(), uint32_t{0}); }

uint32_t Groups::first_of(uint32_t rank) {
    while (parents_[rank] != rank) {
        parents_[rank] = parents_[parents_[rank]];
        rank = parents_[rank];
    }
    return rank;
}

void Groups::take(const RankPair* pairs, size_t n) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t p = 0; p < n; ++p) {
        const uint32_t a = first_of(pairs[p].i);
        const uint32_t b = first_of(pairs[p].j);
        if (a < b)
            parents_[b] = a;
        else
            parents_[a] = b;
    }
}

Groups::Listed Groups::list() {
    const size_t n = parents_.size();
    // Parents lie before their children, so one pass in order brings every code straight to its first.
    each_rank(n, [&](size_t rank) { parents_[rank] = parents_[parents_[rank]]; });
    std::vector<uint32_t> sizes(n, 0);
    each_rank(n, [&](size_t rank) { ++sizes[parents_[rank]]; });
    Listed listed{{0}, {}};
    std::vector<size_t> next(n, 0);  // where the next code of a group goes, by its first
    each_rank(n, [&](size_t rank) {
        if (sizes[rank] < 2) return;
        next[rank] = static_cast<size_t>(listed.offsets.back());
        listed.offsets.push_back(listed.offsets.back() + sizes[rank]);
    });
    listed.ranks.resize(static_cast<size_t>(listed.offsets.back()));
    each_rank(n, [&](size_t rank) {
        if (sizes[parents_[rank]] >= 2) listed.ranks[next[parents_[rank]]++] = static_cast<uint32_t>(rank);
    });
    return listed;
}

}  // namespace pyhash
