// The ring structure: exact search of part of the codes.
//
// Codes are clustered round majority-vote centres and stored by (cluster, distance r to its centre), so a "ring", the codes of
// a cluster at one r, is a run of slots. By the triangle inequality d(q, x) >= |d(q, c) - r|: what is within a bound of the
// query lies in rings with |d(q, c) - r| <= bound. The home cluster is scanned first, which gives a good bound, then only
// the rings that survive it, nearest centre first, the bound shrinking. Where the rings that survive would cost more than
// passing over everything, the query is handed back for a flat scan. Either way the answer is exact.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "hamming/search/scan.h"
#include "hamming/search/segment.h"

namespace pyhash {

constexpr size_t kMaxRingWords = 64;  // radii fit in 16 bits, sums of two as well

struct Ring {
    Segment centres;                     // no cluster is empty
    std::vector<uint32_t> first;         // cluster c has rings first[c] ... first[c + 1] - 2, and an end mark
    std::vector<uint32_t> starts;        // first slot of each ring; at an end mark, the end of the cluster
    std::vector<int16_t> least, most;    // radii of a cluster's first and last ring, padded to whole blocks of clusters
    size_t n_clusters = 0;

    // How queries fared, for those who ask.
    mutable std::atomic<uint64_t> answered{0};
    mutable std::atomic<uint64_t> handed_back{0};
    mutable std::atomic<uint64_t> codes_scanned{0};

