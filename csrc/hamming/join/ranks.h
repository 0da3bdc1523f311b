// Codes by their rank, the place in the order of ids: a number of 32 bits, where an id has 64.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "hamming/search/search.h"
#include "hamming/threads/stop.h"

namespace pyhash {

class Ranks {
public:
    // `by_id` false: by the place in the target instead, where nobody asks for the order of ids.
    explicit Ranks(const Target& target, bool by_id = true) : target_(&target), first_(target.segments.size() + 1, 0) {
        bool ascend = true;
        for (size_t s = 0; s < target.segments.size(); ++s) {
            const Segment& segment = *target.segments[s];
            first_[s + 1] = first_[s] + segment.n_codes;
            ascend = ascend && segment.order == nullptr;
            if (s != 0 && segment.n_codes != 0 && first_[s] != 0) ascend = ascend && last_id(s) < segment.id(0);
        }
        if (ascend || !by_id || !possible()) return;
        std::vector<int64_t> by_place(size());
        for (size_t s = 0; s < target.segments.size(); ++s)
            for (size_t slot = 0; slot < target.segments[s]->n_codes; ++slot)
                by_place[first_[s] + slot] = target.segments[s]->id(slot);
        std::vector<uint32_t> places(size());
        std::iota(places.begin(), places.end(), uint32_t{0});
        sort_stoppable(places.begin(), places.end(), [&](uint32_t a, uint32_t b) { return by_place[a] < by_place[b]; });
        by_place_.resize(size());
        ids_.resize(size());
        for (size_t rank = 0; rank < places.size(); ++rank) {
            if (rank % (1 << 16) == 0) checkpoint();
            by_place_[places[rank]] = static_cast<uint32_t>(rank);
            ids_[rank] = by_place[places[rank]];
        }
    }

    size_t size() const { return first_.back(); }  // removed codes have ranks, too
    bool possible() const { return size() <= std::numeric_limits<uint32_t>::max(); }

    uint32_t rank(size_t segment, size_t slot) const {
        const size_t place = first_[segment] + slot;
        return by_place_.empty() ? static_cast<uint32_t>(place) : by_place_[place];
    }

    int64_t id(uint32_t rank) const {
        if (!ids_.empty()) return ids_[rank];
        const size_t s = static_cast<size_t>(std::upper_bound(first_.begin() + 1, first_.end(), rank) - first_.begin()) - 1;
        return target_->segments[s]->id(rank - first_[s]);
    }

private:
    int64_t last_id(size_t end) const {  // of the segments before this one, of which one has codes
        while (target_->segments[end - 1]->n_codes == 0) --end;
        return target_->segments[end - 1]->id(target_->segments[end - 1]->n_codes - 1);
    }

    const Target* target_;
    std::vector<size_t> first_;       // codes in earlier segments
    std::vector<uint32_t> by_place_;  // empty where ids ascend with the place
    std::vector<int64_t> ids_;        // likewise
};

}  // namespace pyhash
