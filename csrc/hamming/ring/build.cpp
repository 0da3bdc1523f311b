#include <algorithm>
#include <limits>
#include <vector>

#include "hamming/ring/clusters.h"
#include "hamming/ring/ring.h"
#include "hamming/search/blocks.h"
#include "hamming/threads/pool.h"

namespace pyhash {

RingParts build_ring(const Kernel& kernel, const Segment& segment, size_t n_clusters, unsigned threads) {
    const size_t n = segment.n_codes;
    const size_t n_words = segment.n_words;
    if (threads == 0) threads = available_cpus();
    n_clusters = std::min(n_clusters, n);
    std::vector<uint64_t> centres =
        train_centres(kernel, sample_rows(segment, std::min(n, n_clusters * kSamplesPerCluster), 1), n_words, n_clusters, threads);
    const auto row = [&](size_t i, uint64_t* words) { segment.row(i, words); };
    Assignment nearest;
    {
        const OwnedSegment owned(centres, n_words);
        nearest = assign(kernel, n, n_words, row, owned.segment, threads);
    }

    std::vector<uint32_t> members(n_clusters, 0);
    std::vector<uint32_t> low(n_clusters, std::numeric_limits<uint32_t>::max());
    std::vector<uint32_t> high(n_clusters, 0);
    for (size_t i = 0; i < n; ++i) {
        const uint32_t c = nearest.cluster[i];
        const uint32_t r = nearest.radius[i];
        ++members[c];
        low[c] = std::min(low[c], r);
        high[c] = std::max(high[c], r);
    }
    // Empty clusters go; the others get their rings, counted and then summed up to first slots.
    RingParts parts;
    std::vector<uint64_t> kept;
    std::vector<uint32_t> renumbered(n_clusters, 0);
    parts.first.push_back(0);
    for (size_t c = 0; c < n_clusters; ++c) {
        if (members[c] == 0) continue;
        renumbered[c] = static_cast<uint32_t>(parts.least.size());
        kept.insert(kept.end(), centres.begin() + static_cast<std::ptrdiff_t>(c * n_words),
                    centres.begin() + static_cast<std::ptrdiff_t>((c + 1) * n_words));
        parts.least.push_back(low[c]);
        parts.first.push_back(parts.first.back() + high[c] - low[c] + 2);
    }
    parts.centres = blocks_of(kept.data(), parts.least.size(), n_words);
    const auto ring_of = [&](size_t i) {
        const uint32_t c = renumbered[nearest.cluster[i]];
        return parts.first[c] + nearest.radius[i] - parts.least[c];
    };
    parts.starts.assign(parts.first.back(), 0);
    for (size_t i = 0; i < n; ++i) ++parts.starts[ring_of(i)];
    uint32_t slot = 0;
    for (uint32_t& start : parts.starts) {  // an end mark counts nothing, and so becomes the next cluster's first slot
        const uint32_t count = start;
        start = slot;
        slot += count;
    }
    std::vector<uint32_t> next(parts.starts);
    parts.order.resize(n);
    for (size_t i = 0; i < n; ++i) parts.order[next[ring_of(i)]++] = static_cast<uint32_t>(i);
    return parts;
}

}  // namespace pyhash