    void add_cluster(uint32_t least_radius, uint32_t most_radius) {
        if (n_clusters % kLanes == 0) {  // what pads is farther than any bound
            least.resize(n_clusters + kLanes, std::numeric_limits<int16_t>::max());
            most.resize(n_clusters + kLanes, std::numeric_limits<int16_t>::min());
        }
        least[n_clusters] = static_cast<int16_t>(least_radius);
        most[n_clusters] = static_cast<int16_t>(most_radius);
        ++n_clusters;
    }
};

// What a built ring is made of, to be stored.
struct RingParts {
    std::vector<uint64_t> centres;  // blocks
    std::vector<uint32_t> least;    // (n_clusters,)
    std::vector<uint32_t> first;    // (n_clusters + 1,)
    std::vector<uint32_t> starts;
    std::vector<uint32_t> order;    // slot of the flat segment, by new slot
};

// The same as arrays that somebody else owns, perhaps a file: not to be trusted.
struct RingView {
    const uint64_t* centres;  // blocks; they are not copied
    size_t n_blocks;
    const uint32_t* least;
    size_t n_clusters;
    const uint32_t* first;  // n_clusters + 1 of them
    const uint32_t* starts;
    size_t n_starts;
};

// Checks what a stored ring is made of, since search trusts it not to point outside; std::invalid_argument when it does.
std::unique_ptr<Ring> make_ring(const Segment& segment, const RingView& parts);

// Clusters a flat segment (no ring, no removed slots).
RingParts build_ring(const Kernel& kernel, const Segment& segment, size_t n_clusters, unsigned threads);

// The number of clusters that makes queries cheapest, measured on sampled codes, and that cost in codes as a share of them all.
struct RingChoice {
    size_t n_clusters;
    double share;
};
RingChoice choose_clusters(const Kernel& kernel, const Segment& segment, unsigned threads);

// Costs in codes scanned, as measured: of a jump to a range of rings (memory that is not in cache, branches that cannot be
// foreseen), and of the distance to a centre. Fetching ranges ahead was tried and gained nothing.
constexpr size_t kCodesPerRange = 500;
constexpr size_t kCodesPerCentre = 3;

// Memory that a query needs and the next one can have.
struct RingScratch {
    std::vector<int16_t> distances;
    std::vector<uint64_t> candidates;
    std::vector<uint8_t> visited;
};

// Distances of a query to all centres; returns the nearest one.
size_t measure_centres(const Ring& ring, const Probe& probe, FindFn find, RingScratch& scratch);

// The slots of cluster c that can be within `bound`, given the query's distance to its centre.
inline std::pair<size_t, size_t> surviving(const Ring& ring, size_t c, int64_t distance, int64_t bound) {
    const int64_t low = std::max(int64_t{ring.least[c]}, distance - bound);
    const int64_t high = std::min(int64_t{ring.most[c]}, distance + bound);
    if (low > high) return {0, 0};
    const uint32_t* starts = ring.starts.data() + ring.first[c];
    return {starts[low - ring.least[c]], starts[high - ring.least[c] + 1]};
}

// Clusters, other than those visited, with a ring within `bound`: written to scratch.candidates as distance << 32 | cluster.
// Returns their cost in codes, or stops early at more than `budget`.
size_t survivors(const Ring& ring, int64_t bound, size_t budget, RingScratch& scratch);

// Passes a query over slots [begin, end).
template <class Collector>
void scan_slots(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe& probe, FindFn find,
                Collector& collector) {
    Hit hit;
    const size_t last = (end + kLanes - 1) / kLanes;
    for (size_t b = begin / kLanes; b < last;) {
        const size_t chunk_begin = b - b % segment.blocks_per_chunk;
        const size_t to = std::min(last, chunk_begin + segment.blocks_per_chunk) - chunk_begin;
        const uint64_t* blocks = segment.block(chunk_begin);
        for (size_t i = b - chunk_begin; i < to; ++i) {
            const int64_t bound = collector.bound();
            if (bound < 0) return;
            i = find(blocks, i, to, probe, static_cast<uint32_t>(bound), hit);
            if (i >= to) break;
            const size_t first_slot = (chunk_begin + i) * kLanes;
            uint64_t lanes = hit.lanes & segment.visible(chunk_begin + i, allowed);
            if (first_slot < begin) lanes &= ~uint64_t{0} << (begin - first_slot);
            if (first_slot + kLanes > end) lanes &= ~uint64_t{0} >> (first_slot + kLanes - end);
            for (; lanes != 0; lanes &= lanes - 1) {
                const size_t lane = count_trailing_zeros(lanes);
                collector.take(segment, first_slot + lane, hit.distances[lane]);
            }
        }
        b = chunk_begin + to;
    }
}

// Answers a query from a segment with a ring; false when that would cost more than `budget` codes, and the collector, which
// may have taken some already, must then start anew on a flat scan.
template <class Collector>
bool scan_rings(const Segment& segment, const uint64_t* allowed, const Probe& probe, FindFn find, size_t budget,
                RingScratch& scratch, Collector& collector) {
    const Ring& ring = *segment.ring;
    const int64_t all = static_cast<int64_t>(64 * segment.n_words);
    size_t home = measure_centres(ring, probe, find, scratch);
    scratch.visited.assign(ring.n_clusters, 0);
    size_t spent = kCodesPerCentre * ring.n_clusters;  // in codes
    size_t scanned = 0;
    const auto answer = [&] {
        ring.answered.fetch_add(1, std::memory_order_relaxed);
        ring.codes_scanned.fetch_add(scanned, std::memory_order_relaxed);
        return true;
    };
    // Until there are enough candidates for a bound, whole clusters, nearest first.
    for (;;) {
        if (collector.bound() < 0) return answer();
        const auto [begin, end] = surviving(ring, home, scratch.distances[home], collector.bound());
        scratch.visited[home] = 1;
        spent += end - begin + kCodesPerRange;
        if (spent > budget) return false;
        scanned += end - begin;
        if (begin < end) scan_slots(segment, allowed, begin, end, probe, find, collector);
        if (collector.bound() < all) break;
        home = ring.n_clusters;
        for (size_t c = 0; c < ring.n_clusters; ++c)
            if (!scratch.visited[c] && (home == ring.n_clusters || scratch.distances[c] < scratch.distances[home])) home = c;
        if (home == ring.n_clusters) return answer();
        spent += ring.n_clusters / 8;  // the search for the next one
    }
    if (collector.bound() < 0) return answer();
    if (spent + survivors(ring, collector.bound(), budget, scratch) > budget) return false;
    std::sort(scratch.candidates.begin(), scratch.candidates.end());
    for (const uint64_t candidate : scratch.candidates) {
        if (collector.bound() < 0) break;
        const size_t c = static_cast<uint32_t>(candidate);
        const auto [begin, end] = surviving(ring, c, static_cast<int64_t>(candidate >> 32), collector.bound());
        scanned += end - begin;
        if (begin < end) scan_slots(segment, allowed, begin, end, probe, find, collector);
    }
    return answer();
}

}  // namespace pyhash
