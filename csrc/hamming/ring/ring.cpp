#include "hamming/ring/ring.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace pyhash {

std::unique_ptr<Ring> make_ring(const Segment& segment, const RingView& parts) {
    const auto require = [](bool condition, const char* message) {
        if (!condition) throw std::invalid_argument(message);
    };
    const size_t n = parts.n_clusters;
    require(segment.n_words <= kMaxRingWords, "a ring needs codes of at most 64 words");
    require(n > 0 && n <= parts.n_blocks * kLanes, "least must have one entry a cluster");
    auto ring = std::make_unique<Ring>();
    ring->centres.chunks.push_back(parts.centres);
    ring->centres.blocks_per_chunk = parts.n_blocks;
    ring->centres.n_codes = n;
    ring->centres.n_words = segment.n_words;
    ring->first.assign(parts.first, parts.first + n + 1);
    ring->starts.assign(parts.starts, parts.starts + parts.n_starts);
    require(ring->first.front() == 0 && ring->first.back() == ring->starts.size(), "first must end where starts does");
    for (size_t i = 0; i < ring->starts.size(); ++i)
        require(ring->starts[i] <= segment.n_codes && (i == 0 || ring->starts[i - 1] <= ring->starts[i]),
                "starts must be slots in ascending order");
    for (size_t c = 0; c < n; ++c) {
        require(ring->first[c] + 2 <= ring->first[c + 1] && ring->first[c + 1] <= ring->starts.size(),
                "each cluster must have a ring and an end mark");
        const uint32_t rings = ring->first[c + 1] - ring->first[c] - 1;
        require(parts.least[c] + uint64_t{rings} - 1 <= 64 * segment.n_words, "radii must be distances");
        ring->add_cluster(parts.least[c], parts.least[c] + rings - 1);
    }
    return ring;
}

size_t measure_centres(const Ring& ring, const Probe& probe, FindFn find, RingScratch& scratch) {
    const Segment& centres = ring.centres;
    scratch.distances.resize(centres.n_blocks() * kLanes);
    Hit hit;
    size_t nearest = 0;
    int16_t least = std::numeric_limits<int16_t>::max();
    for (size_t b = 0; b < centres.n_blocks(); ++b) {
        find(centres.block(b), 0, 1, probe, std::numeric_limits<uint32_t>::max(), hit);
        // 16 bits, so that the compiler works on many clusters at once.
        int16_t* out = scratch.distances.data() + b * kLanes;
        for (size_t i = 0; i < kLanes; ++i) out[i] = static_cast<int16_t>(hit.distances[i]);
        const size_t lanes = std::min(kLanes, ring.n_clusters - b * kLanes);
        for (size_t i = lanes; i < kLanes; ++i) out[i] = std::numeric_limits<int16_t>::max() / 2;
        int16_t least_here = out[0];
        for (size_t i = 0; i < kLanes; ++i) least_here = std::min(least_here, out[i]);
        if (least_here < least) {
            least = least_here;
            nearest = b * kLanes + static_cast<size_t>(std::find(out, out + kLanes, least) - out);
        }
    }
    return nearest;
}

size_t survivors(const Ring& ring, int64_t bound, size_t budget, RingScratch& scratch) {
    // Sums stay far below 2^15, the padding's too: distances and bounds are at most 64 * kMaxRingWords = 2^12.
    const int16_t reach = static_cast<int16_t>(bound);
    scratch.candidates.clear();
    size_t cost = 0;
    for (size_t from = 0; from < ring.n_clusters; from += kLanes) {
        const int16_t* distances = scratch.distances.data() + from;
        const int16_t* least = ring.least.data() + from;
        const int16_t* most = ring.most.data() + from;
        alignas(8) int8_t near[kLanes];
        for (size_t i = 0; i < kLanes; ++i)
            near[i] = static_cast<int8_t>((static_cast<int16_t>(distances[i] + reach) >= least[i]) &
                                          (static_cast<int16_t>(distances[i] - reach) <= most[i]));
        for (size_t eight = 0; eight < kLanes; eight += sizeof(uint64_t)) {
            uint64_t any;
            std::memcpy(&any, near + eight, sizeof any);
            if (any == 0) continue;
            for (size_t i = eight; i < eight + sizeof(uint64_t); ++i) {
                if (!near[i] || scratch.visited[from + i]) continue;
                const auto [begin, end] = surviving(ring, from + i, distances[i], bound);
                if (begin == end) continue;
                cost += end - begin + kCodesPerRange;
                scratch.candidates.push_back(static_cast<uint64_t>(distances[i]) << 32 | (from + i));
            }
        }
        if (cost > budget) return cost;
    }
    return cost;
}

}  // namespace pyhash
